"""A token endpoint, and a mail host that takes its tokens, both in threads of the test."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from attrs import define, field, frozen


@frozen
class Asked:
    """One question to the endpoint."""

    path: str
    form: dict[str, str]
    authorization: str


#: Answers a question by hand.
Answer = Callable[["TokenEndpoint", Asked, BaseHTTPRequestHandler], None]


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@define(eq=False)
class TokenEndpoint:
    """
    :ivar host: where it listens.
    :ivar files: certificate and key.
    :ivar answers: by path; what is not there gives a new token.
    :ivar asked: the questions, in order.
    :ivar tokens: those that are good.
    :ivar life_seconds: of a new token.
    """

    host: str
    files: tuple[Path, Path]
    answers: dict[str, Answer] = field(factory=dict)
    asked: list[Asked] = field(factory=list)
    tokens: list[str] = field(factory=list)
    life_seconds: object = 3600
    _server: Any = field(default=None, init=False)

    def start(self, clean: Callable[[Callable[[], object]], object]) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                octets = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                form = dict(parse_qsl(octets.decode("ascii"), keep_blank_values=True))
                asked = Asked(self.path, form, self.headers.get("Authorization", ""))
                owner.asked.append(asked)
                with suppress(OSError):
                    owner.answers.get(self.path, gives_token)(owner, asked, self)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer((self.host, 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.socket = _context(*self.files).wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        clean(self.stop)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str = "/token") -> str:
        """By the name in the certificate of the tests, which resolves to this machine."""
        return f"https://localhost:{self._server.server_address[1]}{path}"

    def new_token(self) -> str:
        """Long, as those of the large providers are."""
        token = f"t0ken-{len(self.tokens)}-" + "x" * 1500
        self.tokens.append(token)
        return token

    def asked_at(self, path: str) -> list[Asked]:
        return [one for one in self.asked if one.path == path]


def reply(handler: BaseHTTPRequestHandler, status: int, octets: bytes, **headers: str) -> None:
    """One answer."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(octets)))
    handler.end_headers()
    handler.wfile.write(octets)


def says(status: int, told: object, **headers: str) -> Answer:
    """The same answer each time; what is no text is sent as JSON."""

    def answer(owner: TokenEndpoint, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        octets = told if isinstance(told, bytes) else json.dumps(told).encode()
        reply(handler, status, octets, **headers)

    return answer


def gives_token(owner: TokenEndpoint, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    told = {
        "access_token": owner.new_token(),
        "token_type": "Bearer",
        "expires_in": owner.life_seconds,
    }
    reply(handler, 200, json.dumps(told).encode())


def rotates(owner: TokenEndpoint, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    """A refresh token is good once: the answer holds the next."""
    told = {
        "access_token": owner.new_token(),
        "token_type": "bearer",
        "expires_in": str(owner.life_seconds),
        "refresh_token": asked.form["refresh_token"] + "+",
    }
    reply(handler, 200, json.dumps(told).encode())


def is_slow(owner: TokenEndpoint, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    """A header, and then an octet now and then."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.2)


def never_ends(owner: TokenEndpoint, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    """As much as is taken."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


def goes(owner: TokenEndpoint, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
    """Closes in the middle."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"access_token":')
    handler.close_connection = True


# ---- a mail host


@define(eq=False)
class TokenHost:
    """
    Takes mail from who shows a good token, behind STARTTLS.

    :ivar good: says whether a token is good.
    :ivar mechanisms: offered to EHLO.
    :ivar logins: users and tokens that were shown, in order.
    :ivar taken: contents that came.
    """

    host: str
    files: tuple[Path, Path]
    good: Callable[[str], bool]
    mechanisms: str = "XOAUTH2"
    logins: list[tuple[str, str]] = field(factory=list)
    taken: list[bytes] = field(factory=list)
    _server: Any = field(default=None, init=False)

    def start(self, clean: Callable[[Callable[[], object]], object]) -> None:
        owner, context = self, _context(*self.files)

        class Session(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    _Session(owner, self.request, context).serve()

        class Listener(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Listener((self.host, 0), Session)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        clean(self.stop)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        found: int = self._server.server_address[1]
        return found


@define(eq=False)
class _Session:
    owner: TokenHost
    socket: Any
    context: ssl.SSLContext
    stream: Any = None
    secure: bool = False
    known: bool = False

    def say(self, *lines: str) -> None:
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def hear(self) -> str:
        line: bytes = self.stream.readline()
        if not line:
            raise OSError("gone")
        return line.decode().rstrip("\r\n")

    def serve(self) -> None:
        self.stream = self.socket.makefile("rb")
        self.say("220 host.example")
        while True:
            line = self.hear()
            verb, _, rest = line.partition(" ")
            getattr(self, f"on_{verb.lower()}", self.on_other)(rest)

    def on_ehlo(self, rest: str) -> None:
        offered = f"AUTH {self.owner.mechanisms}" if self.secure else "STARTTLS"
        self.say("250-host.example", f"250 {offered}")

    def on_starttls(self, rest: str) -> None:
        self.say("220 go on")
        self.socket = self.context.wrap_socket(self.socket, server_side=True)
        self.stream, self.secure = self.socket.makefile("rb"), True

    def on_auth(self, rest: str) -> None:
        mechanism, _, response = rest.partition(" ")
        if not response:
            self.say("334 ")
            response = self.hear()
        fields = b64decode(response).decode().split("\x01")
        user = fields[0].removeprefix("user=").removeprefix("n,a=").rstrip(",")
        (token,) = (one.removeprefix("auth=Bearer ") for one in fields if one.startswith("auth="))
        self.owner.logins.append((user, token))
        self.known = self.owner.good(token)
        if self.known:
            self.say("235 2.7.0 welcome")
            return
        self.say("334 " + b64encode(b'{"status":"invalid_token"}').decode())
        assert self.hear() == ("" if mechanism == "XOAUTH2" else "AQ==")
        self.say("535 5.7.8 not with this token")

    def on_data(self, rest: str) -> None:
        self.say("354 go on")
        lines = []
        while (line := self.stream.readline()) not in (b".\r\n", b""):
            lines.append(line)
        self.owner.taken.append(b"".join(lines))
        self.say("250 2.0.0 taken")

    def on_quit(self, rest: str) -> None:
        self.say("221 2.0.0 bye")
        raise OSError("gone")

    def on_other(self, rest: str) -> None:
        self.say("250 2.0.0 ok" if self.known else "530 5.7.0 log in first")
