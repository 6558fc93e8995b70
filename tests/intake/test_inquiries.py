"""VRFY and EXPN in a session, with a directory behind them."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings import DomainSettings
from mailhost.errors import LookupProblem
from mailhost.intake.inquiries import MAX_MEMBERS_LISTED
from mailhost.model.access import AccessList
from mailhost.model.directory import Expansion, ambiguous, disabled, too_many_members
from tests.support.directory import FakeDirectory, mailbox, part, somebody
from tests.support.world import World, make_settings

DOWN = LookupProblem("ldap://192.0.2.1 does not answer")
CANNOT = "252 2.1.5 Cannot VRFY user, but will take message for "


class InquiryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = FakeDirectory()
        self.use()

    def use(self, **changes: Any) -> None:
        """A virtual server where both commands are on."""
        settings = make_settings(**changes)
        on = evolve(settings.extensions, vrfy=True, expn=True)
        self.world = World(evolve(settings, extensions=on))
        self.world.desk.directory = self.directory

    def ask(self, command: str) -> str:
        session = self.world.connect()
        session.send(b"EHLO x\r\n")
        return session.send(command.encode() + b"\r\n").decode().strip()


class VerifyTests(InquiryCase):
    def test_somebody(self) -> None:
        """The primary address, however it was asked for."""
        self.directory.people["bob@example.com"] = somebody("bob.b@example.com")
        for words in ("bob", "bob@example.com", "<bob@example.com>"):
            self.assertEqual("250 2.1.5 <bob.b@example.com>", self.ask(f"VRFY {words}"))

    def test_refused(self) -> None:
        """RFC 5321 §3.5.3: each refusal has its code."""
        bob = mailbox("bob@example.com")
        for answer, words in (
            (None, "550 5.1.1 User unknown: bob@example.com"),
            (ambiguous(bob), "553 5.1.4 User ambiguous: <bob@example.com>"),
            (disabled(bob), "550 5.2.1 Mailbox is disabled: bob@example.com"),
            (DOWN, "451 4.4.3 Directory cannot be asked now, try again later"),
        ):
            self.directory.people = {} if answer is None else {"bob@example.com": answer}
            self.assertEqual(words, self.ask("VRFY bob"))

    def test_postmaster(self) -> None:
        """Is there, whatever a directory says (RFC 5321 §4.5.1)."""
        self.assertEqual("250 2.1.5 <postmaster@example.com>", self.ask("VRFY postmaster"))

    def test_forwarded(self) -> None:
        """RFC 5321 §3.4: somebody whose mail goes elsewhere."""
        found = somebody("bob@elsewhere.example")
        self.directory.people["bob@example.com"] = found

        self.assertEqual(
            "251 2.1.5 User not local; will forward to <bob@elsewhere.example>",
            self.ask("VRFY bob"),
        )

    def test_elsewhere(self) -> None:
        """Nobody is asked; who may not send there hears so."""
        self.use(domains=(DomainSettings(name="partner.example", type="remote", relay=True),))
        self.assertEqual(f"{CANNOT}<a@partner.example>", self.ask("VRFY a@partner.example"))
        self.assertEqual(
            "551 5.7.1 User not local: <a@other.example>", self.ask("VRFY a@other.example")
        )
        self.use(access=evolve(make_settings().access, relay=AccessList(True)))
        self.assertEqual(f"{CANNOT}<a@other.example>", self.ask("VRFY a@other.example"))
        self.assertEqual([], self.directory.asked)

    def test_no_directory(self) -> None:
        """Then everybody may be there."""
        self.world.desk.directory = None

        self.assertEqual(f"{CANNOT}<bob@example.com>", self.ask("VRFY bob"))
        self.assertEqual("502 5.5.1 Command not implemented", self.ask("EXPN bob"))

    def test_no_address(self) -> None:
        """A name is not looked for."""
        for words in ("VRFY Bob Smith", "VRFY <bob", "EXPN", "EXPN a@b@c"):
            self.assertEqual("501 5.5.4 Invalid Address", self.ask(words))

    def test_harvest(self) -> None:
        """Who tries one name after the other is shown out."""
        session = self.world.connect()
        session.send(b"EHLO x\r\n")

        said = session.send(b"".join(b"VRFY user%d\r\n" % n for n in range(20)))

        self.assertEqual(10, said.count(b"550 5.1.1"))
        self.assertIn(b"421 4.7.0", said)
        self.assertTrue(session.closed)

    def test_announced(self) -> None:
        """RFC 5321 §3.5.2."""
        session = self.world.connect()
        self.assertIn(b"250-VRFY\r\n250-EXPN\r\n250 HELP\r\n", session.send(b"EHLO x\r\n"))
        self.assertIn(b" VRFY EXPN HELP ", session.send(b"HELP\r\n"))


class ExpandTests(InquiryCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory.people["all@example.com"] = somebody(groups=("all@example.com",))

    def test_members(self) -> None:
        """One line for each, each once."""
        parts = (part("b@example.com", "c@x.example"), part("b@example.com", owner="o@example.com"))
        self.directory.groups["cn=all"] = Expansion(parts)

        self.assertEqual(
            "250-2.1.5 <b@example.com>\r\n250 2.1.5 <c@x.example>", self.ask("EXPN all")
        )

    def test_refused(self) -> None:
        """No group, no members, too many, nobody who knows."""
        self.directory.people["bob@example.com"] = somebody("bob@example.com")
        self.assertEqual("550 5.2.4 Not a mailing list: <bob>", self.ask("EXPN bob"))
        self.assertEqual("550 5.1.1", self.ask("EXPN nobody")[:9])
        self.assertEqual("451 4.4.3", self.ask("EXPN all")[:9])
        self.directory.groups["cn=all"] = Expansion((part(),))
        self.assertEqual("550 5.2.4 No members: <all@example.com>", self.ask("EXPN all"))
        self.directory.groups["cn=all"] = too_many_members(mailbox("all@example.com"), 5)
        self.assertEqual("550 5.5.3", self.ask("EXPN all")[:9])
        many = (f"u{n}@example.com" for n in range(MAX_MEMBERS_LISTED + 1))
        self.directory.groups["cn=all"] = Expansion((part(*many),))
        self.assertEqual("550 5.5.3", self.ask("EXPN all")[:9])
