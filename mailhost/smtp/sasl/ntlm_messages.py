"""
The three messages of NTLM, and what version 2 of it computes.

:Room: ``smtp`` -- sans-I/O.
:RFC: none; [MS-NLMP] §2.2 (messages), §3.3.2 (NTLMv2); 5929 §4 (channel bindings).
:Called by: `mailhost.smtp.sasl.ntlm`; `nt_hash` by whoever keeps one.

Version 1 is not here, and neither are sealing and signing.  Every length and offset that a
peer gives is checked against what it has sent.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Mapping
from hashlib import md5

from attrs import field, frozen

from mailhost.errors import SyntaxProblem
from mailhost.smtp.sasl.md4 import md4

_SIGNATURE = b"NTLMSSP\0"

# §2.2.2.5
UNICODE = 0x00000001
REQUEST_TARGET = 0x00000004
NTLM = 0x00000200
ALWAYS_SIGN = 0x00008000
TARGET_TYPE_SERVER = 0x00020000
EXTENDED_SECURITY = 0x00080000
TARGET_INFO = 0x00800000
STRENGTH_128 = 0x20000000
STRENGTH_56 = 0x80000000

# §2.2.2.1
AV_END, AV_COMPUTER, AV_DOMAIN, AV_DNS_COMPUTER, AV_DNS_DOMAIN = range(5)
AV_FLAGS, AV_TIMESTAMP, AV_CHANNEL_BINDING = 6, 7, 10
#: In `AV_FLAGS`: there is a MIC.
HAS_MIC = 2

#: A message is not longer than a line of an AUTH exchange can be.
_MAX_OCTETS = 9216
_MIC_AT, _MIC_OCTETS = 72, 16
#: Seconds from 1601, where Windows begins to count, to 1970.
_EPOCH_SECONDS = 11644473600


def nt_hash(password: str) -> bytes:
    """What Windows keeps of *password* (§3.3.1 NTOWFv1): whoever has it can log in by NTLM."""
    return md4(password.encode("utf-16-le", "surrogatepass"))


def _hmac(key: bytes, octets: bytes) -> bytes:
    return hmac.digest(key, octets, "md5")


def response_key(hashed: bytes, user: str, domain: str) -> bytes:
    """§3.3.2 NTOWFv2."""
    return _hmac(hashed, (user.upper() + domain).encode("utf-16-le", "surrogatepass"))


def proof(key: bytes, challenge: bytes, blob: bytes) -> bytes:
    """§3.3.2: NTProofStr."""
    return _hmac(key, challenge + blob)


def session_key(key: bytes, proved: bytes) -> bytes:
    """§3.3.2: SessionBaseKey, which without key exchange is all the keys there are."""
    return _hmac(key, proved)


def message_code(session: bytes, *messages: bytes) -> bytes:
    """§3.1.5.1.2: MIC, over all three, the last with zeros in its place."""
    return _hmac(session, b"".join(messages))


def binding_hash(end_point: bytes) -> bytes:
    """
    How NTLM says what TLS connection it belongs to (§2.2.2.1).

    :param end_point: the channel binding ``tls-server-end-point``.
    """
    data = b"tls-server-end-point:" + end_point
    return md5(struct.pack("<IIIII", 0, 0, 0, 0, len(data)) + data).digest()


def windows_time(now: float) -> bytes:
    """*now*, in seconds since the epoch, as Windows writes it."""
    return struct.pack("<Q", int((now + _EPOCH_SECONDS) * 10_000_000))


# ---- pairs


def write_pairs(pairs: Iterable[tuple[int, bytes]]) -> bytes:
    """§2.2.2.1, with the end."""
    body = b"".join(struct.pack("<HH", one, len(value)) + value for one, value in pairs)
    return body + struct.pack("<HH", AV_END, 0)


def read_pairs(octets: bytes) -> Mapping[int, bytes]:
    """
    §2.2.2.1; in their order.

    :raises SyntaxProblem: they have no end, or one has more octets than there are.
    """
    found: dict[int, bytes] = {}
    at = 0
    while True:
        if at + 4 > len(octets):
            raise SyntaxProblem("pairs of NTLM without an end")
        one, size = struct.unpack_from("<HH", octets, at)
        at += 4
        if one == AV_END:
            return found
        if at + size > len(octets) or one in found:
            raise SyntaxProblem("a pair of NTLM that cannot be")
        found[one] = octets[at : at + size]
        at += size


# ---- messages


def _check(octets: bytes, kind: int, least: int) -> None:
    if not least <= len(octets) <= _MAX_OCTETS or octets[:8] != _SIGNATURE:
        raise SyntaxProblem("no message of NTLM")
    if struct.unpack_from("<I", octets, 8)[0] != kind:
        raise SyntaxProblem(f"not message {kind} of NTLM")


def _part(octets: bytes, at: int) -> bytes:
    """What the length and the offset at *at* point to."""
    size, _, start = struct.unpack_from("<HHI", octets, at)
    if size and start + size > len(octets):
        raise SyntaxProblem("a part of NTLM that is not there")
    return octets[start : start + size]


def _text(octets: bytes) -> str:
    try:
        text = octets.decode("utf-16-le")
    except UnicodeDecodeError:
        raise SyntaxProblem("a name of NTLM that is no text") from None
    if "\0" in text:
        raise SyntaxProblem("a name of NTLM with NUL")
    return text


def _join(head: bytes, parts: Iterable[bytes], tail: bytes, at: int) -> bytes:
    """*head*, where to find each of *parts*, *tail*, and the parts themselves from *at* on."""
    fields, payload = b"", b""
    for part in parts:
        fields += struct.pack("<HHI", len(part), len(part), at + len(payload))
        payload += part
    return head + fields + tail + payload


def write_negotiate() -> bytes:
    """§2.2.1.1: we tell neither domain nor workstation."""
    flags = UNICODE | REQUEST_TARGET | NTLM | ALWAYS_SIGN | EXTENDED_SECURITY
    flags |= STRENGTH_128 | STRENGTH_56
    return _join(_SIGNATURE + struct.pack("<II", 1, flags), (b"", b""), b"", 32)


def read_negotiate(octets: bytes) -> int:
    """
    §2.2.1.1: the flags; names in it are not looked at.

    :raises SyntaxProblem: it is no such message.
    """
    _check(octets, 1, 16)
    flags: int = struct.unpack_from("<I", octets, 12)[0]
    return flags


@frozen
class ChallengeMessage:
    """
    §2.2.1.2.

    :ivar info: pairs, as they go into the client's answer.
    """

    flags: int
    challenge: bytes
    target: bytes
    info: bytes

    def write(self) -> bytes:
        """As octets; without a version, which would tell of the machine."""
        at = 48
        fixed = _SIGNATURE + struct.pack("<I", 2)
        target = struct.pack("<HHI", len(self.target), len(self.target), at)
        info = struct.pack("<HHI", len(self.info), len(self.info), at + len(self.target))
        middle = struct.pack("<I", self.flags) + self.challenge + bytes(8)
        return fixed + target + middle + info + self.target + self.info

    @classmethod
    def read(cls, octets: bytes) -> ChallengeMessage:
        """:raises SyntaxProblem: *octets* are no such message."""
        _check(octets, 2, 48)
        flags = struct.unpack_from("<I", octets, 20)[0]
        if not flags & UNICODE or not flags & TARGET_INFO:
            raise SyntaxProblem("the host does not speak NTLMv2")
        info = _part(octets, 40)
        read_pairs(info)
        return cls(flags, octets[24:32], _part(octets, 12), info)


@frozen
class Authenticate:
    """
    §2.2.1.3.

    :ivar response: the NTLMv2 response: the proof, and what it proves.
    :ivar code: the MIC; empty: there is none.
    """

    user: str
    domain: str
    response: bytes = field(repr=False)
    flags: int
    code: bytes = field(default=b"", repr=False)

    def write(self) -> bytes:
        """As octets, with the MIC if it has one."""
        # §3.3.2: with a time from the server the response of LM is nothing but zeros.
        parts = [bytes(24), self.response]
        parts += [one.encode("utf-16-le", "surrogatepass") for one in (self.domain, self.user)]
        parts += [b"", b""]
        tail = struct.pack("<I", self.flags) + bytes(8) + (self.code or bytes(_MIC_OCTETS))
        head = _SIGNATURE + struct.pack("<I", 3)
        return _join(head, parts, tail, _MIC_AT + _MIC_OCTETS)

    @classmethod
    def read(cls, octets: bytes) -> Authenticate:
        """:raises SyntaxProblem: *octets* are no such message."""
        _check(octets, 3, 64)
        flags = struct.unpack_from("<I", octets, 60)[0]
        if not flags & UNICODE:
            raise SyntaxProblem("names of NTLM in an unknown character set")
        user, domain = _text(_part(octets, 36)), _text(_part(octets, 28))
        at = _code_at(octets)
        code = octets[at : at + _MIC_OCTETS]
        return cls(user, domain, _part(octets, 20), flags, code)

    @property
    def proved(self) -> bytes:
        """The proof."""
        return self.response[:16]

    @property
    def blob(self) -> bytes:
        """What it proves (§2.2.2.7)."""
        return self.response[16:]

    def pairs(self) -> Mapping[int, bytes] | None:
        """
        The pairs in the response.

        :returns: `None` where it is none of version 2.
        :raises SyntaxProblem: they are broken.
        """
        blob = self.blob
        if len(blob) < 32 or blob[:2] != b"\x01\x01":
            return None
        return read_pairs(blob[28:])


def _code_at(octets: bytes) -> int:
    """Where a message 3 has its MIC: some leave out the version before it (§2.2.1.3)."""
    fields = [struct.unpack_from("<HHI", octets, at) for at in range(12, 60, 8)]
    starts = [start for size, _, start in fields if size]
    without_version = _MIC_AT - 8
    first = min(starts, default=len(octets))
    return _MIC_AT if first >= _MIC_AT + _MIC_OCTETS else without_version


def without_code(octets: bytes) -> bytes:
    """A message 3 with zeros in place of its MIC."""
    at = _code_at(octets)
    return octets[:at] + bytes(_MIC_OCTETS) + octets[at + _MIC_OCTETS :]


def make_blob(time: bytes, nonce: bytes, info: bytes) -> bytes:
    """§2.2.2.7."""
    return b"\x01\x01" + bytes(6) + time + nonce + bytes(4) + info + bytes(4)
