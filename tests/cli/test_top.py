"""Tests for `mailhost top`: with a server of our own, and with answers that are made up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from click.testing import CliRunner
from textual.widgets import DataTable, Static
from twisted.trial.unittest import SynchronousTestCase

from mailhost.cli import main, moment
from mailhost.cli.link import Link, Unreached
from mailhost.cli.screen import Screen
from tests.support.peer_case import PeerCase
from tests.support.process import wait_until

SERVER = {
    "name": "one", "state": "running", "addresses": [], "sessions": 3, "messages": 7,
    "recipients": 9, "problem": "",
}  # fmt: skip
SITE = {
    "key": "mx.example.net", "server": "one", "connections": 2, "window": 5,
    "waiting_messages": 4, "per_second": 1.5, "last_problem": "", "waits": [],
}  # fmt: skip
SESSION = {
    "id": "0-1", "server": "one", "hello": "[bold]\x1b[31mx", "peer": "192.0.2.1",
    "peer_port": 40000, "connected_seconds": 65.0, "state": "greeted", "tls": "TLSv1.3",
    "messages": 1,
}  # fmt: skip


class MadeUp:
    """Answers; each look finds *step* messages more accepted."""

    def __init__(self, step: int = 10) -> None:
        self.step = step
        self.accepted = 0
        self.pid = 4711
        self.gone = ""

    def look(self, path: str, **query: object) -> Any:
        if self.gone:
            raise Unreached(self.gone)
        if path == "/v1/counters":
            self.accepted += self.step
            row = {**dict.fromkeys(moment.RATES, 0), "server": "one", "worker": 0, "pid": self.pid}
            return {"rows": [{**row, "accepted_messages": self.accepted}]}
        answers = {
            "/v1/status": {
                "servers": [SERVER],
                "waits": [{"server": "one", "reason": "too much mail", "setting": "x"}],
                "warnings": [],
                "missing_workers": [1],
            },
            "/v1/sites": {"rows": [SITE, {**SITE, "key": "idle.example", "waiting_messages": 0}]},
            "/v1/sessions": {"total": 3, "rows": [SESSION]},
            "/v1/queue": {"rows": [{"age_seconds": 7500.0}]},
        }
        return answers[path]


class MomentTests(SynchronousTestCase):
    def test_rates(self) -> None:
        """Growth in a second; a process that has been started again counts from nothing."""
        link = MadeUp()
        first, second = moment.look(link, 100.0), moment.look(link, 102.0)
        self.assertEqual(0.0, moment.rates(None, first)["one"]["accepted_messages"])
        self.assertEqual(5.0, moment.rates(first, second)["one"]["accepted_messages"])
        link.pid, link.accepted = 4712, 2
        third = moment.look(link, 104.0)
        self.assertEqual(6.0, moment.rates(second, third)["one"]["accepted_messages"])

    def test_rows(self) -> None:
        """Servers with rates and the oldest message, the busiest sites, and remarks."""
        link = MadeUp()
        first, second = moment.look(link, 100.0), moment.look(link, 102.0)
        (row,) = moment.server_rows(first, second)
        shown = dict(zip(moment.SERVER_TITLES, row, strict=True))
        self.assertEqual(
            ("running", "5.0", "0.0", "7", "2h 5m"),
            tuple(shown[one] for one in ("STATE", "IN/s", "OUT/s", "MESSAGES", "OLDEST")),
        )
        self.assertEqual(
            ["mx.example.net", "idle.example"], [one[0] for one in moment.site_rows(second)]
        )
        self.assertEqual(["one: too much mail", "Worker 1 did not answer"], moment.remarks(second))


class ScreenTests(SynchronousTestCase):
    def pilot(
        self,
        screen: Screen,
        act: Callable[[Any], Awaitable[None]],
        size: tuple[int, int] = (120, 40),
    ) -> None:
        """Have *act* done with the keys of *screen*, once its first answer is there."""

        async def run() -> None:
            async with screen.run_test(size=size) as pilot:
                await self.settle(screen, pilot)
                await act(pilot)

        asyncio.run(asyncio.wait_for(run(), 30))

    async def settle(self, screen: Screen, pilot: Any) -> None:
        await screen.workers.wait_for_complete()
        await pilot.pause()

    def cells(self, screen: Screen, table: str) -> list[list[str]]:
        found = screen.query_one(f"#{table}", DataTable)
        return [[str(cell) for cell in found.get_row_at(n)] for n in range(found.row_count)]

    def head(self, screen: Screen) -> str:
        return str(screen.query_one("#head", Static).render())

    def test_shown(self) -> None:
        """Tables and remarks; what came from the network is shown escaped, and styles nothing."""
        ticks = iter(range(100))
        screen = Screen(MadeUp(), 3600, lambda: float(next(ticks)))

        async def act(pilot: Any) -> None:
            self.assertEqual("0.0", self.cells(screen, "servers")[0][5])
            self.assertEqual("[bold]\\x1b[31mx", self.cells(screen, "sessions")[0][2])
            self.assertIn("1 of 1 virtual servers run, 3 sessions", self.head(screen))
            await pilot.press("r")
            await self.settle(screen, pilot)
            self.assertEqual("10.0", self.cells(screen, "servers")[0][5])
            self.assertEqual("mx.example.net", self.cells(screen, "sites")[0][0])
            remarks = str(screen.query_one("#remarks", Static).render())
            self.assertIn("too much mail", remarks)
            await pilot.press("q")

        self.pilot(screen, act)

    def test_80_columns(self) -> None:
        """What matters most is seen there, of a large queue and a site of many hosts too."""
        link = MadeUp()
        screen = Screen(link, 3600)
        many = {"messages": 1_000_000, "recipients": 1_200_000, "sessions": 1000}
        hosts = ",".join(f"mx{n}.provider.example" for n in range(9))
        self.patch(sys.modules[__name__], "SERVER", {**SERVER, "name": "default", **many})
        self.patch(sys.modules[__name__], "SITE", {**SITE, "key": hosts, "server": "default"})

        async def act(pilot: Any) -> None:
            tables = [screen.query_one(f"#{name}", DataTable) for name in ("servers", "sites")]
            shown = [one.render_line(line).text for one in tables for line in range(3)]
            (servers,) = [one for one in shown if "running" in one]
            for words in ("default", "1000000", "2h 5m", " 1000 ", " 0.0"):
                self.assertIn(words, servers)
            (titles,) = [one for one in shown if "OLDEST" in one]
            self.assertIn("DROP/s", titles)
            (site, *_) = [one for one in shown if "mx0.provider" in one]
            self.assertIn("2 of 5", site)

        self.pilot(screen, act, size=(80, 24))

    def test_server_goes(self) -> None:
        """Said, waited for, and shown again; also on a terminal of 40 columns."""
        link = MadeUp()
        screen = Screen(link, 3600)

        async def act(pilot: Any) -> None:
            link.gone = "The server cannot be reached"
            await pilot.press("r")
            await self.settle(screen, pilot)
            self.assertIn("cannot be reached", self.head(screen))
            self.assertEqual("one", self.cells(screen, "servers")[0][0])
            link.gone = ""
            await pilot.press("r")
            await self.settle(screen, pilot)
            self.assertNotIn("cannot be reached", self.head(screen))

        self.pilot(screen, act, size=(40, 12))

    def test_answer_at_the_end(self) -> None:
        """One that comes when the screen is being taken down is nobody's."""
        screen = Screen(MadeUp(), 3600)
        shown: list[object] = []
        self.patch(screen, "_show", shown.append)

        async def act(pilot: Any) -> None:
            await screen.query("DataTable").remove()
            before = len(shown)
            await pilot.press("r")
            await self.settle(screen, pilot)
            self.assertEqual(before, len(shown))

        self.pilot(screen, act)

    def test_stands_still(self) -> None:
        """Nothing is asked by itself while it does."""
        link = MadeUp()
        screen = Screen(link, 3600)

        async def act(pilot: Any) -> None:
            await pilot.press("space")
            await self.settle(screen, pilot)
            before = link.accepted
            screen._tick()
            await self.settle(screen, pilot)
            self.assertEqual(before, link.accepted)
            self.assertIn("standing still", self.head(screen))
            await pilot.press("space")
            screen._tick()
            await self.settle(screen, pilot)
            self.assertGreater(link.accepted, before)

        self.pilot(screen, act)


