"""Tests for `mailhost.authentication.tokens`, with keys of the tests' own."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.authentication.tokens import (
    KEEP_SECONDS,
    LEAST_SECONDS,
    LEEWAY_SECONDS,
    TokenReader,
    read_keys,
)
from mailhost.errors import AuthenticationProblem

ISSUER, AUDIENCE = "https://login.example/", "mail.example.com"
NOW = 1_790_000_000
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = rsa.generate_private_key(65537, 2048)


def jwks(**private: Any) -> bytes:
    keys = []
    for number, key in private.items():
        algorithm: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        keys.append(algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": number})
    return json.dumps({"keys": keys}).encode()


KEYS = jwks(r1=RSA_KEY, e1=EC_KEY)


def token(key: Any = RSA_KEY, number: str = "r1", algorithm: str = "RS256", **claims: Any) -> str:
    told = {"iss": ISSUER, "aud": AUDIENCE, "exp": NOW + 600, "email": "kim@example.com"} | claims
    told = {name: value for name, value in told.items() if value is not None}
    return jwt.encode(told, key, algorithm, {"kid": number})


class TokenCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.fetches = 0
        self.answer: Any = KEYS
        self.reader = TokenReader(ISSUER, AUDIENCE, "email", self.fetch, self.clock.seconds)

    async def fetch(self) -> bytes:
        self.fetches += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, Deferred):
            return await self.answer  # type: ignore[no-any-return]
        return self.answer  # type: ignore[no-any-return]

    def name_in(self, given: str) -> str | None:
        return self.successResultOf(ensureDeferred(self.reader.name_in(given)))


class JudgementTests(TokenCase):
    def test_good(self) -> None:
        """Signed by a key of the issuer, for us, now."""
        self.assertEqual("kim@example.com", self.name_in(token()))
        self.assertEqual("kim@example.com", self.name_in(token(EC_KEY, "e1", "ES256")))
        self.assertEqual("kim@example.com", self.name_in(token(aud=["x", AUDIENCE])))

    def test_claims(self) -> None:
        """RFC 8725 §3.8, §3.9: another's, for another, too late, too early, or nobody's."""
        for claims in (
            {"iss": "https://other.example/"}, {"iss": None}, {"aud": "other"}, {"aud": None},
            {"exp": NOW - LEEWAY_SECONDS}, {"exp": None}, {"exp": "x"},
            {"nbf": NOW + LEEWAY_SECONDS + 1}, {"nbf": "x"},
            {"email": None}, {"email": ""}, {"email": 5}, {"email": ["kim@example.com"]},
        ):  # fmt: skip
            self.assertIsNone(self.name_in(token(**claims)), claims)

    def test_signatures(self) -> None:
        """RFC 8725 §2.1: no signature, another key's, or one made with what is public."""
        header, body, _ = token().split(".")
        none = urlsafe_b64encode(b'{"alg":"none","kid":"r1"}').rstrip(b"=").decode()
        forged = token("what everybody knows " * 3, algorithm="HS256")
        for wrong in (
            f"{none}.{body}.", f"{header}.{body}.", token(OTHER_KEY), token(number="e1"),
            token(EC_KEY, "r1", "ES256"), forged, token(number="unknown"),
        ):  # fmt: skip
            self.assertIsNone(self.name_in(wrong), wrong)

    @settings(deadline=None, max_examples=60)
    @given(st.text(max_size=60), st.integers(0, 2000), st.characters())
    def test_any_text(self, text: str, place: int, other: str) -> None:
        """Whatever is shown is good or not, never an exception; a changed one is not."""
        self.assertIsNone(self.name_in(text))
        good = token()
        changed = good[: place % len(good)] + other + good[place % len(good) + 1 :]
        # The last character of a signature has bits that mean nothing.
        if changed != good and place % len(good) != len(good) - 1:
            self.assertIsNone(self.name_in(changed))


class KeyTests(TokenCase):
    def test_fetched_once(self) -> None:
        """Many that come at once wait for one answer; later ones have it."""
        self.answer = waiting = Deferred()
        asking = [ensureDeferred(self.reader.name_in(token())) for _ in range(5)]
        waiting.callback(KEYS)
        self.assertEqual({"kim@example.com"}, {self.successResultOf(one) for one in asking})
        self.name_in(token())
        self.assertEqual(1, self.fetches)

    def test_new_key(self) -> None:
        """A key that nobody knows is looked for, once a minute at most."""
        self.name_in(token())
        self.answer = jwks(r1=RSA_KEY, n1=OTHER_KEY)
        self.assertIsNone(self.name_in(token(OTHER_KEY, "n1")))
        self.clock.advance(LEAST_SECONDS)
        self.assertEqual("kim@example.com", self.name_in(token(OTHER_KEY, "n1")))
        for _ in range(5):
            self.name_in(token(number="nobody's"))
        self.assertEqual(2, self.fetches)

    def test_key_that_is_gone(self) -> None:
        """Old keys are asked for again after an hour, and a missing one is believed no more."""
        self.name_in(token())
        self.answer = jwks(e1=EC_KEY)
        self.clock.advance(KEEP_SECONDS - LEEWAY_SECONDS - 1)
        self.assertIsNotNone(self.name_in(token(exp=NOW + 9999)))
        self.clock.advance(LEEWAY_SECONDS + 1)
        self.assertIsNone(self.name_in(token(exp=NOW + 9999)))

    def test_issuer_is_down(self) -> None:
        """P4: nobody is refused for that; keys that were good go on."""
        self.answer = AuthenticationProblem("down")
        asking = ensureDeferred(self.reader.name_in(token()))
        self.failureResultOf(asking, AuthenticationProblem)
        self.answer = KEYS
        self.clock.advance(LEAST_SECONDS)
        self.assertIsNotNone(self.name_in(token()))
        self.answer = AuthenticationProblem("down")
        self.clock.advance(KEEP_SECONDS)
        self.assertIsNotNone(self.name_in(token(exp=NOW + 9999)))
        self.assertEqual(3, self.fetches)

    def test_sets(self) -> None:
        """What is no key, no public key, or not for signatures is left out; at most a hundred."""
        for octets in (b"", b"{", b"[]", b'{"keys":5}', b'{"keys":{}}', b"[" * 100_000):
            with self.assertRaises(AuthenticationProblem):
                if read_keys(octets) == {}:
                    raise AuthenticationProblem("none")
        good = json.loads(KEYS)["keys"][0]
        given = [5, {}, {"kty": "oct", "k": "AAAA"}, good | {"use": "enc"}, {"kty": "RSA"}]
        self.assertEqual({}, read_keys(json.dumps({"keys": given}).encode()))
        many = [good | {"kid": str(number)} for number in range(500)]
        self.assertEqual(100, len(read_keys(json.dumps({"keys": many}).encode())))
