"""
MD4, which NTLM is made of and OpenSSL 3 has no more.

:Room: ``smtp``
:RFC: 1320.
:Called by: `mailhost.smtp.sasl.ntlm_messages`.  Not for anything new: MD4 is broken.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

_MASK = 0xFFFFFFFF


def _choose(x: int, y: int, z: int) -> int:
    return x & y | ~x & z


def _most(x: int, y: int, z: int) -> int:
    return x & y | x & z | y & z


def _parity(x: int, y: int, z: int) -> int:
    return x ^ y ^ z


#: RFC 1320 §3.4: the function, the constant, the order of words and the shifts of each round.
_ROUNDS: tuple[
    tuple[Callable[[int, int, int], int], int, tuple[int, ...], tuple[int, ...]], ...
] = (
    (_choose, 0, tuple(range(16)), (3, 7, 11, 19)),
    (_most, 0x5A827999, tuple(n % 4 * 4 + n // 4 for n in range(16)), (3, 5, 9, 13)),
    (
        _parity,
        0x6ED9EBA1,
        (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15),
        (3, 9, 11, 15),
    ),
)


def md4(octets: bytes) -> bytes:
    """The digest of *octets*: 16 octets."""
    padding = b"\x80" + bytes((55 - len(octets)) % 64)
    padded = octets + padding + struct.pack("<Q", len(octets) * 8 & 0xFFFFFFFFFFFFFFFF)
    state = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
    for start in range(0, len(padded), 64):
        mixed = _mix(state, struct.unpack("<16I", padded[start : start + 64]))
        state = tuple((a + b) & _MASK for a, b in zip(state, mixed, strict=True))  # type: ignore[assignment]
        # four of them, as before
    return struct.pack("<4I", *state)


def _mix(state: tuple[int, int, int, int], words: tuple[int, ...]) -> tuple[int, int, int, int]:
    a, b, c, d = state
    for function, constant, order, shifts in _ROUNDS:
        for step, word in enumerate(order):
            total = (a + (function(b, c, d) & _MASK) + words[word] + constant) & _MASK
            shift = shifts[step % 4]
            turned = (total << shift | total >> (32 - shift)) & _MASK
            a, b, c, d = d, turned, b, c
    return a, b, c, d
