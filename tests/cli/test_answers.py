"""What commands make of answers: names that a terminal would obey, 40 columns, no answer at all."""

from __future__ import annotations

import socket
import threading
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mailhost.cli import link, main, words
from mailhost.cli.link import Link, LocalConnection
from mailhost.control.api import ROUTES
from mailhost.control.openapi import describe
from tests.support.peer_case import PeerCase

#: Colours, a title, a line of its own, and text from right to left.
EVIL = "\x1b[31mred\x1b]0;title\x07\r\nforged line\u202e"
QUEUE_ID = "0" * 24
DOCUMENT: dict[str, Any] = describe(ROUTES)

#: All that shows what came from the network.
COMMANDS = (
    ("status",),
    ("sessions",),
    ("sites",),
    ("queue", "list"),
    ("queue", "show", QUEUE_ID),
    ("badmail", "list"),
    ("badmail", "show", QUEUE_ID),
    ("trace", "x@example.com"),
    ("trace", "--dialogue", "x@example.com"),
    ("explain", "--to", "x@example.com"),
)


def made(schema: dict[str, Any], name: str = "") -> Any:
    """An answer as *schema* describes it; each text in it is `EVIL`."""
    if "$ref" in schema:
        return made(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]], name)
    if "anyOf" in schema:
        # Where there is no next page it ends.
        last = name == "next"
        return None if last else made(schema["anyOf"][0], name)
    kind = schema.get("type")
    if name == "ways":  # which the description leaves open
        return [{"recipient": EVIL, "fate": EVIL, "site": EVIL}]
    if kind == "object":
        return {key: made(below, key) for key, below in schema.get("properties", {}).items()}
    if kind == "array":
        below = schema.get("prefixItems") or [schema["items"]]
        return [made(one) for one in below]
    if kind == "string":
        return b64encode(EVIL.encode()).decode() if name in ("base64", "header") else EVIL
    return {"integer": 1, "number": 65.0, "boolean": True}.get(kind or "")


def answered(path: str) -> Any:
    """What the description allows as an answer to GET *path*."""
    (route,) = [
        one for one in ROUTES if one.method == "GET" and one.match(path) is not None
    ]  # fmt: skip
    described = DOCUMENT["paths"][route.path]["get"]["responses"]["200"]
    return made(described["content"]["application/json"]["schema"])


class AnswerTests(SynchronousTestCase):
    def run_on_evil(self, *command: str) -> Result:
        def ask(link: Link, method: str, path: str, body: object) -> tuple[int, Any]:
            return 200, answered(urlsplit(path).path)

        with patch.object(Link, "_ask", ask):
            return CliRunner().invoke(main, [*command, "--control", "x"])

    def narrow(self) -> None:
        """A terminal of 40 columns."""
        terminal = SimpleNamespace(isatty=lambda: True)
        self.patch(words, "sys", SimpleNamespace(stdout=terminal))
        size = SimpleNamespace(columns=40)
        self.patch(words, "shutil", SimpleNamespace(get_terminal_size=lambda: size))

    def test_nothing_is_obeyed(self) -> None:
        """Every text of every answer is shown escaped, on one line."""
        for command in COMMANDS:
            self.assert_tame(command)

    def test_narrow(self) -> None:
        """Also on 40 columns, where a row is a list: each value stands behind its title."""
        self.narrow()
        for command in COMMANDS:
            self.assert_tame(command)
        for command, title in ((("status",), "STATE: "), (("queue", "list"), "SENDER: ")):
            self.assertIn(f"\n{title}\\x1b", self.run_on_evil(*command).output)

    def assert_tame(self, command: tuple[str, ...]) -> None:
        ended = self.run_on_evil(*command)
        self.assertNotIsInstance(ended.exception, Exception)
        self.assertIn("\\x1b[31mred", ended.output, command)
        for line in ended.output.splitlines():
            self.assertTrue(line.isprintable(), (command, line))
            self.assertFalse(line.startswith("forged"), command)


class SilenceTests(PeerCase):
    def told(self, path: Path) -> str:
        ended = CliRunner().invoke(main, ["status", "--control", str(path)])
        self.assertEqual(3, ended.exit_code, ended.output)
        return ended.stderr

    def listen(self, answer: bytes | None) -> Path:
        """A socket where somebody takes a connection, and says *answer* or nothing."""
        path = self.path("c.sock")
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            taken, _ = listening.accept()
            self.addCleanup(taken.close)
            if answer is not None:
                taken.sendall(answer)
                taken.shutdown(socket.SHUT_WR)

        threading.Thread(target=serve, daemon=True).start()
        return path

    def test_busy(self) -> None:
        """A server that takes the connection and does not answer."""
        self.patch(link, "_PATIENCE_SECONDS", 0.2)
        self.assertIn("no answer in 0.2 s", self.told(self.listen(None)))

    def test_another_program(self) -> None:
        """What listens there is no mailhost; or it ends in the middle of an answer."""
        for answer in (b"220 mail ESMTP\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"):
            self.assertIn("is no mailhost, or has just ended", self.told(self.listen(answer)))

    def test_not_allowed(self) -> None:
        """A socket that is another user's."""

        def refuse(connection: LocalConnection) -> None:
            raise PermissionError(13, "Permission denied")

        self.patch(LocalConnection, "connect", refuse)
        self.assertIn("only root and the user that the server is", self.told(Path("x")))

    def test_unreadable(self) -> None:
        """Such a socket given on the command line is no mistake in writing: the same answer."""

        def refuse(connection: LocalConnection) -> None:
            raise PermissionError(13, "Permission denied")

        path = Path(self.mktemp())
        path.touch()
        self.patch(LocalConnection, "connect", refuse)
        with patch("os.access", return_value=False):  # root may read everything
            result = CliRunner().invoke(main, ["status", "--control", str(path)])
        self.assertEqual(3, result.exit_code)
        self.assertIn("only root and the user that the server is", result.output)
