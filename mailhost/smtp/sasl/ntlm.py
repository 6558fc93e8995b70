"""
NTLM, version 2 only: IIS's integrated authentication where there is no Kerberos.

:Room: ``smtp`` -- sans-I/O.
:RFC: none; [MS-NLMP] §3, [MS-SMTPNTLM]; 5929 (channel binding).
:IIS: ACC-05, DEL-22; attacks.md A18.

The server tells of itself what its banner tells: its name.  Whoever keeps a hash for NTLM
keeps something that is as good as the password.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from secrets import token_bytes

from attrs import define, evolve, field

from mailhost.errors import SyntaxProblem
from mailhost.smtp.sasl.base import NT_HASH, Challenge, Failed, Place, ProofGiven, Step
from mailhost.smtp.sasl.ntlm_messages import (
    ALWAYS_SIGN,
    AV_CHANNEL_BINDING,
    AV_COMPUTER,
    AV_DNS_COMPUTER,
    AV_DNS_DOMAIN,
    AV_DOMAIN,
    AV_FLAGS,
    AV_TIMESTAMP,
    EXTENDED_SECURITY,
    HAS_MIC,
    NTLM,
    REQUEST_TARGET,
    STRENGTH_56,
    STRENGTH_128,
    TARGET_INFO,
    TARGET_TYPE_SERVER,
    UNICODE,
    Authenticate,
    ChallengeMessage,
    binding_hash,
    make_blob,
    message_code,
    nt_hash,
    proof,
    read_negotiate,
    read_pairs,
    response_key,
    session_key,
    windows_time,
    without_code,
    write_negotiate,
    write_pairs,
)

NTLM_MECHANISM = "NTLM"
_SERVER_FLAGS = UNICODE | NTLM | TARGET_TYPE_SERVER | TARGET_INFO | REQUEST_TARGET
#: What we do where the client does.  Exchanging keys is not among it: nothing is sealed.
_SHARED_FLAGS = ALWAYS_SIGN | EXTENDED_SECURITY | STRENGTH_128 | STRENGTH_56

NewOctets = Callable[[int], bytes]


@define
class NTLMServer:
    """The server's side of one exchange."""

    place: Place
    random: NewOctets = token_bytes
    _messages: list[bytes] = field(factory=list, init=False)
    _challenge: bytes = field(default=b"", init=False)

    def step(self, response: bytes | None) -> Step:
        """See `base.ServerMechanism`."""
        if response is None or (not response and not self._messages):
            # [MS-SMTPNTLM]: the client waits to hear that NTLM is spoken here.
            return Challenge(b"")
        try:
            return self._answer(response) if self._messages else self._ask(response)
        except SyntaxProblem:
            return Failed(malformed=True)

    def _ask(self, response: bytes) -> Step:
        flags = _SERVER_FLAGS | (read_negotiate(response) & _SHARED_FLAGS)
        self._challenge = self.random(8)
        host = self.place.host.lower()
        short, _, domain = host.partition(".")
        pairs = [
            (AV_DOMAIN, _utf16(short.upper()[:15])),
            (AV_COMPUTER, _utf16(short.upper()[:15])),
            (AV_DNS_DOMAIN, _utf16(domain or host)),
            (AV_DNS_COMPUTER, _utf16(host)),
            (AV_TIMESTAMP, windows_time(self.place.now)),
        ]
        target = _utf16(short.upper()[:15])
        asked = ChallengeMessage(flags, self._challenge, target, write_pairs(pairs)).write()
        self._messages += [response, asked]
        return Challenge(asked)

    def _answer(self, response: bytes) -> Step:
        told = Authenticate.read(response)
        pairs = told.pairs()
        if not told.user or pairs is None:
            # Nobody, or version 1 or LM: a recorded exchange of those gives the password away.
            return Failed()
        bound = pairs.get(AV_CHANNEL_BINDING, bytes(16))
        if bound != bytes(16) and not self._is_ours(bound):
            # What was meant for another server is being passed on to us.
            return Failed()
        flags = int.from_bytes(pairs.get(AV_FLAGS, b""), "little")
        self._messages.append(without_code(response) if flags & HAS_MIC else b"")
        return ProofGiven(told.user, NT_HASH, lambda hashed: self._fits(told, hashed))

    def _is_ours(self, bound: bytes) -> bool:
        end_point = self.place.bindings("tls-server-end-point")
        return end_point is not None and hmac.compare_digest(bound, binding_hash(end_point))

    def _fits(self, told: Authenticate, hashed: bytes) -> bool:
        key = response_key(hashed, told.user, told.domain)
        expected = proof(key, self._challenge, told.blob)
        if not hmac.compare_digest(expected, told.proved):
            return False
        if not self._messages[2]:
            return True
        code = message_code(session_key(key, expected), *self._messages)
        return hmac.compare_digest(code, told.code)


@define
class NTLMClient:
    """
    Our side at a next hop.

    :ivar username: ``DOMAIN\\user``, ``user@domain`` or ``user``.
    :ivar now: seconds since the epoch.
    """

    username: str
    password: str = field(repr=False)
    now: float
    random: NewOctets = token_bytes
    _heard: bool = field(default=False, init=False)

    def first(self) -> bytes:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        return write_negotiate()

    def hear(self, challenge: bytes) -> bytes:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        if self._heard:
            raise SyntaxProblem("the host asks for more than the mechanism has")
        self._heard = True
        asked = ChallengeMessage.read(challenge)
        domain, slash, user = self.username.partition("\\")
        if not slash:
            domain, user = "", self.username
        pairs = dict(read_pairs(asked.info))
        timed = AV_TIMESTAMP in pairs
        if timed:
            pairs[AV_FLAGS] = HAS_MIC.to_bytes(4, "little")
        time = pairs.get(AV_TIMESTAMP, windows_time(self.now))
        blob = make_blob(time, self.random(8), write_pairs(pairs.items()))
        key = response_key(nt_hash(self.password), user, domain)
        proved = proof(key, asked.challenge, blob)
        flags = asked.flags & (_SERVER_FLAGS | _SHARED_FLAGS)
        answer = Authenticate(user, domain, proved + blob, flags)
        if not timed:
            return answer.write()
        session = session_key(key, proved)
        code = message_code(session, write_negotiate(), challenge, answer.write())
        return evolve(answer, code=code).write()

    def worked(self, octets: bytes) -> bytes:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        return octets

    @property
    def proved(self) -> bool:
        """NTLM proves nothing of the server; that it has asked at all is seen to."""
        return self._heard

    @property
    def complaint(self) -> str:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        return ""


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le")
