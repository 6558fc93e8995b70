"""Tests for `mailhost.smtp.sasl.ntlm`: published examples, pyspnego, ourselves, and liars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import spnego
from hypothesis import given
from hypothesis import strategies as st
from spnego.channel_bindings import GssChannelBindings
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxProblem
from mailhost.smtp.sasl.base import Challenge, Failed, Place, ProofGiven, Step
from mailhost.smtp.sasl.ntlm import NTLMClient, NTLMServer
from mailhost.smtp.sasl.ntlm_messages import (
    AV_TIMESTAMP,
    Authenticate,
    ChallengeMessage,
    make_blob,
    nt_hash,
    proof,
    read_negotiate,
    read_pairs,
    response_key,
    session_key,
    write_negotiate,
    write_pairs,
)

NOW = 1_790_000_000.0
END_POINT = bytes(range(32))


def bound(name: str) -> bytes | None:
    return END_POINT if name == "tls-server-end-point" else None


def unbound(name: str) -> bytes | None:
    return None


def server(bindings: Callable[[str], bytes | None] = bound) -> NTLMServer:
    return NTLMServer(Place(bindings, "mail.example.com", NOW))


def challenge_of(step: Step) -> bytes:
    assert isinstance(step, Challenge), step
    return step.octets


def fits(step: Step, password: str) -> bool:
    assert isinstance(step, ProofGiven), step
    return step.kind == "nt" and step.fits(nt_hash(password))


class ExampleTests(SynchronousTestCase):
    """The numbers of [MS-NLMP] §4.2.1 and §4.2.4."""

    challenge, nonce = bytes.fromhex("0123456789abcdef"), b"\xaa" * 8
    info = write_pairs([(2, "Domain".encode("utf-16-le")), (1, "Server".encode("utf-16-le"))])

    def test_keys(self) -> None:
        """The hash, the response key, the proof and the session key."""
        hashed = nt_hash("Password")
        self.assertEqual("a4f49c406510bdcab6824ee7c30fd852", hashed.hex())
        key = response_key(hashed, "User", "Domain")
        self.assertEqual("0c868a403bfd7a93a3001ef22ef02e3f", key.hex())
        proved = proof(key, self.challenge, make_blob(bytes(8), self.nonce, self.info))
        self.assertEqual("68cd0ab851e51c96aabc927bebef6a1c", proved.hex())
        self.assertEqual("8de40ccadbc14a82f15cb0ad0de95ca3", session_key(key, proved).hex())

    def test_client(self) -> None:
        """What we answer to the example's challenge, but for the flags and the time."""
        asked = ChallengeMessage(0xE28A8233, self.challenge, b"", self.info).write()
        client = NTLMClient("Domain\\User", "Password", -11644473600, lambda size: self.nonce)
        client.first()
        told = Authenticate.read(client.hear(asked))
        self.assertEqual(("User", "Domain"), (told.user, told.domain))
        self.assertEqual("68cd0ab851e51c96aabc927bebef6a1c", told.proved.hex())


