"""
The screen of ``mailhost top``.

:Room: ``cli`` (floor 7); needs the extra ``top``.
:Called by: `mailhost.cli.top`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.widgets import DataTable, Footer, Static
from textual.worker import Worker, WorkerState

from mailhost.cli import moment
from mailhost.cli.link import Unreached
from mailhost.cli.moment import Looks, Moment
from mailhost.cli.words import escaped

_STYLE = """
#head { background: $primary; color: $text; padding: 0 1; }
#remarks { color: $warning; padding: 0 1; height: auto; max-height: 6; }
DataTable { height: auto; max-height: 40%; margin-bottom: 1; }
"""


class Screen(App[None]):
    """
    Asks again and again, in a thread; a server that is gone is waited for.

    :param link: to the server.
    :param interval_seconds: so often.
    :param clock: tells how long it is between two moments.
    """

    CSS = _STYLE
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[Any]] = [
        ("q", "quit", "Quit"),
        ("space", "hold", "Stand still"),
        ("r", "again", "Ask now"),
    ]

    def __init__(
        self,
        link: Looks,
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._link = link
        self._interval = interval_seconds
        self._clock = clock
        self._before: Moment | None = None
        self._held = False

    def compose(self) -> ComposeResult:
        """See `App`."""
        yield Static("", id="head")
        for name in ("servers", "sites", "sessions"):
            yield DataTable(id=name, cursor_type="none", zebra_stripes=True)
        yield Static("", id="remarks")
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        titles = {
            "servers": moment.SERVER_TITLES,
            "sites": moment.SITE_TITLES,
            "sessions": moment.SESSION_TITLES,
        }
        for name, columns in titles.items():
            self._table(name).add_columns(*columns)
        self.set_interval(self._interval, self._tick)
        self.action_again()

    def _table(self, name: str) -> DataTable[Text]:
        return self.query_one(f"#{name}", DataTable)

    def _tick(self) -> None:
        if not self._held:
            self.action_again()

    def action_hold(self) -> None:
        """Show this moment until the key is pressed again."""
        self._held = not self._held
        self._tell_head("standing still" if self._held else "")

    def action_again(self) -> None:
        """Ask now, unless an answer is still waited for."""
        if not any(one.state is WorkerState.RUNNING for one in self.workers):
            self.run_worker(self._ask, thread=True)

    def _ask(self) -> Moment | Unreached:
        try:
            return moment.look(self._link, self._clock())
        except Unreached as problem:
            return problem

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """An answer is there; that may be when the screen is being taken down."""
        if event.state is WorkerState.SUCCESS and self.query("#servers"):
            found = event.worker.result
            if isinstance(found, Moment):
                self._show(found)
            else:
                self._tell_head(str(found))

    def _show(self, now: Moment) -> None:
        self._fill("servers", moment.server_rows(self._before, now))
        self._fill("sites", moment.site_rows(now))
        self._fill("sessions", moment.session_rows(now))
        remarks = self.query_one("#remarks", Static)
        remarks.update(Text("\n".join(map(escaped, moment.remarks(now)))))
        self._before = now
        self._tell_head("standing still" if self._held else "")

    def _tell_head(self, words: str) -> None:
        parts = ["mailhost"]
        if self._before is not None:
            servers = self._before.status["servers"]
            running = sum(one["state"] == "running" for one in servers)
            parts.append(f"{running} of {len(servers)} virtual servers run")
            parts.append(f"{self._before.sessions['total']} sessions")
        parts += [words] if words else []
        self.query_one("#head", Static).update(Text(escaped(", ".join(parts))))

    def _fill(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        table = self._table(name)
        table.clear()
        # Text: what came from the network is no markup, and obeyed by nothing.
        table.add_rows([Text(escaped(cell)) for cell in row] for row in rows)
