"""
The envelope: what SMTP carries beside the content.

:Room: ``model``
:RFC: 5321 §2.3.1 (mail objects), 6152 (BODY).
"""

from __future__ import annotations

from attrs import frozen

from mailhost.model.address import Mailbox


@frozen
class Envelope:
    """
    One mail object's envelope.

    :ivar reverse_path: where reports go; `None` is the null reverse-path.
    :ivar forward_paths: the recipients, at least one, each once.
    :ivar body: ``"7BIT"`` or ``"8BITMIME"`` (RFC 6152 §2).
    :ivar wire_ready: the content was seen to have CRLF at the end of each line, of the last
        too, and no dot at the start of one, so it can be sent as it is (RFC 5321 §4.5.2);
        `False`: not known.
    """

    reverse_path: Mailbox | None
    forward_paths: tuple[Mailbox, ...]
    body: str = "7BIT"
    wire_ready: bool = False
