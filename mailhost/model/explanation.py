"""
What would become of a message, and what decides it.

:Room: ``model``
:Made by: `mailhost.server.explaining`; shown by `mailhost.control`.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen


@frozen
class Step:
    """
    One line of an explanation.

    :ivar topic: what it is about.
    :ivar words: what is so.
    :ivar setting: what has decided it; empty: no setting did.
    """

    topic: str
    words: str
    setting: str = ""


@frozen
class Explanation:
    """
    :ivar reply: what the client would hear at last.
    :ivar accepted: whether the recipient would be taken.
    :ivar steps: in the order of the decisions.
    :ivar ways: where the mail would go: fate, site and addresses to try, for each recipient
        that the address stands for.
    """

    reply: str
    accepted: bool
    steps: tuple[Step, ...]
    ways: tuple[dict[str, Any], ...]
