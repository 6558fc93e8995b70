"""
Who comes back is let in: the terms of greylisting.

:Room: ``model``
:RFC: 6647.
:Made by: `mailhost.config`; kept to by `mailhost.policy.greylisting`.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class GreylistTerms:
    """
    :ivar enabled: whether anybody has to come back.
    :ivar delay_seconds: so long after the first attempt he is let in.
    :ivar retry_seconds: within so long he has to come back.
    :ivar keep_seconds: so long after its last message a triplet is let in at once, and a client.
    :ivar known_after: so many triplets make a client known, whatever it sends; 0: none do.
    :ivar networks: clients of one network count as one.
    """

    enabled: bool = False
    delay_seconds: float = 300
    retry_seconds: float = 86400
    keep_seconds: float = 35 * 86400
    known_after: int = 5
    networks: bool = True
