"""
PLAIN: authorization identity, name and password between NULs.

:Room: ``smtp``
:RFC: 4616.
:IIS: ACC-02 (basic authentication).
"""

from __future__ import annotations

from mailhost.smtp.sasl.base import Challenge, Failed, PasswordGiven, Step, decoded

MALFORMED = Failed(malformed=True)


class PlainServer:
    """The server's side."""

    def step(self, response: bytes | None) -> Step:
        """See `base.ServerMechanism`."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            return MALFORMED
        acting_for, name, password = map(decoded, parts)
        if acting_for is None or not name or password is None:
            return MALFORMED
        if acting_for not in ("", name) or not password:
            # RFC 4616 §2: nobody may act for another; attacks.md A16: an empty
            # password is none.
            return Failed()
        return PasswordGiven(name, password)


def plain_response(username: str, password: str) -> bytes:
    """The client's side (RFC 4616 §2)."""
    return b"\0".join((b"", username.encode("utf-8"), password.encode("utf-8")))
