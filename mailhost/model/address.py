"""
An address as it stands in an envelope.

:Room: ``model``
:RFC: 5321 §2.3.11 (mailbox), §4.1.2 (grammar; parsed in `mailhost.smtp.grammar`).
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Mailbox:
    """
    One mailbox: the argument of RCPT, or of MAIL when it is not null.

    The null reverse-path ``<>`` is `None` wherever a reverse-path is expected.

    :ivar local: the local part as it goes on the wire, quoted where the
        grammar demands it (``"a b"``); its case is kept (RFC 5321 §2.4).
    :ivar domain: domain or address literal in the case it came in; empty for
        an unqualified address until intake appends the default domain.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local

    @property
    def domain_key(self) -> str:
        """The domain for comparing: lower case (RFC 5321 §2.4)."""
        return self.domain.lower()

    def in_domain(self, domain: str) -> Mailbox:
        """The same local part at *domain*."""
        return Mailbox(self.local, domain)


def path_text(path: Mailbox | None) -> str:
    """A reverse-path between angle brackets: ``<a@b.example>`` or ``<>``."""
    return f"<{path}>" if path is not None else "<>"
