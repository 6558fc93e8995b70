"""Virtual servers that ask a real directory: sockets, a durable queue, and slapd."""

from __future__ import annotations

import signal
import smtplib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailhost.config.settings import LDAPSettings, VirtualServerSettings
from mailhost.directory import binding
from mailhost.model.schedule import RetrySchedule
from mailhost.server.virtual_server import CannotStart, VirtualServer
from tests.support.mailroot import Delivered, Mailroot
from tests.support.slapd import AD, MISSING, SHARED, Slapd
from tests.support.world import FakeNames, make_settings

DOMAIN = "ad.example.com"


class DirectoryCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)
        self.names = FakeNames()

    def settings(self, url: str, name: str = "one", **changes: Any) -> VirtualServerSettings:
        """A virtual server for the AD tree's domain."""
        ldap = LDAPSettings(
            enabled=True, server=(url,), base=AD, timeout=3.0, **changes.pop("ldap", {})
        )
        return make_settings(
            **{"name": name, "home": self.home / name, "domain": DOMAIN, "ldap": ldap, **changes}
        )

    def start(self, settings: VirtualServerSettings) -> VirtualServer:
        server = VirtualServer(settings, reactor, self.names)
        self.addCleanup(server.stop)
        server.start()
        return server

    async def said(
        self, server: VirtualServer, *to: str, sender: str = "a@example.org"
    ) -> list[str]:
        """Replies to RCPT for *to*, local parts of the domain."""
        host, port = server.addresses[0]

        def client() -> list[str]:
            with smtplib.SMTP(host, port, "client.example", timeout=10) as smtp:
                smtp.ehlo()
                smtp.mail("a@example.org")
                replies = [smtp.rcpt(f"{one}@{DOMAIN}") for one in to]
            return [f"{code} {words.split()[0].decode()}" for code, words in replies]

        return await deferToThread(client)

    async def send(self, server: VirtualServer, *to: str, sender: str = "a@example.org") -> None:
        """A message that is accepted for all of *to*."""
        host, port = server.addresses[0]

        def client() -> Any:
            with smtplib.SMTP(host, port, "client.example", timeout=10) as smtp:
                return smtp.sendmail(sender, [f"{one}@{DOMAIN}" for one in to], "\r\ntext\r\n")

        self.assertEqual({}, await deferToThread(client))

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            await deferLater(reactor, 0.05)

    def dropped(self, server: VirtualServer) -> list[Delivered]:
        return Mailroot(server.settings.home).drop()

    def receivers(self, server: VirtualServer) -> Counter[str]:
        """Local parts in Drop, and how often each is there."""
        found = self.dropped(server)
        return Counter(path.partition("@")[0] for one in found for path in one.receivers)


class SharedCase(DirectoryCase):
    if MISSING:
        skip = MISSING

    def setUp(self) -> None:
        super().setUp()
        self.slapd = SHARED.get()


