"""Tests for the mechanisms of AUTH, server's and client's side."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxProblem
from mailhost.smtp.sasl import MECHANISMS, Place
from mailhost.smtp.sasl.base import Challenge, Failed, KeysWanted, PasswordGiven, Proved, Step
from mailhost.smtp.sasl.login import LoginServer
from mailhost.smtp.sasl.plain import PlainServer, plain_response
from mailhost.smtp.sasl.prepare import prepared
from mailhost.smtp.sasl.scram import (
    ScramClient,
    ScramServer,
    make_keys,
    salted_password,
)

SALT = b"0123456789abcdef"
KEYS = make_keys("pencil", SALT, 4096)


def no_binding(name: str) -> bytes | None:
    return None


class PlainTests(SynchronousTestCase):
    def test_both_sides(self) -> None:
        """What the client says is what the server hears (RFC 4616 §2)."""
        step = PlainServer().step(plain_response("kim@example.com", "a b\u00e9"))
        self.assertEqual(PasswordGiven("kim@example.com", "a b\u00e9"), step)

    def test_asks_for_the_response(self) -> None:
        """Without an initial response an empty challenge asks for it."""
        self.assertEqual(Challenge(b""), PlainServer().step(None))

    def test_malformed(self) -> None:
        """A16: not two NULs, no name, no UTF-8."""
        for octets in (b"", b"kim", b"\0kim", b"\0kim\0pw\0", b"\0\0pw", b"\0kim\0\xff"):
            self.assertEqual(Failed(malformed=True), PlainServer().step(octets), octets)

    def test_refused(self) -> None:
        """No empty password, and nobody acts for another."""
        for octets in (b"\0kim\0", b"boss\0kim\0pw"):
            self.assertEqual(Failed(), PlainServer().step(octets), octets)


class LoginTests(SynchronousTestCase):
    def test_prompts(self) -> None:
        """Name and password are asked for in the words that clients wait for."""
        server = LoginServer()
        self.assertEqual(Challenge(b"Username:"), server.step(None))
        self.assertEqual(Challenge(b"Password:"), server.step(b"kim"))
        self.assertEqual(PasswordGiven("kim", "pw"), server.step(b"pw"))

    def test_name_at_once(self) -> None:
        """An initial response is the name."""
        self.assertEqual(Challenge(b"Password:"), LoginServer().step(b"kim"))

    def test_empty(self) -> None:
        """A16: neither may be empty."""
        self.assertEqual(Failed(malformed=True), LoginServer().step(b""))
        server = LoginServer()
        server.step(b"kim")
        self.assertEqual(Failed(), server.step(b""))


class ScramTests(SynchronousTestCase):
    def talk(self, server: ScramServer, password: str) -> Step:
        """A whole exchange with our own client; the server's last step but one."""
        client = ScramClient("kim,=x")
        wanted = server.step(client.first())
        self.assertEqual(KeysWanted("kim,=x"), wanted)
        challenge = server.take_keys(KEYS)
        assert isinstance(challenge, Challenge)
        salt = client.hear_first(challenge.octets)
        last = server.step(client.final(salted_password(password, salt.salt, salt.iterations)))
        if isinstance(last, Challenge):
            client.hear_final(last.octets)
        return last

    def test_both_sides(self) -> None:
        """Who knows the password proves it, and hears the server's proof."""
        server = ScramServer(no_binding, plus=False)
        self.assertIsInstance(self.talk(server, "pencil"), Challenge)
        self.assertEqual(Proved(), server.step(b""))

    def test_wrong_password(self) -> None:
        """Who does not know it hears nothing more."""
        self.assertEqual(Failed(), self.talk(ScramServer(no_binding, plus=False), "pen"))

    def test_vector(self) -> None:
        """The example of RFC 7677 §3, as both sides say it."""
        client = ScramClient("user", lambda: "rOprNGfwEbeRWgbNEkqO")
        server = ScramServer(no_binding, plus=False, nonce=lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
        salt = b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81"
        first = client.first()
        self.assertEqual(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", first)
        server.step(first)
        challenge = server.take_keys(make_keys("pencil", salt, 4096))
        assert isinstance(challenge, Challenge)
        client.hear_first(challenge.octets)
        final = client.final(salted_password("pencil", salt, 4096))
        self.assertTrue(final.endswith(b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
        self.assertEqual(
            Challenge(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), server.step(final)
        )

    def test_binding(self) -> None:
        """With channel binding the client has to be on the same TLS connection."""

        def ours(name: str) -> bytes | None:
            return b"octets of this connection" if name == "tls-exporter" else None

        for bound, expected in ((b"octets of this connection", Challenge), (b"others", Failed)):
            server = ScramServer(ours, plus=True)
            client = BoundClient("kim", bound)
            server.step(client.first())
            challenge = server.take_keys(KEYS)
            assert isinstance(challenge, Challenge)
            client.hear_first(challenge.octets)
            last = server.step(client.final(salted_password("pencil", SALT, 4096)))
            self.assertIsInstance(last, expected)

    def test_list_was_cut(self) -> None:
        """RFC 5802 §6: "you have no channel binding" is wrong where we offered it."""
        first = b"y,,n=kim,r=abc"
        self.assertEqual(Failed(), ScramServer(lambda name: b"x", plus=False).step(first))
        self.assertEqual(KeysWanted("kim"), ScramServer(no_binding, plus=False).step(first))

    def test_malformed(self) -> None:
        """What is not the grammar of RFC 5802 §7."""
        for first in (
            b"n,,", b"n,,n=kim", b"n,,r=x,n=kim", b"x,,n=kim,r=abc", b"\xff",
            b"n,,n=a=b,r=abc", b"n,,n=kim,r=" + b"x" * 200, b"n,,m=x,n=kim,r=abc",
        ):  # fmt: skip
            step = ScramServer(no_binding, plus=False).step(first)
            self.assertEqual(Failed(malformed=True), step, first)

    def test_final_of_another_exchange(self) -> None:
        """A proof is good for one nonce."""
        server = ScramServer(no_binding, plus=False)
        client = ScramClient("kim")
        server.step(client.first())
        challenge = server.take_keys(KEYS)
        assert isinstance(challenge, Challenge)
        client.hear_first(challenge.octets)
        final = client.final(salted_password("pencil", SALT, 4096))
        other = ScramServer(no_binding, plus=False)
        other.step(client.first())
        other.take_keys(KEYS)
        self.assertEqual(Failed(), other.step(final))

    def test_false_server(self) -> None:
        """Our client gives nothing to a server that asks too little, too much or lies."""
        for text in (
            b"", b"r=x,s=AAAA,i=4096", b"r={},s=AAAA,i=1", b"r={}y,s=AAAA,i=100",
            b"r={}y,s=AAAA,i=900000000", b"r={}y,s=?,i=4096", b"r={},s=AAAA,i=4096",
        ):  # fmt: skip
            client = ScramClient("kim", lambda: "mine")
            client.first()
            with self.assertRaises(SyntaxProblem, msg=text):
                client.hear_first(text.replace(b"{}", b"mine"))
        client = ScramClient("kim", lambda: "mine")
        client.first()
        client.hear_first(b"r=mineyours,s=AAAA,i=4096")
        client.final(salted_password("pencil", b"\0\0\0", 4096))
        with self.assertRaises(SyntaxProblem):
            client.hear_final(b"v=AAAA")

    def test_keys_are_not_shown(self) -> None:
        """Nothing of a secret is in what a log would print."""
        self.assertNotIn("stored_key", repr(KEYS))
        self.assertNotIn("hidden", repr(PasswordGiven("kim", "hidden")))


class BoundClient(ScramClient):
    """The client's side with channel binding, which mailhost itself does not use."""

    def __init__(self, username: str, bound: bytes) -> None:
        super().__init__(username)
        self._bound = b"p=tls-exporter,," + bound

    def first(self) -> bytes:
        return super().first().replace(b"n,,", b"p=tls-exporter,,", 1)

    def final(self, salted: bytes) -> bytes:
        self.header = self._bound
        return super().final(salted)


class AnyInputTests(SynchronousTestCase):
    @given(st.sampled_from(sorted(MECHANISMS)), st.lists(st.none() | st.binary(), max_size=4))
    def test_any_octets(self, name: str, said: list[bytes | None]) -> None:
        """Whatever a client says is a step, never an exception."""
        server: Any = MECHANISMS[name](Place(lambda binding: b"x", "mail.example.com"))
        for octets in said:
            step = server.step(octets)
            if isinstance(step, KeysWanted):
                step = server.take_keys(KEYS)
            if not isinstance(step, Challenge):
                break


class PreparedTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """The examples of RFC 4013 §3."""
        for text, expected in (
            ("I\u00adX", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
        ):
            self.assertEqual(expected, prepared(text))
        for text in ("\x07", "\u0627\u0031"):
            with self.assertRaises(SyntaxProblem):
                prepared(text)
