"""Tests for AUTH in `mailhost.smtp.server_dialogue`: framing, order and lengths (RFC 4954)."""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable

from attrs import evolve, frozen
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.reply import Reply
from mailhost.smtp import replies
from mailhost.smtp.events import Event, LoginBegun, LoginContinued, MailGiven, TLSAsked, Wait
from mailhost.smtp.rules import Rules
from mailhost.smtp.sasl import MECHANISMS, Place
from mailhost.smtp.sasl.base import Challenge, KeysWanted, PasswordGiven, Proved
from mailhost.smtp.sasl.scram import ScramClient, make_keys, salted_password
from mailhost.smtp.server_dialogue import ServerDialogue

RULES = Rules(
    "mail.example.com",
    starttls=True,
    early_talkers=True,
    secure_mechanisms=("SCRAM-SHA-256", "PLAIN", "LOGIN"),
    clear_mechanisms=("SCRAM-SHA-256",),
)
BARE = Rules("mail.example.com", early_talkers=True)
CLEAR = evolve(RULES, clear_mechanisms=RULES.secure_mechanisms)
HELLO = b"EHLO x\r\n"
PLAIN = b"AUTH PLAIN " + b64encode(b"\0kim\0pencil") + b"\r\n"
KEYS = make_keys("pencil", b"0123456789abcdef", 4096)


@frozen
class Peer:
    """Answers the events of one session as a server with one user, kim, would."""

    subject: ServerDialogue
    heard: list[Event]
    mechanism: list[object]

    @classmethod
    def of(cls, rules: Rules, secure: bool = False) -> Peer:
        return cls(ServerDialogue(rules, "192.0.2.7", secure=secure), [], [])

    def say(self, octets: bytes, step: int | None = None) -> list[bytes]:
        """Feed *octets*, in pieces of *step*; the reply lines."""
        size = step or max(1, len(octets))
        for start in range(0, max(1, len(octets)), size):
            self.subject.receive_octets(octets[start : start + size])
            while not isinstance(event := self.subject.next_event(), Wait):
                self.heard.append(event)
                if self.subject.paused:
                    self.subject.answer(self._reply(event))
        return self.subject.octets_to_send().splitlines()

    def last(self, octets: bytes) -> bytes:
        return self.say(octets)[-1]

    def _reply(self, event: Event) -> Reply:
        if isinstance(event, TLSAsked):
            return replies.READY_FOR_TLS
        if isinstance(event, LoginBegun):
            self.mechanism[:] = [MECHANISMS[event.mechanism](Place(lambda name: None))]
            return self._follow(event.response)
        if isinstance(event, LoginContinued):
            return self._follow(event.response)
        return replies.OK

    def _follow(self, response: bytes | None) -> Reply:
        (server,) = self.mechanism
        step = server.step(response)  # type: ignore[attr-defined]  # one of MECHANISMS
        if isinstance(step, KeysWanted):
            step = server.take_keys(KEYS)  # type: ignore[attr-defined]
        if isinstance(step, Challenge):
            return replies.challenge(step.octets)
        good = step in (Proved(), PasswordGiven("kim", "pencil"))
        return replies.LOGGED_IN if good else replies.LOGIN_FAILED


class OfferTests(SynchronousTestCase):
    def keyword(self, rules: Rules, secure: bool) -> list[bytes]:
        return [line for line in Peer.of(rules, secure).say(HELLO) if b"AUTH" in line]

    def test_by_protection(self) -> None:
        """ACC-03: what sends passwords is listed with TLS only, if so ordered."""
        self.assertEqual([b"250-AUTH SCRAM-SHA-256"], self.keyword(RULES, False))
        self.assertEqual([b"250-AUTH SCRAM-SHA-256 PLAIN LOGIN"], self.keyword(RULES, True))
        self.assertEqual([], self.keyword(BARE, True))

    def test_nothing_before_tls_where_it_is_required(self) -> None:
        """ACC-11 holds for AUTH too."""
        rules = evolve(CLEAR, require_tls=True)
        self.assertEqual([], self.keyword(rules, False))
        self.assertEqual(b"530", Peer.of(rules).last(HELLO + PLAIN)[:3])

    def test_off(self) -> None:
        """Where nobody can log in AUTH is a command that is not offered."""
        peer = Peer.of(BARE)
        self.assertEqual(b"502", peer.last(HELLO + b"AUTH PLAIN\r\n")[:3])


