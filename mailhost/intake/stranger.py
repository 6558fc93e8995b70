"""
What is asked of clients that are not the operator's own.

:Room: ``intake``
:Called by: `mailhost.intake.reception`; one for each session that any of it holds for.

Whoever waits here waits for a timer; nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from mailhost.errors import ResolveProblem
from mailhost.intake.desk import Desk, ready
from mailhost.intake.destinations import is_postmaster
from mailhost.interfaces import Maybe
from mailhost.model.address import Mailbox
from mailhost.model.client import ClientLimits
from mailhost.model.dns_list import DNSList
from mailhost.model.greylist import GreylistTerms
from mailhost.model.reply import Reply
from mailhost.model.session import SessionFacts
from mailhost.policy.clients import ClientTable
from mailhost.policy.dns_lists import check_listed, is_entry, name_in, score_of
from mailhost.smtp import replies


@define(eq=False)
class Stranger:
    """
    :ivar desk: what this session shares with all others.
    :ivar session: its facts.
    """

    desk: Desk
    session: SessionFacts
    # The tables that it is in, and what holds for it there.
    _counted: list[tuple[ClientTable, ClientLimits]] = field(factory=list, init=False)
    _refusals: int = field(default=0, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    # The lists in DNS that it is in, once they have been asked.
    _entries: tuple[DNSList, ...] | None = field(default=None, init=False)

    _log = Logger()

    @property
    def entries(self) -> tuple[DNSList, ...] | None:
        """The lists in DNS that the client is in; `None`: they have not been asked."""
        return self._entries

    def enter(self) -> Reply | None:
        """The client has connected; `leave` is due in any case."""
        access, peer = self.desk.settings.access, self.session.peer
        for table, limits in (
            (self.desk.clients, access.per_address),
            (self.desk.networks, access.per_network),
        ):
            if limits.any and not limits.exempt.permits(peer):
                self._counted.append((table, limits))
                refused = table.enter(peer, limits, self.desk.clock.seconds())
                if refused is not None:
                    return refused
        return None

    def leave(self) -> None:
        """The session is over."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        counted, self._counted = self._counted, []
        for table, _ in counted:
            table.leave(self.session.peer)

    def greet(self, reply: Reply) -> Maybe[Reply]:
        """*reply*, after ``access.greet_delay``, if no list in DNS is against it."""
        access = self.desk.settings.access
        if access.dns_lists and access.dns_lists_at == "connect" and not self._may_relay:
            return self._greet_unlisted(reply)
        return self._later(access.greet_delay, reply)

    async def _greet_unlisted(self, reply: Reply) -> Reply:
        began_at = self.desk.clock.seconds()
        refused = await self._check_lists(554)
        if refused is not None:
            return refused
        rest = began_at + self.desk.settings.access.greet_delay - self.desk.clock.seconds()
        answer = self._later(rest, reply)
        return answer if isinstance(answer, Reply) else await answer

    @property
    def _may_relay(self) -> bool:
        """The operator knows it: it is in his list of those who may relay."""
        relay, session = self.desk.settings.access.relay, self.session
        return not relay.allow and relay.permits(session.peer, session.peer_names or ())

    def inquires(self, path: Mailbox) -> bool:
        """Whether `inquire` has to be asked before a message to *path* is taken."""
        access = self.desk.settings.access
        lists = bool(access.dns_lists) and access.dns_lists_at == "recipient"
        return (lists or access.greylist.enabled) and not self._known(path)

    def _known(self, path: Mailbox) -> bool:
        return self.session.account is not None or is_postmaster(path) or self._may_relay

    def greylists(self, path: Mailbox) -> bool:
        """Whether a message to *path* has to come back, where the client is not known yet."""
        terms = self.desk.settings.access.greylist
        return terms.enabled and not self._known(path) and score_of(self._entries or ()) >= 0

    async def inquire(self, sender: Mailbox | None, recipient: Mailbox) -> Reply | None:
        """Why this message is not taken from this client now; `None`: it is."""
        access = self.desk.settings.access
        if access.dns_lists and access.dns_lists_at == "recipient":
            refused = await self._check_lists(550)
            if refused is not None:
                return refused
        return await self._check_greylist(access.greylist, sender, recipient)

    async def _check_greylist(
        self, terms: GreylistTerms, sender: Mailbox | None, recipient: Mailbox
    ) -> Reply | None:
        greylist, now = self.desk.greylist, self.desk.clock.seconds()
        peer = self.session.peer
        if greylist is None or not self.greylists(recipient):
            return None
        if greylist.passes(peer, terms, now):
            return None
        wait = await greylist.wait(peer, sender, recipient, terms, now)
        if wait <= 0:
            return None
        return replies.greylisted(wait).because(f"the first time for {recipient}")

    async def _check_lists(self, code: int) -> Reply | None:
        access, peer = self.desk.settings.access, self.session.peer
        if self._entries is None:
            self._entries = await self._find_entries(access.dns_lists)
        refused = check_listed(peer, self._entries, access.dns_lists_refuse_at, code)
        return refused and refused.because(f"a score of {score_of(self._entries)}")

    async def _find_entries(self, lists: Sequence[DNSList]) -> tuple[DNSList, ...]:
        """All are asked before the first answer is waited for."""
        asked = [(one, Deferred.fromCoroutine(self._ask(one))) for one in lists]
        return tuple([one for one, answer in asked if is_entry(one, await answer)])

    async def _ask(self, one: DNSList) -> Sequence[str]:
        name = name_in(self.session.peer, one.zone)
        if name is None:
            return ()
        try:
            return await ready(self.desk.resolver.addresses(name))
        except ResolveProblem as problem:
            if not problem.status.startswith("5."):
                # Nobody is refused because DNS is in trouble.
                self._log.warn("{zone} cannot be asked: {problem}", zone=one.zone, problem=problem)
            return ()

    def check_message(self) -> Reply | None:
        """One message more."""
        return self._count(ClientTable.check_message)

    def check_recipient(self) -> Reply | None:
        """One recipient more."""
        return self._count(ClientTable.check_recipient)

    def fault(self, reply: Reply) -> Maybe[Reply]:
        """*reply*, which refuses something, in its time; or another, when it is too much."""
        too_much = self._count(ClientTable.check_error)
        if too_much is not None:
            return too_much
        if self.session.account is not None:
            return reply
        self._refusals += 1
        return self._later(self.desk.settings.access.tarpit.wait(self._refusals), reply)

    def _count(
        self, check: Callable[[ClientTable, str, ClientLimits, float], Reply | None]
    ) -> Reply | None:
        now = self.desk.clock.seconds()
        for table, limits in self._counted:
            refused = check(table, self.session.peer, limits, now)
            if refused is not None:
                return refused
        return None

    def _later(self, seconds: float, reply: Reply) -> Maybe[Reply]:
        if seconds <= 0:
            return reply
        waiting: Deferred[Reply] = Deferred()
        self._timer = self.desk.clock.callLater(seconds, waiting.callback, reply)
        return waiting
