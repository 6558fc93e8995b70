"""
XOAUTH2 and OAUTHBEARER: an access token in place of a password.

:Room: ``smtp`` -- sans-I/O.
:RFC: 7628 (OAUTHBEARER), 6750 §2.1 (the token); XOAUTH2 is Google's and Microsoft's, and
    says the same without a header.
"""

from __future__ import annotations

import json

from attrs import define, field

from mailhost.errors import SyntaxProblem

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
