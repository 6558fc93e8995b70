"""What a directory may do to us: it is never a refusal, never for long, and blocks nothing."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread

from mailhost.directory.binding import Binding, BindingKind
from mailhost.directory.resolver import LDAPAddressResolver
from mailhost.directory.schemas import INETORGPERSON
from mailhost.errors import LookupProblem
from mailhost.model.directory import Expansion, Found, GroupRef, Refused
from tests.directory.fake_server import HANG_UP, Asked, FakeServer, Script, done, entry, reference
from tests.directory.house import DirectoryCase, ad, arrived
from tests.support.certificates import Authority
from tests.support.slapd import MISSING, PASSWORD, READER, Slapd

_CLERK = {"objectClass": [b"user"], "mail": [b"clerk@ad.example.com"]}
#: More than a busy machine takes to go round the reactor's loop once, less than any wait for LDAP.
_BLOCKED_SECONDS = 1.0


@contextmanager
def never_blocked() -> Iterator[None]:
    """The reactor goes on turning inside."""
    turns: list[float] = [time.monotonic()]
    looping = LoopingCall(lambda: turns.append(time.monotonic()))
    looping.clock = reactor
    looping.start(0.01)
    try:
        yield
    finally:
        looping.stop()
        turns.append(time.monotonic())
        longest = max(b - a for a, b in zip(turns, turns[1:], strict=False))
        assert longest < _BLOCKED_SECONDS, f"the reactor stood still for {longest:.3f} s"


def _stands_still(pid: int) -> bool:
    """Whether each thread of *pid* has stopped: on a busy machine one may answer yet."""
    states = [
        (task / "stat").read_text("ascii").rpartition(")")[2].split()[0]
        for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return set(states) == {"T"}


class FaultCase(DirectoryCase):
    async def recovered(self, resolver: LDAPAddressResolver, seconds: float = 5.0) -> float:
        """Ask until there is an answer; how long it took."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            resolver.forget()
            try:
                answer = await arrived(resolver.resolve(ad("clerk")))
            except LookupProblem:
                await deferLater(reactor, 0.02)
                continue
            assert isinstance(answer, Found), answer
            return time.monotonic() - began
        raise AssertionError("it has not recovered")


