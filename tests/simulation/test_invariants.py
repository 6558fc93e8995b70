"""The judge of the worlds, on stories told to it: much happens at one and the same time."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mailhost.model.outcome import Fate, Outcome
from tests.simulation.disk import Accepted, Recorded
from tests.simulation.hosts import Dot
from tests.simulation.invariants import faults
from tests.simulation.plan import draw_plan
from tests.simulation.world import World
from tests.support.world import START

_PATH = "bob@d1.example"
_OCTETS = b"Subject: one\r\n\r\n"
_NOT_OPENED = Outcome(Fate.DELAYED, "4.3.0", "trouble: open")
_IN_DOUBT = Outcome(Fate.DELAYED, "4.4.2", "in doubt: connection lost", in_doubt=True)
_RELAYED = Outcome(Fate.RELAYED, "2.0.0", "250 taken")


def _found(*story: Outcome | Dot) -> list[str]:
    """What is wrong with *story*, all of it at the same time."""
    world = World(draw_plan(1))
    world.disk.accepted["1"] = Accepted("1", "alice@example.com", (_PATH,), _OCTETS)
    world.disk.by_content[_OCTETS] = "1"
    for part in story:
        place = world.timeline.next_place()
        if isinstance(part, Dot):
            part.place = place
            world.internet.dots.append(part)
        else:
            world.disk.recorded.append(Recorded(0.0, place, 0.0, 1, "1", _PATH, part))
    return faults(world)


def _dot(life: int = 1, *, told: bool) -> Dot:
    return Dot(0.0, 0, life, "192.0.2.1", _OCTETS, (_PATH,), taken=True, told=told)


class ExpiryTests(SynchronousTestCase):
    def judged(self, *jumps: tuple[float, float]) -> str:
        """What is wrong with a failure at 100 s, with the clock set so at such times."""
        world = World(draw_plan(1))
        world.disk.accepted["1"] = Accepted("1", "", (_PATH,), _OCTETS, START)
        for elapsed, seconds in jumps:
            world.timeline.rightNow += elapsed - world.timeline.elapsed
            world.timeline.jump(seconds)
        for elapsed, outcome in ((50.0, _NOT_OPENED), (100.0, evolve(_IN_DOUBT, fate=Fate.FAILED))):
            place = world.timeline.next_place()
            world.disk.recorded.append(Recorded(elapsed, place, 0.0, 1, "1", _PATH, outcome))
        return " ".join(one for one in faults(world) if one.startswith("P4"))

    def test_by_the_clock_that_it_was_judged_by(self) -> None:
        """P4: a day ahead when it was given up, and set back before that was written down."""
        self.assertEqual("", self.judged((60.0, 7 * 86400.0), (99.0, -7 * 86400.0)))

    def test_by_no_clock(self) -> None:
        """P4: what was ahead was right again long before."""
        self.assertIn("no lasting reason", self.judged())
        self.assertIn("no lasting reason", self.judged((10.0, 7 * 86400.0), (40.0, -7 * 86400.0)))


class SameTimeTests(SynchronousTestCase):
    def test_what_came_before_the_doubt_is_not_its_outcome(self) -> None:
        """An attempt that failed, and was written down, just before the next one began."""
        story = _NOT_OPENED, _dot(told=False), _IN_DOUBT, _dot(told=True), _RELAYED

        self.assertEqual([], _found(*story))

    def test_a_doubt_that_is_not_written_down(self) -> None:
        """P3: the outcome after the doubt is what counts, and not one before it."""
        story = _IN_DOUBT, _dot(told=False), _NOT_OPENED, _dot(told=True), _RELAYED

        self.assertEqual(1, len(found := _found(*story)), found)
        self.assertIn("P3", found[0])

    def test_another_host_in_the_same_attempt(self) -> None:
        """P3: nobody is tried between a doubt and its outcome."""
        story = _dot(told=False), _dot(told=True), _IN_DOUBT, _dot(told=True), _RELAYED

        self.assertIn("in the same attempt", "".join(_found(*story)))

    def test_sent_after_its_end(self) -> None:
        """What is written down as relayed is not sent again, by any process."""
        for life in (1, 2):
            found = _found(_dot(told=True), _RELAYED, _dot(life, told=True))

            self.assertIn("sent after its end", "".join(found))

    def test_the_doubt_of_an_expired_message(self) -> None:
        """It failed in doubt; that nobody could be told at first does not end the doubt."""
        failed = evolve(_IN_DOUBT, fate=Fate.FAILED)
        not_told = evolve(_IN_DOUBT, status="4.3.0", words="not reported: trouble: open")
        story = _dot(told=False), not_told, _dot(told=False), failed

        self.assertNotIn("P3", "".join(_found(*story)))
