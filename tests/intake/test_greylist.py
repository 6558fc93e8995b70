"""Tests for `mailhost.intake.greylist` and `mailhost.spool.greylist`, with real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from mailhost.intake.greylist import Greylist
from mailhost.model.access import AccessList
from mailhost.model.address import Mailbox
from mailhost.model.greylist import GreylistTerms
from tests.support.world import START, World, make_settings

TERMS = GreylistTerms(True, 300, 3600, 10_000, known_after=2)
HELLO = b"EHLO client.example\r\n"
MAIL = b"MAIL FROM:<a@example.org>\r\n"
BOX = Mailbox("b", "example.com")


class GreylistCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "greylist.sqlite"
        self.lists: list[Greylist] = []

    def tearDown(self) -> None:
        for one in self.lists:
            one._file.close()

    def make(self) -> Greylist:
        """Another worker, or another life."""
        made = Greylist(self.path, maybeDeferred)
        self.lists.append(made)
        return made

    def wait(self, one: Greylist, peer: str, sender: str, now: float, **terms: Any) -> float:
        asked = one.wait(peer, Mailbox(sender, "x.example"), BOX, evolve(TERMS, **terms), now)
        return float(self.successResultOf(Deferred.fromCoroutine(asked)))


class FileTests(GreylistCase):
    def test_workers_and_lives_share_it(self) -> None:
        """Whoever came to one worker comes back to another, and after a restart."""
        one, other = self.make(), self.make()
        self.assertEqual(300, self.wait(one, "192.0.2.7", "a", START))
        self.assertEqual(200, self.wait(other, "192.0.2.7", "A", START + 100))
        one._file.close()
        self.assertEqual(0, self.wait(self.make(), "192.0.2.9", "a", START + 300))
        self.assertEqual(0, self.wait(other, "192.0.2.7", "a", START + 301))
        self.assertEqual(300, self.wait(other, "192.0.3.7", "a", START + 301))

    def test_addresses(self) -> None:
        """networks: false tells the clients of a network apart."""
        one = self.make()
        self.wait(one, "192.0.2.7", "a", START, networks=False)
        self.assertEqual(300, self.wait(one, "192.0.2.8", "a", START + 400, networks=False))
        self.assertEqual(0, self.wait(one, "192.0.2.7", "a", START + 400, networks=False))

    def test_known_clients(self) -> None:
        """Who has come back twice is known, and need not be looked up; until it stays away."""
        one = self.make()
        for sender in ("a", "b"):
            self.assertFalse(one.passes("192.0.2.7", TERMS, START + 400))
            self.wait(one, "192.0.2.7", sender, START)
            self.assertEqual(0, self.wait(one, "192.0.2.7", sender, START + 400))
        self.assertTrue(one.passes("192.0.2.200", TERMS, START + 400))
        self.assertFalse(one.passes("192.0.2.7", TERMS, START + 400 + 3600))
        self.assertEqual(0, self.wait(self.make(), "192.0.2.7", "new", START + 4000))
        self.assertEqual(300, self.wait(self.make(), "192.0.2.7", "newer", START + 15_000))

    def test_bounded(self) -> None:
        """P7: what was seen last a long time ago makes room."""
        one = self.make()
        one._file.max_triplets = 10
        for number in range(25):
            self.wait(one, "192.0.2.7", f"u{number}", START + number)
        connection = one._file._opened()
        (count,) = connection.execute("SELECT count(*) FROM triplets").fetchone()
        self.assertLessEqual(count, 11)
        self.assertEqual(0, self.wait(one, "192.0.2.7", "u24", START + 324))

    def test_what_is_over_is_removed(self) -> None:
        """An hour later those that did not come back are gone."""
        one = self.make()
        self.wait(one, "192.0.2.7", "a", START)
        self.wait(one, "192.0.2.7", "b", START + 3601)
        (count,) = one._file._opened().execute("SELECT count(*) FROM triplets").fetchone()
        self.assertEqual(1, count)

    def test_a_file_that_is_none(self) -> None:
        """P4: everybody is let in, and the log says why, once."""
        self.path.parent.mkdir()
        self.path.write_bytes(b"no database, and long enough not to be an empty one" * 10)
        one = self.make()
        for _ in range(2):
            self.assertEqual(0, self.wait(one, "192.0.2.7", "a", START))


class SessionTests(GreylistCase):
    def world(self, **access: Any) -> World:
        settings = make_settings()
        changed = evolve(settings.access, **{"greylist": TERMS, **access})
        world = World(evolve(settings, access=changed))
        world.desk.greylist = self.make()
        return world

    def said(self, world: World, to: bytes = b"b@example.com", peer: str = "192.0.2.7") -> bytes:
        session = world.connect(peer)
        session.read()
        session.send(HELLO + MAIL)
        said = session.send(b"RCPT TO:<" + to + b">\r\n")
        session.protocol.connectionLost()
        return said

    def test_comes_back(self) -> None:
        """451 with the time, then 250; another recipient waits for itself."""
        world = self.world()
        self.assertIn(b"451 4.7.1 Not known here yet, try again in 300 s", self.said(world))
        world.clock.advance(120)
        self.assertIn(b"451 4.7.1 Not known here yet, try again in 180 s", self.said(world))
        world.clock.advance(180)
        self.assertIn(b"250 2.1.5", self.said(world))
        self.assertIn(b"451 4.7.1", self.said(world, b"c@example.com"))

    def test_who_is_not_asked(self) -> None:
        """Postmaster's mail, and the operator's own clients; off, nobody."""
        off = GreylistTerms()
        trusted = AccessList.build(False, ["192.0.2.7"])
        self.assertIn(b"250", self.said(self.world(), b"postmaster@example.com"))
        self.assertIn(b"250", self.said(self.world(greylist=off)))
        self.assertIn(b"250", self.said(self.world(relay=trusted)))
        self.assertIn(b"250", self.said(self.world(trusted=trusted.networks)))

    def test_relaying_comes_first(self) -> None:
        """Nobody is told to come back for what is refused anyway."""
        self.assertIn(b"550 5.7.1", self.said(self.world(), b"x@elsewhere.example"))
