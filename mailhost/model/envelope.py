"""
The envelope: what SMTP carries beside the content.

:Room: ``model``
:RFC: 5321 §2.3.1 (mail objects), 6152 and 3030 (BODY).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attrs import evolve, field

from mailhost.model.address import Mailbox
from mailhost.model.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RECIPIENT_PARAMETERS,
    MailParameters,
    RecipientParameters,
)
from mailhost.model.route import NextHop
from mailhost.model.values import value


@value
class Handling:
    """
    What is to be done with one recipient beside what its address says.

    :ivar host: its home server, where its mail goes; `None`: as its domain says.
    :ivar group: name (DN) of the group it stands for, which is expanded before anything is
        sent; empty: it is no group.
    :ivar parameters: what its sender asked for.
    """

    host: NextHop | None = None
    group: str = ""
    parameters: RecipientParameters = NO_RECIPIENT_PARAMETERS


_NOBODY: Mapping[int, Handling] = MappingProxyType({})


@value
class Envelope:
    """
    One mail object's envelope.

    :ivar reverse_path: where reports go; `None` is the null reverse-path.
    :ivar forward_paths: the recipients, at least one, each once.
    :ivar body: ``"7BIT"``, ``"8BITMIME"`` or ``"BINARYMIME"`` (RFC 6152 §2, 3030 §3).
    :ivar special: the few of them that need it, by position in *forward_paths*.
    :ivar wire_ready: the content was seen to have CRLF at the end of each line, of the last
        too, and no dot at the start of one, so it can be sent as it is (RFC 5321 §4.5.2);
        `False`: not known.
    :ivar parameters: what the sender asked for the whole message.
    """

    reverse_path: Mailbox | None
    forward_paths: tuple[Mailbox, ...]
    body: str = "7BIT"
    special: Mapping[int, Handling] = field(default=_NOBODY, hash=False)
    wire_ready: bool = False
    parameters: MailParameters = NO_MAIL_PARAMETERS

    @property
    def is_special(self) -> bool:
        """Whether it says more than addresses."""
        return bool(self.special) or self.parameters is not NO_MAIL_PARAMETERS

    def part(self, start: int, end: int) -> Envelope:
        """The same for the recipients from *start* to before *end* only."""
        special = {
            number - start: one for number, one in self.special.items() if start <= number < end
        }
        return evolve(self, forward_paths=self.forward_paths[start:end], special=special)
