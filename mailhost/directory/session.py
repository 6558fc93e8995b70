"""
What one thread asks the directory through: retries, failover, referrals, pages.

:Room: ``directory``
:RFC: 4511 §4.1.10, §4.5.3 (referrals), 2696 (pages).
:Called by: `mailhost.directory.workers` makes one per thread; `mailhost.directory.source` asks.

Nothing is ever answered in part: a search whose connection breaks, be it on its last
page, is done again from the start, or fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import Lock

from attrs import define, evolve, field

from mailhost.directory.binding import DirectoryServer, Terms
from mailhost.directory.filters import DirectoryURL, parse_url
from mailhost.directory.link import Answer, Connect, Link, Query, Rejected, Row, connection_to
from mailhost.directory.problems import SearchFailed, ServerFailed, TimedOut
from mailhost.directory.servers import ServerList
from mailhost.errors import LookupProblem
from mailhost.model.directory import TraceStep

#: Entries in a page; Active Directory allows 1,000 as a rule.
PAGE_COUNT = 500
#: Referrals to referrals are followed so far (RFC 4511 §4.1.10 leaves the number to us).
_MAX_REFERRALS = 3
_SHOWN = 5


class TooMany(Exception):
    """More entries than the caller can use."""


class NoSuchBase(LookupProblem):
    """
    The entry at which a search begins is not there.

    A server that has lost its data, or a base with a mistake in it, must not make
    every address unknown (promise P4): it is a problem, unless the caller knows better.
    """


@define(eq=False)
class Tally:
    """
    What threads count; read it from anywhere.

    :ivar counts: by the names of `COUNTED`.
    """

    counts: Counter[str] = field(factory=Counter)
    _lock: Lock = field(factory=Lock, init=False)

    def add(self, name: str) -> None:
        """One more of *name*."""
        with self._lock:
            self.counts[name] += 1


#: What sessions count.
COUNTED = (
    "connections",
    "connection_failures",
    "searches",
    "search_failures",
    "referrals_followed",
    "referrals_ignored",
)


@define(eq=False)
class Session:
    """
    :ivar servers: shared by all sessions.
    :ivar terms: of every connection.
    :ivar seconds: a clock for durations.
    :ivar tally: shared by all sessions.
    :ivar watch: told of each search; `None` as a rule.
    """

    servers: ServerList
    terms: Terms
    seconds: Callable[[], float]
    tally: Tally
    connect: Connect = connection_to
    watch: Callable[[TraceStep], None] | None = None
    _links: dict[DirectoryServer, Link] = field(factory=dict, init=False)
    _active: Link | None = field(default=None, init=False)
    _deadline: float = field(default=0.0, init=False)
    _given_up: bool = field(default=False, init=False)

    # ---- one piece of work

    def begin(self, deadline: float) -> None:
        """A piece of work starts, to end by *deadline*."""
        self._deadline = deadline
        self._given_up = False

    def give_up(self) -> None:
        """Whoever waits for the piece of work has gone; from any thread."""
        self._given_up = True
        link = self._active
        if link is not None:
            link.shut()

    def close(self) -> None:
        """End all connections."""
        for link in self._links.values():
            link.close()
        self._links.clear()

    # ---- asking

    def search(self, query: Query) -> tuple[Row, ...]:
        """
        What *query* finds: all of it, or as many as ``query.most``.

        :raises NoSuchBase: there is no entry at its base.
        :raises LookupProblem: there is no answer.
        """
        answer = self._whole(query, 0)
        return self._continued(query, answer, 0)

    def search_all(self, query: Query, most: int) -> tuple[Row, ...]:
        """
        What *query* finds, in pages.

        :raises TooMany: it is more than *most* entries.
        :raises LookupProblem: there is no answer.
        """
        answer = self._whole(query, PAGE_COUNT, most)
        rows = self._continued(query, answer, 0)
        if len(rows) > most:
            raise TooMany
        return rows

    def _whole(self, query: Query, page: int, most: int = 0) -> Answer:
        """The answer of the first server that gives one."""
        last = ""
        for index in self.servers.usable():
            try:
                answer = self._try(index, query, page, most)
            except ServerFailed as failure:
                last = str(failure)
                self._check_time()
                continue
            self.servers.answered(index)
            return answer
        raise LookupProblem(f"no directory server answers: {last or self.servers.why()}")

    def _try(self, index: int, query: Query, page: int, most: int) -> Answer:
        """The answer of one server; `ServerFailed`, and it is judged."""
        server = self.servers.servers[index]
        while True:
            idle_before = False
            try:
                link = self._link(index, server)
                idle_before = link.used
                return self._pages(link, query, page, most)
            except TimedOut as failure:
                self._drop(server)
                self.servers.slow(index, str(failure))
                raise
            except ServerFailed as failure:
                self._drop(server)
                if self._given_up:
                    self.servers.slow(index, str(failure))
                    raise
                # A connection that was idle too long says nothing of its server.
                if not idle_before:
                    self.servers.failed(index, str(failure))
                    raise

    def _pages(self, link: Link, query: Query, page: int, most: int) -> Answer:
        answer = self._ask(link, query, page, b"")
        if not answer.cookie:
            return answer
        rows = list(answer.rows)
        referrals = list(answer.referrals)
        while answer.cookie and (not most or len(rows) <= most):
            answer = self._ask(link, query, page, answer.cookie)
            rows += answer.rows
            referrals += answer.referrals
        return evolve(answer, rows=tuple(rows), referrals=tuple(referrals))

    def _ask(self, link: Link, query: Query, page: int, cookie: bytes) -> Answer:
        self._check_time()
        self.tally.add("searches")
        began = self.seconds()
        self._active = link
        try:
            answer = link.search(query, self._patience(), page, cookie)
        except (ServerFailed, LookupProblem):
            self.tally.add("search_failures")
            raise
        finally:
            self._active = None
        if self.watch is not None:
            self.watch(_step(link, query, answer, self.seconds() - began))
        return answer

    # ---- connections

    def _link(self, index: int, server: DirectoryServer) -> Link:
        """The connection to *server*, opened where there is none; `ServerFailed`."""
        link = self._links.get(server)
        if link is not None:
            return link
        link = self._open(server)
        # Fail-back: what was used while this server was down is not needed any more.
        for other in self.servers.servers[index + 1 :]:
            self._drop(other)
        return link

    def _open(self, server: DirectoryServer) -> Link:
        self._check_time()
        self.tally.add("connections")
        link = Link(server, self._hurried(self.terms), self.connect)
        self._active = link
        try:
            link.open()
        except (ServerFailed, LookupProblem):
            self.tally.add("connection_failures")
            raise
        finally:
            self._active = None
        self._links[server] = link
        return link

    def _drop(self, server: DirectoryServer) -> None:
        link = self._links.pop(server, None)
        if link is not None:
            link.close()

    def open_as(self, terms: Terms) -> Link:
        """
        A connection of its own, as somebody else; the caller closes it.

        :raises mailhost.directory.link.Rejected: with that name and password there is none.
        :raises LookupProblem: no server can say.
        """
        last = ""
        for index in self.servers.usable():
            link = Link(self.servers.servers[index], self._hurried(terms), self.connect)
            self._check_time()
            self._active = link
            try:
                link.open()
            except Rejected:
                raise
            except ServerFailed as failure:
                last = str(failure)
                continue
            finally:
                self._active = None
            return link
        raise LookupProblem(f"no directory server answers: {last or self.servers.why()}")

    def _hurried(self, terms: Terms) -> Terms:
        """*terms* for what time is left."""
        seconds = max(0.1, min(terms.connect_seconds, self._left()))
        return evolve(terms, connect_seconds=seconds)

    # ---- time

    def _left(self) -> float:
        return self._deadline - self.seconds()

    def _patience(self) -> float:
        """Half of what is left, while there is another server to ask with the rest."""
        return self._left() / 2 if self.servers.up_count > 1 else self._left()

    def _check_time(self) -> None:
        if self._given_up or self._left() <= 0:
            raise LookupProblem("the directory is too slow")

    # ---- referrals

    def _continued(self, query: Query, answer: Answer, depth: int) -> tuple[Row, ...]:
        """The rows of *answer* and of the places it refers to, each entry once."""
        if answer.missing:
            raise NoSuchBase(f"the directory has no {query.base!r}", "4.3.5")
        if not answer.referrals and not answer.elsewhere:
            return answer.rows
        rows = {row.dn.lower(): row for row in answer.rows}
        followed = False
        for text in answer.referrals:
            url = parse_url(text)
            server = self._known(url) if url is not None else None
            if url is None or server is None or depth >= _MAX_REFERRALS:
                self.tally.add("referrals_ignored")
                continue
            followed = True
            self.tally.add("referrals_followed")
            for row in self._refer(query, url, server, answer.elsewhere, depth):
                rows.setdefault(row.dn.lower(), row)
        if answer.elsewhere and not followed:
            raise SearchFailed(
                f"{query.base!r} is elsewhere: {', '.join(answer.referrals) or 'nowhere'}, "
                "which is none of the configured servers"
            )
        return tuple(rows.values())

    def _known(self, url: DirectoryURL) -> DirectoryServer | None:
        """Only configured servers get our name and password."""
        for server in self.servers.servers:
            if (server.scheme, server.host.lower(), server.port) == (
                url.scheme,
                url.host,
                url.port,
            ):
                return server
        return None

    def _refer(
        self, query: Query, url: DirectoryURL, server: DirectoryServer, instead: bool, depth: int
    ) -> tuple[Row, ...]:
        # RFC 4511 §4.5.3: what the URL does not say is as in the query; a continuation of a
        # search one level deep goes on at the base itself.
        scope = "base" if query.scope == "one" and not instead else query.scope
        there = evolve(query, base=url.base or query.base, scope=scope)
        index = self.servers.servers.index(server)
        try:
            answer = self._pages(self._link(index, server), there, PAGE_COUNT, 0)
        except ServerFailed as failure:
            self._drop(server)
            raise LookupProblem(f"referred to {server}: {failure}") from failure
        return self._continued(there, answer, depth + 1)


def _step(link: Link, query: Query, answer: Answer, seconds: float) -> TraceStep:
    names = tuple(row.dn for row in answer.rows[:_SHOWN])
    return TraceStep(
        str(link.server), query.base, query.scope, query.filter, names, len(answer.rows), seconds
    )
