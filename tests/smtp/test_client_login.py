"""Tests for `mailhost.smtp.client_login`, through the client dialogue."""

from __future__ import annotations

from base64 import b64decode, b64encode

from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.security import TLSLevel
from mailhost.smtp.client_dialogue import ClientDialogue
from mailhost.smtp.client_events import ClientEvent, Phase, Ready, SessionOver, TLSWanted
from mailhost.smtp.client_login import ClientLogin
from mailhost.smtp.events import Wait
from mailhost.smtp.sasl.base import Challenge, Work
from mailhost.smtp.sasl.scram import ScramServer, make_keys

ALL = ("SCRAM-SHA-256", "PLAIN", "LOGIN")


def dialogue(
    mechanisms: tuple[str, ...] = ALL, tls: TLSLevel = TLSLevel.NONE, password: str = "pencil"
) -> ClientDialogue:
    return ClientDialogue("client.example", tls=tls, login=ClientLogin("kim", password, mechanisms))


def hear(subject: ClientDialogue, *lines: bytes) -> list[ClientEvent]:
    """The events that *lines* from the peer lead to."""
    events = []
    for line in lines:
        subject.receive_octets(line + b"\r\n")
        while not isinstance(event := subject.next_event(), Wait):
            events.append(event)
            if isinstance(event, SessionOver):
                return events
    return events


def greeted(subject: ClientDialogue, offered: bytes = b"AUTH PLAIN LOGIN") -> list[ClientEvent]:
    return hear(subject, b"220 x", b"250-x\r\n250 " + offered)


def said(subject: ClientDialogue) -> bytes:
    return subject.octets_to_send().splitlines()[-1]


