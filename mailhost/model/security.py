"""
How a connection is protected, as asked for and as it turned out.

:Room: ``model``
:RFC: 3207 (STARTTLS), 4954 (AUTH), 7435 (opportunistic security), 8314.
:IIS: ACC-10..14, DEL-20, DEL-21, DEL-23.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from attrs import evolve, field, frozen


class TLSLevel(Enum):
    """What we want of a next hop; each includes those before it."""

    NONE = "clear text"
    OPPORTUNISTIC = "TLS where it is offered, with whatever certificate"
    REQUIRED = "TLS or nothing, with whatever certificate"
    VERIFIED = "TLS with a certificate for that host from an authority we trust"

    @property
    def is_required(self) -> bool:
        """Whether nothing may be sent in clear."""
        return self in (TLSLevel.REQUIRED, TLSLevel.VERIFIED)


@frozen
class Secret:
    """
    A password: it can be used, and not be seen by chance.

    :ivar literal: it stood in the configuration file itself.
    :ivar variable: it is in this variable of the environment; see `mailhost.secrets.reveal`.
    """

    _text: str = field(repr=False)
    literal: bool = False
    variable: str = ""

    def reveal(self) -> str:
        """The password, where it is in no variable."""
        return self._text

    def __str__(self) -> str:
        return "(secret)"


@frozen
class Login:
    """
    How we log in at a next hop.

    :ivar username: the account there.
    :ivar password: its password; `None` where *password_file* has it.
    :ivar password_file: its first line; read at each login.
    :ivar mechanisms: those that may be used, the best first.
    """

    username: str
    password: Secret | None = None
    password_file: Path | None = None
    mechanisms: tuple[str, ...] = ("SCRAM-SHA-256", "PLAIN", "LOGIN")

    def secrets(self) -> Iterator[tuple[tuple[str, ...], Secret | None, Path | None]]:
        """Each secret by its key: as it stands in the configuration, or the file that has it."""
        yield ("password",), self.password, self.password_file


@frozen
class OutboundSecurity:
    """
    How to meet the hosts of one route.

    :ivar tls: what must hold before an envelope is sent.
    :ivar ca: file with the authorities we trust; `None`: the system's.
    :ivar login: log in there before an envelope is sent; `None`: do not.  Never over clear
        text, but where *tls* is NONE, which says so.
    """

    tls: TLSLevel = TLSLevel.OPPORTUNISTIC
    ca: Path | None = None
    login: Login | None = None

    def without_login(self) -> OutboundSecurity:
        """The same for hosts that the password is not meant for."""
        return self if self.login is None else evolve(self, login=None)


@frozen
class TLSFacts:
    """
    What a handshake has agreed on.

    :ivar version: ``TLSv1.3``.
    :ivar cipher: as OpenSSL calls it.
    :ivar server_name: the name the client asked for (RFC 6066 §3), ``""`` for none.
    """

    version: str
    cipher: str
    server_name: str = ""
