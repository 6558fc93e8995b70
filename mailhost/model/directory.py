"""
What a directory says of an address, and how a directory is laid out.

:Room: ``model``
:IIS: LDP-03 (schemas); the outline of resolution in §6.
:RFC: 3463 (status), 5321 §3.9.2 (lists).
:Made by: `mailhost.directory`; read by `mailhost.intake`.
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen

from mailhost.model.address import Mailbox
from mailhost.model.reply import Reply
from mailhost.model.route import NextHop

# ---- answers


class Kind(Enum):
    """What an entry is."""

    USER = "user"
    CONTACT = "contact"
    GROUP = "group"


class ReportTo(Enum):
    """Who hears of what becomes of a group's mail (IIS §6, point 5)."""

    ORIGINATOR = "originator"
    OWNER = "owner"
    NOBODY = "nobody"


@frozen
class Destination:
    """
    Where a copy goes in the end.

    :ivar address: the recipient from now on.
    :ivar host: the home server of its mailbox, lower case; `None`: as the domain of
        *address* says.
    """

    address: Mailbox
    host: NextHop | None = None


@frozen
class GroupRef:
    """
    A group still to be expanded.

    :ivar dn: its name in the directory.
    :ivar address: its primary address.
    """

    dn: str
    address: Mailbox


@frozen
class Found:
    """
    One entry has the address.

    :ivar address: its primary address.
    :ivar kind: what the entry is.
    :ivar dn: its name in the directory.
    :ivar destinations: mailboxes, forwarding followed; none for a group.
    :ivar groups: groups that are reached, itself or by forwarding; expanded after acceptance.
    """

    address: Mailbox
    kind: Kind
    dn: str
    destinations: tuple[Destination, ...] = ()
    groups: tuple[GroupRef, ...] = ()


@frozen
class Refused:
    """
    The directory has answered, and the address cannot be used.

    :ivar status: enhanced status of class 5 (RFC 3463).
    :ivar words: why, for the client.
    """

    status: str
    words: str

    @property
    def reply(self) -> Reply:
        """The answer to RCPT."""
        return Reply(550, self.status, self.words, setting="ldap")


Resolution = Found | Refused


def unknown(address: Mailbox) -> Refused:
    """No entry has it (RFC 3463 X.1.1)."""
    return Refused("5.1.1", f"User unknown: {address}")


def ambiguous(address: Mailbox) -> Refused:
    """Several entries have it (RFC 3463 X.1.4)."""
    return Refused("5.1.4", f"Address is ambiguous: {address}")


def disabled(address: Mailbox) -> Refused:
    """Its entry is switched off (RFC 3463 X.2.1)."""
    return Refused("5.2.1", f"Mailbox is disabled: {address}")


def looping(address: Mailbox) -> Refused:
    """Forwarding comes back to it (RFC 3463 X.4.6)."""
    return Refused("5.4.6", f"Forwarding loop: {address}")


def too_many_members(address: Mailbox, limit: int) -> Refused:
    """A group larger than we expand (RFC 3463 X.5.3)."""
    return Refused("5.5.3", f"Group has more than {limit} recipients: {address}")


@frozen
class EnvelopePart:
    """
    Recipients that share a return path.

    :ivar report_to: who hears of failures.
    :ivar owner: of the list; given where *report_to* is `ReportTo.OWNER`.
    :ivar destinations: where copies go.
    :ivar refused: members that cannot be reached, and why.
    """

    report_to: ReportTo
    owner: Mailbox | None
    destinations: tuple[Destination, ...]
    refused: tuple[tuple[Mailbox, Refused], ...] = ()

    def reverse_path(self, original: Mailbox | None) -> Mailbox | None:
        """
        The return path of this part.

        What came with the null reverse-path keeps it: a report never draws
        another (RFC 5321 §4.5.5, §6.1).
        """
        if original is None or self.report_to is ReportTo.NOBODY:
            return None
        return self.owner if self.report_to is ReportTo.OWNER else original


