"""
What every mechanism's server side says and hears.

:Room: ``smtp``
:RFC: 4422 §3 (challenges and responses).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from attrs import field, frozen

from mailhost.model.account import ScramKeys

#: Channel bindings by their names; `None`: this connection does not have that one.
Bindings = Callable[[str], bytes | None]


#: What a stored secret is, for `ProofGiven`: the password itself, or MD4 of it in UTF-16.
PASSWORD, NT_HASH = "password", "nt"


@frozen
class Place:
    """
    Where an exchange takes place.

    :ivar bindings: of the connection.
    :ivar host: our name.
    :ivar now: seconds since the epoch.
    :ivar names: whom the client's certificate speaks of, the best first.
    :ivar accept: makes a security context of GSS-API; see `mailhost.smtp.sasl.gssapi`.
    """

    bindings: Bindings
    host: str = ""
    now: float = 0.0
    names: tuple[str, ...] = ()
    accept: Callable[[], Any] | None = None


@frozen
class Work:
    """
    Something that takes longer than the reactor may wait.

    :ivar run: gives the octets to go on with; in a thread.
    """

    run: Callable[[], bytes] = field(repr=False)


@frozen
class Challenge:
    """The client has to answer *octets*."""

    octets: bytes


@frozen
class PasswordGiven:
    """The client says that it is *name*."""

    name: str
    password: str = field(repr=False)


@frozen
class ProofGiven:
    """
    The client says that it is *name*, and has computed something from its password.

    :ivar kind: the stored secret that *fits* takes, `PASSWORD` or `NT_HASH`.
    :ivar fits: whether it is the one.
    """

    name: str
    kind: str
    fits: Callable[[bytes], bool] = field(repr=False)


@frozen
class TokenGiven:
    """The client shows an access token, and says that it is *name*, or nothing."""

    name: str
    token: str = field(repr=False)


@frozen
class Identified:
    """
    The client is all of *names*, as has been proved already; the first that is known counts.

    :ivar anybody: whoever has proved it says who there is: nobody has to be known here.
    """

    names: tuple[str, ...]
    anybody: bool = False


@frozen
class KeysWanted:
    """Give the stored keys of *name* to `ServerMechanism.take_keys`."""

    name: str


@frozen
class Proved:
    """The client knows the password of whom the keys belong to."""


@frozen
class Failed:
    """
    It does not, or does not follow the mechanism.

    :ivar malformed: what came is not the mechanism's grammar.
    """

    malformed: bool = False


Step = (
    Challenge
    | Work
    | PasswordGiven
    | ProofGiven
    | TokenGiven
    | Identified
    | KeysWanted
    | Proved
    | Failed
)


class ServerMechanism(Protocol):
    """One exchange."""

    def step(self, response: bytes | None) -> Step:
        """
        What follows from *response*.

        :param response: `None` at the beginning, where the client has sent none.
        """


@runtime_checkable
class Works(Protocol):
    """A mechanism that says `Work`."""

    def worked(self, octets: bytes) -> Step:
        """What follows from what `Work` has given."""


@runtime_checkable
class TakesKeys(Protocol):
    """A mechanism that says `KeysWanted`."""

    def take_keys(self, keys: ScramKeys) -> Step:
        """What follows from the keys that were wanted."""


def decoded(octets: bytes) -> str | None:
    """*octets* as UTF-8 text without NUL; `None` where they are none."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text
