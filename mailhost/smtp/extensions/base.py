"""
What an extension adds to the conversation.

:Room: ``smtp``
:RFC: 5321 §2.2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import Factory, frozen

from mailhost.smtp.rules import Rules


def keyword_alone(rules: Rules, secure: bool) -> str:
    """An EHLO line without parameters."""
    return ""


def always(rules: Rules, secure: bool) -> bool:
    """Offered to everybody, with TLS and without."""
    return True


@frozen
class Extension:
    """
    One row of the EHLO answer.

    :ivar keyword: as registered.
    :ivar ehlo_words: what stands behind the keyword; ``""`` for nothing.
    :ivar mail_parameters: parameters it adds to MAIL, each with its parser,
        which raises `mailhost.errors.SyntaxProblem`.
    :ivar offered: whether it is offered by these rules, with or without TLS.
    """

    keyword: str
    ehlo_words: Callable[[Rules, bool], str] = keyword_alone
    mail_parameters: Mapping[str, Callable[[str | None], object]] = Factory(dict)
    offered: Callable[[Rules, bool], bool] = always

    def ehlo_line(self, rules: Rules, secure: bool) -> str:
        """The line in the answer to EHLO."""
        return f"{self.keyword} {self.ehlo_words(rules, secure)}".rstrip()
