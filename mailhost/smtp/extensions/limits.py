"""
LIMITS: how much a session and a transaction may have.

:RFC: 9422 §3 (keyword), §4 (MAILMAX, RCPTMAX, RCPTDOMAINMAX).
"""

from __future__ import annotations

from attrs import frozen

from mailhost.model.queue import QueuedRecipient
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.rules import Rules

_MAX_DIGITS = 6  # §4: 1 to 6 digits


@frozen
class PeerLimits:
    """
    What a host has announced; `None`: nothing.

    :ivar mails: transactions in one session.
    :ivar recipients: in one transaction.
    :ivar domains: of recipients in one transaction.
    """

    mails: int | None = None
    recipients: int | None = None
    domains: int | None = None

    def first_of(self, recipients: list[QueuedRecipient]) -> list[QueuedRecipient]:
        """As many of *recipients*, from the first, as one transaction may have."""
        fitting = recipients[: self.recipients]
        if self.domains is None:
            return fitting
        seen: set[str] = set()
        for count, one in enumerate(fitting):
            seen.add(one.forward_path.domain_key)
            if len(seen) > self.domains:
                return fitting[:count]
        return fitting


NO_LIMITS = PeerLimits()


def read_limits(words: str) -> PeerLimits:
    """
    What stands behind LIMITS in a host's answer to EHLO.

    §3: what is not understood is passed over, and so is a limit of nothing.
    """
    found: dict[str, int] = {}
    for word in words.split():
        name, _, value = word.partition("=")
        if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS and int(value):
            found.setdefault(name.upper(), int(value))
    return PeerLimits(found.get("MAILMAX"), found.get("RCPTMAX"), found.get("RCPTDOMAINMAX"))


def _ours(rules: Rules) -> list[tuple[str, int | None]]:
    return [
        ("MAILMAX", rules.max_messages),
        ("RCPTMAX", rules.max_recipients),
        ("RCPTDOMAINMAX", rules.max_recipient_domains),
    ]


def _words(rules: Rules, secure: bool) -> str:
    return " ".join(
        f"{name}={limit}"
        for name, limit in _ours(rules)
        if limit is not None and limit < 10**_MAX_DIGITS
    )


def _usable(rules: Rules) -> bool:
    return any(limit is not None for _, limit in _ours(rules))


LIMITS = Extension("LIMITS", ehlo_words=_words, usable=_usable)