class SessionTests(SharedCase):
    async def test_replies(self) -> None:
        """Each answer of the directory is a reply to RCPT."""
        server = self.start(self.settings(self.slapd.url))

        said = await self.said(
            server, "nobody", "*)(mail=*", "twin", "disabled", "ring.a", "clerk", "team0001",
            "Postmaster",
        )  # fmt: skip

        wanted = ["550 5.1.1"] * 2 + ["550 5.1.4", "550 5.2.1", "550 5.4.6"] + ["250 2.1.5"] * 3
        self.assertEqual(wanted, said)

    async def test_into_drop(self) -> None:
        """A user's mail, and that of who is forwarded to him."""
        server = self.start(self.settings(self.slapd.url))

        await self.send(server, "clerk", "away", "first.last00042", "postmaster")
        await self.until(lambda: self.dropped(server))

        self.assertEqual(
            {"clerk": 1, "user00042": 1, "postmaster": 1}, dict(self.receivers(server))
        )

    async def test_home_server(self) -> None:
        """Mail goes to the host where the mailbox is, without its right to relay."""
        home = self.start(make_settings(name="home", home=self.home / "home", domain=DOMAIN))
        delivery = make_settings().delivery
        port = home.addresses[0][1]
        self.names.hosts["mail1.example.com"] = ["127.0.0.1"]
        server = self.start(
            self.settings(
                self.slapd.url,
                ldap={"home_servers": (("MAIL1", "mail1.example.com"),)},
                delivery=evolve(delivery, connections=evolve(delivery.connections, port=port)),
            )
        )

        await self.send(server, "homed", "clerk")
        await self.until(lambda: self.dropped(home) and self.dropped(server))

        self.assertEqual(({"homed": 1}, {"clerk": 1}), (
            dict(self.receivers(home)), dict(self.receivers(server)),
        ))  # fmt: skip

    async def test_rewritten_sender(self) -> None:
        """A sender gets his primary address where the operator wants it."""
        server = self.start(self.settings(self.slapd.url, ldap={"rewrite_sender": True}))

        await self.send(server, "clerk", sender=f"First.Last00007@{DOMAIN}")
        await self.until(lambda: self.dropped(server))

        self.assertEqual(f"user00007@{DOMAIN}", self.dropped(server)[0].sender)

    async def test_pickup(self) -> None:
        """A file to a group is sent; one to nobody is Badmail."""
        server = self.start(self.settings(self.slapd.url))
        await self.until(server.settings.pickup_directory.is_dir)
        for name in ("owned", "nobody"):
            text = f"From: clerk@{DOMAIN}\nTo: {name}@{DOMAIN}\n\ntext\n"
            (server.settings.pickup_directory / f"{name}.eml").write_text(text)

        root = Mailroot(server.settings.home)
        await self.until(lambda: self.dropped(server) and not root.left_over() and root.badmail())

        self.assertEqual({"clerk": 1, "helper": 1}, dict(self.receivers(server)))
        (bad,) = root.badmail()
        self.assertIn("User unknown: nobody@", str(bad))


class GroupTests(SharedCase):
    async def test_members_once(self) -> None:
        """Groups in a circle, and one beside them: every member gets it once."""
        server = self.start(self.settings(self.slapd.url))

        await self.send(server, "deep0", "team0001", "deep5", "clerk")
        await self.until(lambda: sum(self.receivers(server).values()) >= 12)
        await self.until(lambda: not Mailroot(server.settings.home).queue())

        found = self.receivers(server)
        self.assertEqual({1}, set(found.values()), found)
        self.assertEqual(12, len(found))
        self.assertLessEqual({"clerk", "helper"}, set(found))

    async def test_large(self) -> None:
        """5,000 members; RCPT does not wait for them."""
        server = self.start(self.settings(self.slapd.url))

        await self.send(server, "everybody")
        await self.until(lambda: len(self.receivers(server)) == 5000)

        self.assertEqual({1}, set(self.receivers(server).values()))

    async def test_return_path(self) -> None:
        """Failures of an owned list's mail go to its owner."""
        server = self.start(self.settings(self.slapd.url))

        await self.send(server, "owned", "user00001")
        await self.until(lambda: len(self.dropped(server)) == 2)

        senders = {one.receivers: one.sender for one in self.dropped(server)}
        self.assertEqual(
            {
                (f"user00001@{DOMAIN}",): "a@example.org",
                (f"clerk@{DOMAIN}", f"helper@{DOMAIN}"): f"helper@{DOMAIN}",
            },
            senders,
        )

    async def test_members_that_cannot_be_reached(self) -> None:
        """The others get it, and the sender is told of those (P2)."""
        self.names.exchanges["example.org"] = []
        server = self.start(self.settings(self.slapd.url))

        await self.send(server, "mixed", sender=f"user00001@{DOMAIN}")
        await self.until(lambda: {"user00001", "odd", "copied"} <= set(self.receivers(server)))

        told = b"".join(
            one.content for one in self.dropped(server) if f"user00001@{DOMAIN}" in one.receivers
        )
        self.assertIn(b"ring.a@ad.example.com", told)
        self.assertIn(b"5.4.6", told)