class LoginTests(SynchronousTestCase):
    def over(self, events: list[ClientEvent], phase: Phase = Phase.LOGIN) -> SessionOver:
        (event,) = events
        assert isinstance(event, SessionOver)
        self.assertIs(phase, event.phase)
        self.assertNotIn("pencil", event.words)
        return event

    def test_plain(self) -> None:
        """The response goes along, and nothing else before its reply."""
        subject = dialogue()
        self.assertEqual([], greeted(subject))
        self.assertEqual(b"AUTH PLAIN " + b64encode(b"\0kim\0pencil"), said(subject))
        self.assertEqual([Ready()], hear(subject, b"235 2.7.0 yes"))

    def test_long_password(self) -> None:
        """RFC 4954 §4: what makes the line too long waits to be asked for."""
        subject = dialogue(password="p" * 600)
        greeted(subject)
        self.assertEqual(b"AUTH PLAIN", said(subject))
        hear(subject, b"334 ")
        self.assertEqual(b64encode(b"\0kim\0" + b"p" * 600), said(subject))
        self.assertEqual([Ready()], hear(subject, b"235 yes"))

    def test_login(self) -> None:
        """LOGIN where there is nothing better."""
        subject = dialogue()
        greeted(subject, b"auth login xoauth2")
        self.assertEqual(b"AUTH LOGIN", said(subject))
        hear(subject, b"334 VXNlcm5hbWU6")
        self.assertEqual(b64encode(b"kim"), said(subject))
        hear(subject, b"334 UGFzc3dvcmQ6")
        self.assertEqual(b64encode(b"pencil"), said(subject))
        self.assertEqual([Ready()], hear(subject, b"235 yes"))

    def scram(self, known: str) -> tuple[ClientDialogue, ScramServer, list[ClientEvent]]:
        subject = dialogue()
        greeted(subject, b"AUTH LOGIN PLAIN SCRAM-SHA-256")
        verb, mechanism, first = said(subject).split()
        self.assertEqual((b"AUTH", b"SCRAM-SHA-256"), (verb, mechanism))
        server = ScramServer(lambda name: None, plus=False)
        server.step(b64decode(first))
        challenge = server.take_keys(make_keys(known, b"0123456789abcdef", 4096))
        assert isinstance(challenge, Challenge)
        events = hear(subject, b"334 " + b64encode(challenge.octets))
        return subject, server, events

    def test_scram(self) -> None:
        """The best mechanism of both; the password is hashed by the caller."""
        subject, server, (salt,) = self.scram("pencil")
        assert isinstance(salt, Work)
        subject.worked(salt.run())
        proof = server.step(b64decode(said(subject)))
        assert isinstance(proof, Challenge)
        hear(subject, b"334 " + b64encode(proof.octets))
        self.assertEqual(b"", said(subject))
        self.assertEqual([Ready()], hear(subject, b"235 yes"))

    def test_false_server(self) -> None:
        """A host that does not know the password gets no mail, even if it says yes."""
        for reply in (b"235 welcome", b"334 " + b64encode(b"v=AAAA"), b"334 !"):
            subject, _, (salt,) = self.scram("another")
            assert isinstance(salt, Work)
            subject.worked(salt.run())
            self.over(hear(subject, reply))

    def test_refused(self) -> None:
        """Any refusal ends the session, with the host's words."""
        for reply in (b"535 5.7.8 no", b"454 4.7.0 later", b"504 5.5.4 what"):
            subject = dialogue()
            greeted(subject)
            self.assertIn(reply[:3].decode(), self.over(hear(subject, reply)).words)

    def test_endless_challenges(self) -> None:
        """A host that asks on and on is left."""
        for mechanisms in (("PLAIN",), ("LOGIN",)):
            subject = dialogue(mechanisms)
            greeted(subject)
            self.over(hear(subject, *[b"334 "] * 3))

    def bearer(
        self, offered: bytes = b"AUTH XOAUTH2 PLAIN", token: str = "t0ken"
    ) -> ClientDialogue:
        login = ClientLogin("kim@example.com", token, ("XOAUTH2", "OAUTHBEARER"))
        subject = ClientDialogue("client.example", tls=TLSLevel.NONE, login=login)
        greeted(subject, offered)
        return subject

    def test_xoauth2(self) -> None:
        """The token goes along; a long one waits to be asked for."""
        response = b"user=kim@example.com\x01auth=Bearer %s\x01\x01"
        subject = self.bearer()
        self.assertEqual(b"AUTH XOAUTH2 " + b64encode(response % b"t0ken"), said(subject))
        self.assertEqual([Ready()], hear(subject, b"235 2.7.0 yes"))
        subject = self.bearer(token="t" * 2000)
        self.assertEqual(b"AUTH XOAUTH2", said(subject))
        hear(subject, b"334 ")
        self.assertEqual(b64encode(response % (b"t" * 2000)), said(subject))

    def test_oauthbearer(self) -> None:
        """RFC 7628 §3.1, where it is the only one."""
        subject = self.bearer(b"AUTH PLAIN OAUTHBEARER")
        expected = b64encode(b"n,a=kim@example.com,\x01auth=Bearer t0ken\x01\x01")
        self.assertEqual(b"AUTH OAUTHBEARER " + expected, said(subject))

    def test_refused_token(self) -> None:
        """RFC 7628 §3.2.3: the reason is answered with nothing; its status is told."""
        for offered, answer in ((b"AUTH XOAUTH2", b""), (b"AUTH OAUTHBEARER", b"AQ==")):
            subject = self.bearer(offered)
            hear(subject, b"334 " + b64encode(b'{"status":"invalid_token","scope":"mail"}'))
            self.assertEqual(answer, said(subject))
            words = self.over(hear(subject, b"535 5.7.8 no")).words
            self.assertIn("535 5.7.8 no (invalid_token)", words)
            self.assertNotIn("t0ken", words)

    def test_broken_refusals(self) -> None:
        """What is no reason is passed over; who has refused and then agrees is not believed."""
        for octets in (b"", b"no", b"[1]", b'{"status":"t0ken=="}', b'{"status":' + b"[" * 4000):
            subject = self.bearer()
            hear(subject, b"334 " + b64encode(octets))
            self.assertEqual(
                "login: refused: 535 5.7.8 no", self.over(hear(subject, b"535 5.7.8 no")).words
            )
        for reply in (b"235 welcome", b"334 "):
            subject = self.bearer()
            hear(subject, b"334 ")
            self.over(hear(subject, reply))

    def test_token_that_cannot_be_sent(self) -> None:
        """A token with an end of field would be more than a token."""
        login = ClientLogin("kim", "t0ken\x01", ("XOAUTH2",))
        subject = ClientDialogue("client.example", tls=TLSLevel.NONE, login=login)
        self.assertNotIn(
            "t0ken", self.over(greeted(subject, b"AUTH XOAUTH2"), Phase.MECHANISMS).words
        )

    def test_not_offered(self) -> None:
        """What we may not use is not tried."""
        for offered, mechanisms in (
            (b"SIZE", ALL), (b"AUTH NTLM", ALL), (b"AUTH PLAIN", ("SCRAM-SHA-256",)),
        ):  # fmt: skip
            subject = dialogue(mechanisms)
            self.over(greeted(subject, offered), Phase.MECHANISMS)
            self.assertEqual(b"QUIT", said(subject))

    def test_clear_text(self) -> None:
        """A66: with TLS wanted, and not had, there is no login."""
        subject = dialogue(tls=TLSLevel.OPPORTUNISTIC)
        self.over(greeted(subject), Phase.MECHANISMS)
        self.assertEqual(b"QUIT", said(subject))

    def test_after_tls(self) -> None:
        """What was offered in clear is forgotten; the login comes after the handshake."""
        subject = dialogue(tls=TLSLevel.REQUIRED)
        events = greeted(subject, b"STARTTLS")
        self.assertEqual([], [e for e in events if isinstance(e, Ready)])
        events = hear(subject, b"220 go")
        self.assertEqual([TLSWanted()], events)
        subject.secured()
        hear(subject, b"250-x\r\n250 AUTH PLAIN")
        self.assertTrue(said(subject).startswith(b"AUTH PLAIN "))
