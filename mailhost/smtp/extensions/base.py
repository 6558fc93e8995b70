"""
What an extension adds to the conversation.

:Room: ``smtp``
:RFC: 5321 §2.2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import Factory, frozen

from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.smtp.rules import Rules

#: Reads the value of a parameter; raises `mailhost.errors.SyntaxProblem`.
Parse = Callable[[str | None], object]


def keyword_alone(rules: Rules, secure: bool) -> str:
    """An EHLO line without parameters."""
    return ""


def always(rules: Rules) -> bool:
    """There is nothing that it needs."""
    return True


def with_tls_or_without(rules: Rules, secure: bool) -> bool:
    """Offered to everybody."""
    return True


@frozen
class Extension:
    """
    One row of the EHLO answer.

    What `mailhost.model.parameters` keeps of a parameter has the parameter's name there, in
    small letters and with ``_`` for ``-``.

    :ivar keyword: as registered.
    :ivar ehlo_words: what stands behind the keyword; ``""`` for nothing.
    :ivar timed_words: the same, where it depends on the time: seconds since the epoch.
    :ivar mail_parameters: parameters it adds to MAIL, each with its parser.
    :ivar rcpt_parameters: the same for RCPT.
    :ivar verbs: commands that are there only with it.
    :ivar usable: whether these rules allow it at any time.
    :ivar offered: whether they offer it with TLS, or without.
    :ivar mail_words: what we say behind MAIL to a host that offers it, with a blank before
        each word; `None`: nothing.
    :ivar rcpt_words: the same for RCPT.
    """

    keyword: str
    ehlo_words: Callable[[Rules, bool], str] = keyword_alone
    timed_words: Callable[[Rules, float], str] | None = None
    mail_parameters: Mapping[str, Parse] = Factory(dict)
    rcpt_parameters: Mapping[str, Parse] = Factory(dict)
    verbs: tuple[str, ...] = ()
    usable: Callable[[Rules], bool] = always
    offered: Callable[[Rules, bool], bool] = with_tls_or_without
    mail_words: Callable[[MailParameters], str] | None = None
    rcpt_words: Callable[[RecipientParameters], str] | None = None

    def ehlo_line(self, rules: Rules, secure: bool) -> str:
        """The line in the answer to EHLO."""
        return f"{self.keyword} {self.ehlo_words(rules, secure)}".rstrip()
