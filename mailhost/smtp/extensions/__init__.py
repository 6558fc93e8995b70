"""
The service extensions, one file per EHLO keyword.

:Room: ``smtp``
:RFC: 5321 §2.2 (the extension model), §4.1.1.11 (parameters).
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from attrs import frozen

from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.smtp.extensions.auth import AUTH
from mailhost.smtp.extensions.base import Extension, Parse
from mailhost.smtp.extensions.binarymime import BINARYMIME
from mailhost.smtp.extensions.chunking import CHUNKING
from mailhost.smtp.extensions.deliverby import DELIVERBY
from mailhost.smtp.extensions.dsn import DSN
from mailhost.smtp.extensions.eightbitmime import EIGHTBITMIME
from mailhost.smtp.extensions.enhancedstatuscodes import ENHANCEDSTATUSCODES
from mailhost.smtp.extensions.etrn import ETRN
from mailhost.smtp.extensions.expn import EXPN
from mailhost.smtp.extensions.futurerelease import FUTURERELEASE
from mailhost.smtp.extensions.help import HELP
from mailhost.smtp.extensions.limits import LIMITS
from mailhost.smtp.extensions.mtpriority import MT_PRIORITY
from mailhost.smtp.extensions.nosoliciting import NO_SOLICITING
from mailhost.smtp.extensions.pipelining import PIPELINING
from mailhost.smtp.extensions.requiretls import REQUIRETLS
from mailhost.smtp.extensions.size import SIZE
from mailhost.smtp.extensions.smtputf8 import SMTPUTF8
from mailhost.smtp.extensions.starttls import STARTTLS
from mailhost.smtp.extensions.turn import ATRN, TURN
from mailhost.smtp.extensions.vrfy import VRFY
from mailhost.smtp.extensions.xclient import XCLIENT
from mailhost.smtp.rules import Rules

#: In the order in which EHLO lists them; what one knows of BODY replaces what those before it do.
EXTENSIONS: tuple[Extension, ...] = (
    SIZE,
    PIPELINING,
    DSN,
    ENHANCEDSTATUSCODES,
    EIGHTBITMIME,
    CHUNKING,
    BINARYMIME,
    SMTPUTF8,
    LIMITS,
    DELIVERBY,
    MT_PRIORITY,
    NO_SOLICITING,
    FUTURERELEASE,
    REQUIRETLS,
    STARTTLS,
    AUTH,
    ETRN,
    TURN,
    ATRN,
    XCLIENT,
    VRFY,
    EXPN,
    HELP,
)


@frozen(eq=False)
class Offer:
    """
    What a session may use: nothing else is accepted.

    :ivar lines: what stands in the answer to EHLO behind the greeting.
    :ivar timed: what stands there too, and depends on the time.
    :ivar mail_parameters: of MAIL, each with its parser.
    :ivar rcpt_parameters: of RCPT.
    :ivar off: commands that are not there.
    :ivar utf8: addresses may be other than ASCII, where SMTPUTF8 is asked for.
    :ivar verifies: VRFY is for somebody to decide.
    :ivar with_status: replies have an enhanced status (RFC 2034).
    """

    lines: tuple[str, ...]
    timed: tuple[tuple[str, Callable[[float], str]], ...]
    mail_parameters: Mapping[str, Parse]
    rcpt_parameters: Mapping[str, Parse]
    off: frozenset[str] = frozenset()
    utf8: bool = False
    verifies: bool = False
    with_status: bool = True

    def ehlo_lines(self, now: float) -> tuple[str, ...]:
        """What stands in the answer to EHLO at *now*."""
        if not self.timed:
            return self.lines
        return (*self.lines, *(f"{keyword} {words(now)}" for keyword, words in self.timed))


@lru_cache(maxsize=256)
def offer(rules: Rules, secure: bool) -> Offer:
    """
    What *rules* allow.

    :param secure: TLS is on.
    """
    on = [one for one in EXTENSIONS if one.keyword in rules.extensions and one.usable(rules)]
    there = [one for one in on if one.offered(rules, secure)]
    return Offer(
        tuple(one.ehlo_line(rules, secure) for one in there if one.timed_words is None),
        tuple(
            (one.keyword, partial(one.timed_words, rules))
            for one in there
            if one.timed_words is not None
        ),
        {name: parse for one in there for name, parse in one.mail_parameters.items()},
        {name: parse for one in there for name, parse in one.rcpt_parameters.items()},
        frozenset(verb for one in EXTENSIONS if one not in on for verb in one.verbs),
        SMTPUTF8 in there,
        VRFY in on,
        ENHANCEDSTATUSCODES in on,
    )


def mail_words(asked: MailParameters, peer: Mapping[str, str]) -> str:
    """
    What MAIL says of *asked* to a host.

    :param peer: what it offers: keyword -> words.
    """
    return "".join(
        one.mail_words(asked) for one in EXTENSIONS if one.mail_words and one.keyword in peer
    )


def rcpt_words(asked: RecipientParameters, peer: Mapping[str, str]) -> str:
    """What RCPT says of *asked* to a host that offers *peer*."""
    return "".join(
        one.rcpt_words(asked) for one in EXTENSIONS if one.rcpt_words and one.keyword in peer
    )


__all__ = ["EXTENSIONS", "Extension", "Offer", "mail_words", "offer", "rcpt_words"]