class ConfigureTests(SharedCase):
    async def test_on_and_off(self) -> None:
        """The page acts on the next command, and no session is dropped."""
        settings = self.settings(self.slapd.url)
        off = evolve(settings, ldap=LDAPSettings())
        server = self.start(off)
        self.assertEqual(["250 2.1.5"], await self.said(server, "nobody"))

        server.configure(settings)
        self.assertEqual(["550 5.1.1"], await self.said(server, "nobody"))
        before = server._directory.resolver
        server.configure(evolve(settings, connection_timeout=60))
        self.assertIs(before, server._directory.resolver)

        server.configure(off)
        self.assertEqual(["250 2.1.5"], await self.said(server, "nobody"))
        self.assertIsNone(server._directory.resolver)

    async def test_cannot_be_done(self) -> None:
        """Kerberos without its package: said in words, and nothing changes."""
        wrong = self.settings(self.slapd.url, ldap={"binding": "service_account"})
        self.patch(binding, "has_kerberos", lambda: False)
        stopped = VirtualServer(wrong, reactor, self.names)

        problem = self.assertRaises(CannotStart, stopped.start)

        self.assertIn("gssapi", str(problem))
        running = self.start(self.settings(self.slapd.url, "two"))
        self.assertRaises(CannotStart, running.configure, evolve(wrong, name="two"))
        self.assertEqual(["550 5.1.1"], await self.said(running, "nobody"))


class OutageTests(DirectoryCase):
    if MISSING:
        skip = MISSING

    async def test_killed_and_back(self) -> None:
        """451 in the session, queued groups and Pickup files wait; then all of it goes on."""
        folder = TemporaryDirectory(prefix="slapd")
        self.addCleanup(folder.cleanup)
        slapd = Slapd(Path(folder.name))
        slapd.load(people=200, groups=5)
        slapd.start(self.addCleanup)
        delivery = evolve(make_settings().delivery, outbound=RetrySchedule((1,)))
        server = self.start(self.settings(slapd.url, delivery=delivery))
        self.assertEqual(["250 2.1.5"], await self.said(server, "team0001"))

        slapd.process.kill()
        self.assertEqual(["451 4.4.3", "250 2.1.5"], await self.said(server, "clerk", "team0001"))
        await self.send(server, "team0001", sender=f"clerk@{DOMAIN}")
        text = f"From: clerk@{DOMAIN}\nTo: helper@{DOMAIN}\n\ntext\n"
        (server.settings.pickup_directory / "a.eml").write_text(text)
        root = Mailroot(server.settings.home)
        await self.until(lambda: root.queue() and root.queue()[0].attempts)
        work = server.settings.pickup_directory / ".work"
        await self.until(lambda: work.is_dir() and any(work.iterdir()))
        self.assertEqual(["4.4.3"], [one.status for one in root.queue()])

        slapd.start(self.addCleanup)
        await self.until(lambda: len(self.receivers(server)) == 11)
        self.assertEqual(["250 2.1.5"], await self.said(server, "clerk"))
        await self.until(lambda: not root.queue() and not any(work.iterdir()))

        self.assertIn("helper", self.receivers(server))
        self.assertEqual({1}, set(self.receivers(server).values()))
        self.assertEqual([], root.badmail())
        self.assertEqual([], [one for one in self.dropped(server) if one.sender == "<>"])

    async def test_stop_while_asking(self) -> None:
        """A directory that hangs does not hold up a stop; the group is in the queue."""
        folder = TemporaryDirectory(prefix="slapd")
        self.addCleanup(folder.cleanup)
        slapd = Slapd(Path(folder.name))
        slapd.load(people=200, groups=5)
        slapd.start(self.addCleanup)
        server = self.start(self.settings(slapd.url))
        self.assertEqual(["250 2.1.5"], await self.said(server, "team0001"))
        slapd.process.send_signal(signal.SIGSTOP)
        self.addCleanup(slapd.process.send_signal, signal.SIGCONT)
        await self.send(server, "team0001")

        began = reactor.seconds()
        await server.stop()

        self.assertLess(reactor.seconds() - began, 10.0)
        self.assertEqual([0], [one.attempts for one in Mailroot(server.settings.home).queue()])
