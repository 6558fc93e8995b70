"""
From what a directory says of an address to the recipients it stands for.

:Room: ``intake``
:RFC: 5321 §4.5.1 (postmaster), §3.9 (aliases and lists).
:IIS: §6 (LDAP routing).
:Called by: `mailhost.intake.reception` and `mailhost.intake.submission`.
"""

from __future__ import annotations

from attrs import define, evolve, field

from mailhost.model.address import Mailbox
from mailhost.model.directory import Refused, Resolution, unknown
from mailhost.model.envelope import Envelope, Handling
from mailhost.model.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RECIPIENT_PARAMETERS,
    MailParameters,
    RecipientParameters,
)
from mailhost.smtp.extensions.dsn import with_original


def is_postmaster(path: Mailbox) -> bool:
    """Mail for whom is never refused (RFC 5321 §4.5.1)."""
    return path.local.lower() == "postmaster"


@define(eq=False)
class Destinations:
    """
    The recipients of one transaction.

    :ivar count: RCPT commands that have brought some; the limit is on them.
    :ivar paths: in order, each once.
    :ivar special: those that need more than their address, by place among them.
    """

    count: int = 0
    paths: dict[Mailbox, None] = field(factory=dict)
    special: dict[int, Handling] = field(factory=dict)

    def add(
        self,
        path: Mailbox,
        given: Mailbox,
        parameters: RecipientParameters = NO_RECIPIENT_PARAMETERS,
    ) -> None:
        """
        One command, one recipient; it is not among them yet.

        :param given: the address in the command.
        :param parameters: what was asked for with it.
        """
        self.count += 1
        if parameters is not NO_RECIPIENT_PARAMETERS:
            asked = parameters if path == given else with_original(parameters, given)
            self.special[len(self.paths)] = Handling(parameters=asked)
        self.paths[path] = None

    def add_found(
        self,
        found: dict[Mailbox, Handling | None],
        given: Mailbox,
        parameters: RecipientParameters = NO_RECIPIENT_PARAMETERS,
    ) -> None:
        """
        One command, several recipients; who is among them already stays as he is.

        The first of several tells of success, so that the sender hears of it once (RFC 3461
        §5.2.7.3).
        """
        self.count += 1
        asked = parameters
        for path, handling in found.items():
            if path in self.paths:
                continue
            if asked is not NO_RECIPIENT_PARAMETERS:
                mine = asked if path == given else with_original(asked, given)
                handling = evolve(handling or Handling(), parameters=mine)
                asked = asked.quiet
            if handling is not None:
                self.special[len(self.paths)] = handling
            self.paths[path] = None

    def envelope(
        self,
        reverse_path: Mailbox | None,
        body: str = "7BIT",
        wire_ready: bool = False,
        parameters: MailParameters = NO_MAIL_PARAMETERS,
    ) -> Envelope:
        """All of them."""
        return Envelope(reverse_path, tuple(self.paths), body, self.special, wire_ready, parameters)


def recipients_of(answer: Resolution, path: Mailbox) -> dict[Mailbox, Handling | None] | Refused:
    """
    Who gets the mail for *path*, which is local.

    Forwarding to another domain is the directory's word, and needs no right to relay.
    """
    if isinstance(answer, Refused):
        return {path: None} if is_postmaster(path) else answer
    found: dict[Mailbox, Handling | None] = {}
    for one in answer.destinations:
        found.setdefault(one.address, Handling(one.host) if one.host is not None else None)
    for group in answer.groups:
        found.setdefault(group.address, Handling(group=group.dn))
    return found or unknown(path)