class CommandTests(PeerCase):
    def test_real(self) -> None:
        """What a server really answers fits; it stands on the control interface alone."""
        server = self.start_server()
        server.submit("user@example.com")
        server.wait_for_drop("user@example.com")
        control = server.mailhost.configuration.with_name("mailroot") / "control.sock"
        with server.client() as client:
            client.ehlo("client.example.net")
            # The file is there a moment before its outcome is recorded.
            found = wait_until(lambda: self.when_delivered(control), "the outcome")
        self.assertEqual("one", moment.server_rows(None, found)[0][0])
        self.assertEqual("client.example.net", moment.session_rows(found)[0][2])
        (counted,) = found.counters.values()
        self.assertEqual((1, 1), (counted["accepted_messages"], counted["delivered_messages"]))

    def when_delivered(self, control: Path) -> moment.Moment | None:
        found = moment.look(Link(control), 1.0)
        (counted,) = found.counters.values()
        return found if counted["delivered_messages"] else None

    def test_cannot(self) -> None:
        """No server: 3, before the screen is taken; without the extra: 2, and what to do."""
        nowhere = ["top", "--control", str(self.directory / "none.sock")]
        ended = CliRunner().invoke(main, nowhere)
        self.assertEqual(3, ended.exit_code)
        self.assertIn("it is not running", ended.output)
        with patch.dict(sys.modules, {"mailhost.cli.screen": None}):
            ended = CliRunner().invoke(main, nowhere)
        self.assertEqual(2, ended.exit_code)
        self.assertIn("pip install 'mailhost[top]'", ended.output)
