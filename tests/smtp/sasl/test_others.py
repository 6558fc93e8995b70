"""Tests for CRAM-MD5, EXTERNAL, and the server's side of tokens."""

from __future__ import annotations

import hmac

from twisted.trial.unittest import SynchronousTestCase

from mailhost.smtp.sasl.base import Challenge, Failed, Identified, Place, ProofGiven, TokenGiven
from mailhost.smtp.sasl.bearer import BEARER, XOAUTH2, BearerServer, bearer_response
from mailhost.smtp.sasl.cram import CramServer
from mailhost.smtp.sasl.external import ExternalServer

MALFORMED = Failed(malformed=True)


def place(*names: str) -> Place:
    return Place(lambda name: None, "mail.example.com", 896697170.5, names)


class CramTests(SynchronousTestCase):
    def test_example(self) -> None:
        """RFC 2195 §2, but for the challenge, which is ours."""
        subject = CramServer(place(), lambda size: "1896")
        asked = subject.step(None)
        self.assertEqual(Challenge(b"<1896.896697170@mail.example.com>"), asked)
        digest = hmac.new(b"tanstaaftanstaaf", b"<1896.896697170@mail.example.com>", "md5")
        step = subject.step(f"tim {digest.hexdigest()}".encode())
        assert isinstance(step, ProofGiven)
        self.assertEqual(("tim", "password"), (step.name, step.kind))
        self.assertTrue(step.fits(b"tanstaaftanstaaf"))
        self.assertFalse(step.fits(b"tanstaaftanstaaF"))

    def test_new_challenge_each_time(self) -> None:
        """What was recorded is of no use."""
        self.assertNotEqual(CramServer(place()).step(None), CramServer(place()).step(None))

    def test_malformed(self) -> None:
        """The server begins; then a name and 32 digits."""
        self.assertEqual(MALFORMED, CramServer(place()).step(b"tim 00"))
        for answer in (b"", b"tim", b"tim 00", b" " + b"0" * 32, b"\xff " + b"0" * 32):
            subject = CramServer(place())
            subject.step(None)
            self.assertEqual(MALFORMED, subject.step(answer), answer)


class ExternalTests(SynchronousTestCase):
    def test_names(self) -> None:
        """All that the certificate says, or the one of it that the client asks to be."""
        names = ("kim@example.com", "host.example")
        self.assertEqual(Challenge(b""), ExternalServer(place(*names)).step(None))
        self.assertEqual(Identified(names), ExternalServer(place(*names)).step(b""))
        step = ExternalServer(place(*names)).step(b"KIM@example.com")
        self.assertEqual(Identified(names[:1]), step)
        self.assertEqual(Failed(), ExternalServer(place(*names)).step(b"lee@example.com"))
        self.assertEqual(Failed(), ExternalServer(place()).step(b""))
        self.assertEqual(MALFORMED, ExternalServer(place(*names)).step(b"\xff"))


class BearerTests(SynchronousTestCase):
    def test_both_sides(self) -> None:
        """What our client says is what our server hears."""
        for mechanism in (BEARER, XOAUTH2):
            said = bearer_response(mechanism, "k=i,m@example.com", "t0.k-e_n~+/==")
            step = BearerServer(mechanism).step(said)
            self.assertEqual(TokenGiven("k=i,m@example.com", "t0.k-e_n~+/=="), step)
            self.assertNotIn("t0.k", repr(step))
            self.assertEqual(Challenge(b""), BearerServer(mechanism).step(None))

    def test_example(self) -> None:
        """RFC 7628 §4.1: fields beside the token; the name may be left out."""
        said = b"n,a=user@example.com,\x01host=s\x01port=143\x01auth=Bearer vF9dft4qmT\x01\x01"
        self.assertEqual(
            TokenGiven("user@example.com", "vF9dft4qmT"), BearerServer(BEARER).step(said)
        )
        said = b"n,,\x01auth=bearer vF9dft4qmT\x01\x01"
        self.assertEqual(TokenGiven("", "vF9dft4qmT"), BearerServer(BEARER).step(said))

    def test_refusal(self) -> None:
        """RFC 7628 §3.2.3: why, and after whatever the client says to that, 535."""
        subject = BearerServer(BEARER)
        self.assertIn(b"invalid_token", subject.refuse().octets)
        self.assertEqual(Failed(), subject.step(b"\x01"))

    def test_malformed(self) -> None:
        """No token, two, or not in the form."""
        for mechanism, said in (
            (BEARER, b""), (BEARER, b"\x01"), (BEARER, b"n,,\x01\x01"),
            (BEARER, b"n,,\x01auth=Basic eA==\x01\x01"), (BEARER, b"\xff"),
            (BEARER, b"p=x,,\x01auth=Bearer x\x01\x01"),
            (BEARER, b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01"),
            (BEARER, b"n,,\x01auth=Bearer x y\x01\x01"),
            (XOAUTH2, b"user=\x01auth=Bearer x\x01\x01"),
            (XOAUTH2, b"user=kim\x01auth=Bearer x\x01"), (XOAUTH2, b"n,,\x01auth=Bearer x\x01\x01"),
        ):  # fmt: skip
            self.assertEqual(MALFORMED, BearerServer(mechanism).step(said), said)