@frozen
class Expansion:
    """
    A group's mailboxes, each once.

    :ivar parts: one envelope each.
    :ivar skipped: members without an address, or that are no longer there.
    """

    parts: tuple[EnvelopePart, ...]
    skipped: int = 0

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Those of all parts."""
        return tuple(one for part in self.parts for one in part.destinations)

    @property
    def refused(self) -> tuple[tuple[Mailbox, Refused], ...]:
        """Those of all parts."""
        return tuple(one for part in self.parts for one in part.refused)


# ---- diagnosis


@frozen
class TraceStep:
    """
    One question to the directory.

    :ivar server: who was asked.
    :ivar base: where, a DN.
    :ivar scope: ``base``, ``one`` or ``sub``.
    :ivar filter: RFC 4515.
    :ivar found: DNs of what was found, the first few.
    :ivar count: how many were found.
    :ivar seconds: how long it took.
    """

    server: str
    base: str
    scope: str
    filter: str
    found: tuple[str, ...]
    count: int
    seconds: float


@frozen
class Trace:
    """
    How an address is resolved, step by step.

    :ivar result: what came of it; `None` where *problem* says why nothing did.
    :ivar problem: empty, or what went wrong.
    """

    address: Mailbox
    steps: tuple[TraceStep, ...]
    result: Resolution | None
    problem: str
    seconds: float


class Weight(Enum):
    """How much a finding matters."""

    GOOD = "good"
    ADVICE = "advice"
    FAULT = "fault"


@frozen
class DirectoryFinding:
    """
    One thing that a check of the directory has found.

    :ivar server: which one; empty for all.
    :ivar words: one sentence.
    """

    weight: Weight
    server: str
    words: str


# ---- layout


def _names(text: str | tuple[str, ...]) -> tuple[str, ...]:
    given = text.split() if isinstance(text, str) else text
    return tuple(given)


@frozen
class Schema:
    """
    Which attributes mean what; several are separated by blanks.

    An empty one says that this directory has no such thing.

    :ivar name: as the configuration calls it.
    :ivar searched: where an address is looked for.  ``proxyAddresses=smtp:`` is an
        attribute whose values have that prefix; in capitals it marks the primary one.
    :ivar objects: a filter (RFC 4515) that every entry must meet.
    :ivar primary: where the primary address stands, the first that has one.
    :ivar contacts: object classes of contacts, lower case.
    :ivar groups: object classes of groups, lower case.
    :ivar target: an address elsewhere that takes the mailbox's place.
    :ivar forward_to_entry: the DN of an entry that gets the mail.
    :ivar forward_to_address: addresses that get the mail.
    :ivar keep_copy: says whether the mailbox gets it as well when it is forwarded.
    :ivar host: the domain name of the home server.
    :ivar routing_address: the recipient on that server; with it the rules of
        inetLocalMailRecipient hold: without it the address stays as it was given.
    :ivar home: the name of the home server, as a DN or as a path ``/o=.../cn=NAME``.
    :ivar member_entries: DNs of members.
    :ivar member_addresses: addresses of members.
    :ivar member_filter: a filter that finds the members.
    :ivar member_base: where that filter is used.
    :ivar member_url: an LDAP URL (RFC 4516) that finds the members.
    :ivar owner: DN of a group's owner.
    :ivar report_to_owner: says whether the owner hears of failures.
    :ivar report_to_originator: says whether the sender hears of failures.
    :ivar disabled: says that an entry is switched off.
    :ivar disabled_bit: the bit of *disabled* that does; 0: one of *disabled_words* does.
    :ivar disabled_words: lower case.
    :ivar login: what a user logs in with.
    :ivar delegates: DNs of those who may send in this entry's name.
    """

    name: str
    searched: tuple[str, ...] = field(converter=_names)
    objects: str = ""
    primary: tuple[str, ...] = field(default=("mail",), converter=_names)
    contacts: tuple[str, ...] = field(default=(), converter=_names)
    groups: tuple[str, ...] = field(default=(), converter=_names)
    target: str = ""
    forward_to_entry: str = ""
    forward_to_address: str = ""
    keep_copy: str = ""
    host: str = ""
    routing_address: str = ""
    home: tuple[str, ...] = field(default=(), converter=_names)
    member_entries: tuple[str, ...] = field(default=(), converter=_names)
    member_addresses: tuple[str, ...] = field(default=(), converter=_names)
    member_filter: str = ""
    member_base: str = ""
    member_url: str = ""
    owner: tuple[str, ...] = field(default=(), converter=_names)
    report_to_owner: str = ""
    report_to_originator: str = ""
    disabled: str = ""
    disabled_bit: int = 0
    disabled_words: tuple[str, ...] = field(default=("true",), converter=_names)
    login: tuple[str, ...] = field(default=("uid",), converter=_names)
    delegates: tuple[str, ...] = field(default=(), converter=_names)

    @property
    def prefixes(self) -> tuple[tuple[str, str], ...]:
        """``(attribute, prefix)`` of what is searched."""
        return tuple(_attribute_and_prefix(one) for one in self.searched)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Attributes to read of any entry; members are read apart, there may be many."""
        single = (
            self.target,
            self.forward_to_entry,
            self.forward_to_address,
            self.keep_copy,
            self.host,
            self.routing_address,
            self.member_filter,
            self.member_base,
            self.member_url,
            self.report_to_owner,
            self.report_to_originator,
            self.disabled,
        )
        several = (*self.primary, *self.home, *self.owner, *self.delegates)
        searched = (name for name, _ in self.prefixes)
        found = ("objectClass", *searched, *several, *(name for name in single if name))
        return tuple({name.lower(): name for name in found}.values())


def _attribute_and_prefix(text: str) -> tuple[str, str]:
    name, _, prefix = text.partition("=")
    return name, prefix
