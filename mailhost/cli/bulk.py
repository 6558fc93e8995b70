"""
Doing something to many messages: counted first, in batches, with a bar, and stopped cleanly.

:Room: ``cli`` (floor 7)
:Called by: `mailhost.cli.queue`; `mailhost.cli.badmail` (`in_batches`).

A batch is done by the server, whole; between two of them Ctrl-C is heard, and what has been
done by then is told.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click
from attrs import define, field, frozen

from mailhost.cli.link import REFUSED, Link
from mailhost.cli.words import counted, echo_json, escaped, on_terminal

#: Messages in one batch.
BATCH = 1000
_COUNTS = ("messages", "recipients", "busy_messages", "busy_recipients")


@frozen
class Selection:
    """
    What was selected.

    :ivar ids: in the order in which they were given; empty: by the filter alone.
    :ivar wanted: the rest of the filter, as control takes it.
    :ivar server: one virtual server; `None`: all.
    """

    ids: tuple[str, ...]
    wanted: dict[str, Any]
    server: str | None

    def filters(self) -> Iterator[dict[str, Any]]:
        """The same as filters that are not too long for one request."""
        if not self.ids:
            yield self.wanted
        for start in range(0, len(self.ids), BATCH):
            yield {**self.wanted, "ids": self.ids[start : start + BATCH]}


@define
class Tally:
    """
    What came of it.

    :ivar unknown: ids that are not in the queue, or not by the rest of the filter.
    :ivar stopped: virtual servers whose queues are not open.
    :ivar missing: workers that did not answer.
    :ivar interrupted: not all of it was done.
    """

    messages: int = 0
    recipients: int = 0
    busy_messages: int = 0
    busy_recipients: int = 0
    unknown: list[str] = field(factory=list)
    stopped: set[str] = field(factory=set)
    missing: set[int] = field(factory=set)
    interrupted: bool = False

    def add(self, found: dict[str, Any]) -> None:
        """One batch more."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + found.get(name, 0))
        self.stopped |= set(found["stopped"])
        self.missing |= set(found["missing_workers"])

    def tree(self) -> dict[str, Any]:
        """For programs."""
        return {
            **{name: getattr(self, name) for name in _COUNTS},
            "unknown": self.unknown,
            "stopped": sorted(self.stopped),
            "missing_workers": sorted(self.missing),
            "interrupted": self.interrupted,
        }

    def warn(self) -> None:
        """For people: what is not in the counts."""
        for name in sorted(self.stopped):
            click.echo(escaped(f"{name} is stopped; its queue is left alone."), err=True)
        for one in self.unknown:
            click.echo(f"there is no message {escaped(one)} in the queue", err=True)


def count(link: Link, action: str, selection: Selection, orders: dict[str, Any]) -> Tally:
    """What *action* would be done to."""
    tally = Tally()
    known: set[str] = set()
    for found in _batches(link, action, selection, {**orders, "dry_run": True}):
        tally.add(found)
        known.update(found["ids"] or ())
    tally.unknown = [one for one in dict.fromkeys(selection.ids) if one.lower() not in known]
    return tally


def run(
    link: Link, action: str, selection: Selection, orders: dict[str, Any], total: Tally
) -> Tally:
    """
    Do *action*, until it is done or interrupted.

    :param orders: what else control takes.
    :param total: what `count` has found.
    """
    done = Tally(unknown=total.unknown)

    def take(found: dict[str, Any]) -> int:
        done.add(found)
        return int(found["messages"] + found["busy_messages"])

    done.interrupted = in_batches(
        action,
        total.messages,
        _batches(link, action, selection, orders),
        take,
        lambda: _summary(action, done),
    )
    return done


def _batches(
    link: Link, action: str, selection: Selection, orders: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    for wanted in selection.filters():
        after: str | None = ""
        while after is not None:
            body = {"filter": wanted, "after": after, "limit": BATCH, **orders}
            found = link.post(f"/v1/queue/{action}", body, server=selection.server)
            yield found
            after = found["next"]


def in_batches(
    title: str,
    total: int,
    batches: Iterable[dict[str, Any]],
    take: Callable[[dict[str, Any]], int],
    summary: Callable[[], str],
    size: int = BATCH,
) -> bool:
    """
    Do something to *total* messages, until it is done or interrupted.

    :param batches: does the next batch each time it is asked, and gives what control says of it.
    :param take: is given that; says how many messages it was about.
    :param summary: what has been done, for people; told when control does not go on.
    :param size: of a batch.
    :returns: true: not all of it was done.
    """
    done = 0
    with interruptible() as interrupted, progress(title, total, size) as advance:
        try:
            for found in batches:
                count = take(found)
                advance(count)
                done += count
                if interrupted():
                    return done < total
        except click.exceptions.Exit:
            click.echo(f"until then: {summary()}", err=True)
            raise
    return False


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is asked for, and interrupts nothing by itself; the second one does."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield lambda: bool(heard)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress(title: str, total: int, size: int = BATCH) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, where ``rich`` is installed and more than one batch is to be done."""
    if total <= size or not on_terminal(sys.stderr):
        yield lambda count: None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        yield _plain_progress(title, total)
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def _plain_progress(title: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        click.echo(f"{title}: {done} of {total}", err=True)

    return advance


# ---- the commands


def command(
    link: Link,
    action: str,
    selection: Selection,
    *,
    in_json: bool,
    dry_run: bool,
    ask: str = "",
    orders: dict[str, Any] | None = None,
) -> None:
    """
    Count, ask, do, tell.

    :param ask: the question before it is done; empty: nobody is asked.
    """
    orders = orders or {}
    total = count(link, action, selection, orders)
    if dry_run or not total.messages:
        _tell(action, total, in_json, "selected")
        if not total.messages and not in_json:
            click.echo("nothing is selected", err=True)
        raise click.exceptions.Exit(REFUSED if total.unknown or not total.messages else 0)
    if ask:
        words = f"{ask} {_counts(total.messages, total.recipients)}?"
        click.confirm(words, abort=True, err=True)
    done = run(link, action, selection, orders, total)
    _tell(action, done, in_json, PAST[action])
    if done.interrupted and not in_json:
        tell_interrupted(done.messages + done.busy_messages, total.messages)
    if done.unknown or done.interrupted:
        raise click.exceptions.Exit(REFUSED)


def tell_interrupted(done: int, total: int) -> None:
    """How far it got."""
    click.echo(f"interrupted after {done} of {total} messages", err=True)


#: What is said of each action when it is done.
PAST = {
    "hold": "held",
    "release": "released",
    "retry": "to be tried now",
    "delete": "deleted",
    "reroute": "rerouted",
}


def _tell(action: str, tally: Tally, in_json: bool, title: str) -> None:
    if in_json:
        echo_json({"action": action, **tally.tree()})
        return
    click.echo(f"{title}: {_counts(tally.messages, tally.recipients)}")
    if tally.busy_messages:
        busy = _counts(tally.busy_messages, tally.busy_recipients)
        click.echo(f"left alone, because they are being sent: {busy}")
    tally.warn()


def _summary(action: str, tally: Tally) -> str:
    return f"{PAST[action]}: {_counts(tally.messages, tally.recipients)}"


def _counts(messages: int, recipients: int) -> str:
    return f"{counted(messages, 'message')}, {counted(recipients, 'recipient')}"


def selection_of(ids: Sequence[str], server: str | None, **wanted: Any) -> Selection:
    """What was given on the command line."""
    given = {name: value for name, value in wanted.items() if value is not None}
    return Selection(tuple(ids), given, server)
