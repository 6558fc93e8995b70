"""
What a sender asks for beside the addresses: the parameters of MAIL and RCPT.

:Room: ``model``
:RFC: 5321 §4.1.1.11 (parameters), 3461 §4 (delivery status notifications), 6531 §3.4; 2852,
    3865, 4865, 6710, 8689.
:Made by: `mailhost.smtp.commands`; kept by `mailhost.spool`, obeyed by `mailhost.relay`.

SIZE, BODY and AUTH are not among them: they are about the transaction, or the content.
Nearly every message asks for nothing; then it has the one value that says so, and whoever
wants to know compares identities.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve, field
from attrs.validators import deep_iterable, ge, in_, instance_of, le

from mailhost.model.values import value

#: NOTIFY's words (RFC 3461 §4.1); NEVER stands alone.
NOTIFY_WORDS = ("NEVER", "SUCCESS", "FAILURE", "DELAY")
_TEXT = instance_of(str)


def _by(given: Iterable[object]) -> tuple[int, str]:
    seconds, mode = given
    if not isinstance(seconds, int) or mode not in ("", "R", "N", "RT", "NT"):
        raise ValueError("no time and mode")
    return seconds, str(mode)


def _tuple(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(words)


@value
class MailParameters:
    """
    What was asked for the message, with MAIL.

    :ivar ret: what a report of failure returns: ``FULL``, ``HDRS``, or empty: it was not said
        (RFC 3461 §4.3).
    :ivar envid: the sender's name for the transaction, as xtext (RFC 3461 §4.4).
    :ivar smtputf8: addresses or header fields are not ASCII (RFC 6531 §3.4).
    :ivar mt_priority: from -9 to 9; the higher goes first (RFC 6710 §3).
    :ivar holdfor: seconds to wait before it is sent (RFC 4865 §4); 0 once it is in the queue.
    :ivar holduntil: seconds since the epoch before which it is not sent; 0: it is sent at once.
    :ivar by: seconds from now, from its acceptance once it is in the queue, and the mode: ``R``
        or ``N``, ``T`` behind it or not (RFC 2852 §4); an empty mode: there is no such time.
    :ivar solicit: what kind of unasked mail it is (RFC 3865 §3).
    :ivar requiretls: it goes through TLS, to hosts that are who they should be and promise the
        same, or nowhere (RFC 8689 §2).
    :ivar tls_optional: its header says that it may go in clear where a policy would forbid it
        (RFC 8689 §3); never beside *requiretls*.
    """

    ret: str = field(default="", validator=in_(("", "FULL", "HDRS")))
    envid: str = field(default="", validator=_TEXT)
    smtputf8: bool = field(default=False, validator=instance_of(bool))
    mt_priority: int = field(default=0, validator=[ge(-9), le(9)])
    holdfor: int = field(default=0, validator=ge(0))
    holduntil: float = field(default=0.0, validator=ge(0))
    by: tuple[int, str] = field(default=(0, ""), converter=_by)
    solicit: tuple[str, ...] = field(default=(), converter=_tuple)
    requiretls: bool = field(default=False, validator=instance_of(bool))
    tls_optional: bool = field(default=False, validator=instance_of(bool))

    @property
    def returns_late(self) -> bool:
        """Whether the mail is worth nothing after its time (RFC 2852 §4)."""
        return self.by[1].startswith("R")

    def of_list(self) -> MailParameters:
        """What is left of them when a list sends in its own name (RFC 3461 §5.2.7.1)."""
        return self if self is NO_MAIL_PARAMETERS else evolve(self, ret="", envid="")


@value
class RecipientParameters:
    """
    What was asked for one recipient, with RCPT.

    :ivar notify: of what the sender wants to hear, of `NOTIFY_WORDS`; empty: it was not said
        (RFC 3461 §4.1).
    :ivar orcpt: who the recipient was in the beginning: address type, semicolon, xtext
        (RFC 3461 §4.2).
    """

    notify: tuple[str, ...] = field(
        default=(), converter=_tuple, validator=deep_iterable(in_(NOTIFY_WORDS))
    )
    orcpt: str = field(default="", validator=_TEXT)

    def wants(self, what: str) -> bool:
        """
        Whether the sender is to hear of *what*: ``SUCCESS``, ``FAILURE`` or ``DELAY``.

        Who has not said anything hears of failure and delay (RFC 3461 §4.1).
        """
        return what in self.notify if self.notify else what != "SUCCESS"

    @property
    def quiet(self) -> RecipientParameters:
        """Without SUCCESS: for copies of a mail whose success is told of already."""
        if "SUCCESS" not in self.notify:
            return self
        left = tuple(word for word in self.notify if word != "SUCCESS")
        return evolve(self, notify=left or ("NEVER",))


NO_MAIL_PARAMETERS = MailParameters()
NO_RECIPIENT_PARAMETERS = RecipientParameters()
