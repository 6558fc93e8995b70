"""
A worker: the main program of a process that the supervisor starts.

:Room: ``workers``
:Called by: `mailhost.workers.worker`, as ``python -m mailhost.workers.child NUMBER COUNT``.

It serves what the supervisor orders and stops in order when it is told to, or when
the supervisor is gone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import Factory
from twisted.logger import LogEvent, Logger, LogLevel, globalLogBeginner
from twisted.protocols import amp
from twisted.python.failure import Failure

from mailhost.errors import MailhostError
from mailhost.garbage import Caretaker
from mailhost.logs import Journal, event_facts, event_text, to_stream
from mailhost.model.held import HeldDomains
from mailhost.server.share import Share
from mailhost.server.turned import Tour, serve
from mailhost.server.virtual_server import CannotStart
from mailhost.service import MailhostService
from mailhost.workers.commands import (
    ASK_HELD_SECONDS,
    AskHeld,
    Borrow,
    BorrowNow,
    CannotSteer,
    Finish,
    GiveBack,
    Lend,
    Obey,
    Orders,
    Question,
    Report,
    States,
    Steer,
    TakeLent,
    TakeSocket,
    ask,
    encode_states,
    encode_views,
    tell,
)
from mailhost.workers.sockets import InheritedSockets, places
from mailhost.workers.worker import LINK_DESCRIPTOR


@define(eq=False)
class RemoteLending:
    """The supervisor's lender; implements `mailhost.server.share.Lending`."""

    link: WorkerLink

    def borrow(self, key: str) -> Deferred[None]:
        """See `mailhost.server.share.Lending`."""
        return ask(self.link, Borrow, key=key).addCallback(lambda answer: None)

    def borrow_now(self, key: str) -> Deferred[bool]:
        """See `mailhost.server.share.Lending`."""
        asked = ask(self.link, BorrowNow, key=key)
        return asked.addCallback(lambda answer: bool(answer["lent"]))

    def give_back(self, key: str) -> None:
        """See `mailhost.server.share.Lending`."""
        if self.link.linked:
            tell(self.link, GiveBack, key=key)


@define(eq=False)
class RemoteColleagues:
    """The other workers, by way of the supervisor; see `mailhost.server.held.Colleagues`."""

    link: WorkerLink
    clock: Any
    numbers: tuple[int, ...]

    def ask_held(
        self, server: str, domains: tuple[str, ...], who: str | None
    ) -> Deferred[list[bool | None]]:
        """See `mailhost.server.held.Colleagues`."""
        if not self.link.linked:
            return succeed([None])
        asked = json.dumps({"server": server, "domains": domains, "who": who}).encode("ascii")
        asking = ask(self.link, AskHeld, asked=asked)
        # The supervisor is in time unless it stands still itself.
        asking.addTimeout(2 * ASK_HELD_SECONDS, self.clock)
        return asking.addCallbacks(
            lambda answer: json.loads(answer["found"]), lambda failure: [None]
        )

    def lend(self, number: int, server: str, tour: Tour, descriptor: int) -> Deferred[bool]:
        """See `mailhost.server.held.Colleagues`."""
        if not self.link.linked:
            return succeed(False)
        given = {
            "server": server,
            "domains": tour.domains.names,
            "peer": tour.peer,
            "port": tour.port,
        }
        octets = json.dumps(given).encode("ascii")
        lent = ask(self.link, Lend, number=number, tour=octets, descriptor=descriptor)
        return lent.addCallbacks(lambda answer: bool(answer["in_order"]), _not_in_order)


def _not_in_order(failure: Failure) -> bool:
    """Who has cancelled it hears that; otherwise the supervisor is gone."""
    if failure.check(CancelledError):  # type: ignore[no-untyped-call]  # upstream
        failure.raiseException()
    return False