class SlapdFaultTests(FaultCase):
    if MISSING:
        skip = MISSING

    def setUp(self) -> None:
        self.slapd = self.server()

    def server(self, **more: Any) -> Slapd:
        slapd = Slapd(self.folder(), **more)
        slapd.load(people=200, groups=5)
        slapd.start(self.addCleanup)
        return slapd

    async def test_killed_and_back(self) -> None:
        """Killed under load: temporary problems only; back: answers within seconds."""
        resolver = self.resolver(self.slapd.url)
        with never_blocked():
            answers = [resolver.resolve(ad(f"user{number:05}")) for number in range(200)]
            await arrived(answers.pop(10))
            self.slapd.process.kill()
            told = [await _outcome(answer) for answer in answers]
            self.assertLessEqual(set(told), {"found", "4.4.3"})
            self.assertIn("4.4.3", told)
            with self.assertRaises(LookupProblem):  # the breaker: at once, nobody is asked
                resolver.resolve(ad("user00199"))
            self.slapd.start(self.addCleanup)
            self.assertLess(await self.recovered(resolver), 3)
        self.assertEqual(1, resolver.statistics["outages"])
        self.assertEqual(0, resolver.statistics["servers_down"])

    async def test_hung_and_back(self) -> None:
        """Stopped, it costs a look-up its time limit and no more; it wakes, we go on."""
        resolver = self.resolver(self.slapd.url, limits={"lookup_seconds": 1.5})
        await self.found(resolver, ad("clerk"))
        self.slapd.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.slapd.process.send_signal, signal.SIGCONT)
        while not _stands_still(self.slapd.process.pid):
            await deferLater(reactor, 0.01)
        with never_blocked():
            began = time.monotonic()
            answers = [resolver.resolve(ad(f"user{number:05}")) for number in range(20)]
            told = {await _outcome(answer) for answer in answers}
            self.assertEqual({"4.4.3"}, told)
            self.assertLess(time.monotonic() - began, 4)
            self.slapd.process.send_signal(signal.SIGCONT)
            self.assertLess(await self.recovered(resolver), 4)

    async def test_idle_connection(self) -> None:
        """A connection that the server has closed meanwhile is replaced unnoticed."""
        resolver = self.resolver(self.slapd.url)
        await self.found(resolver, ad("clerk"))
        self.slapd.process.kill()
        self.slapd.start(self.addCleanup)
        await self.found(resolver, ad("helper"))
        self.assertEqual(0, resolver.statistics["failed"])
        self.assertEqual(0, resolver.statistics["outages"])

    async def test_failover_and_back(self) -> None:
        """The second server answers while the first is down, and no longer."""
        second = self.server()
        resolver = self.resolver(self.slapd.url, second.url)
        await self.found(resolver, ad("clerk"))
        self.slapd.process.kill()
        await self.found(resolver, ad("helper"))
        trace = await resolver.trace(ad("clerk"))
        self.assertEqual({second.url}, {step.server for step in trace.steps})
        self.slapd.start(self.addCleanup)
        while resolver.statistics["servers_down"]:
            await deferLater(reactor, 0.02)
        trace = await resolver.trace(ad("clerk"))
        self.assertEqual({self.slapd.url}, {step.server for step in trace.steps})
        statistics = resolver.statistics
        self.assertEqual(
            (0, 1, 0), tuple(statistics[n] for n in ("failed", "failovers", "outages"))
        )

    async def test_hung_first_server(self) -> None:
        """While the first hangs the second answers, within the look-up's own time."""
        second = self.server()
        resolver = self.resolver(self.slapd.url, second.url, limits={"lookup_seconds": 2.0})
        await self.found(resolver, ad("clerk"))
        self.slapd.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.slapd.process.send_signal, signal.SIGCONT)
        with never_blocked():
            await self.found(resolver, ad("helper"))

    async def test_group_while_killed(self) -> None:
        """A group is expanded whole or not at all."""
        resolver = self.resolver(self.slapd.url)
        found = await self.found(resolver, ad("deep0"))
        expanding = resolver.expand(found.groups[0])
        self.slapd.process.kill()
        try:
            answer = await expanding
        except LookupProblem as problem:
            self.assertEqual("4.4.3", problem.status)
        else:
            assert isinstance(answer, Expansion)
            self.assertEqual(2, len(answer.destinations))

    async def test_password_mended(self) -> None:
        """A password that is wrong, then right, is found without a restart."""
        file = self.folder() / "secret"
        file.touch(0o600)
        file.write_text("wrong")
        binding = Binding(BindingKind.PLAIN_TEXT, READER, password_file=file)
        resolver = self.resolver(self.slapd.url, binding=binding)
        self.assertEqual("4.4.3", (await self.problem(resolver, ad("clerk"))).status)
        file.write_text(PASSWORD)
        self.assertLess(await self.recovered(resolver), 3)

    async def test_bind_as_while_down(self) -> None:
        """A password is not wrong because nobody could be asked."""
        resolver = self.resolver(self.slapd.url)
        self.slapd.process.kill()
        with self.assertRaises(LookupProblem):
            await resolver.bind_as("clerk", "the clerk's password")


