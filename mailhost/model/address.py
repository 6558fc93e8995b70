"""
An address as it stands in an envelope.

:Room: ``model``
:RFC: 5321 §2.3.11 (mailbox), §4.1.2 (grammar; parsed in `mailhost.smtp.grammar`);
    6531 §3.3 (letters outside ASCII).
"""

from __future__ import annotations

from mailhost.model.domain_name import a_labels
from mailhost.model.values import value


@value
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
        """
        The domain for comparing: lower case (RFC 5321 §2.4), A-labels (RFC 6531 §3.2).

        What can be no domain is compared as it is.
        """
        if self.domain.isascii():
            return self.domain.lower()
        try:
            return a_labels(self.domain)
        except ValueError:
            return self.domain.lower()

    @property
    def is_ascii(self) -> bool:
        """Whether it can be said without SMTPUTF8 (RFC 6531 §3.2)."""
        return self.local.isascii() and self.domain.isascii()

    @property
    def in_ascii(self) -> Mailbox:
        """With A-labels; the local part has no other form (RFC 6530 §7.1)."""
        return self if self.domain.isascii() else Mailbox(self.local, self.domain_key)

    def in_domain(self, domain: str) -> Mailbox:
        """The same local part at *domain*."""
        return Mailbox(self.local, domain)


def path_text(path: Mailbox | None) -> str:
    """A reverse-path between angle brackets: ``<a@b.example>`` or ``<>``."""
    return f"<{path}>" if path is not None else "<>"
