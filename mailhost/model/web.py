"""
What an HTTPS server has answered.

:Room: ``model``
"""

from __future__ import annotations

from attrs import field, frozen


@frozen
class WebAnswer:
    """
    :ivar status: the code.
    :ivar retry_after_seconds: when to come again, as the server says; 0: it does not say.
    """

    status: int
    body: bytes = field(repr=False)
    retry_after_seconds: int = 0
