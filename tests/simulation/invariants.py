"""
What must be true of every world that has come to its end.

Judged from outside: by what clients, hosts and directories have got, and by what came onto
the disk; never by what the relay thinks.
"""

from __future__ import annotations

import re
from collections import Counter
from email import message_from_bytes
from typing import Any

from attrs import define, field

from mailhost.model.outcome import Fate
from mailhost.model.schedule import RetrySchedule
from tests.content.converted import converted
from tests.simulation.disk import Accepted, Recorded
from tests.simulation.hosts import Dot
from tests.simulation.plan import LOCAL
from tests.simulation.world import World

_Recipient = tuple[str, str]  # queue id, path


def faults(world: World) -> list[str]:
    """What is wrong with *world*; empty when nothing is."""
    return _Judge(world).judge()


@define(eq=False)
class _Judge:
    """
    :ivar reports: by kind (``"Failure"``, ``"Delay"``), how often each recipient was reported.
    """

    world: World
    found: list[str] = field(factory=list)
    terminal: dict[_Recipient, list[Recorded]] = field(factory=dict)
    dots: dict[_Recipient, list[Dot]] = field(factory=dict)
    reports: Counter[tuple[str, str, str]] = field(factory=Counter)
    statuses: dict[_Recipient, tuple[str, float]] = field(factory=dict)

    def judge(self) -> list[str]:
        self.found += self.world.problems
        self._read_dots()
        self._read_reports()
        for recorded in self.world.disk.recorded:
            if recorded.outcome.fate.terminal:
                key = recorded.queue_id, recorded.path
                self.terminal.setdefault(key, []).append(recorded)
        self._acknowledged()
        for message in self.world.disk.accepted.values():
            for path in message.paths:
                self._one_fate(message, path)
        for key, dots in self.dots.items():
            self._copies(key, dots)
            self._doubts(key, dots)
        self._drop()
        self._badmail()
        self._told_once()
        return self.found

    # ---- what there is

    def _read_dots(self) -> None:
        known = dict(self.world.disk.by_content)
        for one in self.world.disk.accepted.values():
            if not one.octets.isascii():
                # A host without 8BITMIME gets it so.
                known[converted(one.octets, eight_bit=False)[1]] = one.queue_id
        for dot in self.world.internet.dots:
            queue_id = known.get(dot.content)
            if queue_id is None:
                self.found.append(f"{dot.host} got a content that nobody sent: {dot.paths}")
                continue
            for path in dot.paths:
                self.dots.setdefault((queue_id, path), []).append(dot)

    def _read_reports(self) -> None:
        for one in self.world.disk.accepted.values():
            if not one.about:
                continue
            message: Any = message_from_bytes(one.octets)
            kind = re.findall(r"\((\w+)\)", str(message["Subject"]))[0]
            status: Any = message.get_payload()[1]
            for group in status.get_payload()[1:]:
                path = str(group["Final-Recipient"]).partition(";")[2]
                self.reports[kind, one.about, path] += 1
                if kind == "Failure":
                    self.statuses[one.about, path] = str(group["Status"]), one.accepted_at

    # ---- P1, P2

    def _acknowledged(self) -> None:
        there = {path for one in self.world.disk.accepted.values() for path in one.paths}
        for path in sorted(self.world.acknowledged - there):
            self.found.append(f"P1: {path} was acknowledged and never came onto the disk")

    def _one_fate(self, message: Accepted, path: str) -> None:
        key = message.queue_id, path
        ends = self.terminal.get(key, [])
        if len(ends) != 1:
            fates = [one.outcome.fate.value for one in ends]
            self.found.append(f"P2: {key} came to {len(ends)} ends {fates}")
            return
        fate = ends[0].outcome.fate
        if fate is Fate.RELAYED and not any(d.taken and d.told for d in self.dots.get(key, [])):
            self.found.append(f"P2: {key} is said to be relayed, and no host has said so")
        if fate is Fate.DELIVERED and not any(
            content == message.octets and path in paths
            for _, content, paths in self.world.shelves.dropped
        ):
            self.found.append(f"P2: {key} is said to be delivered, and is not in Drop")
        if fate is Fate.FAILED:
            self._failed(message, path, ends[0])
        else:
            self._nobody_is_told_of_failure(key)

    def _failed(self, message: Accepted, path: str, end: Recorded) -> None:
        key = message.queue_id, path
        told = self.reports["Failure", message.queue_id, path]
        bad = sum(i == message.queue_id and path in p for _, i, p in self.world.shelves.bad)
        if message.reverse_path and (told != 1 or bad):
            self.found.append(f"P2: {key} failed, told {told} times, {bad} times in Badmail")
        if not message.reverse_path and (told or not bad):
            self.found.append(f"P2: {key} failed, told {told} times, {bad} times in Badmail")
        why = self._reason(message, path, end)
        if not why:
            self.found.append(
                f"P4: {key} failed for no lasting reason: {end.outcome.status} {end.outcome.words}"
            )

    def _nobody_is_told_of_failure(self, key: _Recipient) -> None:
        if self.reports["Failure", key[0], key[1]]:
            self.found.append(f"P2: {key} did not fail, and somebody was told so")
        # Badmail comes before the record, which a kill may prevent.
        if any(one == key[0] and key[1] in paths for _, one, paths in self.world.shelves.bad):
            lives = {life for life, one, paths in self.world.shelves.bad if one == key[0]}
            if lives == {len(self.world.lives)}:
                self.found.append(f"P2: {key} did not fail, and is in Badmail")

    # ---- P4

    def _reason(self, message: Accepted, path: str, end: Recorded) -> str:
        """Why *path* may have failed for good; empty: it may not."""
        world = self.world
        domain = path.rpartition("@")[2]
        plan = next((one for one in world.plan.domains if one.name == domain), None)
        if {path, message.reverse_path} & world.internet.refused:
            return "refused"
        if plan is not None and plan.hopeless:
            return "no host"
        if message.queue_id in world.disk.damaged:
            return "damaged"
        # The record may have come later than the decision, and the clock been set back meanwhile.
        before = [
            one.elapsed
            for one in world.disk.recorded
            if (one.queue_id, one.path) == (message.queue_id, path) and one.place < end.place
        ]
        at = world.timeline.latest(max(before, default=0.0), end.elapsed)
        return "expired" if at >= message.accepted_at + self._shortest(domain) else ""

    def _shortest(self, domain: str) -> float:
        """The shortest life that any configuration gave mail for *domain*."""

        def schedule(settings: Any) -> RetrySchedule:
            delivery = settings.delivery
            return delivery.local if domain == LOCAL else delivery.outbound

        return min(schedule(one).expiration_seconds for _, one in self.world.plan.settings)

    # ---- copies

    def _copies(self, key: _Recipient, dots: list[Dot]) -> None:
        """A second copy is explained by a doubt, or by the end of a process."""
        known: set[int] = set()
        for dot in dots:
            if dot.life in known:
                self.found.append(f"{key}: sent again by life {dot.life}, which had its 250")
            if dot.taken and dot.told:
                known.add(dot.life)
        for end in self.terminal.get(key, [])[:1]:
            if any(dot.place > end.place for dot in dots):
                self.found.append(f"{key}: sent after its end was written down")

    def _doubts(self, key: _Recipient, dots: list[Dot]) -> None:
        """P3: the outcome after a doubt says so, and no host is tried in between."""
        for number, dot in enumerate(dots):
            if dot.told:
                continue
            after = [
                one
                for one in self.world.disk.recorded
                if (one.queue_id, one.path) == key
                and one.life == dot.life
                and one.place > dot.place
            ]
            if not after:
                continue
            if not after[0].outcome.in_doubt:
                self.found.append(f"P3: {key} was in doubt, and {after[0].outcome} was recorded")
            later = dots[number + 1 : number + 2]
            if later and later[0].life == dot.life and later[0].place < after[0].place:
                self.found.append(f"P3: {key} went to {later[0].host} in the same attempt")

    # ---- Drop, Badmail, reports

    def _drop(self) -> None:
        counts = Counter(
            (life, content, path)
            for life, content, paths in self.world.shelves.dropped
            for path in paths
        )
        for (life, content, path), count in counts.items():
            if count > 1:
                self.found.append(f"{path} was delivered {count} times by life {life}")
            if content not in self.world.disk.by_content:
                self.found.append(f"{path} was delivered what nobody sent")

    def _badmail(self) -> None:
        counts = Counter(
            (life, queue_id, path)
            for life, queue_id, paths in self.world.shelves.bad
            for path in paths
        )
        for key, count in counts.items():
            if count > 1:
                self.found.append(f"{key} is in Badmail {count} times")

    def _told_once(self) -> None:
        for key, count in self.reports.items():
            if count > 1:
                self.found.append(f"P2: {key} was reported {count} times")