class ExchangeTests(SynchronousTestCase):
    def ways(self, turns: Callable[[Peer, int | None], bytes]) -> None:
        """By turns and octet by octet the last reply is 235."""
        for step in (None, 1):
            peer = Peer.of(RULES, secure=True)
            peer.say(HELLO)
            self.assertEqual(b"235 2.7.0 Authentication successful", turns(peer, step))
            self.assertTrue(peer.subject.logged_in)
            self.assertEqual(b"250", peer.last(b"MAIL FROM:<kim@example.com>\r\n")[:3])

    def test_plain(self) -> None:
        """With an initial response and without."""
        self.ways(lambda peer, step: peer.say(PLAIN, step)[-1])

        def asked(peer: Peer, step: int | None) -> bytes:
            self.assertEqual([b"334 "], peer.say(b"auth plain\r\n", step))
            return peer.say(b64encode(b"\0kim\0pencil") + b"\r\n", step)[-1]

        self.ways(asked)

    def test_login(self) -> None:
        """The prompts are those that clients of IIS wait for."""

        def turns(peer: Peer, step: int | None) -> bytes:
            self.assertEqual([b"334 VXNlcm5hbWU6"], peer.say(b"AUTH LOGIN\r\n", step))
            self.assertEqual([b"334 UGFzc3dvcmQ6"], peer.say(b"a2lt\r\n", step))
            return peer.say(b"cGVuY2ls\r\n", step)[-1]

        self.ways(turns)

    def test_scram(self) -> None:
        """RFC 4954 §4: what the server proves at last is a challenge with an empty answer."""

        def turns(peer: Peer, step: int | None) -> bytes:
            client = ScramClient("kim")
            begun = b"AUTH SCRAM-SHA-256 " + b64encode(client.first()) + b"\r\n"
            challenge = decoded(peer.say(begun, step))
            salt = client.hear_first(challenge)
            salted = salted_password("pencil", salt.salt, salt.iterations)
            client.hear_final(decoded(peer.say(b64encode(client.final(salted)) + b"\r\n", step)))
            return peer.say(b"\r\n", step)[-1]

        self.ways(turns)

    def test_empty_initial_response(self) -> None:
        """RFC 4954 §4: one equals sign is an empty response, not a missing one."""
        peer = Peer.of(CLEAR)
        peer.say(HELLO + b"AUTH PLAIN =\r\n")
        self.assertIn(LoginBegun("PLAIN", b""), peer.heard)


def decoded(said: list[bytes]) -> bytes:
    (line,) = said
    assert line.startswith(b"334 "), line
    return a2b_base64(line[4:])


