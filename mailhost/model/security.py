"""
How a connection is protected, as asked for and as it turned out.

:Room: ``model``
:RFC: 3207 (STARTTLS), 4954 (AUTH), 6749 (OAuth 2.0), 7435 (opportunistic security), 8314.
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
class TokenGrant:
    """
    Where access tokens come from, and by what right (RFC 6749 §4.4, §6).

    With a refresh token it is the grant of that name, else client credentials.

    :ivar url: the token endpoint, ``https://...``.
    :ivar client_id: who we are there.
    :ivar client_secret: how we prove it; `None`: in *client_secret_file*, or not at all.
    :ivar refresh_token: `None`: in *refresh_token_file*, or there is none.
    :ivar scope: what is asked for; empty: what the endpoint gives by itself.
    :ivar basic: the client's secret goes into the header (RFC 6749 §2.3.1), not the form.
    :ivar ca: file with the authorities we trust there; `None`: the system's.
    :ivar timeout_seconds: how long the endpoint may take.
    """

    url: str
    client_id: str
    client_secret: Secret | None = None
    client_secret_file: Path | None = None
    refresh_token: Secret | None = None
    refresh_token_file: Path | None = None
    scope: str = ""
    basic: bool = False
    ca: Path | None = None
    timeout_seconds: float = 10

    @property
    def refreshes(self) -> bool:
        """Whether it goes by a refresh token."""
        return self.refresh_token is not None or self.refresh_token_file is not None

    @property
    def has_secret(self) -> bool:
        """Whether we prove who we are; a public client (RFC 6749 §2.1) does not."""
        return self.client_secret is not None or self.client_secret_file is not None


#: For a password, where the operator does not say how.
USUAL_MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")


@frozen
class Login:
    """
    How we log in at a next hop.

    :ivar username: the account there.
    :ivar password: its password; `None` where *password_file* has it.
    :ivar password_file: its first line; read at each login.
    :ivar mechanisms: those that may be used, the best first.
    :ivar tokens: where the token comes from that takes the password's place.
    :ivar keytab: has the key of *username*, a principal of Kerberos.
    """

    username: str
    password: Secret | None = None
    password_file: Path | None = None
    mechanisms: tuple[str, ...] = USUAL_MECHANISMS
    tokens: TokenGrant | None = None
    keytab: Path | None = None

    @property
    def label(self) -> str:
        """The same for who logs in as the same, in the same way; nothing of it is secret."""
        words = [self.username]
        if self.mechanisms != USUAL_MECHANISMS:
            words.append(self.mechanisms[0])
        if self.tokens is not None:
            words += [self.tokens.client_id, self.tokens.url]
        elif self.keytab is not None:
            words.append(str(self.keytab))
        elif self.password_file is not None:
            words.append(str(self.password_file))
        elif self.password is not None and self.password.variable:
            words.append(self.password.variable)
        return "/".join(words)

    def secrets(self) -> Iterator[tuple[tuple[str, ...], Secret | None, Path | None]]:
        """Each secret by its key: as it stands in the configuration, or the file that has it."""
        yield ("password",), self.password, self.password_file
        tokens = self.tokens
        if tokens is not None:
            yield ("oauth", "client_secret"), tokens.client_secret, tokens.client_secret_file
            yield ("oauth", "refresh_token"), tokens.refresh_token, tokens.refresh_token_file


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
    :ivar client_names: whom its certificate speaks of, where it has shown one that we trust.
    """

    version: str
    cipher: str
    server_name: str = ""
    client_names: tuple[str, ...] = ()
