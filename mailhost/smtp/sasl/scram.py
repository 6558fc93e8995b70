"""
SCRAM-SHA-256: the password stays with the client, and the server proves itself too.

:Room: ``smtp``
:RFC: 5802, 7677 (SHA-256); 5929 and 9266 (channel bindings).

:Called by: `mailhost.authentication` (server), `mailhost.smtp.client_dialogue` (client).
"""

from __future__ import annotations

import hmac
import re
from base64 import b64encode
from binascii import Error, a2b_base64
from collections.abc import Callable
from hashlib import pbkdf2_hmac, sha256
from secrets import token_urlsafe

from attrs import define, field, frozen

from mailhost.errors import SyntaxProblem
from mailhost.model.account import ScramKeys
from mailhost.smtp.sasl.base import Bindings, Challenge, Failed, KeysWanted, Proved, Step, decoded
from mailhost.smtp.sasl.prepare import prepared

SCRAM = "SCRAM-SHA-256"
PLUS = "SCRAM-SHA-256-PLUS"
#: Names of channel bindings that a client may ask for.
BINDING_NAMES = ("tls-exporter", "tls-server-end-point")
#: Longer nonces would not fit into a reply line.
_MAX_NONCE = 128
#: RFC 7677 §4 asks for 4096 at least.  A server that asks for more than the
#: most wants our time (RFC 5802 §9).
LEAST_ITERATIONS = 4096
MOST_ITERATIONS = 1_000_000

# RFC 5802 §7: gs2-header, then n= and r=; extensions behind them are ignored.
_FIRST = re.compile(
    r"(?P<header>(?:(?P<flag>[ny])|p=(?P<binding>[A-Za-z0-9.-]{1,40})),(?:a=(?P<acting>[^,]*))?,)"
    r"(?P<bare>n=(?P<name>[^,]+),r=(?P<nonce>[!-+\--~]+)(?:,[A-Za-z]=[^,]*)*)"
)
_FINAL = re.compile(
    r"(?P<rest>c=(?P<header>[A-Za-z0-9+/=]+),r=(?P<nonce>[!-+\--~]+)(?:,[A-Za-z]=[^,]*)*),"
    r"p=(?P<proof>[A-Za-z0-9+/=]+)"
)
_SERVER_FIRST = re.compile(
    r"r=(?P<nonce>[!-+\--~]+),s=(?P<salt>[A-Za-z0-9+/=]+),i=(?P<count>[1-9][0-9]{0,8})(?:,.*)?"
)
_ESCAPED = re.compile(r"=(2C|3D|.{0,2})")

NewNonce = Callable[[], str]


def new_nonce() -> str:
    """24 characters that nobody can foresee."""
    return token_urlsafe(18)


def _digest(key: bytes, octets: bytes) -> bytes:
    return hmac.digest(key, octets, "sha256")


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _octets(text: str) -> bytes | None:
    try:
        return a2b_base64(text, strict_mode=True)
    except Error:
        return None


