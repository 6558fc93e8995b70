"""One soak: a server, five sorts of next hops, and a load, for as long as is wanted."""

from __future__ import annotations

import itertools
import re
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from attrs import define, field

from tests.soak.load import LOCAL_PATH, REMOTE, Ledger, Load
from tests.soak.samples import Growth, Sample, take_sample
from tests.support.mailroot import Mailroot, read_drop
from tests.support.process import LOOPBACK, Mailhost, reserve_address
from tests.support.scripted_host import Manner, ScriptedHost, late, says
from tests.workers.house import House

_TICK_SECONDS = 0.25
_MOST_DRAIN_SECONDS = 90.0
#: An idle connection to a next hop is kept for five.
_IDLE_SECONDS = 7.0
#: Less than so much is noise: what the allocator keeps, and pages of the database.
NOISE_KB = 8192
#: Descriptors that a process may have at the end more than at the beginning.
_MORE_DESCRIPTORS = 8
_SCRIPTS: dict[str, dict[str, Iterable[Manner | None]]] = {
    "slow": {".": itertools.repeat(late(0.5, "250 2.0.0 taken"))},
    "grey": {"RCPT": itertools.cycle([says("450 4.2.0 not now"), None])},
    "refusing": {"RCPT": itertools.repeat(says("550 5.1.1 nobody"))},
}
_REPORTED = re.compile(rb"Final-Recipient: rfc822;(\S+)")


