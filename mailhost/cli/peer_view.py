"""
What a peer sees of a host's TLS: certificates, versions, and whether it would believe them.

:Room: ``cli`` (floor 7); plain blocking sockets.
:RFC: 3207, 8314 §3.3, 6066 §3.
:Called by: `mailhost.cli.tls`.

Each version of TLS is tried in a connection of its own, as a client that knows no other.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from cryptography import x509
from OpenSSL import SSL

from mailhost.errors import MailhostError, SyntaxProblem
from mailhost.net.certificates import names_in
from mailhost.net.tls import check_identity, is_address
from mailhost.smtp.reply_reader import ReplyReader

#: For each step of a connection.
PATIENCE_SECONDS = 10.0
_VERSIONS = {
    "TLSv1.0": SSL.TLS1_VERSION,
    "TLSv1.1": SSL.TLS1_1_VERSION,
    "TLSv1.2": SSL.TLS1_2_VERSION,
    "TLSv1.3": SSL.TLS1_3_VERSION,
}
#: With what stands below it OpenSSL would not even ask for the old versions.
_ANY_CIPHER = b"ALL:@SECLEVEL=0"


class ViewProblem(MailhostError):
    """There is no TLS to be seen; the words say why."""


class NoHandshake(ViewProblem):
    """It speaks TLS in another way, or not at all."""


@frozen
class Spot:
    """
    Where to look.

    :ivar implicit: the handshake comes first, as on port 465.
    :ivar server_name: to ask for; empty: none.
    :ivar ca: file with the authorities to believe; `None`: the system's.
    """

    host: str
    port: int
    implicit: bool = False
    server_name: str = ""
    ca: Path | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@frozen
class PeerView:
    """
    What was seen.

    :ivar versions: of TLS that the host speaks.
    :ivar cipher: of a client that knows them all.
    :ivar chain: the host's own certificate first.
    :ivar doubts: why a peer that verifies would not believe it.
    """

    versions: tuple[str, ...]
    cipher: str
    chain: tuple[x509.Certificate, ...]
    doubts: tuple[str, ...]


#: OpenSSL's numbers of what may be wrong with a chain.
_WRONG = {
    9: "not valid yet",
    10: "expired",
    18: "signed by itself",
    19: "signed by an authority that is not trusted",
    20: "signed by an authority that is not known",
    21: "the certificates between it and its authority are missing",
    23: "taken back",
    26: "not meant for servers",
}


def look(spot: Spot) -> PeerView:
    """
    Look at *spot*; takes up to five connections.

    :raises ViewProblem: there is nobody, or no TLS.
    """
    versions = tuple(name for name, number in _VERSIONS.items() if _speaks(spot, number))
    doubts: list[str] = []

    def judge(connection: Any, certificate: Any, error: int, depth: int, good: int) -> bool:
        if not good:
            doubts.append(_WRONG.get(error, f"OpenSSL's error {error}"))
        return True

    context = _context()
    if spot.ca is None:
        context.set_default_verify_paths()
    else:
        context.load_verify_locations(str(spot.ca))
    context.set_verify(SSL.VERIFY_PEER, judge)
    with _shaken(spot, context) as connection:
        chain = tuple(one.to_cryptography() for one in connection.get_peer_cert_chain() or ())
        wrong = check_identity(connection, spot.server_name or spot.host)
        doubts += [wrong] if wrong is not None else []
        cipher = connection.get_cipher_name() or ""
        return PeerView(versions, cipher, chain, tuple(dict.fromkeys(doubts)))


def _context() -> SSL.Context:
    return SSL.Context(SSL.TLS_CLIENT_METHOD)


def _speaks(spot: Spot, version: int) -> bool:
    context = _context()
    context.set_cipher_list(_ANY_CIPHER)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    try:
        with _shaken(spot, context):
            return True
    except NoHandshake:
        return False


@contextmanager
def _shaken(spot: Spot, context: SSL.Context) -> Iterator[SSL.Connection]:
    """
    A connection after its handshake.

    :raises ViewProblem: it does not come to one.
    """
    connection = SSL.Connection(context, None)
    if spot.server_name and not is_address(spot.server_name):
        connection.set_tlsext_host_name(spot.server_name.encode("ascii"))
    connection.set_connect_state()
    try:
        with closing(socket.create_connection((spot.host, spot.port), PATIENCE_SECONDS)) as plain:
            if not spot.implicit:
                _ask_for_tls(_Lines(plain))
            _shake(connection, plain)
            yield connection
    except OSError as error:
        raise ViewProblem(error.strerror or str(error)) from error


def _shake(connection: SSL.Connection, plain: socket.socket) -> None:
    """:raises NoHandshake: the two do not agree."""
    while True:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            _pass_on(connection, plain)
            octets = plain.recv(65536)
            if not octets:
                raise NoHandshake("the host ends the handshake") from None
            connection.bio_write(octets)
        except SSL.Error as error:
            raise NoHandshake("no version of TLS, or no cipher, in common") from error
        else:
            _pass_on(connection, plain)
            return


def _pass_on(connection: SSL.Connection, plain: socket.socket) -> None:
    with suppress(SSL.WantReadError):
        plain.sendall(connection.bio_read(65536))


@define
class _Lines:
    """An SMTP client that gets as far as STARTTLS."""

    socket: socket.socket
    _reader: ReplyReader = field(factory=ReplyReader)

    def ask(self, line: str = "") -> tuple[int, tuple[str, ...]]:
        if line:
            self.socket.sendall(f"{line}\r\n".encode("ascii"))
        while True:
            reply = self._reader.take()
            if reply is not None:
                return reply.code, reply.words
            octets = self.socket.recv(4096)
            if not octets:
                raise OSError("the connection was closed")
            self._reader.feed(octets)


def _ask_for_tls(lines: _Lines) -> None:
    try:
        code, words = lines.ask()
        if code == 220:
            code, words = lines.ask("EHLO mailhost.invalid")
        if code == 250 and not any(one.upper() == "STARTTLS" for one in words[1:]):
            raise ViewProblem("STARTTLS is not offered")
        if code == 250:
            code, words = lines.ask("STARTTLS")
    except SyntaxProblem as problem:
        raise ViewProblem(f"no SMTP: {problem}") from problem
    if code != 220:
        raise ViewProblem(f"{code} {' '.join(words)}")


def certificate_facts(certificate: x509.Certificate) -> dict[str, Any]:
    """What is told of one certificate, for programs."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "names": list(names_in(certificate)),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "serial": f"{certificate.serial_number:x}",
    }
