"""
Asking a server that is down whether it is back, on nobody's time.

:Room: ``directory``
:Called by: `mailhost.directory.resolver`, in the reactor's thread.

There is a timer only while a server is down.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.python.failure import Failure

from mailhost.directory.binding import Terms
from mailhost.directory.link import Connect, Link, Query, Rejected
from mailhost.directory.problems import ServerFailed
from mailhost.directory.servers import ServerList
from mailhost.directory.session import Session
from mailhost.directory.workers import Workers
from mailhost.errors import LookupProblem

#: A name and password that are refused are not tried more often than this: the
#: account would be locked.
REJECTED_SECONDS = 30.0
_ROOT = Query("", "base", "(objectClass=*)", ("supportedLDAPVersion",))


@define(eq=False)
class Prober:
    """
    :ivar first_seconds: until the first probe.
    :ivar most_seconds: between later ones, at most.
    """

    reactor: Any
    servers: ServerList
    workers: Workers
    terms: Terms
    connect: Connect
    first_seconds: float
    most_seconds: float
    _timer: Any = field(default=None, init=False)
    _wait_seconds: float = field(default=0.0, init=False)
    _stopped: bool = field(default=False, init=False)

    def start(self) -> None:
        """A server is down: begin to ask, unless that is under way."""
        if self._timer is None and not self._stopped:
            self._wait_seconds = self.first_seconds
            self._timer = self.reactor.callLater(self._wait_seconds, self._probe)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _probe(self) -> None:
        seconds = self.terms.connect_seconds * 3 * len(self.servers.servers)
        self.workers.run(self._ask_all, seconds).addBoth(self._probed)

    def _ask_all(self, session: Session) -> bool:
        """In a thread; whether one has refused our name and password."""
        rejected = False
        for index in self.servers.down():
            link = Link(self.servers.servers[index], self.terms, self.connect)
            try:
                link.open()
                link.search(_ROOT, self.terms.connect_seconds)
            except Rejected:
                rejected = True
            except (ServerFailed, LookupProblem) as failure:
                self.servers.failed(index, str(failure))
            else:
                self.servers.recovered(index)
            finally:
                link.close()
        return rejected

    def _probed(self, rejected: bool | Failure) -> None:
        self._timer = None
        if self._stopped or not self.servers.down():
            return
        self._wait_seconds = min(self._wait_seconds * 2, self.most_seconds)
        wait = max(self._wait_seconds, REJECTED_SECONDS) if rejected is True else self._wait_seconds
        self._timer = self.reactor.callLater(wait, self._probe)
