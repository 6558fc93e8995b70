"""Tests for `mailhost.control.api` and `callers`, over a real socket."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from attrs import fields_dict
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailhost.cli.link import LocalConnection
from mailhost.control import api
from mailhost.control.answers import COUNTED
from mailhost.control.api import ControlAPI, CounterRow
from mailhost.control.callers import LocalGate, Process
from mailhost.control.door import Door
from mailhost.control.rights import ALL
from mailhost.control.steered import Answers
from mailhost.errors import SpoolProblem
from tests.control.steered import FakeSteered


def session(worker: int, number: int) -> dict[str, Any]:
    return {"id": f"{worker}-{number:x}", "server": "one"}


class APICase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mailhost-"))
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / "control.sock"
        self.steered = FakeSteered()
        door = Door(self.path, ControlAPI(self.steered, LocalGate()), reactor)
        door.open()
        self.addCleanup(door.close)

    async def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        """The status, and what was answered."""

        def request() -> tuple[int, Any]:
            connection = LocalConnection(self.path)
            try:
                connection.request(method, path, body)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            finally:
                connection.close()

        found: tuple[int, Any] = await deferToThread(request)
        return found


class SeeingTests(APICase):
    async def test_status_of_a_hanging_worker(self) -> None:
        """It is asked everything at once, and so waited for once."""
        asked: list[str] = []
        answering: Deferred[Answers] = Deferred()

        async def ask(question: str, arguments: object) -> Answers:
            asked.append(question)
            return await answering if question == "waits" else Answers(())

        self.patch(FakeSteered, "ask", staticmethod(ask))
        status = ensureDeferred(self.ask("GET", "/v1/status"))
        while len(asked) < 2:
            await deferLater(reactor, 0)
        self.assertFalse(answering.called)
        answering.callback(Answers((), (1,)))

        self.assertEqual([1], (await status)[1]["missing_workers"])

    async def test_status(self) -> None:
        """Virtual servers and workers, and what mail waits for in each of them."""
        wait = {"server": "one", "reason": "full", "setting": "x.y", "until": None}
        self.steered.answers["waits"] = [[wait], []]
        warning = {"server": "one", "reason": "an open relay", "setting": "access.relay"}
        self.steered.answers["warnings"] = [[], [warning]]
        self.steered.missing = (2,)

        status, table = await self.ask("GET", "/v1/status")

        self.assertEqual(200, status)
        self.assertEqual(["one", "a b"], [server["name"] for server in table["servers"]])
        self.assertEqual([{"worker": 0, **wait}], table["waits"])
        self.assertEqual([{"worker": 1, **warning}], table["warnings"])
        self.assertEqual([2], table["missing_workers"])

    async def test_status_that_cannot_be_told(self) -> None:
        """A refusal of one question is that of all."""

        async def ask(question: str, arguments: object) -> Answers:
            raise SpoolProblem("no disk")

        self.patch(FakeSteered, "ask", staticmethod(ask))
        self.assertEqual((409, {"error": "no disk"}), await self.ask("GET", "/v1/status"))

    async def test_sessions_in_pages(self) -> None:
        """The next page begins behind the last session of this one."""
        self.steered.answers["sessions"] = [
            {"total": 3, "rows": [session(0, 9), session(0, 10), session(0, 17)]},
            {"total": 1, "rows": [session(1, 3)]},
        ]

        _, first = await self.ask("GET", "/v1/sessions?limit=3")
        _, whole = await self.ask("GET", "/v1/sessions?server=one&limit=4&after=0-1")

        self.assertEqual(["0-9", "0-a", "0-11"], [row["id"] for row in first["rows"]])
        self.assertEqual((4, "0-11"), (first["total"], first["next"]))
        self.assertIsNone(whole["next"])
        self.assertEqual(
            ("sessions", {"server": "one", "after": "0-1", "limit": 5}), self.steered.done[-1]
        )

    async def test_sites(self) -> None:
        """Each row says whose it is."""
        self.steered.answers["sites"] = [[{"key": "a.example"}], [{"key": "b.example"}]]

        _, table = await self.ask("GET", "/v1/sites")

        rows = [(row["worker"], row["key"]) for row in table["rows"]]
        self.assertEqual([(0, "a.example"), (1, "b.example")], rows)

    async def test_counters(self) -> None:
        """Each row says whose it is, and from which process."""
        self.steered.answers["counters"] = [[{"server": "one", "pid": 7}], [{"server": "one"}]]

        _, table = await self.ask("GET", "/v1/counters")

        self.assertEqual({"worker": 0, "server": "one", "pid": 7}, table["rows"][0])
        self.assertEqual(COUNTED, tuple(name for name in fields_dict(CounterRow))[2:])

    async def test_bad_questions(self) -> None:
        """Each is told what is wrong with it, and nobody is asked."""
        for status, path in (
            (404, "/v1/sessions?server=nobody"),
            (404, "/v1/sites?server=nobody"),
            (400, "/v1/sessions?limit=0"),
            (400, "/v1/sessions?limit=10001"),
            (400, "/v1/sessions?limit=x"),
            (400, "/v1/sessions?after=x"),
            (404, "/"),
            (404, "/v1/servers/one"),
            (404, "/v1/servers/one/start/now"),
            (405, "/v1/reload"),
        ):
            found, table = await self.ask("GET", path)
            self.assertEqual(status, found, path)
            self.assertTrue(table["error"], path)
        self.assertEqual([], self.steered.done)


#: What is asked of each route: what comes with it, and a place in its path.
ASKED: dict[str, str] = {
    "/v1/sessions/terminate": '{"ids": ["0-1"]}',
    "/v1/queue/{action}": '{"filter": {}}',
    "/v1/badmail/requeue": f'{{"ids": ["{"0" * 24}"]}}',
    "/v1/badmail/purge": '{"all": true}',
    "/v1/submissions": '{"server": "one", "base64": ""}',
    "/v1/explain": "?to=a@x.example",
    "/v1/traces": "?what=x",
}
#: They ask no worker, or wait until it obeys or is another.
WHOLE = {"/v1/reload", "/v1/openapi.json"}


class SilentWorkerTests(APICase):
    async def test_every_answer_says_so(self) -> None:
        """No answer is told as if it were whole, and nothing as not there."""
        self.steered.missing = (1,)
        for route in api.ROUTES:
            action = route.actions[0] if route.actions else ""
            path = route.path.replace("{name}", "one").replace("{action}", action)
            path, asked = path.replace("{id}", "0" * 24), ASKED.get(route.path, "")
            status, table = await (
                self.ask("GET", path + asked)
                if route.method == "GET"
                else self.ask(route.method, path, asked or None)
            )
            told = status, table.get("missing_workers")
            expected = [(200, None)] if route.path in WHOLE else [(200, [1]), (503, [1])]
            self.assertIn(told, expected, (path, table))

    async def test_only_one_may_have_it(self) -> None:
        """Where that one has answered it is whole, though another is silent."""
        self.steered.missing = (1,)
        self.steered.answers["badmail_show"] = [{}]
        self.steered.answers["trace"] = [[]]
        self.steered.answers["explain"] = [None]
        self.steered.answers["queue_content"] = [None, "QQ=="]

        badmail, _ = await self.ask("GET", f"/v1/badmail/{'0' * 24}")
        _, trace = await self.ask("GET", "/v1/traces?what=x")
        explain, told = await self.ask("GET", "/v1/explain?to=a@x.example")
        content = await self.ask("GET", f"/v1/queue/{'0' * 24}/content")

        self.assertEqual((404, {"missing_workers": [], "rows": []}), (badmail, trace))
        words = "one is stopped, as far as is known: worker 1 does not answer"
        self.assertEqual((503, words), (explain, told["error"]))
        self.assertEqual((200, {"base64": "QQ=="}), content)

    async def test_several(self) -> None:
        """All of them are named; what was wrong with a question stays wrong."""
        self.steered.missing = (1, 3)
        self.steered.answers["submit"] = [None]

        _, table = await self.ask("POST", "/v1/submissions", ASKED["/v1/submissions"])
        unknown, _ = await self.ask("GET", "/v1/sites?server=nobody")

        self.assertIn("workers 1, 3 do not answer", table["error"])
        self.assertEqual(404, unknown)


class ChangingTests(APICase):
    async def test_steer(self) -> None:
        """A name may have blanks."""
        for action in ("start", "stop", "pause"):
            status, table = await self.ask("POST", f"/v1/servers/a%20b/{action}")
            self.assertEqual((200, "a b"), (status, table["server"]["name"]))
        self.assertEqual([("start", "a b"), ("stop", "a b"), ("pause", "a b")], self.steered.done)

    async def test_not_steered(self) -> None:
        """Unknown, unwilling, and a fault of the program, which the log has."""
        for status, path in (
            (404, "/v1/servers/nobody/start"),
            (404, "/v1/servers/one/burn"),
            (409, "/v1/servers/unwilling/start"),
            (500, "/v1/servers/broken/start"),
            (405, "/v1/status"),
        ):
            self.assertEqual(status, (await self.ask("POST", path))[0], path)
        self.assertEqual([], self.steered.done)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    async def test_terminate(self) -> None:
        """Those that are there; if there is none it is a refusal."""
        self.steered.answers["terminate"] = [["0-1"], []]
        body = json.dumps({"ids": ["0-1", "1-1"]})

        status, table = await self.ask("POST", "/v1/sessions/terminate", body)
        none, _ = await self.ask("POST", "/v1/sessions/terminate", '{"ids": []}')
        self.steered.answers["terminate"] = [[], []]
        unknown, told = await self.ask("POST", "/v1/sessions/terminate", body)

        expected = {"ended": ["0-1"], "unknown": ["1-1"], "missing_workers": []}
        self.assertEqual((200, expected), (status, table))
        self.assertEqual((200, 404), (none, unknown))
        self.assertEqual(["0-1", "1-1"], told["unknown"])

    async def test_reload(self) -> None:
        """Faults are told one by one."""
        self.assertEqual((200, {"reloaded": True}), await self.ask("POST", "/v1/reload"))
        self.steered.faulty = True

        status, table = await self.ask("POST", "/v1/reload")

        self.assertEqual((409, ["x.yaml:3: user: who?"]), (status, table["faults"]))

    async def test_bad_bodies(self) -> None:
        """No JSON, no table, no texts, too much."""
        self.patch(api, "MOST_BODY_OCTETS", 100)
        for status, body in (
            (400, "{"),
            (400, "[1]"),
            (400, "[" * 90),
            (400, '{"ids": "0-1"}'),
            (400, '{"ids": [1]}'),
            (400, "{}"),
            (413, " " * 101),
        ):
            self.assertEqual(
                status, (await self.ask("POST", "/v1/sessions/terminate", body))[0], body
            )
        self.assertEqual([], self.steered.done)

    async def test_no_http(self) -> None:
        """The next one is answered all the same."""

        def rubbish() -> bytes:
            connection = LocalConnection(self.path)
            connection.connect()
            connection.sock.sendall(b"\xff\x00\r\n\r\n")
            answer = connection.sock.recv(100)
            connection.close()
            return answer

        self.assertIn(b"400", await deferToThread(rubbish))
        self.assertEqual(200, (await self.ask("GET", "/v1/status"))[0])

    async def test_caller_that_goes(self) -> None:
        """Who does not wait for the answer is nobody's trouble."""

        def go() -> None:
            connection = LocalConnection(self.path)
            connection.request("POST", "/v1/reload", "{}")
            connection.close()

        await deferToThread(go)
        self.assertEqual(200, (await self.ask("GET", "/v1/status"))[0])


