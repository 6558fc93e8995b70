"""
A request that is not done.

:Room: ``control``
:Called by: whoever answers requests; told by `mailhost.control.api`.
"""

from __future__ import annotations

from typing import Any

from mailhost.errors import MailhostError


class Refusal(MailhostError):
    """
    A request that is not done.

    :ivar status: of HTTP.
    :ivar more: what is told beside the words.
    """

    def __init__(self, status: int, words: str, **more: Any) -> None:
        super().__init__(words)
        self.status = status
        self.more = more


def no_server(name: str) -> Refusal:
    """There is no virtual server of this name."""
    return Refusal(404, f"there is no virtual server {name!r}")
