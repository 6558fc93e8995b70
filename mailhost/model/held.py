"""
Mail that waits until its domain asks for it.

:Room: ``model``
:RFC: 1985 (ETRN), 2645 (ATRN).
:IIS: DOM-20, DOM-21.
"""

from __future__ import annotations

from attrs import frozen

from mailhost.model.account import Account


@frozen
class Holding:
    """
    How a remote domain's mail is held.

    :ivar accounts: who may have it sent over a session of their own, lower case.
    """

    accounts: tuple[str, ...] = ()

    def may_turn(self, account: Account, default_domain: str | None) -> bool:
        """
        :param default_domain: of accounts that are written without one.
        """
        name = account.name.lower()
        short = name.removesuffix(f"@{default_domain}") if default_domain else name
        return bool({name, short} & set(self.accounts))


@frozen
class HeldDomains:
    """
    Domains whose mail is asked for.

    :ivar names: lower case; ``*.`` in front stands for every domain below.
    """

    names: tuple[str, ...]

    def cover(self, domain: str) -> bool:
        """Whether mail for *domain*, lower case, is asked for."""
        return any(
            domain.endswith(name[1:]) if name.startswith("*.") else domain == name
            for name in self.names
        )