@define(eq=False)
class Trial:
    """
    :ivar folder: for all files.
    :ivar clean: told what is to be called at the end.
    :ivar seconds: of load.
    :ivar rate: messages a second.
    :ivar most_kb_per_thousand: messages may cost so much memory for ever, beyond `NOISE_KB`.
    """

    folder: Path
    clean: Callable[[Callable[[], object]], object]
    seconds: float
    rate: float
    workers: int = 1
    seed: int = 1
    most_kb_per_thousand: float = 200.0
    tell: Callable[[str], object] = print
    ledger: Ledger = field(factory=Ledger, init=False)
    samples: list[Sample] = field(factory=list, init=False)
    deaths: int = field(default=0, init=False)
    reloads: int = field(default=0, init=False)
    _hosts: dict[str, ScriptedHost] = field(factory=dict, init=False)
    _counted: dict[str, int] = field(factory=dict, init=False)
    _house: House = field(init=False)
    _load: Load = field(init=False)
    _idle: tuple[Sample, Sample] = field(init=False)

    def run(self) -> list[str]:
        """Soak; what is wrong, empty when nothing is."""
        self._start()
        first = self._sample()
        self._load.start()
        self._soak()
        self._load.stop()
        self._drain()
        self._wait(_IDLE_SECONDS)
        self._idle = first, self._sample()
        wrong = self._faults()
        self._house.process.terminate()
        return wrong

    # ---- the parts

    def _start(self) -> None:
        for name in REMOTE:
            host = ScriptedHost(LOOPBACK, _SCRIPTS.get(name, {}))
            host.start()
            self._hosts[name] = host
            self.clean(host.stop)
        settings = {
            "access": {"relay": {"default": "allow"}},
            "messages": {"max_session_size": "unlimited"},
            "delivery": {
                "outbound": {"retry": ["2s"], "delay_notification": "none"},
                "suspension": {"shortest": "2s", "longest": "4s"},
            },
            "domains": [
                {"name": f"{name}.example", "type": "remote", "route": host.next_hop}
                for name, host in self._hosts.items()
            ],
        }
        mailhost = Mailhost(self.clean, self.folder / "mailhost.yaml")
        root = Mailroot(self.folder / "home")
        self._house = House(mailhost, reserve_address(), root, settings, workers=self.workers)
        self._house.configure()
        self._house.start()
        self._load = Load(self._house.address, self.rate, self.seed, self.ledger)

    def _soak(self) -> None:
        """The load goes on by itself; here is what happens to it."""
        begin = time.monotonic()
        every = {
            self._reload: min(60.0, self.seconds / 4),
            self._change_sides: min(20.0, self.seconds / 6),
            self._keep_sample: min(5.0, self.seconds / 20),
        }
        due = {act: begin + seconds for act, seconds in every.items()}
        while (now := time.monotonic()) < begin + self.seconds:
            for act, seconds in every.items():
                if now >= due[act]:
                    due[act] += seconds
                    act()
            self._wait(_TICK_SECONDS)
        if self.deaths % 2:
            self._change_sides()

    def _reload(self) -> None:
        self.reloads += 1
        self._house.configure(max_connections=1000 + self.reloads)
        self._house.process.send_signal(signal.SIGHUP)

    def _change_sides(self) -> None:
        """The host that dies, dies or comes back."""
        host = self._hosts["dying"]
        if self.deaths % 2:
            host.start()
        else:
            host.die()
        self.deaths += 1

    def _sample(self) -> Sample:
        pid = self._house.process.pid
        return take_sample(pid, time.monotonic(), len(self.ledger.promised))

    def _keep_sample(self) -> None:
        sample = self._sample()
        self.samples.append(sample)
        if len(self.samples) % 12 == 0:
            self.tell(
                f"{sample.messages} accepted, {self.ledger.delivered()} copies, "
                f"{sample.memory_kb} KB, {sample.descriptors} descriptors"
            )

    def _drain(self) -> None:
        end = time.monotonic() + _MOST_DRAIN_SECONDS
        while any(self._house.waiting()) and time.monotonic() < end:
            self._wait(_TICK_SECONDS)

    def _wait(self, seconds: float) -> None:
        time.sleep(seconds)
        if self._house.process.ended:
            raise AssertionError(f"the server has ended\n{self._house.process.said()[-5000:]}")
        self._count()

    def _count(self) -> None:
        """What came since; the files of Drop are taken away."""
        for name, host in self._hosts.items():
            seen, there = self._counted.get(name, 0), len(host.copies)
            for copy in host.copies[seen:there]:
                self.ledger.arrive(copy.test_id, copy.receivers)
            self._counted[name] = there
        for path in (self._house.root.home / "Drop").glob("*.eml"):
            one = read_drop(path)
            if one.sender == "<>":
                failed = [found.decode() for found in _REPORTED.findall(one.content)]
                self.ledger.arrive(one.receivers[0].partition("@")[0], failed)
            else:
                self.ledger.arrive(one.test_id, [LOCAL_PATH])
            path.unlink()

    # ---- the verdict

    @property
    def growth(self) -> Growth:
        """After the first third: what is allocated once has been by then."""
        return Growth.of(self.samples[len(self.samples) // 3 :])

    def _faults(self) -> list[str]:
        wrong = [f"a client has failed: {one!r}" for one in self._load.problems]
        wrong += [f"{test_id} has not come to {path}" for test_id, path in self.ledger.lost()]
        strange = {one for one, _ in self.ledger.arrived} - set(self.ledger.promised)
        wrong += [f"{one} came, and was not acknowledged" for one in sorted(strange)]
        # A host that dies leaves doubts; nobody else may get anything twice.
        again = self.ledger.again()
        wrong += [f"{n} copies came again to {d}" for d, n in again.items() if d != "dying.example"]
        growth, (before, after) = self.growth, self._idle
        if growth.kb > NOISE_KB and growth.kb_per_thousand > self.most_kb_per_thousand:
            wrong.append(f"memory grows by {growth.kb_per_thousand:.0f} KB for 1000 messages")
        if after.descriptors > before.descriptors + _MORE_DESCRIPTORS * self.workers:
            wrong.append(f"descriptors: {before.descriptors} before, {after.descriptors} after")
        if "Traceback" in self._house.process.said():
            wrong.append("the log has a traceback")
        return wrong

    def summary(self) -> str:
        """The figures."""
        growth, (before, after), again = self.growth, self._idle, self.ledger.again()
        most = max(self.samples, key=lambda one: one.memory_kb)
        return (
            f"{len(self.ledger.promised)} accepted in {self.seconds:.0f} s by {self.workers} "
            f"workers, {self._load.deferred} put off; {self.ledger.delivered()} recipients "
            f"served, {len(self.ledger.lost())} lost, {again.total()} copies again "
            f"({again['dying.example']} at the host that died {self.deaths // 2} times); "
            f"{self.reloads} reloads\n"
            f"memory: {before.memory_kb} KB at the start, {most.memory_kb} KB at most, "
            f"{after.memory_kb} KB at the end; {growth.kb_per_thousand:+.0f} KB for 1000 "
            f"messages, {growth.kb_per_hour:+.0f} KB an hour, {growth.kb:+.0f} KB in all\n"
            f"descriptors: {before.descriptors} before, "
            f"{max(one.descriptors for one in self.samples)} at most, {after.descriptors} after"
        )
