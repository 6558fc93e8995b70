"""
One service in several processes: binds, starts the workers, and speaks for all of them.

:Room: ``workers``
:Called by: `mailhost.tap`, where ``workers`` is more than 1.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, TimeoutError, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.config.settings import Settings, VirtualServerSettings
from mailhost.control.steered import Answer, Answers
from mailhost.model.view import ServiceView, WorkerView, merged
from mailhost.server.fixed import fixed_differences, with_fixed
from mailhost.server.share import spares
from mailhost.server.virtual_server import GRACE_SECONDS
from mailhost.service import log_faults, on_hang_up, read_again, warn_of
from mailhost.systemd import ServiceManager
from mailhost.workers.commands import (
    ASK_HELD_SECONDS,
    CannotSteer,
    Finish,
    Obey,
    Orders,
    Question,
    Report,
    Steer,
    TakeLent,
    TakeSocket,
    ask,
    decode_views,
)
from mailhost.workers.lender import Lender
from mailhost.workers.privileges import become, check_user
from mailhost.workers.sockets import KeptSockets, Place, places
from mailhost.workers.worker import Worker

if TYPE_CHECKING:
    from mailhost.control.door import Opening
    from mailhost.logs import Journal

#: Sessions have `GRACE_SECONDS` to end and deliveries as much; then a worker is killed.
STOP_SECONDS = 2 * GRACE_SECONDS + 5
#: A worker that does not take a new configuration in so long is killed, and comes back with it.
ANSWER_SECONDS = 30.0
#: Addresses that are taken at the start are tried again for so long: a process that
#: was killed leaves workers that are just closing theirs.
BIND_SECONDS = 3.0
_BIND_AGAIN_SECONDS = 0.25
#: So long an operator's question waits for a worker: about what there is, and about the rest.
REPORT_SECONDS = 5.0
QUESTION_SECONDS = 10.0


class Supervisor(Service):
    """
    Runs what a configuration says in ``settings.workers`` processes.

    :param settings: the configuration.
    :param reactor: runs everything.
    :param reread: reads the configuration anew at SIGHUP.
    :ivar workers: by their numbers.
    :ivar control: where operators ask, opened at the start; `None`: nowhere.
    :ivar journal: the log, which is told of changed settings; `None`: somebody else's.
    :ivar manager: is told of starts and ends.
    """

    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any, reread: Callable[[], Settings]) -> None:
        self._settings = settings
        self._reactor = reactor
        self._reread = reread
        self._sockets = KeptSockets()
        self._lender = Lender()
        # What operators have paused or stopped.
        self._resting: dict[str, str] = {}
        self._stopped: Deferred[None] | None = None
        self.control: Opening | None = None
        self.journal: Journal | None = None
        self.manager = ServiceManager()
        self._ready = False
        count = settings.workers
        self.workers = [Worker(number, count, reactor, self) for number in range(count)]

    # ---- life

    def startService(self) -> None:
        """
        Bind, change the user, start the workers.

        :raises mailhost.workers.privileges.CannotChangeUser: see there.
        """
        super().startService()  # type: ignore[no-untyped-call]  # upstream has no annotations
        warn_of(self._settings)
        check_user(self._settings.user)
        on_hang_up(self._reactor, self.reload)
        # SIGCHLD is looked after only when the reactor runs.
        self._reactor.callWhenRunning(self._bind, self._reactor.seconds() + BIND_SECONDS)

    def _bind(self, until: float) -> None:
        """Bind what can be bound; workers of an earlier supervisor may be about to go."""
        if not self.running:
            return
        self._hold(self._settings)
        taken = [one for one in self._sockets.faults.values() if one.errno == errno.EADDRINUSE]
        if taken and self._reactor.seconds() < until:
            self._log.info("{number} addresses are taken still", number=len(taken))
            self._reactor.callLater(_BIND_AGAIN_SECONDS, self._bind, until)
            return
        become(self._settings.user)
        if self.control is not None:
            self.control.open()
        for worker in self.workers:
            worker.start()
        self.manager.watch(self._reactor, self._look_after_workers)

    def _look_after_workers(self, seconds: float) -> None:
        """Who does not answer in *seconds* is killed, and started again."""
        for worker in self.workers:
            if worker.link is not None:
                asked = self._ask(worker, Question, question="states", arguments=b"{}")
                asked.addTimeout(seconds, self._reactor)
                asked.addErrback(self._silent, worker, worker.pid)

    def _silent(self, failure: Failure, worker: Worker, pid: int) -> None:
        if isinstance(failure.value, TimeoutError):
            self._not_obeyed(failure, worker, pid)

    def stopService(self) -> Deferred[None]:
        """Stop all workers in order; fires when the last has ended."""
        super().stopService()  # type: ignore[no-untyped-call]  # upstream has no annotations
        self.manager.stopping()
        self._sockets.close()
        closed = None if self.control is None else self.control.close()
        stopped = self._stopped = Deferred()
        for worker in self.workers:
            worker.stop()
            if worker.link is not None:
                self._ask(worker, Finish).addErrback(lambda failure: None)
            elif worker.process is not None:
                worker.process.signalProcess("TERM")
        killing = self._reactor.callLater(STOP_SECONDS, self._kill_all)
        self._look_whether_stopped()

        def over(result: None) -> Deferred[None] | None:
            self.manager.rest()
            if killing.active():
                killing.cancel()
            return closed

        return stopped.addCallback(over)

    def _kill_all(self) -> None:
        for worker in self.workers:
            worker.kill()

    def _look_whether_stopped(self) -> None:
        if self._stopped is not None and all(one.process is None for one in self.workers):
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)

    # ---- the configuration

    def _hold(self, settings: Settings) -> dict[Place, Any]:
        """Bind what is new, and lend what is left over of the limits."""
        made = self._sockets.hold(places(settings))
        self._lender.set_spares(spares(settings))
        return made

    def reload(self) -> None:
        """
        Read the configuration anew; all workers go by it, or none.

        A faulty one changes nothing and says why.
        """
        log_faults(self.reread())

    async def reread(self) -> None:
        """
        As `reload`, for whoever wants to know what came of it.

        :raises mailhost.config.faults.ConfigurationFaults: nothing has changed.
        """
        self.manager.reloading()
        faulty = True
        try:
            await self._reread_now()
            faulty = False
        finally:
            if self.running:
                self.manager.ready(self.states(), faulty)

    async def _reread_now(self) -> None:
        settings = read_again(self._reread, self._settings)
        if not self.running:
            return
        self._settings = self._effective(settings)
        if self.journal is not None:
            self.journal.configure(self._settings.log)
        self._resting = {name: state for name, state in self._resting.items() if state == "paused"}
        made = self._hold(self._settings)
        waiting = [
            self._instruct(worker, made, ANSWER_SECONDS) for worker in self.workers if worker.link
        ]
        await DeferredList(waiting)
        self._reloaded()

    def _effective(self, settings: Settings) -> Settings:
        """*settings* without what does not change while we run, so that all workers agree."""
        old = self._settings
        before = {server.name: server for server in old.virtual_servers}
        return evolve(
            settings,
            workers=old.workers,
            user=old.user,
            control=old.control,
            metrics=old.metrics,
            resolver=old.resolver,
            virtual_servers=tuple(
                self._with_fixed(before[one.name], one) if one.name in before else one
                for one in settings.virtual_servers
            ),
        )

    def _with_fixed(
        self, before: VirtualServerSettings, settings: VirtualServerSettings
    ) -> VirtualServerSettings:
        if self._rests(settings.name):
            return settings  # no worker has its directories open
        for words in fixed_differences(before, settings):
            self._log.warn("{words}", words=words)
        return with_fixed(before, settings)

    def _reloaded(self) -> None:
        # Not before: a descriptor on its way must be open.
        self._sockets.keep_only(places(self._settings))
        self._rest_where_nobody_runs()
        self._log.info("The configuration is reloaded")

    # ---- workers

    def linked(self, worker: Worker) -> None:
        """See `mailhost.workers.worker.Boss`."""
        if self.running:
            self._instruct(worker, self._sockets.held)

    def _instruct(
        self, worker: Worker, sockets: Mapping[Place, Any], patience_seconds: float | None = None
    ) -> Deferred[Any]:
        """
        Give *worker* its sockets and its orders.

        :param patience_seconds: for its answer; `None`: opening its queues may take long.
        """
        for (server, host, port), bound in sockets.items():
            where = {"server": server, "host": host, "port": port}
            sent = self._ask(worker, TakeSocket, descriptor=bound.fileno(), **where)
            sent.addErrback(self._not_obeyed, worker, worker.pid)
        numbers = {place: error.errno or 0 for place, error in self._sockets.faults.items()}
        orders = Orders(self._settings, numbers, self._resting)
        obeying = self._ask(worker, Obey, orders=orders.encode())
        pid = worker.pid
        if patience_seconds is not None:
            obeying.addTimeout(patience_seconds, self._reactor)
        return obeying.addErrback(self._not_obeyed, worker, pid)

    def _not_obeyed(self, failure: Failure, worker: Worker, pid: int) -> None:
        """All or none: it is started again, with the orders in force."""
        if worker.process is not None and worker.pid == pid and self.running:
            self._log.error(
                "Worker {number} does not obey: {words}",
                number=worker.number,
                words=failure.getErrorMessage(),
            )
            worker.kill()

    def _ask(self, worker: Worker, command: Any, **arguments: Any) -> Deferred[Any]:
        assert worker.link is not None
        return ask(worker.link, command, **arguments)

    def ended(self, worker: Worker) -> None:
        """See `mailhost.workers.worker.Boss`."""
        self._lender.forget(worker.number)
        self._look_whether_stopped()

    def told(self, worker: Worker, states: Mapping[str, str]) -> None:
        """See `mailhost.workers.worker.Boss`."""
        worker.states = states
        self._rest_where_nobody_runs()
        if not self._ready and all(one.states for one in self.workers):
            self._ready = True
            self.manager.ready(self.states())

    def states(self) -> dict[str, str]:
        """Of each virtual server; all of them where workers differ."""
        told: dict[str, str] = {}
        for server in self._settings.virtual_servers:
            found = [one.states.get(server.name, "unknown") for one in self.workers]
            told[server.name] = "/".join(dict.fromkeys(found))
        return told

    def _rest_where_nobody_runs(self) -> None:
        """Where all workers have told that they do not listen, nobody may connect and wait."""
        for server in self._settings.virtual_servers:
            if self._rests(server.name, "paused"):
                self._sockets.rest(server.name)

    def _rests(self, server: str, *others: str) -> bool:
        """Whether *server* is stopped in all workers, or in one of the states *others*."""
        states = {worker.states.get(server, "unknown") for worker in self.workers}
        return states <= {"stopped", *others}

    def borrow(self, key: str, worker: int) -> Deferred[None]:
        """See `mailhost.workers.lender.Lender`."""
        return self._lender.borrow(key, worker)

    def borrow_now(self, key: str, worker: int) -> bool:
        """See `mailhost.workers.lender.Lender`."""
        return self._lender.borrow_now(key, worker)

    def give_back(self, key: str, worker: int) -> None:
        """See `mailhost.workers.lender.Lender`."""
        self._lender.give_back(key, worker)

    def ask_held(self, asked: bytes, worker: int) -> Deferred[list[bool | None]]:
        """See `mailhost.workers.worker.Boss`."""
        others = [one for one in self.workers if one.number != worker]
        answering = DeferredList([self._ask_held(one, asked) for one in others])
        return answering.addCallback(lambda answers: [found for _, found in answers])

    def _ask_held(self, worker: Worker, asked: bytes) -> Deferred[bool | None]:
        """Whether *worker* has any; `None`: it is not there, cannot say, or not in time."""
        if worker.link is None:
            return succeed(None)
        asking = self._ask(worker, Question, question="held", arguments=asked)
        asking.addTimeout(ASK_HELD_SECONDS, self._reactor)
        asking.addCallback(lambda answer: {b"true": True, b"false": False}.get(answer["answer"]))
        return asking.addErrback(self._not_said, worker.number)

    def _not_said(self, failure: Failure, number: int) -> None:
        late = isinstance(failure.value, TimeoutError)
        self._log.warn(
            "Worker {number} does not say whether it has mail that is asked for: {words}",
            number=number,
            words=f"{ASK_HELD_SECONDS:g} s are over" if late else failure.getErrorMessage(),
        )

    def lend(self, number: int, tour: bytes, descriptor: int) -> Deferred[bool]:
        """See `mailhost.workers.worker.Boss`."""
        link = self.workers[number].link
        lent: Deferred[Any] = succeed({"in_order": True})
        if link is not None:
            lent = ask(link, TakeLent, tour=tour, descriptor=descriptor)

        def over(result: Any) -> bool:
            os.close(descriptor)
            if isinstance(result, Failure):
                words = result.getErrorMessage()
                self._log.warn("Worker {number}: ATRN: {words}", number=number, words=words)
                return False
            return bool(result["in_order"])

        return lent.addBoth(over)

    # ---- operators

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._settings

    def names(self) -> Collection[str]:
        """See `mailhost.control.steered.Steered`."""
        return [server.name for server in self._settings.virtual_servers]

    async def view(self) -> ServiceView:
        """What there is now, in all workers that answer."""
        asked = [(worker.number, worker.pid, worker) for worker in self.workers if worker.link]
        reports = [
            self._ask(worker, Report)
            .addTimeout(REPORT_SECONDS, self._reactor)
            .addCallback(_worker_view, number, pid)
            for number, pid, worker in asked
        ]
        answers = await DeferredList(reports, consumeErrors=True)
        views = tuple(view for succeeded, view in answers if succeeded)
        return merged(views, self._without({view.number for view in views}))

    def _without(self, known: Collection[int]) -> tuple[int, ...]:
        """The numbers of the workers that are not *known*."""
        return tuple(worker.number for worker in self.workers if worker.number not in known)

    async def ask(self, question: str, arguments: Mapping[str, Any]) -> Answers:
        """
        Put a question to all workers; those that do not answer in time are missing.

        :raises mailhost.workers.commands.CannotSteer: one cannot; the others have answered.
        """
        octets = json.dumps(arguments).encode("ascii")
        asked = [worker for worker in self.workers if worker.link]
        answering = [
            self._ask(worker, Question, question=question, arguments=octets).addTimeout(
                QUESTION_SECONDS, self._reactor
            )
            for worker in asked
        ]
        parts = []
        results = await DeferredList(answering, consumeErrors=True)
        for worker, (succeeded, result) in zip(asked, results, strict=True):
            if succeeded:
                parts.append(Answer(worker.number, json.loads(result["answer"])))
            elif result.check(CannotSteer):
                raise CannotSteer(result.getErrorMessage())
        return Answers(tuple(parts), self._without({part.worker for part in parts}))

    async def start(self, name: str) -> None:
        """
        Start a virtual server, or let it take sessions again, in all workers.

        :raises KeyError: there is none of this name.
        :raises mailhost.workers.commands.CannotSteer: a worker cannot; the others do.
        """
        await self._steer(name, "start")

    async def pause(self, name: str) -> None:
        """
        Let a virtual server take no new sessions in any worker.

        :raises KeyError: there is none of this name.
        """
        await self._steer(name, "pause")

    async def stop(self, name: str) -> None:
        """
        Stop a virtual server in all workers; returns when it is stopped.

        :raises KeyError: there is none of this name.
        """
        await self._steer(name, "stop")

    async def _steer(self, name: str, action: str) -> None:
        if name not in {server.name for server in self._settings.virtual_servers}:
            raise KeyError(name)
        # Also for those that are just being started again.
        self._resting.pop(name, None)
        if action != "start":
            self._resting[name] = {"pause": "paused", "stop": "stopped"}[action]
        asked = [
            self._ask(worker, Steer, server=name, action=action).addTimeout(
                STOP_SECONDS, self._reactor
            )
            for worker in self.workers
            if worker.link
        ]
        answers = await DeferredList(asked, consumeErrors=True)
        for succeeded, failure in answers:
            if not succeeded and failure.check(CannotSteer):
                raise CannotSteer(failure.getErrorMessage())


def _worker_view(answer: Mapping[str, bytes], number: int, pid: int) -> WorkerView:
    return WorkerView(number, pid, decode_views(answer["views"]))