def _text(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")


def salted_password(password: str, salt: bytes, iterations: int) -> bytes:
    """
    The slow step (RFC 5802 §3): 20 ms for 65,536 iterations, outside of the interpreter's lock.

    :raises SyntaxProblem: the password has characters that none may have.
    """
    return pbkdf2_hmac("sha256", prepared(password).encode("utf-8"), salt, iterations)


def make_keys(password: str, salt: bytes, iterations: int) -> ScramKeys:
    """
    What a server keeps instead of *password* (RFC 5802 §3).

    :raises SyntaxProblem: see `salted_password`.
    """
    salted = salted_password(password, salt, iterations)
    stored = sha256(_digest(salted, b"Client Key")).digest()
    return ScramKeys(salt, iterations, stored, _digest(salted, b"Server Key"))


# ---- the server's side


@define
class ScramServer:
    """
    One exchange.

    :ivar bindings: of this connection.
    :ivar plus: with channel binding.
    """

    bindings: Bindings
    plus: bool
    nonce: NewNonce = new_nonce
    _header: bytes = field(default=b"", init=False)
    _bare: str = field(default="", init=False)
    _first: str = field(default="", init=False)
    _both: str = field(default="", init=False)
    _keys: ScramKeys | None = field(default=None, init=False)
    _proved: bool = field(default=False, init=False)

    def step(self, response: bytes | None) -> Step:
        """See `base.ServerMechanism`."""
        if self._proved:
            # RFC 4954 §4: what we said at last is answered by nothing.
            return Failed(malformed=True) if response else Proved()
        if response is None:
            return Challenge(b"")
        text = decoded(response)
        if text is None:
            return Failed(malformed=True)
        return self._hear_first(text) if self._keys is None else self._hear_final(text, self._keys)

    def _hear_first(self, text: str) -> Step:
        found = _FIRST.fullmatch(text)
        if found is None or len(found["nonce"]) > _MAX_NONCE:
            return Failed(malformed=True)
        name = _unescaped(found["name"])
        if name is None:
            return Failed(malformed=True)
        header = self._bound_header(found)
        if header is None or _unescaped(found["acting"] or "") not in ("", name):
            return Failed()
        self._header, self._bare = header, found["bare"]
        self._both = found["nonce"] + self.nonce()
        return KeysWanted(name)

    def _bound_header(self, found: re.Match[str]) -> bytes | None:
        """What the client has to repeat behind ``c=``; `None` where it may not go on."""
        header = found["header"].encode("utf-8")
        if not self.plus:
            # RFC 5802 §6: y says "you do not offer it", and with TLS we did: somebody
            # in between has taken it out of our list.
            taken_out = found["flag"] == "y" and any(map(self.bindings, BINDING_NAMES))
            return None if found["binding"] or taken_out else header
        if found["binding"] not in BINDING_NAMES:
            return None
        binding = self.bindings(found["binding"])
        return None if binding is None else header + binding

    def take_keys(self, keys: ScramKeys) -> Step:
        """See `base.ServerMechanism`."""
        self._keys = keys
        self._first = f"r={self._both},s={_text(keys.salt)},i={keys.iterations}"
        return Challenge(self._first.encode("ascii"))

    def _hear_final(self, text: str, keys: ScramKeys) -> Step:
        found = _FINAL.fullmatch(text)
        proof = _octets(found["proof"]) if found else None
        header = _octets(found["header"]) if found else None
        if found is None or proof is None or header is None:
            return Failed(malformed=True)
        signed = f"{self._bare},{self._first},{found['rest']}".encode()
        signature = _digest(keys.stored_key, signed)
        good = hmac.compare_digest(header, self._header) and found["nonce"] == self._both
        if not good or len(proof) != len(signature):
            return Failed()
        shown = sha256(_xor(proof, signature)).digest()
        if not hmac.compare_digest(shown, keys.stored_key):
            return Failed()
        self._proved = True
        return Challenge(f"v={_text(_digest(keys.server_key, signed))}".encode("ascii"))


def _unescaped(name: str) -> str | None:
    """A saslname's characters (RFC 5802 §5.1, n=)."""
    if any(one not in ("2C", "3D") for one in _ESCAPED.findall(name)):
        return None
    return name.replace("=2C", ",").replace("=3D", "=")


# ---- the client's side


@frozen
class SaltGiven:
    """`salted_password` of this is wanted."""

    salt: bytes
    iterations: int


@define
class ScramClient:
    """
    One exchange.

    :ivar header: the gs2-header, and behind it the octets of the channel binding.
    """

    username: str
    nonce: NewNonce = new_nonce
    header: bytes = b"n,,"
    _bare: str = field(default="", init=False)
    _mine: str = field(default="", init=False)
    _first: str = field(default="", init=False)
    _both: str = field(default="", init=False)
    _signature: bytes = field(default=b"", init=False)

    def first(self) -> bytes:
        """
        What we begin with.

        :raises SyntaxProblem: the name has characters that none may have.
        """
        name = prepared(self.username).replace("=", "=3D").replace(",", "=2C")
        self._mine = self.nonce()
        self._bare = f"n={name},r={self._mine}"
        return f"n,,{self._bare}".encode()

    @property
    def has_salt(self) -> bool:
        """`hear_first` is over."""
        return bool(self._both)

    def hear_first(self, challenge: bytes) -> SaltGiven:
        """:raises SyntaxProblem: the server does not follow the mechanism."""
        text = decoded(challenge) or ""
        found = _SERVER_FIRST.fullmatch(text)
        salt = _octets(found["salt"]) if found else None
        if found is None or not salt or not int(found["count"]) >= LEAST_ITERATIONS:
            raise SyntaxProblem("the server's first message of SCRAM makes no sense")
        if int(found["count"]) > MOST_ITERATIONS:
            raise SyntaxProblem(f"{found['count']} iterations of SCRAM are too many")
        self._first, self._both = text, found["nonce"]
        if not self._both.startswith(self._mine) or self._both == self._mine:
            raise SyntaxProblem("the server's nonce of SCRAM is not ours and more")
        return SaltGiven(salt, int(found["count"]))

    def final(self, salted: bytes) -> bytes:
        """The proof."""
        key = _digest(salted, b"Client Key")
        rest = f"c={_text(self.header)},r={self._both}"
        signed = f"{self._bare},{self._first},{rest}".encode()
        self._signature = _digest(_digest(salted, b"Server Key"), signed)
        proof = _xor(key, _digest(sha256(key).digest(), signed))
        return f"{rest},p={_text(proof)}".encode()

    def hear_final(self, challenge: bytes) -> None:
        """:raises SyntaxProblem: the server does not know the password."""
        expected = b"v=" + b64encode(self._signature)
        if not self._signature or not hmac.compare_digest(challenge.split(b",")[0], expected):
            raise SyntaxProblem("the server's proof of SCRAM is wrong")