class TLSTests(FaultCase):
    if MISSING:
        skip = MISSING

    def server(self, *names: str) -> tuple[Slapd, Authority]:
        folder = self.folder()
        authority = Authority(folder)
        slapd = Slapd(folder, authority.issue("slapd", *names))
        slapd.load()
        slapd.start(self.addCleanup)
        return slapd, authority

    async def test_verified(self) -> None:
        """By ldaps and by StartTLS, with a certificate for that name from our authority."""
        slapd, authority = self.server("localhost")
        for url, start_tls in (
            (f"ldaps://localhost:{slapd.tls_port}", False),
            (f"ldap://localhost:{slapd.port}", True),
        ):
            resolver = self.resolver(url, ca=authority.file, start_tls=start_tls)
            await self.found(resolver, ad("clerk"))

    async def test_wrong_name(self) -> None:
        """A certificate for another name, or from another authority: no password is sent."""
        slapd, authority = self.server("other.example.com")
        stranger = Authority(self.folder())
        binding = Binding(BindingKind.PLAIN_TEXT, READER, PASSWORD)
        for ca in (authority.file, stranger.file, None):
            for url, start_tls in (
                (f"ldaps://localhost:{slapd.tls_port}", False),
                (f"ldap://localhost:{slapd.port}", True),
            ):
                resolver = self.resolver(url, ca=ca, start_tls=start_tls, binding=binding)
                problem = await self.problem(resolver, ad("clerk"))
                self.assertEqual("4.4.3", problem.status)
                self.assertIn("ertificate", problem.words)

    async def test_no_tls(self) -> None:
        """A server without TLS is not used in clear when TLS is asked for."""
        slapd = Slapd(self.folder())
        slapd.load()
        slapd.start(self.addCleanup)
        resolver = self.resolver(slapd.url, start_tls=True)
        self.assertEqual("4.4.3", (await self.problem(resolver, ad("clerk"))).status)


