"""
Password hashes: Argon2id, the keys of SCRAM-SHA-256, and what weak mechanisms need.

:Room: ``authentication``
:RFC: 9106 (Argon2), 5802 §3, 7677.
:Called by: `mailhost.authentication.users` and `mailhost.cli.passwd`; in a thread,
    where there is a reactor (promise P9): a check takes 30 to 60 ms.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from binascii import Error, a2b_base64

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from mailhost.model.account import ScramKeys
from mailhost.smtp.sasl.base import NT_HASH, PASSWORD
from mailhost.smtp.sasl.ntlm_messages import nt_hash
from mailhost.smtp.sasl.prepare import prepared
from mailhost.smtp.sasl.scram import LEAST_ITERATIONS, MOST_ITERATIONS, make_keys

#: KiB, passes and lanes of new hashes.
_MEMORY, _PASSES, _LANES = 19456, 2, 1
#: A hash that wants more than 256 MiB would make each login a burden.
_MOST_MEMORY, _MOST_PASSES = 262144, 16
#: Of PBKDF2, for new keys.  Cyrus SASL, and so Postfix as a client, takes no more.
SCRAM_ITERATIONS = 65_536

_PHC = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,2})"
    r"\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_SCRAM = re.compile(
    r"\$scram-sha-256\$i=([1-9]\d{3,6})\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)"
)

_SECRET = re.compile(rf"\$({NT_HASH}|{PASSWORD})\$((?:[0-9a-f]{{2}})+)")


def hash_password(password: str) -> str:
    """A new ``$argon2id$...`` of *password*."""
    made = Argon2id(
        salt=os.urandom(16), length=32, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY
    )
    return made.derive_phc_encoded(_octets(password))


def fits(password: str, phc: str) -> bool:
    """Whether *phc* was made of *password*; compared in constant time."""
    try:
        Argon2id.verify_phc_encoded(_octets(password), phc)
    except InvalidKey:
        return False
    return True


def _octets(password: str) -> bytes:
    return prepared(password).encode("utf-8")


def check_phc(text: str) -> str:
    """
    *text* as a hash that can be verified here.

    :raises ValueError: it is none; the hash is not in the words.
    """
    found = _PHC.fullmatch(text)
    if found is None:
        raise ValueError("no hash of Argon2id, version 19, in its usual form")
    memory, passes, lanes = map(int, found.groups())
    if not (8 * lanes <= memory <= _MOST_MEMORY and 1 <= passes <= _MOST_PASSES and lanes):
        raise ValueError("an Argon2id hash that costs too much, or nothing")
    return text


def hash_of_nobody(like: str | None = None) -> str:
    """A hash that no password fits and that takes as long to check as *like*."""
    memory, passes, lanes = _MEMORY, _PASSES, _LANES
    found = _PHC.fullmatch(like) if like is not None else None
    if found is not None:
        memory, passes, lanes = map(int, found.groups())
    salt, octets = (b64encode(os.urandom(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${octets}"


def new_scram_keys(password: str) -> ScramKeys:
    """
    Keys of *password* with a new salt.

    :raises mailhost.errors.SyntaxProblem: it has characters that none may have.
    """
    return make_keys(password, os.urandom(16), SCRAM_ITERATIONS)


def write_scram(keys: ScramKeys) -> str:
    """*keys* as they stand in a users file."""
    parts = (keys.salt, keys.stored_key, keys.server_key)
    return f"$scram-sha-256$i={keys.iterations}$" + "$".join(b64encode(p).decode() for p in parts)


def read_scram(text: str) -> ScramKeys:
    """
    What `write_scram` has written.

    :raises ValueError: it is no such thing; the keys are not in the words.
    """
    wrong = ValueError("no keys of SCRAM-SHA-256 as `mailhost passwd` writes them")
    found = _SCRAM.fullmatch(text)
    if found is None:
        raise wrong
    try:
        salt, stored, server = (a2b_base64(found[n], strict_mode=True) for n in (2, 3, 4))
    except Error:
        raise wrong from None
    iterations = int(found[1])
    good = len(salt) >= 8 and len(stored) == len(server) == 32
    if not good or not LEAST_ITERATIONS <= iterations <= MOST_ITERATIONS:
        raise wrong
    return ScramKeys(salt, iterations, stored, server)


# ---- what weak mechanisms need


def make_secret(kind: str, password: str) -> bytes:
    """The secret of this *kind*; see `mailhost.smtp.sasl.base.ProofGiven`."""
    return nt_hash(password) if kind == NT_HASH else _octets(password)


def write_secret(kind: str, secret: bytes) -> str:
    """*secret* as it stands in a users file; that of a password is only hidden from a glance."""
    return f"${kind}${secret.hex()}"


def read_secret(text: str) -> tuple[str, bytes]:
    """
    What `write_secret` has written.

    :raises ValueError: it is no such thing; the secret is not in the words.
    """
    found = _SECRET.fullmatch(text.strip())
    if found is None or (found[1] == NT_HASH and len(found[2]) != 32):
        raise ValueError("no secret as `mailhost passwd` writes it")
    return found[1], bytes.fromhex(found[2])
