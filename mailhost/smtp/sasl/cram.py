"""
CRAM-MD5: an old way not to send the password; the server has to keep it as it is.

:Room: ``smtp`` -- sans-I/O.
:RFC: 2195.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from secrets import token_hex

from attrs import define, field

from mailhost.smtp.sasl.base import (
    PASSWORD,
    Challenge,
    Failed,
    Place,
    ProofGiven,
    Step,
    decoded,
)

CRAM = "CRAM-MD5"
_ANSWER = re.compile(r"(?P<name>.+) (?P<digest>[0-9a-f]{32})", re.IGNORECASE)


@define
class CramServer:
    """The server's side of one exchange."""

    place: Place
    random: Callable[[int], str] = token_hex
    _asked: bytes = field(default=b"", init=False)

    def step(self, response: bytes | None) -> Step:
        """See `base.ServerMechanism`; the server speaks first."""
        if not self._asked:
            if response:
                return Failed(malformed=True)
            self._asked = f"<{self.random(12)}.{int(self.place.now)}@{self.place.host}>".encode()
            return Challenge(self._asked)
        found = _ANSWER.fullmatch(decoded(response or b"") or "")
        if found is None:
            return Failed(malformed=True)
        digest = bytes.fromhex(found["digest"])

        def fits(password: bytes) -> bool:
            return hmac.compare_digest(hmac.digest(password, self._asked, "md5"), digest)

        return ProofGiven(found["name"], PASSWORD, fits)