class RefusalTests(SynchronousTestCase):
    def test_codes(self) -> None:
        """A15, A16: each fault has its code."""
        for rules, line, expected in (
            (RULES, b"AUTH PLAIN AA==", b"538 5.7.11"),
            (RULES, b"AUTH KERBEROS_V4", b"504 5.5.4"),
            (CLEAR, b"AUTH", b"501 5.5.4"),
            (CLEAR, b"AUTH PLAIN AA== AA==", b"501 5.5.4"),
            (CLEAR, b"AUTH PLAIN !", b"501 5.5.2"),
            (CLEAR, b"AUTH PLAIN AAA", b"501 5.5.2"),
            (CLEAR, b"AUTH PLAIN " + b64encode(b"\0kim\0pen"), b"535 5.7.8"),
        ):
            peer = Peer.of(rules)
            said = peer.last(HELLO + line + b"\r\n")
            self.assertTrue(said.startswith(expected), said)
            self.assertFalse(peer.subject.logged_in)
            self.assertEqual(b"250", peer.last(b"NOOP\r\n")[:3])

    def test_order(self) -> None:
        """Not before EHLO, not in a transaction, not twice."""
        peer = Peer.of(CLEAR)
        self.assertEqual(b"503", peer.last(PLAIN)[:3])
        peer.say(HELLO + b"MAIL FROM:<>\r\n")
        self.assertEqual(b"503", peer.last(PLAIN)[:3])
        self.assertEqual(b"235", peer.last(b"RSET\r\n" + PLAIN)[:3])
        self.assertEqual(b"503", peer.last(PLAIN)[:3])

    def test_cancelled(self) -> None:
        """RFC 4954 §4: an asterisk ends the exchange, and commands are read again."""
        peer = Peer.of(CLEAR)
        peer.say(HELLO + b"AUTH LOGIN\r\n")
        self.assertEqual([b"501 5.7.0 Authentication cancelled"], peer.say(b"*\r\n"))
        self.assertEqual(b"235", peer.last(PLAIN)[:3])

    def test_answer_is_not_base64(self) -> None:
        """A command in the place of an answer is none."""
        peer = Peer.of(CLEAR)
        peer.say(HELLO + b"AUTH LOGIN\r\n")
        said = peer.last(b"MAIL FROM:<a@example.org>\r\n")
        self.assertEqual(b"501 5.5.2", said[:9])
        self.assertFalse(any(isinstance(event, MailGiven) for event in peer.heard))

    def test_behind_the_command(self) -> None:
        """A20: what did not wait for the reply is neither answer nor command."""
        mail = b"MAIL FROM:<a@example.org>\r\n"
        for octets in (PLAIN + mail, b"AUTH LOGIN\r\na2lt\r\ncGVuY2ls\r\n", PLAIN + b"x"):
            peer = Peer.of(CLEAR)
            self.assertEqual(b"554 5.5.0", peer.last(HELLO + octets)[:9])
            self.assertTrue(peer.subject.closed)
            self.assertFalse(peer.subject.logged_in)
            self.assertFalse(any(isinstance(one, MailGiven) for one in peer.heard))

    def test_behind_a_pending_answer(self) -> None:
        """Octets that come while the password is looked at end the session as well."""
        subject = ServerDialogue(CLEAR)
        subject.next_event()
        subject.answer(replies.OK)
        subject.receive_octets(HELLO)
        subject.next_event()
        subject.answer(replies.OK)
        subject.receive_octets(PLAIN)
        self.assertIsInstance(subject.next_event(), LoginBegun)
        subject.receive_octets(b"MAIL FROM:<a@example.org>\r\n")
        subject.answer(replies.LOGGED_IN)
        self.assertTrue(subject.closed)
        self.assertIn(b"554 5.5.0", subject.octets_to_send())

    def test_login_first(self) -> None:
        """ACC-01: with anonymous off there is no MAIL before a login."""
        peer = Peer.of(evolve(CLEAR, require_login=True))
        mail = b"MAIL FROM:<kim@example.com>\r\n"
        self.assertEqual(b"530 5.7.0 Authentication required", peer.last(HELLO + mail))
        peer.say(PLAIN)
        self.assertEqual(b"250", peer.last(mail)[:3])

    def test_forgotten_after_starttls(self) -> None:
        """A11: a login in clear does not count behind STARTTLS."""
        peer = Peer.of(evolve(CLEAR, require_login=True))
        self.assertEqual(b"235", peer.last(HELLO + PLAIN)[:3])
        peer.say(b"STARTTLS\r\n")
        self.assertEqual(b"530", peer.last(HELLO + b"MAIL FROM:<kim@example.com>\r\n")[:3])

    def test_guesses_are_errors(self) -> None:
        """A17: wrong passwords end the session like other wrong commands."""
        peer = Peer.of(evolve(CLEAR, max_errors=3))
        peer.say(HELLO)
        wrong = b"AUTH PLAIN " + b64encode(b"\0kim\0pen") + b"\r\n"
        for _ in range(3):
            said = peer.last(wrong)
        self.assertEqual(b"421", said[:3])
        self.assertTrue(peer.subject.closed)

    def test_help(self) -> None:
        """HELP lists AUTH where it is offered."""
        self.assertIn(b" AUTH", Peer.of(RULES).last(b"HELP\r\n"))
        self.assertNotIn(b"AUTH", Peer.of(BARE).last(b"HELP\r\n"))

    def test_parameter_of_mail(self) -> None:
        """RFC 4954 §5: AUTH= is understood, and believed by nobody."""
        for value, code in ((b"<>", b"250"), (b"a+2Bb@example.org", b"250"), (b"a+2b", b"501")):
            peer = Peer.of(CLEAR)
            mail = b"MAIL FROM:<a@example.org> AUTH=" + value + b"\r\n"
            self.assertEqual(code, peer.last(HELLO + mail)[:3], value)


class LengthTests(SynchronousTestCase):
    def test_long_answers(self) -> None:
        """RFC 4954 §4: 12288 octets are read, more are 500 5.5.6, and nothing is kept of them."""
        for size, code in ((12288, b"501 5.5.2"), (12292, b"500 5.5.6")):
            for before in (b"AUTH LOGIN\r\n", b""):
                for step in (None, 1000):
                    peer = Peer.of(CLEAR)
                    peer.say(HELLO + before)
                    line = (b"" if before else b"AUTH PLAIN ").ljust(size, b"!") + b"\r\n"
                    said = peer.say(line, step)
                    self.assertEqual(code, said[-1][:9], (size, before, step))
                    self.assertLessEqual(peer.subject.held_octets, 12289)
                    self.assertEqual(b"250", peer.last(b"NOOP\r\n")[:3])

    def test_other_commands_stay_short(self) -> None:
        """Only AUTH may be longer than the rules say, and only where it is offered."""
        for rules, verb in (
            (CLEAR, b"NOOP "),
            (BARE, b"AUTH "),
        ):
            peer = Peer.of(rules)
            self.assertEqual(b"500 5.5.2", peer.last(HELLO + verb + b"x" * 5000 + b"\r\n")[:9])

    def test_endless_answer(self) -> None:
        """A6: a line that never ends costs no memory, and ends the session."""
        peer = Peer.of(CLEAR)
        peer.say(HELLO + b"AUTH LOGIN\r\n")
        said = []
        for _ in range(200):
            said += peer.say(b"x" * 1000)
            self.assertLessEqual(peer.subject.held_octets, 13289)
        self.assertTrue(peer.subject.closed)
        self.assertEqual(b"500 5.5.6", said[0][:9])
