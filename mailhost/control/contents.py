"""
A content of a message, part by part.

:Room: ``control``
:Called by: `mailhost.control.queue`, `mailhost.control.badmail`.
"""

from __future__ import annotations

from attrs import frozen

from mailhost.control.shapes import whole


@frozen
class ContentQuery:
    """Where a part of a content begins."""

    start: int = whole(0, 10**15 - 1, 0)


@frozen
class Content:
    """A part of a content; an empty one is the end."""

    base64: str