class WorkerLink(amp.AMP):
    """
    The worker's end of the link.

    :param share: this worker's number among all.
    """

    _log = Logger()

    def __init__(self, reactor: Any, number: int, count: int, journal: Journal) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # upstream has no annotations
        self._journal = journal
        self._reactor = reactor
        self._sockets = InheritedSockets()
        others = tuple(other for other in range(count) if other != number)
        colleagues = RemoteColleagues(self, reactor, others)
        self._share = Share(number, count, self._sockets, RemoteLending(self), colleagues)
        self._service: MailhostService | None = None
        self.linked = True

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # upstream's default
        """The supervisor is gone, or has said all it had to say."""
        self.linked = False
        super().connectionLost(reason)  # type: ignore[no-untyped-call]  # upstream has no annotations
        self._finish()

    def stop_service(self) -> Deferred[None] | None:
        """Stop in order; called when the reactor is about to stop."""
        # At once: another supervisor may be waiting for the addresses.
        self._sockets.keep_only(())
        return None if self._service is None else self._service.stopService()

    def _finish(self) -> None:
        with suppress(ReactorNotRunning):  # it stops already
            self._reactor.stop()

    # ---- orders

    @TakeSocket.responder
    def take_socket(self, server: str, host: str, port: int, descriptor: int) -> dict[str, object]:
        """See `TakeSocket`."""
        self._sockets.add((server, host, port), descriptor)
        return {}

    @Obey.responder
    def obey(self, orders: bytes) -> dict[str, object]:
        """See `Obey`."""
        wanted = Orders.decode(orders)
        self._journal.limit(wanted.settings.log.level)
        self._sockets.faults = dict(wanted.faults)
        if self._service is None:
            self._service = MailhostService(
                wanted.settings,
                self._reactor,
                share=self._share,
                resting=wanted.resting,
                changed=self._tell,
            )
            self._service.startService()
            Caretaker(self._reactor).startService()
        else:
            self._service.configure(wanted.settings)
        self._sockets.keep_only(places(wanted.settings))
        self._tell()
        return {}

    def _tell(self) -> None:
        if self._service is not None and self.linked:
            tell(self, States, states=encode_states(self._service.states()))

    @Steer.responder
    def steer(self, server: str, action: str) -> Deferred[dict[str, object]]:
        """See `Steer`."""
        return Deferred.fromCoroutine(self._steer(server, action))

    async def _steer(self, server: str, action: str) -> dict[str, object]:
        assert self._service is not None
        actions = {
            "start": self._service.start,
            "pause": self._service.pause,
            "stop": self._service.stop,
        }
        try:
            await actions[action](server)
        except CannotStart as problem:
            raise CannotSteer(str(problem)) from problem
        return {}

    @Report.responder
    def report(self) -> Deferred[dict[str, object]]:
        """See `Report`."""
        return Deferred.fromCoroutine(self._report())

    async def _report(self) -> dict[str, object]:
        views = () if self._service is None else await self._service.server_views()
        return {"views": encode_views(views)}

    @Question.responder
    def question(self, question: str, arguments: bytes) -> Deferred[dict[str, object]]:
        """See `Question`."""
        return Deferred.fromCoroutine(self._answer(question, json.loads(arguments)))

    async def _answer(self, question: str, arguments: dict[str, Any]) -> dict[str, object]:
        if self._service is None:
            raise CannotSteer("this worker has just been started")
        try:
            answer = await self._service.answer(question, arguments)
        except MailhostError as problem:
            raise CannotSteer(str(problem)) from problem
        return {"answer": json.dumps(answer).encode("ascii")}

    @TakeLent.responder
    def take_lent(self, tour: bytes, descriptor: int) -> Deferred[dict[str, object]]:
        """See `TakeLent`."""
        given = json.loads(tour)
        servers = {} if self._service is None else self._service.virtual_servers
        part = servers.get(given["server"])
        queues = () if part is None else part.held_queues
        domains = HeldDomains(tuple(given["domains"]))
        serving = serve(self._reactor, queues, domains, given["peer"], given["port"], descriptor)
        return Deferred.fromCoroutine(serving).addCallback(lambda good: {"in_order": good})

    @Finish.responder
    def finish(self) -> dict[str, object]:
        """See `Finish`."""
        self._reactor.callLater(0, self._finish)
        return {}


def log_line(event: LogEvent) -> str:
    """What the supervisor is told of *event*: level, namespace, time, text, and its facts."""
    level = event.get("log_level", LogLevel.info)
    space, at = event.get("log_namespace", ""), event["log_time"]
    return json.dumps([level.name, space, at, event_text(event), event_facts(event)]) + "\n"


def main() -> None:
    """Serve until told to stop."""
    # A terminal sends these to us as well: the supervisor decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from twisted.internet import reactor

    journal = Journal(to_stream(sys.stdout), log_line)
    globalLogBeginner.beginLoggingTo([journal], redirectStandardIO=False, discardBuffer=True)
    journal.start()
    any_reactor: Any = reactor
    link = WorkerLink(any_reactor, int(sys.argv[1]), int(sys.argv[2]), journal)
    any_reactor.adoptStreamConnection(
        LINK_DESCRIPTOR, socket.AF_UNIX, Factory.forProtocol(lambda: link)
    )
    os.close(LINK_DESCRIPTOR)
    any_reactor.addSystemEventTrigger("before", "shutdown", link.stop_service)
    any_reactor.run()
    journal.stop()


if __name__ == "__main__":
    main()
