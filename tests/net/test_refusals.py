"""What the log says of refusals: the reason, and the setting behind it."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SpoolFull
from mailhost.model.access import AccessList
from mailhost.model.client import ClientLimits
from mailhost.model.rate import Rate
from mailhost.model.reply import Reply
from mailhost.smtp import replies
from mailhost.spool.memory import MemoryQueue
from tests.config.test_settings import every_key
from tests.support.world import World, make_settings, with_messages

HELLO = b"EHLO x\r\n"
MAIL = HELLO + b"MAIL FROM:<a@example.org>\r\n"
RCPT = MAIL + b"RCPT TO:<b@example.com>\r\n"
_DEFAULT = make_settings()


def _access(**changes: Any) -> Any:
    return make_settings(access=evolve(_DEFAULT.access, **changes))


#: Settings, what a client says, and what the log says behind its address.
REFUSED = (
    (make_settings(max_connections=1), b"", "421 4.3.2 Too many", "max_connections"),
    (
        _access(connections=AccessList.build(allow=False)),
        b"",
        "554 5.7.1 Connection refused",
        "access.connections",
    ),
    (
        _access(per_address=ClientLimits(messages=Rate(1, 60))),
        RCPT + b"RSET\r\nMAIL FROM:<a@example.org>\r\n",
        "451 4.7.1 Too much mail",
        "access.per_address.messages",
    ),
    (_access(anonymous=False), MAIL, "530 5.7.0", "access.anonymous"),
    (_DEFAULT, MAIL + b"RCPT TO:<b@example.net>\r\n", "550 5.7.1 Unable", "access.relay"),
    (
        with_messages(max_message_size=2048),
        HELLO + b"MAIL FROM:<a@example.org> SIZE=2049\r\n",
        "552 5.3.4",
        "messages.max_message_size",
    ),
    (
        with_messages(max_recipients=1),
        RCPT + b"RCPT TO:<c@example.com>\r\n",
        "452 4.5.3",
        "messages.max_recipients",
    ),
    (
        _DEFAULT,
        RCPT + b"DATA\r\n" + b"Received: by x\r\n" * 40 + b"\r\n.\r\n",
        "554 5.4.6",
        "delivery.max_hops",
    ),
    (_DEFAULT, RCPT + b"DATA\r\na\rb\r\n.\r\n", "554 5.6.0", "messages.bare_line_ends"),
    (
        with_messages(max_line_length=1000),
        RCPT + b"DATA\r\n" + b"x" * 1001 + b"\r\n.\r\n",
        "554 5.6.0",
        "messages.max_line_length",
    ),
)


def full(store: MemoryQueue, size: int | None) -> None:
    raise SpoolFull("the disk is full")


class RefusalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.lines: list[str] = []
        observer = lambda event: self.lines.append(formatEvent(event))  # noqa: E731  # removed below
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def refusals(self) -> list[str]:
        return [line for line in self.lines if line.startswith("192.0.2.7: ")]

    def test_reason_and_setting(self) -> None:
        """Each limit that a client meets is told once, with the key that would move it."""
        for settings, octets, reply, setting in REFUSED:
            world = World(settings)
            world.connect()
            self.lines.clear()
            world.connect().send(octets)

            (line,) = self.refusals()
            self.assertTrue(line.startswith(f"192.0.2.7: {reply}"), line)
            self.assertTrue(line.endswith(f" ({setting})"), line)

    def test_what_the_store_says(self) -> None:
        """A reply that says little has its reason in the log."""
        world = World()
        self.patch(MemoryQueue, "check_room", full)
        world.connect().send(MAIL)

        self.assertEqual(
            ["192.0.2.7: 452 4.3.1 Insufficient system storage: the disk is full"], self.refusals()
        )

    def test_many(self) -> None:
        """A session has twenty lines; the rest is one number at its end."""
        session = World().connect()
        session.send(MAIL + b"RCPT TO:<b@example.net>\r\n" * 23)
        self.assertEqual(20, len(self.refusals()))

        session.protocol.connectionLost()
        self.assertEqual("192.0.2.7: and 3 more refusals", self.refusals()[-1])

    def test_farewells(self) -> None:
        """Who is silent, or has to go because the server goes, was refused nothing."""
        world = World(make_settings(connection_timeout=5))
        silent = world.connect()
        world.clock.pump([1.0] * 7)
        other = World()
        stopped = other.connect()
        other.factory.end_sessions()

        self.assertIn(b"421 4.4.2", silent.read())
        self.assertIn(b"421 4.3.2", stopped.read())
        self.assertEqual([], self.refusals())

    def test_logins(self) -> None:
        """The exchange tells of what was proved, and how; not twice."""
        session = World().connect()
        session.send(b"EHLO x\r\n")
        session.protocol._tell_refusal(replies.LOGIN_FAILED)

        self.assertEqual([], self.refusals())


class SettingTests(SynchronousTestCase):
    def test_there_are_such_settings(self) -> None:
        """What a refusal names stands in the reference."""
        known = {name for name, _ in every_key()}
        made = [one for one in vars(replies).values() if isinstance(one, Reply)]
        made += [
            make(whose)
            for make in (replies.has_too_many, replies.comes_too_fast, replies.errs_too_much)
            for whose in ("address", "network")
        ]
        made += [replies.sends_too_much("address", what) for what in ("messages", "recipients")]
        made += [
            replies.greylisted(1.0),
            replies.listed("192.0.2.7", ("a.example",), 550),
            replies.not_solicited("a"),
            replies.directory_failed("4.4.3"),
            replies.node_not_allowed("a"),
            replies.content_line_too_long(1000),
        ]
        named = {one.setting.replace("[]", "") for one in made if one.setting}

        self.assertGreater(len(named), 25)
        self.assertEqual(set(), {one for one in named if f"virtual_servers.{one}" not in known})