class FakeServerTests(FaultCase):
    def fake(self, script: Script) -> tuple[FakeServer, str]:
        server = FakeServer(script)
        self.addCleanup(server.stop)
        return server, server.start()

    async def test_half_a_page(self) -> None:
        """A connection that ends between two pages: all is asked again, nothing is lost."""
        broken = []

        def script(asked: Asked) -> Sequence[bytes]:
            number = asked.number
            if asked.base != "ou=dynamic":
                group = {
                    "objectClass": [b"groupOfURLs"],
                    "mail": [b"all@ad.example.com"],
                    "memberURL": [b"ldap:///ou=dynamic??sub?(mail=*)"],
                }
                return [entry(number, b"cn=all", group), done(number)]
            if not asked.cookie:
                return [_user(number, 1), _user(number, 2), done(number, cookie=b"more")]
            if not broken:
                broken.append(asked)
                return [_user(number, 3), HANG_UP]
            return [_user(number, 3), done(number, cookie=b"")]

        server, url = self.fake(script)
        resolver = self.resolver(url, schema=INETORGPERSON)
        expansion = await self.group(resolver, ad("all"))
        self.assertEqual(["u1", "u2", "u3"], [one.address.local for one in expansion.destinations])
        self.assertEqual(1, len(broken))
        self.assertEqual(2, server.connections - 1)

    async def test_always_half_a_page(self) -> None:
        """If it ends there each time there is no answer, never part of one."""

        def script(asked: Asked) -> Sequence[bytes]:
            return [_user(asked.number, 1), HANG_UP]

        _, url = self.fake(script)
        resolver = self.resolver(url)
        self.assertEqual("4.4.3", (await self.problem(resolver, ad("u1"))).status)

    async def test_no_utf8(self) -> None:
        """Values and names that are no UTF-8 do not hide the others."""

        def script(asked: Asked) -> Sequence[bytes]:
            values = {
                "objectClass": [b"user", b"\xff"],
                "proxyAddresses": [b"SMTP:\xff\xfe@x", b"smtp:b@ad.example.com"],
                "mail": [b"\xc3(@ad.example.com", b"clerk@ad.example.com"],
            }
            return [entry(asked.number, b"cn=\xff\xe4,dc=x", values), done(asked.number)]

        _, url = self.fake(script)
        found = await self.found(self.resolver(url), ad("b"))
        self.assertEqual(ad("clerk"), found.address)

    async def test_garbage(self) -> None:
        """What is no LDAP is trouble, each time, and the connection is not used again."""
        frames = [
            b"\x30\x03\x02\x01",
            b"HTTP/1.1 400 Bad\r\n\r\n",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x00",
            b"\x30\x05\x02\x01\x01\x99\x00",
            bytes(200),
            b"\x16\x03\x01" * 40,
        ]
        for frame in frames:
            _, url = self.fake(lambda asked, frame=frame: [frame, HANG_UP])
            resolver = self.resolver(url)
            with never_blocked():
                self.assertEqual("4.4.3", (await self.problem(resolver, ad("x"))).status, frame)

    async def test_slow_drops(self) -> None:
        """An answer that comes octet by octet does not outlive the time limit."""
        stop = Event()
        self.addCleanup(stop.set)

        def script(asked: Asked) -> Any:
            whole = _user(asked.number, 1)
            for octet in whole:
                if stop.wait(0.05):
                    return
                yield bytes((octet,))

        _, url = self.fake(script)
        resolver = self.resolver(url, limits={"lookup_seconds": 1.5})
        with never_blocked():
            began = time.monotonic()
            self.assertEqual("4.4.3", (await self.problem(resolver, ad("u1"))).status)
            self.assertLess(time.monotonic() - began, 4)
        self.assertEqual(1, resolver.statistics["timed_out"])

    async def test_result_codes(self) -> None:
        """Whatever a server says but success, nobody is unknown for it."""
        for code in (1, 2, 3, 4, 8, 11, 12, 34, 50, 51, 52, 53, 80, 118):
            _, url = self.fake(lambda asked, code=code: [done(asked.number, code, "no")])
            problem = await self.problem(self.resolver(url), ad("x"))
            self.assertEqual("4.4.3", problem.status, code)

    async def test_ranges(self) -> None:
        """Active Directory gives members in ranges; all of them are read."""

        def script(asked: Asked) -> Sequence[bytes]:
            number = asked.number
            wanted = asked.attributes[0].lower()
            if wanted == "member":
                some = [b"cn=u%d,ou=x" % n for n in range(3)]
                return [entry(number, b"cn=g", {"member;range=0-2": some}), done(number)]
            if wanted.startswith("member;range=3-"):
                rest = [b"cn=u%d,ou=x" % n for n in range(3, 5)]
                return [entry(number, b"cn=g", {"member;range=3-*": rest}), done(number)]
            if asked.base == "cn=g":
                return [entry(number, b"cn=g", {"objectClass": [b"group"]}), done(number)]
            return [*(_user(number, n) for n in range(5)), done(number)]

        _, url = self.fake(script)
        answer = await self.resolver(url).expand(GroupRef("cn=g", ad("g")))
        assert isinstance(answer, Expansion)
        self.assertEqual(5, len(answer.destinations))

    async def test_endless_range(self) -> None:
        """A server that never comes to the end of a range is not followed for ever."""

        def script(asked: Asked) -> Sequence[bytes]:
            wanted = asked.attributes[0].lower()
            start = int(wanted.partition("range=")[2].partition("-")[0] or 0)
            found = {f"member;range={start}-{start}": [b"cn=u%d,ou=x" % start]}
            kind = {"objectClass": [b"group"]}
            chosen = found if wanted.startswith("member") else kind
            return [entry(asked.number, b"cn=g", chosen), done(asked.number)]

        _, url = self.fake(script)
        resolver = self.resolver(url, limits={"most_members": 50})
        self.assertIsInstance(await resolver.expand(GroupRef("cn=g", ad("g"))), Refused)

    async def test_referral_to_known(self) -> None:
        """A referral to a configured server is followed, to another base if it says so."""
        second, second_url = self.fake(
            lambda asked: [entry(asked.number, b"cn=clerk", _CLERK), done(asked.number)]
        )
        _, url = self.fake(
            lambda asked: [done(asked.number, 10, referrals=[f"{second_url}/dc=there"])]
        )
        resolver = self.resolver(url, second_url)
        await self.found(resolver, ad("clerk"))
        self.assertEqual(["dc=there"], [asked.base for asked in second.searches])
        self.assertEqual(1, resolver.statistics["referrals_followed"])

    async def test_referral_to_stranger(self) -> None:
        """Nobody else gets our password: mail waits, and the log names the place."""
        stranger, stranger_url = self.fake(lambda asked: [done(asked.number)])
        _, url = self.fake(
            lambda asked: [done(asked.number, 10, referrals=[f"{stranger_url}/dc=x"])]
        )
        resolver = self.resolver(url)
        problem = await self.problem(resolver, ad("clerk"))
        self.assertIn(stranger_url, problem.words)
        self.assertEqual((0, 1), (stranger.connections, resolver.statistics["referrals_ignored"]))

    async def test_referrals_in_a_ring(self) -> None:
        """Two servers that refer to each other end in a problem."""
        urls: list[str] = []

        def to(index: int) -> Script:
            return lambda asked: [done(asked.number, 10, referrals=[urls[index]])]

        urls += [self.fake(to(1))[1], self.fake(to(0))[1]]
        self.assertEqual("4.4.3", (await self.problem(self.resolver(*urls), ad("x"))).status)

    async def test_continuation(self) -> None:
        """References to other domains, which Active Directory always gives, hide nothing."""

        def script(asked: Asked) -> Sequence[bytes]:
            number = asked.number
            elsewhere = reference(number, "ldap://ForestDnsZones.ad.example.com/DC=ForestDnsZones")
            return [entry(number, b"cn=clerk", _CLERK), elsewhere, done(number)]

        _, url = self.fake(script)
        await self.found(self.resolver(url), ad("clerk"))

    async def test_line_is_full(self) -> None:
        """More look-ups than may wait are turned away at once."""
        go = Event()
        self.addCleanup(go.set)

        def script(asked: Asked) -> Sequence[bytes]:
            go.wait(5)
            return [done(asked.number)]

        _, url = self.fake(script)
        resolver = self.resolver(url, limits={"threads": 2, "waiting": 3})
        answers = [resolver.resolve(ad(str(number))) for number in range(10)]
        late = [await _outcome(one) for one in answers[5:]]
        self.assertEqual(["4.4.3"] * 5, late)
        self.assertEqual(5, resolver.statistics["queue_full"])
        go.set()
        self.assertEqual(["5.1.1"] * 5, [await _outcome(one) for one in answers[:5]])

    async def test_stop_while_asking(self) -> None:
        """Stopping fails what waits, and the threads end."""
        go = Event()
        self.addCleanup(go.set)

        def script(asked: Asked) -> Sequence[bytes]:
            go.wait(10)
            return [done(asked.number)]

        _, url = self.fake(script)
        resolver = self.resolver(url, limits={"lookup_seconds": 30.0})
        answers = [_outcome(resolver.resolve(ad(str(number)))) for number in range(8)]
        waiting = gatherResults([Deferred.fromCoroutine(one) for one in answers])
        await deferToThread(lambda: None)
        began = time.monotonic()
        await resolver.stop()
        self.assertEqual(["4.4.3"] * 8, await waiting)
        self.assertLess(time.monotonic() - began, 3)
        self.assertEqual("4.4.3", (await self.problem(resolver, ad("later"))).status)
        await resolver.stop()


def _user(number: int, which: int) -> bytes:
    mail = b"u%d@ad.example.com" % which
    return entry(number, b"cn=u%d,ou=x" % which, {"objectClass": [b"user"], "mail": [mail]})


async def _outcome(answer: Any) -> str:
    """``found``, or a status."""
    try:
        told = await arrived(answer)
    except LookupProblem as problem:
        return problem.status
    return "found" if isinstance(told, Found) else str(told.status)
