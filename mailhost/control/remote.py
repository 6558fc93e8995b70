"""
The control interface over TCP: with TLS, for whoever has a password or a token.

:Room: ``control``
:RFC: 7617 (Basic), 6750 §2.1 (Bearer), 9110 §11.6.1 (401).
:IIS: SEC-01.
:Called by: `mailhost.tap`, where ``remote_control.listen`` is an address.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable
from typing import Any
from unicodedata import normalize

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from zope.interface import implementer

from mailhost.authentication.access_tokens import AccessTokens
from mailhost.authentication.credentials import FileCredentials, Hashers
from mailhost.authentication.throttle import Throttle
from mailhost.authentication.users import user_key
from mailhost.config.settings import RemoteControlSettings, Settings
from mailhost.control.callers import Caller
from mailhost.control.door import QuietSite, TCPDoor
from mailhost.control.refusal import Refusal
from mailhost.control.rights import Rights
from mailhost.errors import AuthenticationProblem, SyntaxProblem
from mailhost.net.certificates import CertificateFiles, CertificateProblem
from mailhost.net.server_tls import ServerTLS

#: What a client is told to log in by.
CHALLENGE = 'Basic realm="mailhost", charset="UTF-8"'
_MOST_SECRET_CHARACTERS = 1024


def rights_of(settings: Settings, name: str) -> Rights:
    """What *name* may do, as *settings* say."""
    key = user_key(name)

    def among(names: tuple[str, ...]) -> bool:
        return key in {normalize("NFKC", one).casefold() for one in names}

    return Rights(
        among(settings.remote_control.administrators),
        among(settings.remote_control.readers),
        frozenset(one.name for one in settings.virtual_servers if among(one.operators)),
    )


@define(eq=False)
class RemoteGate:
    """
    Knows callers by the Authorization field.

    :ivar settings: those in force, for who may do what.
    :ivar reactor: the clock; passwords are hashed in threads of their own.
    """

    settings: Callable[[], Settings]
    reactor: Any
    hashers: Hashers = field(init=False)
    _users: FileCredentials | None = field(default=None, init=False)
    _tokens: AccessTokens | None = field(default=None, init=False)
    _throttle: Throttle = field(factory=Throttle, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self.hashers = Hashers(self.reactor, "control")

    async def admit(self, request: Any) -> Caller:
        """See `mailhost.control.callers.Gate`."""
        peer = str(getattr(request.getClientAddress(), "host", ""))
        now = self.reactor.seconds()
        if self._throttle.is_banned(peer, now):
            raise Refusal(429, "too many wrong passwords or tokens came from this address")
        field = request.getHeader("authorization")
        if field is None:
            request.setHeader("www-authenticate", CHALLENGE)
            raise Refusal(401, "a password or a token is needed")
        claimed, name = "", None
        try:
            claimed, name = await self._known(field, peer)
        except (AuthenticationProblem, SyntaxProblem) as problem:
            self._log.error("control: nobody can be let in: {problem}", problem=str(problem))
            words = "passwords and tokens cannot be checked now; the log says why"
            raise Refusal(503, words) from problem
        if name is None:
            await self._turn_away(peer, claimed)
            request.setHeader("www-authenticate", CHALLENGE)
            raise Refusal(401, "the password or the token is not right")
        self._throttle.succeeded(peer, user_key(name))
        return Caller(f"{name} at {peer}", rights_of(self.settings(), name))

    async def _known(self, field: str, peer: str) -> tuple[str, str | None]:
        """The name that is claimed, and the one that is proved."""
        remote = self.settings().remote_control
        scheme, _, given = field.strip().partition(" ")
        given = given.strip()
        if len(given) > _MOST_SECRET_CHARACTERS:
            return "", None
        if scheme.lower() == "bearer" and remote.tokens is not None:
            if self._tokens is None or self._tokens.path != remote.tokens:
                self._tokens = AccessTokens(remote.tokens)
            return "", self._tokens.find(given)
        pair = _name_and_password(given) if scheme.lower() == "basic" else None
        if pair is None or remote.users is None:
            return "", None
        name, password = pair
        if self._throttle.is_name_banned(peer, user_key(name), self.reactor.seconds()):
            return name, None
        if self._users is None or self._users.path != remote.users:
            self._users = FileCredentials(remote.users, self.hashers, self.reactor.seconds)
        account = await self._users.check_password(name, password)
        return name, None if account is None else account.name

    async def _turn_away(self, peer: str, claimed: str) -> None:
        key = user_key(claimed) if claimed else ""
        wait = self._throttle.failed(peer, key, self.reactor.seconds())
        self._log.warn("{peer} is not let in to control", peer=peer, login=claimed)
        await deferLater(self.reactor, wait)


def _name_and_password(given: str) -> tuple[str, str] | None:
    try:
        name, colon, password = b64decode(given, validate=True).decode("utf-8").partition(":")
        user_key(name)
    except (binascii.Error, UnicodeDecodeError, SyntaxProblem):
        return None
    return (name, password) if colon and name else None


@implementer(IOpenSSLServerConnectionCreator)
@frozen
class _Newest:
    """Each connection is made from the certificate that is good then."""

    tls: ServerTLS

    def serverConnectionForTLS(self, tlsProtocol: Any) -> Any:
        """Called by Twisted for each connection."""
        creator = self.tls.context_factory()
        assert creator is not None, "the files were read before it listened"
        return creator.serverConnectionForTLS(tlsProtocol)


@define(eq=False)
class RemoteDoor(TCPDoor):
    """
    The TCP address of control; implements `mailhost.control.door.Opening`.

    :ivar settings: where it listens, and with which certificate.
    :ivar root: answers the requests.
    :ivar gate: knows the callers.
    :ivar reactor: listens.
    """

    settings: RemoteControlSettings
    root: Resource
    gate: RemoteGate
    reactor: Any
    _log = Logger()

    def open(self) -> None:
        """Listen.  Mail goes on without it: what prevents it is told in the log."""
        settings = self.settings
        assert settings.listen is not None and settings.certificate is not None, "they are checked"
        host, port = settings.listen
        tls = ServerTLS(
            CertificateFiles(settings.certificate, settings.key_), "1.2", self.reactor.seconds
        )
        try:
            tls.load()
            site = QuietSite(self.root, reactor=self.reactor)  # type: ignore[no-untyped-call]  # upstream
            factory = TLSMemoryBIOFactory(_Newest(tls), False, site, clock=self.reactor)
            self._listening = self.reactor.listenTCP(port, factory, interface=host)
        except (CertificateProblem, CannotListenError) as problem:
            words = str(getattr(problem, "socketError", problem))
            self._log.error(
                "Control does not listen on {host} port {port}: {problem}",
                host=host,
                port=port,
                problem=words,
            )
            return
        self.gate.hashers.start()

    def close(self) -> Deferred[None]:
        """See `TCPDoor`."""
        if self._listening is not None:
            self.gate.hashers.stop()
        return super().close()
