"""Credentials in memory."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from zope.interface import implementer

from mailhost.interfaces import ICredentials
from mailhost.model.account import Account, ScramEntry
from mailhost.smtp.sasl.ntlm_messages import nt_hash
from mailhost.smtp.sasl.scram import make_keys


@implementer(ICredentials)
@define(eq=False)
class Passwords:
    """
    :ivar known: name to password.
    :ivar senders: what each of them may send as; `None`: anything.
    :ivar problem: raised instead of any answer.
    :ivar asked: the names that were looked up.
    """

    known: dict[str, str]
    senders: tuple[str, ...] | None = None
    problem: Exception | None = None
    asked: list[str] = field(factory=list)

    def _look(self, name: str) -> str | None:
        self.asked.append(name)
        if self.problem is not None:
            raise self.problem
        return self.known.get(name)

    def check_password(self, name: str, password: str) -> Account | None:
        good = self._look(name) == password
        return Account(name, self.senders) if good else None

    def check_proof(self, name: str, kind: str, fits: Callable[[bytes], bool]) -> Account | None:
        password = self._look(name)
        octets = (password or "nobody's").encode()
        good = fits(nt_hash(octets.decode()) if kind == "nt" else octets)
        return Account(name, self.senders) if good and password else None

    def find_account(self, name: str) -> Account | None:
        return Account(name, self.senders) if self._look(name) else None

    def find_keys(self, name: str) -> ScramEntry:
        password = self._look(name)
        keys = make_keys(password or "nobody's", b"0123456789abcdef", 4096)
        return ScramEntry(keys, Account(name, self.senders) if password else None)
