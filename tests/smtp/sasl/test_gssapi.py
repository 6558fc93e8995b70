"""Tests for `mailhost.smtp.sasl.gssapi`, with contexts that only count."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxProblem
from mailhost.smtp.sasl.base import Challenge, Failed, Identified, Place, Work
from mailhost.smtp.sasl.gssapi import GSSAPIClient, GSSAPIServer

OFFER = b"\x01\0\0\0"


@define
class Counting:
    """
    :ivar tokens: what its steps give, one after the other.
    """

    tokens: list[bytes]
    heard: list[bytes] = field(factory=list)
    peer: str = "kim@EXAMPLE.COM"

    @property
    def complete(self) -> bool:
        return not self.tokens

    def step(self, token: bytes) -> bytes:
        self.heard.append(token)
        return self.tokens.pop(0)

    def wrap(self, octets: bytes) -> bytes:
        return b"<" + octets + b">"

    def unwrap(self, octets: bytes) -> bytes:
        if octets[:1] + octets[-1:] != b"<>":
            raise SyntaxProblem("not wrapped")
        return octets[1:-1]


class ServerTests(SynchronousTestCase):
    def server(self, *tokens: bytes) -> Any:
        context = Counting(list(tokens))
        return GSSAPIServer(Place(lambda name: None, accept=lambda: context))

    def follow(self, subject: Any, *said: bytes) -> Any:
        """The last step; work is done on the way."""
        step: Any = None
        for octets in said:
            step = subject.step(octets)
            if isinstance(step, Work):
                step = subject.worked(step.run())
        return step

    def test_last_token_of_ours(self) -> None:
        """RFC 4752 §3.1: it is answered by nothing, then the layers are offered: none."""
        subject = self.server(b"token")
        self.assertEqual(Challenge(b""), subject.step(None))
        self.assertEqual(Challenge(b"token"), self.follow(subject, b"ticket"))
        self.assertEqual(Challenge(b"<" + OFFER + b">"), subject.step(b""))
        step = subject.step(b"<" + OFFER + b">")
        self.assertEqual(Identified(("kim@EXAMPLE.COM",), anybody=True), step)

    def test_last_token_of_theirs(self) -> None:
        """Where we have nothing more to say the layers are offered at once."""
        subject = self.server(b"more", b"")
        self.assertEqual(Challenge(b"more"), self.follow(subject, b"one"))
        self.assertEqual(Challenge(b"<" + OFFER + b">"), self.follow(subject, b"two"))

    def test_answers(self) -> None:
        """Another layer, another name, or not wrapped; one's own name is allowed."""
        malformed = Failed(malformed=True)
        for answer, expected in (
            (b"<\x01\0\0\0kim>", Identified), (b"<\x01\0\0\0KIM@example.com>", Identified),
            (b"<\x01\0\0\0lee>", Failed()), (b"<\x02\0\0\0>", malformed), (b"<\x01\0>", malformed),
            (b"<>", malformed), (b"\x01\0\0\0", Failed()), (b"<\x01\0\0\0\xff>", malformed),
        ):  # fmt: skip
            step = self.follow(self.server(b""), b"ticket", answer)
            if expected is Identified:
                self.assertIsInstance(step, Identified)
            else:
                self.assertEqual(expected, step, answer)

    def test_nobody_accepts(self) -> None:
        """Where there is no keytab nobody logs in."""
        self.assertEqual(Failed(), GSSAPIServer(Place(lambda name: None)).step(b"ticket"))


class ClientTests(SynchronousTestCase):
    def test_both_sides(self) -> None:
        """What our client says is what our server hears."""
        client = GSSAPIClient(Counting([b"ticket", b""]))
        step: Any = client.first()
        self.assertEqual(b"ticket", client.worked(step.run()))
        step = client.hear(b"token")
        self.assertEqual(b"", client.worked(step.run()))
        self.assertFalse(client.proved)
        self.assertEqual(b"<" + OFFER + b">", client.hear(b"<\x07\0\x10\0>"))
        self.assertTrue(client.proved)
        self.assertRaises(SyntaxProblem, client.hear, b"<" + OFFER + b">")

    def test_false_hosts(self) -> None:
        """A host that insists on a layer, or has not proved itself."""
        for offered in (b"<\x06\0\x10\0>", b"<\x01>", b"<>", b"\x01\0\0\0"):
            self.assertRaises(SyntaxProblem, GSSAPIClient(Counting([])).hear, offered)
