"""
EXTERNAL: who the client is has been proved already, by its certificate.

:Room: ``smtp`` -- sans-I/O.
:RFC: 4422 §A.
:IIS: ACC-13.
"""

from __future__ import annotations

from attrs import define

from mailhost.smtp.sasl.base import Challenge, Failed, Identified, Place, Step, decoded

EXTERNAL = "EXTERNAL"


@define
class ExternalServer:
    """The server's side of one exchange."""

    place: Place

    def step(self, response: bytes | None) -> Step:
        """See `base.ServerMechanism`."""
        if response is None:
            return Challenge(b"")
        wanted = decoded(response)
        if wanted is None:
            return Failed(malformed=True)
        names = self.place.names
        if wanted:
            names = tuple(one for one in names if one.casefold() == wanted.casefold())
        return Identified(names) if names else Failed()
