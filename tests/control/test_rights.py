"""Every route for every role; and how callers over TCP are known."""

from __future__ import annotations

import json
import ssl
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from io import BytesIO
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailhost.authentication.access_tokens import (
    AccessTokens,
    add_token,
    read_tokens,
    remove_tokens,
    token_line,
)
from mailhost.authentication.users import change_file, make_user
from mailhost.config.settings import RemoteControlSettings, Settings
from mailhost.control import remote
from mailhost.control.answers import answer
from mailhost.control.api import ROUTES, ControlAPI
from mailhost.control.callers import Caller
from mailhost.control.calls import Route
from mailhost.control.remote import RemoteDoor, RemoteGate, rights_of
from mailhost.control.rights import ALL, NONE, Need, Rights
from mailhost.errors import AuthenticationProblem, SyntaxProblem
from mailhost.logs import event_text
from tests.control.steered import FakeSteered
from tests.support.certificates import Authority
from tests.support.world import make_settings

ROLES: Mapping[str, Rights] = {
    "administrator": ALL,
    "operator": Rights(servers=frozenset({"one"})),
    "reader": Rights(reader=True),
    "both": Rights(reader=True, servers=frozenset({"one"})),
    "nobody": NONE,
}
#: What each role may do with everything, and what with its own virtual servers only.
EVERYTHING = {
    "administrator": set(Need),
    "operator": set(),
    "reader": {Need.SEE},
    "both": {Need.SEE},
    "nobody": set(),
}
OWN = {
    "administrator": set(),
    "operator": {Need.SEE, Need.MAIL, Need.RUN},
    "reader": set(),
    "both": {Need.MAIL, Need.RUN},
    "nobody": set(),
}
#: Requests that are understood, by the path of the route.
QUERIES = {"/v1/explain": {"to": "a@example.com"}, "/v1/traces": {"what": "x"}}
BODIES: Mapping[str, Mapping[str, Any]] = {
    "/v1/sessions/terminate": {"ids": []},
    "/v1/queue/{action}": {"filter": {}},
    "/v1/badmail/requeue": {"ids": []},
    "/v1/badmail/purge": {"all": True},
    "/v1/submissions": {"server": "one", "base64": ""},
}
ID = "0" * 24
PLACES = {"id": ID, "name": "one", "action": "hold"}


@frozen
class OpenGate:
    caller: Caller

    async def admit(self, request: Any) -> Caller:
        return self.caller


@frozen
class Request:
    """As much of a request as control looks at."""

    path: bytes
    method: bytes
    args: Mapping[bytes, list[bytes]]
    content: BytesIO


class TableCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.steered = FakeSteered()
        self.lines: list[str] = []

        def hear(event: dict[str, Any]) -> None:
            self.lines.append(event_text(event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def ask(self, role: str, route: Route, **places: str) -> tuple[int, Any]:
        """The status, and what was answered to a request that is understood."""
        path = route.path
        for name, value in {**PLACES, **places}.items():
            path = path.replace(f"{{{name}}}", value)
        if route.path == "/v1/servers/{name}/{action}":
            path = path.replace("/hold", "/pause")
        request = Request(
            path.encode(),
            route.method.encode(),
            {k.encode(): [v.encode()] for k, v in QUERIES.get(route.path, {}).items()},
            BytesIO(json.dumps(BODIES.get(route.path, {})).encode()),
        )
        gate = OpenGate(Caller(role, ROLES[role]))
        answering = Deferred.fromCoroutine(ControlAPI(self.steered, gate)._answer(request))
        return self.successResultOf(answering)


class TableTests(TableCase):
    def test_every_route_for_every_role(self) -> None:
        """What a role may not do is 403, and nobody is asked; of what it may, it sees its part."""
        self.assertGreater(len(ROUTES), 15)
        for route in ROUTES:
            for role in ROLES:
                self.steered.done.clear()
                status, _ = self.ask(role, route)
                name = f"{role} {route.method} {route.path}"
                if route.need not in EVERYTHING[role] | OWN[role]:
                    self.assertEqual((403, []), (status, self.steered.done), name)
                    continue
                self.assertNotIn(status, (400, 401, 403, 500), name)
                scopes = [
                    asked[1].get("scope")
                    for asked in self.steered.done
                    if len(asked) == 2 and isinstance(asked[1], dict)
                ]
                expected = None if route.need in EVERYTHING[role] else ["one"]
                self.assertEqual([expected] * len(scopes), scopes, name)

    def test_what_changes_something_needs_more(self) -> None:
        """No route that is not GET is for readers."""
        for route in ROUTES:
            self.assertEqual(route.method == "GET", route.need in (Need.SEE, Need.MAIL), route.path)

    def test_others_are_not_there(self) -> None:
        """Of a virtual server that is not his an operator hears nothing, nor steers it."""
        by_path = {route.path: route for route in ROUTES}
        _, table = self.ask("operator", by_path["/v1/status"])
        steer = by_path["/v1/servers/{name}/{action}"]
        found = [self.ask("operator", steer, name=name)[0] for name in ("one", "a%20b", "x")]

        self.assertEqual(["one"], [server["name"] for server in table["servers"]])
        inside = [server["name"] for worker in table["workers"] for server in worker["servers"]]
        self.assertEqual(["one"], inside)
        self.assertEqual([200, 404, 404], found)
        self.assertEqual(("pause", "one"), self.steered.done[-1])

    def test_logged(self) -> None:
        """Who has done what, and who was not allowed to."""
        by_path = {route.path: route for route in ROUTES}
        self.ask("administrator", by_path["/v1/reload"])
        self.ask("reader", by_path["/v1/reload"])
        self.ask("nobody", by_path["/v1/status"])

        self.assertTrue(any("administrator: POST /v1/reload" in line for line in self.lines))
        self.assertIn("reader may not administer: POST /v1/reload", self.lines)
        self.assertIn("nobody may do nothing, and asks control", self.lines)

    def test_scope_of_an_answer(self) -> None:
        """A process tells of no other virtual servers than those in the scope."""
        parts: Any = {"one": object(), "two": object()}
        asked = answer(parts, "states", {"scope": []})
        self.assertEqual({}, self.successResultOf(Deferred.fromCoroutine(asked)))


class SettingsTests(SynchronousTestCase):
    def test_rights(self) -> None:
        """By lists of names, compared as names of users are."""
        control = RemoteControlSettings(administrators=("Ada",), readers=("rob",))
        settings = Settings(
            virtual_servers=(
                make_settings(name="one", operators=("olga",)),
                make_settings(name="two", operators=("olga", "rob")),
            ),
            remote_control=control,
        )
        self.assertEqual(Rights(administrator=True), rights_of(settings, "ada"))
        self.assertEqual(Rights(servers=frozenset({"one", "two"})), rights_of(settings, "OLGA"))
        self.assertEqual(
            Rights(reader=True, servers=frozenset({"two"})), rights_of(settings, "rob")
        )
        self.assertFalse(rights_of(settings, "eve").any)


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_life_of_a_token(self) -> None:
        """The file has its hash; a second one lives beside it until both are taken back."""
        first, second = add_token(self.path, "monitor"), add_token(self.path, "monitor")
        other = add_token(self.path, "other")
        tokens = AccessTokens(self.path)

        self.assertEqual(["monitor"] * 2, [tokens.find(first), tokens.find(second)])
        self.assertIsNone(tokens.find(first + "x"))
        self.assertNotIn(first, self.path.read_text())
        self.assertEqual(0, self.path.stat().st_mode & 0o077)
        self.assertEqual(
            (2, 0), (remove_tokens(self.path, "monitor"), remove_tokens(self.path, "x"))
        )
        self.assertEqual((None, "other"), (tokens.find(first), tokens.find(other)))

    def test_bad_files(self) -> None:
        """Lines that are none are left out; a file that others may read lets nobody in."""
        _, faults = read_tokens("# a remark\n\nmonitor\nx:12\n")
        self.assertEqual(2, len(faults))
        add_token(self.path, "monitor")
        tokens = AccessTokens(self.path)
        self.path.chmod(0o644)
        self.assertRaises(AuthenticationProblem, tokens.find, "x")
        self.path.unlink()
        self.assertRaises(AuthenticationProblem, tokens.find, "x")
        for name in ("", "a:b", "#a", " a"):
            self.assertRaises(SyntaxProblem, token_line, name, "x")


class RemoteTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.authority = Authority(folder)
        certificate, key = self.authority.issue("here", "localhost")
        users = folder / "users"
        change_file(users, make_user("olga", "secret \u00fc"), "olga")
        self.token = add_token(folder / "tokens", "monitor")
        self.remote = RemoteControlSettings(
            ("127.0.0.1", 0),
            certificate,
            key,
            users=users,
            tokens=folder / "tokens",
            readers=("monitor",),
        )
        self.settings = Settings(
            virtual_servers=(make_settings(name="one", operators=("olga",)),),
            remote_control=self.remote,
        )
        self.steered = FakeSteered()
        gate = RemoteGate(lambda: self.settings, reactor)
        self.waits: list[float] = []
        self.patch(remote, "deferLater", lambda clock, wait: succeed(self.waits.append(wait)))
        self.door = RemoteDoor(self.remote, ControlAPI(self.steered, gate), gate, reactor)
        self.door.open()
        self.addCleanup(self.door.close)

    async def ask(self, path: str, method: str = "GET", **fields: str) -> tuple[int, Any, Any]:
        """Status, table and fields of the answer."""
        assert self.door.address is not None
        port = self.door.address[1]
        context = ssl.create_default_context(cafile=str(self.authority.file))

        def request() -> tuple[int, Any, Any]:
            connection = HTTPSConnection("localhost", port, timeout=20, context=context)
            try:
                connection.request(method, path, headers=fields)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read()), answer.headers
            finally:
                connection.close()

        found: tuple[int, Any, Any] = await deferToThread(request)
        return found

    def basic(self, name: str, password: str) -> str:
        return "Basic " + b64encode(f"{name}:{password}".encode()).decode()

    async def test_known_callers(self) -> None:
        """A token and a password, each with its rights."""
        bearer = f"Bearer {self.token}"
        seen, table, _ = await self.ask("/v1/status", Authorization=bearer)
        refused, _, _ = await self.ask("/v1/reload", "POST", Authorization=bearer)
        login = self.basic("Olga", "secret \u00fc")
        own, narrow, _ = await self.ask("/v1/status", Authorization=login)
        paused, _, _ = await self.ask("/v1/servers/one/pause", "POST", Authorization=login)

        self.assertEqual((200, 403, 200, 200), (seen, refused, own, paused))
        self.assertEqual([2, 1], [len(found["servers"]) for found in (table, narrow)])

    async def test_strangers(self) -> None:
        """No field, nonsense, a wrong password, a wrong token: 401, and later and later."""
        none, _, headers = await self.ask("/v1/status")
        self.assertEqual((401, True), (none, "Basic" in headers["www-authenticate"]))
        for field in (
            self.basic("olga", "wrong"),
            "Basic ???",
            "Bearer nothing",
            f"Bearer {'x' * 5000}",
        ):
            self.assertEqual(401, (await self.ask("/v1/status", Authorization=field))[0], field)
        self.assertEqual([1.0, 2.0, 4.0, 8.0], self.waits)
        for _ in range(6):
            await self.ask("/v1/status", Authorization="Bearer x")
        banned, _, _ = await self.ask("/v1/status", Authorization=f"Bearer {self.token}")
        self.assertEqual((429, []), (banned, self.steered.done))

    async def test_revoked(self) -> None:
        """Who has lost his rights is told so, and who has lost his token is not let in."""
        bearer = f"Bearer {self.token}"
        self.settings = evolve(self.settings, remote_control=evolve(self.remote, readers=()))
        lost, _, _ = await self.ask("/v1/status", Authorization=bearer)
        assert self.remote.tokens is not None
        remove_tokens(self.remote.tokens, "monitor")
        gone, _, _ = await self.ask("/v1/status", Authorization=bearer)
        self.remote.tokens.chmod(0o644)
        broken, _, _ = await self.ask("/v1/status", Authorization=bearer)
        self.assertEqual((403, 401, 503), (lost, gone, broken))

    async def test_clear_text(self) -> None:
        """Nothing is answered without TLS."""
        assert self.door.address is not None

        def request() -> str:
            connection = HTTPConnection("127.0.0.1", self.door.address[1], timeout=20)
            try:
                connection.request("GET", "/v1/status")
                return str(connection.getresponse().status)
            except (HTTPException, OSError):
                return "nothing"
            finally:
                connection.close()

        self.assertEqual("nothing", await deferToThread(request))