def queue_part(*ids: str, reached: str | None = None, stopped: tuple[str, ...] = ()) -> Any:
    """What one worker says of its queues."""
    rows = [{"id": one, "recipient_count": 2} for one in ids]
    return {"rows": rows, "reached": reached, "stopped": stopped}


def name(number: int) -> str:
    """A queue id."""
    return f"{number:016x}00000001"


class QueueTests(APICase):
    async def test_pages(self) -> None:
        """In one order, as far as every worker has looked."""
        self.steered.answers["queue_page"] = [
            queue_part(name(1), name(4), name(6)),
            queue_part(name(2), name(3), reached=name(4), stopped=("a b",)),
        ]

        _, table = await self.ask("GET", "/v1/queue?limit=10&domain=x.example&held=no")
        _, short = await self.ask("GET", f"/v1/queue?limit=2&after={name(9)}")

        self.assertEqual([name(n) for n in (1, 2, 3, 4)], [row["id"] for row in table["rows"]])
        self.assertEqual((name(4), ["a b"]), (table["next"], table["stopped"]))
        self.assertEqual((2, name(2)), (len(short["rows"]), short["next"]))
        self.assertEqual(
            {
                "server": None,
                "wanted": {"domain": "x.example", "held": False},
                "after": "",
                "limit": 10,
                "brief": False,
            },
            self.steered.done[-2][1],
        )

    async def test_show_and_content(self) -> None:
        """Of whichever worker has it."""
        message = {
            "id": name(1),
            "recipient_count": 0,
            "server": "one",
            "sender": "<>",
            "size": 1,
            "accepted_at": 1.0,
            "age_seconds": 1.0,
            "state": "held",
            "recipients": [],
            "body": "7BIT",
            "hello": "x",
            "header": ["Subject: x"],
        }
        self.steered.answers["queue_message"] = [None, message]
        self.steered.answers["queue_content"] = [None, "QQ=="]

        _, shown = await self.ask("GET", f"/v1/queue/{name(1).upper()}")
        _, octets = await self.ask("GET", f"/v1/queue/{name(1)}/content?start=5")
        self.steered.answers.clear()

        self.assertEqual({**message, "worker": 1}, shown)
        self.assertEqual({"base64": "QQ=="}, octets)
        for path in ("", "/content"):
            status, table = await self.ask("GET", f"/v1/queue/{name(1)}{path}")
            self.assertEqual((404, [name(1)]), (status, table["unknown"]))

    async def test_change(self) -> None:
        """Those of one page, in all workers, with who has asked for it; added up."""
        self.steered.answers["queue_page"] = [queue_part(name(1)), queue_part(name(2))]
        done = {"messages": 1, "recipients": 2, "busy_messages": 1, "busy_recipients": 3}
        self.steered.answers["queue_change"] = [done, done]
        body = {"filter": {"sender": "<>", "older": 60}, "host": "mx.example.net"}

        status, table = await self.ask("POST", "/v1/queue/reroute?server=one", json.dumps(body))

        self.assertEqual(200, status)
        self.assertEqual((2, 4, 2, 6), tuple(table[key] for key in done))
        asked: Any = self.steered.done[-1][1]
        self.assertEqual([name(1), name(2)], asked["ids"])
        self.assertEqual(("reroute", "mx.example.net"), (asked["action"], asked["host"]))
        self.assertIn(str(os.getpid()), asked["who"])

    async def test_dry_run(self) -> None:
        """Only counted; ids that are there are named where they were asked for."""
        self.steered.answers["queue_page"] = [queue_part(name(1), name(2))]
        body = {"filter": {"ids": [name(1), name(2), name(3)]}, "dry_run": True}

        _, table = await self.ask("POST", "/v1/queue/delete", json.dumps(body))

        self.assertEqual((2, 4, None), (table["messages"], table["recipients"], table["next"]))
        self.assertEqual([name(1), name(2)], table["ids"])
        self.assertEqual(["queue_page"], [str(done[0]) for done in self.steered.done])

    async def test_bad_questions(self) -> None:
        """Each is told what is wrong with it, and nobody is asked."""
        for status, method, path, body in (
            (400, "GET", "/v1/queue?after=x", None),
            (400, "GET", "/v1/queue?older=x", None),
            (400, "GET", "/v1/queue?older=-1", None),
            (400, "GET", "/v1/queue?held=perhaps", None),
            (400, "GET", "/v1/queue?domain=", None),
            (400, "GET", "/v1/queue?color=red", None),
            (404, "GET", "/v1/queue?server=nobody", None),
            (404, "GET", "/v1/queue/x", None),
            (400, "GET", f"/v1/queue/{name(1)}/content?start=x", None),
            (404, "POST", "/v1/queue/burn", {"filter": {}}),
            (400, "POST", "/v1/queue/hold", {}),
            (400, "POST", "/v1/queue/hold", {"filter": []}),
            (400, "POST", "/v1/queue/hold", {"filter": {}, "limit": 1001}),
            (400, "POST", "/v1/queue/hold", {"filter": {}, "host": "x.example"}),
            (400, "POST", "/v1/queue/hold", {"filter": {"ids": "x"}}),
            (404, "POST", "/v1/queue/hold", {"filter": {"ids": ["x"]}}),
            (400, "POST", "/v1/queue/hold", {"filter": {"sender": 5}}),
            (400, "POST", "/v1/queue/reroute", {"filter": {}}),
            (400, "POST", "/v1/queue/reroute", {"filter": {}, "host": "192.0.2.1"}),
        ):
            found, table = await self.ask(method, path, body and json.dumps(body))
            self.assertEqual(status, found, (path, body))
            self.assertTrue(table["error"], path)
        self.assertEqual([], self.steered.done)


class CallerTests(APICase):
    async def test_others_are_refused(self) -> None:
        """Whatever the mode of the socket is: the kernel says who asks."""
        self.patch(Process, "of", lambda transport: Process(os.geteuid() + 1, 4711))

        for method, path in (("GET", "/v1/status"), ("POST", "/v1/reload"), ("GET", "/x")):
            self.assertEqual(403, (await self.ask(method, path))[0], path)
        self.assertEqual([], self.steered.done)

    async def test_kernel_tells(self) -> None:
        """Its process and its user."""
        found: list[Process] = []
        known = Process.of
        self.patch(Process, "of", lambda transport: found.append(known(transport)) or found[-1])

        await self.ask("GET", "/v1/status")

        self.assertEqual([Process(os.geteuid(), os.getpid())], found)
        self.assertIn(str(os.getpid()), str(found[0]))

    def test_trust(self) -> None:
        """Root and ourselves."""
        us = os.geteuid()
        trusted = [user for user in (0, us, us + 1, 2**31 - 2) if Process(user, 1).rights is ALL]
        self.assertEqual(sorted({0, us}), sorted(set(trusted)))
        self.assertEqual("user id 2147483646 (process 1)", str(Process(2**31 - 2, 1)))
