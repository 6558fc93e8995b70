"""
Metrics, health and readiness over HTTP, for Prometheus and whoever watches processes.

:Room: ``control``
:Called by: `mailhost.tap`, where ``metrics`` is an address.

Nothing can be changed here, and nobody is asked who he is.  The numbers of all processes are added
up.  A process that has ended takes its counters with it; they are kept here, so that what
is told never goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import define, field
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mailhost.control import metrics
from mailhost.control.door import Page, QuietSite, TCPDoor, send_later
from mailhost.control.metrics import METRICS
from mailhost.control.steered import Answers, Steered
from mailhost.model.view import STATES

#: The text format of Prometheus that every release reads.
_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]
Numbers = dict[Series, list[float]]


@define(eq=False)
class Totals:
    """What all processes have counted, those that have ended as well."""

    _last: dict[int, tuple[int, Numbers]] = field(factory=dict, init=False)
    _ended: Numbers = field(factory=dict, init=False)

    def take(self, answers: Answers) -> Numbers:
        """
        What *answers* add up to.

        A worker that does not answer now is told with the counters it had.
        """
        gauges: Numbers = {}
        for part in answers.parts:
            pid = part.value["pid"]
            before = self._last.get(part.worker)
            if before is not None and before[0] != pid:
                _add(self._ended, before[1])
            counters: Numbers = {}
            for name, labels, value in part.value["samples"]:
                numbers = [float(n) for n in (value if isinstance(value, list) else [value])]
                series = name, tuple(labels.items())
                if METRICS[name].largest:
                    gauges[series] = max(gauges.get(series, numbers), numbers)
                    continue
                kept = gauges if METRICS[name].kind == "gauge" else counters
                _add(kept, {series: numbers})
            self._last[part.worker] = pid, counters
        for each in (self._ended, *(counters for _, counters in self._last.values())):
            _add(gauges, each)
        return gauges


def _add(total: Numbers, more: Numbers) -> None:
    for series, numbers in more.items():
        known = total.get(series)
        total[series] = (
            list(numbers)
            if known is None
            else [one + other for one, other in zip(known, numbers, strict=True)]
        )


@define(eq=False)
class _Collected(Collector):
    """What Prometheus' client makes its text of."""

    numbers: Numbers

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        series: dict[str, list[tuple[Labels, list[float]]]] = {}
        for (name, labels), numbers in self.numbers.items():
            series.setdefault(name, []).append((labels, numbers))
        for name, metric in METRICS.items():
            if name in series:
                yield _family(metric, series[name])


def _family(metric: metrics.Metric, series: Iterable[tuple[Labels, list[float]]]) -> Metric:
    found = sorted(series)
    names = [name for name, _ in found[0][0]]
    if metric.kind == "histogram":
        spread = HistogramMetricFamily(metric.name, metric.words, labels=names)
        for labels, numbers in found:
            spread.add_metric(
                [value for _, value in labels], _buckets(metric.bounds, numbers), numbers[-1]
            )
        return spread
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(metric.name, metric.words, labels=names)
    for labels, (number,) in found:
        family.add_metric([value for _, value in labels], number)
    return family


def _buckets(bounds: tuple[float, ...], numbers: list[float]) -> list[tuple[str, float]]:
    """Each with all that is below its bound; the last number of *numbers* is the sum."""
    count, found = 0.0, []
    for name, number in zip((*map(str, bounds), "+Inf"), numbers[:-1], strict=True):
        count += number
        found.append((name, count))
    return found


def merged_states(each: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Virtual servers by name; one that any process runs, runs."""
    found: dict[str, str] = {}
    for states in each:
        for name, state in states.items():
            found[name] = min(state, found.get(name, state), key=STATES.index)
    return found


def exposed(answers: Answers, totals: Totals) -> bytes:
    """The text of ``/metrics``; of virtual servers that are configured now."""
    states = merged_states(part.value["states"] for part in answers.parts)
    numbers = {
        (name, labels): value
        for (name, labels), value in totals.take(answers).items()
        if not labels or dict(labels)[METRICS[name].label] in {*states, metrics.ALL_SITES}
    }
    for server, state in states.items():
        numbers["mailhost_server_running", (("server", server),)] = [float(state == "running")]
    numbers["mailhost_processes", ()] = [float(len(answers.parts))]
    numbers["mailhost_missing_processes", ()] = [float(len(answers.missing))]
    registry = CollectorRegistry()
    registry.register(_Collected(numbers))
    return generate_latest(registry)


class Exposition(Resource):
    """
    Answers ``/metrics``, ``/healthz`` and ``/readyz``.

    :param steered: the service.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, steered: Steered) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # upstream
        self._steered = steered
        self._totals = Totals()
        self._pages: Mapping[bytes, Any] = {
            b"/metrics": self._metrics,
            b"/healthz": self._health,
            b"/readyz": self._readiness,
        }

    def render(self, request: Any) -> bytes | int:
        """See `Resource`."""
        page = self._pages.get(request.path)
        request.setHeader("content-type", _TEXT)
        if page is None:
            request.setResponseCode(404)
            return b"there is /metrics, /healthz and /readyz\n"
        if request.method != b"GET":
            request.setResponseCode(405)
            request.setHeader("allow", "GET")
            return b"allowed: GET\n"
        answering = Deferred.fromCoroutine(page()).addErrback(self._stumbled)
        sending = send_later(request, answering)
        sending.addErrback(lambda why: self._log.failure("Metrics have stumbled", why))
        return NOT_DONE_YET

    def _stumbled(self, why: Any) -> Page:
        self._log.failure("Metrics have stumbled", why)
        return 500, _TEXT, b"a fault of the program; the log has it\n"

    async def _metrics(self) -> Page:
        answers = await self._steered.ask("metrics", {})
        return 200, _FORMAT, exposed(answers, self._totals)

    async def _health(self) -> Page:
        return 200, _TEXT, b"ok\n"

    async def _readiness(self) -> Page:
        answers = await self._steered.ask("states", {})
        states = merged_states(part.value for part in answers.parts)
        resting = [f"{name} is {state}\n" for name, state in states.items() if state != "running"]
        if not states:
            resting = ["no worker answers\n"]
        if resting:
            return 503, _TEXT, "".join(resting).encode()
        return 200, _TEXT, b"ready\n"


@define(eq=False)
class Outlook(TCPDoor):
    """
    The TCP address of an `Exposition`.

    :ivar host: an IP address of this machine.
    :ivar port: 0: the kernel chooses.
    :ivar root: answers the requests.
    :ivar reactor: listens.
    """

    host: str
    port: int
    root: Resource
    reactor: Any
    _log = Logger()

    def open(self) -> None:
        """Listen.  Mail goes on without it: what prevents it is told in the log."""
        site = QuietSite(self.root, reactor=self.reactor)  # type: ignore[no-untyped-call]  # upstream
        try:
            self._listening = self.reactor.listenTCP(self.port, site, interface=self.host)
        except CannotListenError as problem:
            self._log.error(
                "Metrics cannot be told at {host} port {port}: {problem}",
                host=self.host,
                port=self.port,
                problem=str(problem.socketError),
            )