class OwnTests(SynchronousTestCase):
    def exchange(self, user: str, password: str, subject: NTLMServer | None = None) -> Step:
        subject = subject or server()
        client = NTLMClient(user, password, NOW)
        return subject.step(client.hear(challenge_of(subject.step(client.first()))))

    def test_both_sides(self) -> None:
        """The right password fits, and no other."""
        for user, name in (("EXAMPLE\\Kim", "Kim"), ("kim@example.com", "kim@example.com")):
            step = self.exchange(user, "p\u00e4ss \U0001f511")
            assert isinstance(step, ProofGiven)
            self.assertEqual(name, step.name)
            self.assertTrue(fits(step, "p\u00e4ss \U0001f511"))
            self.assertFalse(fits(step, "pencil"))
            self.assertNotIn(nt_hash("pencil").hex(), repr(step))

    def test_without_initial_response(self) -> None:
        """[MS-SMTPNTLM]: a client may want to hear first that NTLM is spoken here."""
        for beginning in (None, b""):
            subject = server()
            self.assertEqual(Challenge(b""), subject.step(beginning))
            self.assertTrue(fits(self.exchange("kim", "pencil", subject), "pencil"))

    def test_tells_only_its_name(self) -> None:
        """A18: neither the machine's name nor its version, but the name of the banner."""
        asked = ChallengeMessage.read(challenge_of(server().step(write_negotiate())))
        told = {
            text.decode("utf-16-le")
            for one, text in read_pairs(asked.info).items()
            if one != AV_TIMESTAMP
        }
        self.assertEqual({"MAIL", "mail.example.com", "example.com"}, told)

    def test_new_challenge_each_time(self) -> None:
        """An answer that was recorded is of no use."""
        first, client = server(), NTLMClient("kim", "pencil", NOW)
        recorded = client.hear(challenge_of(first.step(client.first())))
        self.assertTrue(fits(first.step(recorded), "pencil"))
        second = server()
        second.step(write_negotiate())
        self.assertFalse(fits(second.step(recorded), "pencil"))

    def test_changed_on_the_way(self) -> None:
        """The MIC: neither the first message nor the last may be another."""
        subject, client = server(), NTLMClient("kim", "pencil", NOW)
        answer = client.hear(challenge_of(subject.step(write_negotiate() + b"\0")))
        self.assertFalse(fits(subject.step(answer), "pencil"))
        subject, client = server(), NTLMClient("kim", "pencil", NOW)
        answer = bytearray(client.hear(challenge_of(subject.step(client.first()))))
        answer[60] ^= 0x20
        self.assertFalse(fits(subject.step(bytes(answer)), "pencil"))

    def test_version_1(self) -> None:
        """A18: LM and NTLMv1 are refused, whatever the password, and so is nobody."""
        for response in (bytes(24), b"", bytes(16) + b"\x01\x01", bytes(60)):
            subject = server()
            subject.step(write_negotiate())
            self.assertEqual(Failed(), subject.step(Authenticate("kim", "", response, 1).write()))
        subject = server()
        subject.step(write_negotiate())
        blob = make_blob(bytes(8), bytes(8), write_pairs([]))
        answer = Authenticate("", "", bytes(16) + blob, 1).write()
        self.assertEqual(Failed(), subject.step(answer))

    def test_false_hosts(self) -> None:
        """A host that does not speak version 2, or goes on and on, gets nothing."""
        good = ChallengeMessage(0x00800001, bytes(8), b"", write_pairs([])).write()
        for asked in (
            b"", b"NTLMSSP\0", good[:40], good.replace(b"\x02\0\0\0", b"\x01\0\0\0", 1),
            ChallengeMessage(0x00000001, bytes(8), b"", write_pairs([])).write(),
            ChallengeMessage(0x00800002, bytes(8), b"", write_pairs([])).write(),
            ChallengeMessage(0x00800001, bytes(8), b"", b"\x01\0\xff\0").write(),
        ):  # fmt: skip
            self.assertRaises(SyntaxProblem, NTLMClient("kim", "pencil", NOW).hear, asked)
        client = NTLMClient("kim", "pencil", NOW)
        self.assertFalse(client.proved)
        client.hear(good)
        self.assertRaises(SyntaxProblem, client.hear, good)

    @given(st.lists(st.binary(max_size=200), max_size=3), st.binary(max_size=200))
    def test_any_octets(self, said: list[bytes], tail: bytes) -> None:
        """Whatever a client says is a step, never an exception."""
        subject = server()
        for octets in (write_negotiate() + tail, b"NTLMSSP\0\x03\0\0\0" + tail, *said):
            step = subject.step(octets)
            if isinstance(step, ProofGiven):
                step.fits(bytes(16))
            if not isinstance(step, Challenge):
                break

    def test_malformed(self) -> None:
        """What is no message is 501, not 535."""
        self.assertEqual(Failed(malformed=True), server().step(b"hello"))
        self.assertRaises(SyntaxProblem, read_negotiate, bytes(9999))


class SpnegoTests(SynchronousTestCase):
    """pyspnego agrees with us, on both sides."""

    def client(self, password: str = "pencil", **given: Any) -> Any:
        return spnego.client(
            "kim", password, hostname="mail.example.com", protocol="ntlm",
            options=spnego.NegotiateOptions.use_ntlm, **given,
        )  # fmt: skip

    def exchange(self, client: Any, subject: NTLMServer) -> Step:
        first = client.step()
        return subject.step(client.step(challenge_of(subject.step(first))))

    def test_client(self) -> None:
        """Its answers fit, with and without the name of a domain."""
        self.assertTrue(fits(self.exchange(self.client(), server()), "pencil"))
        self.assertFalse(fits(self.exchange(self.client(), server()), "Pencil"))

    def test_channel_binding(self) -> None:
        """RFC 5929: what is bound to another connection is refused (A18, relaying)."""
        for data, good in ((END_POINT, True), (bytes(32), False)):
            binding = GssChannelBindings(application_data=b"tls-server-end-point:" + data)
            step = self.exchange(self.client(channel_bindings=binding), server())
            self.assertEqual(good, isinstance(step, ProofGiven) and fits(step, "pencil"))
        binding = GssChannelBindings(application_data=b"tls-server-end-point:" + END_POINT)
        client = self.client(channel_bindings=binding)
        self.assertEqual(Failed(), self.exchange(client, server(unbound)))

    def test_server(self) -> None:
        """It takes our answers."""
        file = self.mktemp()
        with open(file, "w", encoding="utf-8") as users:
            users.write("EXAMPLE:kim:pencil\n")
        self.patch(__import__("os"), "environ", {"NTLM_USER_FILE": file})
        for password, good in (("pencil", True), ("Pencil", False)):
            subject = spnego.server(protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm)
            client = NTLMClient("EXAMPLE\\kim", password, NOW)
            answer = client.hear(subject.step(client.first()) or b"")
            if not good:
                self.assertRaises(spnego.exceptions.SpnegoError, subject.step, answer)
                continue
            subject.step(answer)
            self.assertTrue(subject.complete)
