"""A session, and Pickup, with a directory behind them."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.config.settings import DomainSettings, LDAPSettings
from mailhost.errors import LookupProblem
from mailhost.interfaces import IAddressResolver
from mailhost.model.account import Account
from mailhost.model.directory import ambiguous, disabled, looping, unknown
from mailhost.model.envelope import Handling
from mailhost.model.queue import QueuedMessage
from mailhost.model.route import NextHop
from mailhost.routing.categorizer import make_categorizer
from tests.intake.pickup_house import PickupTestCase
from tests.support.directory import FakeDirectory, mailbox, somebody
from tests.support.world import Session, World, make_settings, with_messages

DOWN = LookupProblem("ldap://192.0.2.1 does not answer")
HELLO = b"EHLO client.example\r\n"
BEGIN = HELLO + b"MAIL FROM:<alice@example.org>\r\n"
BOB = Account("bob", by_directory=True)
CONTENT = b"DATA\r\nSubject: x\r\n\r\nt\r\n.\r\n"


class SessionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = FakeDirectory()
        self.use(World())

    def use(self, world: World) -> None:
        self.world = world
        world.desk.directory = self.directory

    def begin(self) -> Session:
        session = self.world.connect()
        session.send(BEGIN)
        return session

    def rcpt(self, session: Session, text: str) -> str:
        return session.send(b"RCPT TO:<%b>\r\n" % text.encode()).decode().strip()

    def accepted(self, *to: str) -> QueuedMessage:
        """The message to *to*, all of whom are accepted."""
        session = self.begin()
        for one in to:
            self.assertEqual("250", self.rcpt(session, one)[:3])
        session.send(CONTENT)
        return self.world.accepted[-1]


class RecipientTests(SessionCase):
    def test_provides_the_interface(self) -> None:
        """The table is a directory."""
        verifyObject(IAddressResolver, self.directory)

    def test_refused(self) -> None:
        """Each refusal of the directory is a reply to RCPT."""
        bob = mailbox("bob@example.com")
        cases = {
            unknown(bob): "550 5.1.1 User unknown: bob@example.com",
            ambiguous(bob): "550 5.1.4 Address is ambiguous: bob@example.com",
            disabled(bob): "550 5.2.1 Mailbox is disabled: bob@example.com",
            looping(bob): "550 5.4.6 Forwarding loop: bob@example.com",
        }
        for answer, words in cases.items():
            self.directory.people["bob@example.com"] = answer
            self.assertEqual(words, self.rcpt(self.begin(), "bob@example.com"))

    def test_directory_is_down(self) -> None:
        """451, at once or later; its name is not told (promise P4)."""
        words = "451 4.4.3 Directory cannot be asked now, try again later"
        self.directory.people["bob@example.com"] = DOWN
        self.assertEqual(words, self.rcpt(self.begin(), "bob@example.com"))

        answer: Deferred[Any] = Deferred()
        self.directory.people["bob@example.com"] = answer
        session = self.begin()
        self.assertEqual("", self.rcpt(session, "bob@example.com"))
        answer.errback(DOWN)
        self.assertEqual(words, session.read().decode().strip())

    def test_order(self) -> None:
        """Replies come in the order of the commands, however long an answer takes (P5)."""
        answer: Deferred[Any] = Deferred()
        self.directory.people["slow@example.com"] = answer
        self.directory.people["fast@example.com"] = somebody("fast@example.com")
        session = self.begin()
        slow, fast, no = (
            b"RCPT TO:<%b@example.com>\r\n" % name for name in (b"slow", b"fast", b"no")
        )
        self.assertEqual(b"", session.send(slow + fast + no))

        answer.callback(somebody("slow@example.com"))

        codes = [line[:9] for line in session.read().splitlines()]
        self.assertEqual([b"250 2.1.5", b"250 2.1.5", b"550 5.1.1"], codes)

    def test_disconnected_while_asking(self) -> None:
        """An answer for nobody is swallowed."""
        answer: Deferred[Any] = Deferred()
        self.directory.people["bob@example.com"] = answer
        session = self.begin()
        self.rcpt(session, "bob@example.com")

        session.protocol.connectionLost(None)
        answer.callback(somebody("bob@example.com"))

        self.assertEqual([], self.world.accepted)

    def test_forwarded(self) -> None:
        """Destinations take the place of the recipient, each once, wherever they are."""
        self.directory.people["bob@example.com"] = somebody("b@example.com", "x@example.net")
        self.directory.people["b@example.com"] = somebody("b@example.com")

        message = self.accepted("bob@example.com", "b@example.com")

        paths = [str(one.forward_path) for one in message.recipients.values()]
        self.assertEqual(["b@example.com", "x@example.net"], paths)

    def test_home_and_group(self) -> None:
        """A home server and a group go with their recipient into the queue."""
        self.directory.people["bob@example.com"] = somebody("bob@example.com", host="mail1")
        self.directory.people["all@example.com"] = somebody(
            "c@example.com", groups=("all@example.com",)
        )

        message = self.accepted("bob@example.com", "all@example.com")

        found = [
            (str(one.forward_path), Handling(one.host, one.group))
            for one in message.recipients.values()
        ]
        self.assertEqual(
            [
                ("bob@example.com", Handling(NextHop("mail1"))),
                ("c@example.com", Handling()),
                ("all@example.com", Handling(group="cn=all")),
            ],
            found,
        )

    def test_only_local_domains(self) -> None:
        """An alias domain is stamped first; others are not looked up, and not relayed."""
        settings = make_settings(domains=(DomainSettings("example.net", "alias"),))
        self.use(World(settings))
        self.directory.people["bob@example.com"] = somebody("bob@example.com")
        session = self.begin()

        self.assertEqual("250", self.rcpt(session, "bob@example.net")[:3])
        self.assertEqual("550 5.7.1", self.rcpt(session, "bob@example.org")[:9])
        self.assertEqual("550 5.1.1", self.rcpt(session, "nobody")[:9])
        self.assertEqual(["bob@example.com", "nobody@example.com"], self.directory.asked)

    def test_postmaster(self) -> None:
        """Accepted though nobody has the address (RFC 5321 §4.5.1); who has it gets it."""
        message = self.accepted("PostMaster")
        self.assertEqual("PostMaster@example.com", str(message.recipients[0].forward_path))

        self.directory.people["postmaster@example.com"] = somebody("bob@example.com")
        message = self.accepted("postmaster@example.com")
        self.assertEqual("bob@example.com", str(message.recipients[0].forward_path))

    def test_limit(self) -> None:
        """MSG-04 counts what the client names, not what comes of it."""
        self.use(World(with_messages(max_recipients=2)))
        many = somebody(*(f"m{number}@example.com" for number in range(5)))
        for name in ("one", "two", "same", "three"):
            self.directory.people[f"{name}@example.com"] = somebody(f"{name}@example.com")
        self.directory.people["one@example.com"] = many
        self.directory.people["same@example.com"] = somebody("m3@example.com")
        session = self.begin()

        codes = [
            self.rcpt(session, f"{name}@example.com")[:9]
            for name in ("one", "two", "one", "same", "three")
        ]

        self.assertEqual(["250 2.1.5"] * 4 + ["452 4.5.3"], codes)


class SenderTests(SessionCase):
    def mail(self, text: str) -> str:
        session = self.world.connect()
        session.send(HELLO)
        return session.send(b"MAIL FROM:<%b>\r\n" % text.encode()).decode().strip()

    def test_left_alone(self) -> None:
        """A sender stays as he is unless the operator wants it otherwise."""
        self.directory.primary["bob@example.com"] = mailbox("robert@example.com")

        self.assertEqual("250 2.1.0 bob@example.com....Sender OK", self.mail("bob@example.com"))

    def test_rewritten(self) -> None:
        """Local senders get their primary address; nobody else is looked up."""
        self.use(World(make_settings(ldap=LDAPSettings(rewrite_sender=True))))
        later: Deferred[Any] = Deferred()
        self.directory.primary |= {
            "bob@example.com": mailbox("robert@example.com"),
            "carl@example.com": later,
            "down@example.com": DOWN,
            "bob@example.org": DOWN,
        }
        later.callback(mailbox("c@example.com"))

        for given, said in {
            "bob@example.com": "250 2.1.0 robert@example.com....Sender OK",
            "carl@example.com": "250 2.1.0 c@example.com....Sender OK",
            "down@example.com": "451 4.4.3 Directory cannot be asked now, try again later",
            "bob@example.org": "250 2.1.0 bob@example.org....Sender OK",
            "": "250 2.1.0 <>....Sender OK",
        }.items():
            self.assertEqual(said, self.mail(given))

        failing: Deferred[Any] = Deferred()
        self.directory.primary["bob@example.com"] = failing
        failing.errback(DOWN)
        self.assertEqual("451 4.4.3", self.mail("bob@example.com")[:9])


class SendAsTests(SessionCase):
    """``ldap.check_sender``: logins of the directory are held to their addresses."""

    def setUp(self) -> None:
        super().setUp()
        self.use(World(make_settings(ldap=LDAPSettings(check_sender=True, rewrite_sender=True))))

    def mail(self, text: str, account: Account | None = BOB) -> str:
        session = self.world.connect()
        session.send(b"EHLO x\r\n")
        session.protocol.session.account = account
        return session.send(b"MAIL FROM:<%b>\r\n" % text.encode()).decode().strip()

    def test_by_the_directory(self) -> None:
        """At once or later; what the directory cannot say is put off, and then he is rewritten."""
        later: Deferred[Any] = Deferred()
        later.callback(True)
        self.directory.delegations = {
            "bob@example.com": True,
            "boss@example.com": later,
            "carl@example.com": False,
            "down@example.com": DOWN,
        }
        self.directory.primary["boss@example.com"] = mailbox("b@example.com")

        for given, said in {
            "bob@example.com": "250 2.1.0 bob@example.com....Sender OK",
            "boss@example.com": "250 2.1.0 b@example.com....Sender OK",
            "carl@example.com": "553 5.7.1 bob may not send as carl@example.com",
            "down@example.com": "451 4.4.3 Directory cannot be asked now, try again later",
            "": "250 2.1.0 <>....Sender OK",
        }.items():
            self.assertEqual(said, self.mail(given))

    def test_other_logins(self) -> None:
        """Whom the directory has not let in is not its business."""
        self.directory.delegations = {"carl@example.com": False}
        for account in (None, Account("printer")):
            self.assertEqual(
                "250 2.1.0 carl@example.com....Sender OK", self.mail("carl@example.com", account)
            )


class PickupDirectoryTests(PickupTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.people = FakeDirectory()
        self.world.desk.directory = self.people

    def file(self, *to: str) -> bytes:
        return b"From: ann@example.com\nTo: %b\n\nHello\n" % ", ".join(to).encode()

    def test_resolved(self) -> None:
        """As in a session: the sender too, where it is wanted."""
        settings = make_settings(home=self.home, ldap=LDAPSettings(rewrite_sender=True))
        self.world.desk.settings = settings
        self.people.primary["ann@example.com"] = mailbox("a@example.com")
        self.people.people["bob@example.com"] = somebody("b@example.com", host="mail1")

        message = self.send(self.file("bob@example.com", "x@example.net", "postmaster"))

        self.assertEqual("a@example.com", str(message.reverse_path))
        paths = ["b@example.com", "x@example.net", "postmaster@example.com"]
        self.assertEqual(paths, self.recipients(message))
        self.assertEqual(NextHop("mail1"), message.recipients[0].host)

    def test_unknown(self) -> None:
        """Badmail, with the reason."""
        self.put(self.file("x@example.net", "nobody@example.com"))
        self.settle()

        (bad,) = self.bad()
        self.assertIn("User unknown: nobody@example.com (5.1.1)", bad["text"])
        self.assertEqual(([], []), (self.accepted, self.left()))

    def test_directory_is_down(self) -> None:
        """The file waits, and is sent when the directory is there again (P4)."""
        self.people.people["bob@example.com"] = DOWN
        self.put(self.file("bob@example.com"))
        self.settle()
        self.assertEqual(([], []), (self.bad(), self.accepted))
        self.assertEqual(1, len(self.left()))

        self.people.people["bob@example.com"] = somebody("bob@example.com")
        for _ in range(6):
            self.settle()

        self.assertEqual(["bob@example.com"], self.recipients(self.accepted[0]))
        self.assertEqual([], self.left())

    def test_split(self) -> None:
        """Recipients beyond max_recipients go into a further message, each with what is his."""
        self.set_limits(max_recipients=2)
        self.people.people["bob@example.com"] = somebody(
            "b1@example.com", "b2@example.com", "b3@example.com", host="mail1"
        )
        self.put(self.file("x@example.net", "bob@example.com"))
        self.settle()

        self.assertEqual(
            [["x@example.net", "b1@example.com"], ["b2@example.com", "b3@example.com"]],
            [self.recipients(one) for one in self.accepted],
        )
        hosts = [[r.host for r in one.recipients.values()] for one in self.accepted]
        self.assertEqual([[None, NextHop("mail1")], [NextHop("mail1")] * 2], hosts)

    def test_alias(self) -> None:
        """An address in an alias domain is looked up in the default domain."""
        settings = evolve(
            self.world.desk.settings, domains=(DomainSettings("example.net", "alias"),)
        )
        self.world.desk.settings = settings
        self.world.desk.categorizer = make_categorizer(settings)
        self.people.people["bob@example.com"] = somebody("bob@example.com")

        self.assertEqual(
            ["bob@example.com"], self.recipients(self.send(self.file("bob@example.net")))
        )
