"""
Stopped, running, paused: the states of one virtual server.

:Room: ``server``
:IIS: SES-03..05.
:Called by: `mailhost.server.virtual_server`; the doing is passed in as `Parts`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import define
from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()


class Lifecycle(Protocol):
    """What may be asked of a virtual server."""

    def start(self) -> None:
        """It listens, and delivers what is queued.  What may fail was done before."""

    def pause(self) -> None:
        """Take no new sessions; the present ones and the queue go on (SES-04)."""

    def stop(self) -> Deferred[None]:
        """End sessions and deliveries; the queue stays on disk (SES-05)."""

    def stopped(self) -> None:
        """Everything has come to its end."""

    def state(self) -> str:
        """``stopped``, ``running``, ``paused`` or ``stopping``."""


@define(eq=False)
class Parts:
    """
    What the states do.

    Opening is not among it: it may fail, and a state must not be entered that is
    not true.

    :ivar unlisten: take no new ones.
    :ivar close: end sessions and deliveries, close the queue.
    :ivar ended: callers of `stop`, while it is under way.
    """

    unlisten: Callable[[], None]
    close: Callable[[], Deferred[None]]
    ended: list[Deferred[None]]


def _build() -> Callable[[Parts], Lifecycle]:
    machine = TypeMachineBuilder(Lifecycle, Parts)
    asked = Lifecycle

    stopped = machine.state("stopped")
    running = machine.state("running")
    paused = machine.state("paused")
    stopping = machine.state("stopping")

    stopped.upon(asked.start).to(running).returns(None)
    paused.upon(asked.start).to(running).returns(None)
    running.upon(asked.start).loop().returns(None)
    paused.upon(asked.pause).loop().returns(None)
    stopped.upon(asked.pause).loop().returns(None)
    stopping.upon(asked.pause).loop().returns(None)
    stopping.upon(asked.start).loop().returns(None)
    stopped.upon(asked.stop).loop().returns(succeed(None))
    for state, name in (
        (stopped, "stopped"),
        (running, "running"),
        (paused, "paused"),
        (stopping, "stopping"),
    ):
        state.upon(asked.state).loop().returns(name)

    @running.upon(asked.pause).to(paused)
    def rest(life: Lifecycle, parts: Parts) -> None:
        parts.unlisten()

    @running.upon(asked.stop).to(stopping)
    def end(life: Lifecycle, parts: Parts) -> Deferred[None]:
        parts.unlisten()
        return _close(life, parts)

    @paused.upon(asked.stop).to(stopping)
    def end_rest(life: Lifecycle, parts: Parts) -> Deferred[None]:
        return _close(life, parts)

    @stopping.upon(asked.stop).loop()
    def wait(life: Lifecycle, parts: Parts) -> Deferred[None]:
        return _waiter(parts)

    stopping.upon(asked.stopped).to(stopped).returns(None)

    return machine.build()


def _close(life: Lifecycle, parts: Parts) -> Deferred[None]:
    waiting = _waiter(parts)

    def closed(result: object) -> None:
        if isinstance(result, Failure):
            _log.failure("A virtual server did not stop in order", result)
        life.stopped()
        # Not within the transition: who hears of it asks for the state.
        ended, parts.ended = parts.ended, []
        for one in ended:
            one.callback(None)

    parts.close().addBoth(closed)
    return waiting


def _waiter(parts: Parts) -> Deferred[None]:
    waiting: Deferred[None] = Deferred()
    parts.ended.append(waiting)
    return waiting


make_lifecycle = _build()
