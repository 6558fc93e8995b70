"""
XOAUTH2 and OAUTHBEARER: an access token in place of a password.

:Room: ``smtp`` -- sans-I/O.
:RFC: 7628 (OAUTHBEARER), 6750 §2.1 (the token); XOAUTH2 is Google's and Microsoft's, and
    says the same without a header.
"""

from __future__ import annotations

import json
import re

from attrs import define, field

from mailhost.errors import SyntaxProblem
from mailhost.smtp.sasl.base import Challenge, Failed, Step, TokenGiven, decoded

XOAUTH2, BEARER = "XOAUTH2", "OAUTHBEARER"
#: A larger challenge is not looked into.
_MAX_COMPLAINT_OCTETS = 4096


def bearer_response(mechanism: str, username: str, token: str) -> bytes:
    """
    The client's one message (RFC 7628 §3.1).

    :raises SyntaxProblem: name or token has a character that ends a field.
    """
    if "\x01" in username or "\0" in username or not (token.isascii() and token.isprintable()):
        raise SyntaxProblem("a name or a token that cannot be sent")
    if mechanism == XOAUTH2:
        return f"user={username}\x01auth=Bearer {token}\x01\x01".encode()
    name = username.replace("=", "=3D").replace(",", "=2C")
    return f"n,a={name},\x01auth=Bearer {token}\x01\x01".encode()


# RFC 7628 §3.1: gs2-header, then fields between octets 1; others than auth are not looked at.
_BEARER_MESSAGE = re.compile(
    r"(?:n|y),(?:a=(?P<name>[^,\x01]*))?,\x01(?P<fields>(?:[^\x01]+\x01)+)\x01", re.DOTALL
)
_XOAUTH2_MESSAGE = re.compile(
    r"user=(?P<name>[^\x01]+)\x01(?P<fields>(?:[^\x01]+\x01)+)\x01", re.DOTALL
)
_TOKEN = re.compile(r"auth=Bearer +(?P<token>[A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


@define
class BearerServer:
    """
    The server's side of one exchange.

    :ivar mechanism: `XOAUTH2` or `BEARER`.
    """

    mechanism: str
    _refused: bool = field(default=False, init=False)

    def step(self, response: bytes | None) -> Step:
        """See `base.ServerMechanism`."""
        if self._refused:
            return Failed()
        if response is None:
            return Challenge(b"")
        pattern = _XOAUTH2_MESSAGE if self.mechanism == XOAUTH2 else _BEARER_MESSAGE
        found = pattern.fullmatch(decoded(response) or "")
        if found is None:
            return Failed(malformed=True)
        shown = [_TOKEN.fullmatch(one) for one in found["fields"].split("\x01")]
        tokens = [one["token"] for one in shown if one is not None]
        if len(tokens) != 1:
            return Failed(malformed=True)
        name = found["name"] or ""
        if self.mechanism == BEARER:
            name = name.replace("=2C", ",").replace("=3D", "=")
        return TokenGiven(name, tokens[0])

    def refuse(self) -> Challenge:
        """RFC 7628 §3.2.2: why, which the client answers before it hears the refusal."""
        self._refused = True
        return Challenge(b'{"status":"invalid_token","schemes":"bearer"}')


@define
class BearerClient:
    """
    Our side at a next hop.

    A server that refuses the token says why in a challenge, wants an empty answer, and then
    refuses for good (RFC 7628 §3.2.3).
    """

    mechanism: str
    username: str
    token: str = field(repr=False)
    _complaint: str = field(default="", init=False)
    _heard: bool = field(default=False, init=False)

    def first(self) -> bytes:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        return bearer_response(self.mechanism, self.username, self.token)

    def hear(self, challenge: bytes) -> bytes:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        if self._heard:
            raise SyntaxProblem("the host asks for more than the mechanism has")
        self._heard = True
        self._complaint = _status_in(challenge)
        return b"" if self.mechanism == XOAUTH2 else b"\x01"

    def worked(self, octets: bytes) -> bytes:
        """See `mailhost.smtp.sasl.client.ClientMechanism`."""
        return octets

    @property
    def proved(self) -> bool:
        """A server that has refused cannot take us after all."""
        return not self._heard

    @property
    def complaint(self) -> str:
        """The status of the refusal, such as ``invalid_token`` or ``401``."""
        return self._complaint


def _status_in(challenge: bytes) -> str:
    try:
        told = json.loads(challenge[:_MAX_COMPLAINT_OCTETS])
        status = str(told["status"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    # Only a word: the rest might be what we have sent.
    return status if len(status) <= 40 and status.replace("_", "").isalnum() else ""
