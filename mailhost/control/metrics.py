"""
The numbers of every virtual server: what they are called, and what one process says of them.

:Room: ``control``
:IIS: §13.1; names beginning with ``windows_smtp_`` are those that Prometheus' windows_exporter
    gives to the counters of "SMTP Server".
:Called by: `mailhost.control.answers` (the question), `mailhost.control.exposition`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred

from mailhost.control.steered import Part, Parts
from mailhost.interfaces import Maybe
from mailhost.model.tally import AGE_BOUNDS, COMMIT_BOUNDS, LATENESS_BOUNDS
from mailhost.relay.census import Counted
from mailhost.relay.views import SiteView

#: The instance that IIS has for all virtual servers together.
ALL_SITES = "_Total"
#: How old messages are, the youngest first; as `mailhost.relay.census.AGE_BOUNDS`.
AGES = ("under 5m", "under 1h", "under 1d", "older")
#: Sites of one virtual server that are told one by one, those with most mail first.
MAX_SITES = 200


@frozen
class Metric:
    """
    Something that is told.

    :ivar name: as Prometheus knows it.
    :ivar kind: ``counter`` (it only grows), ``gauge``, or ``histogram``.
    :ivar words: what it is, in one sentence.
    :ivar source: an attribute of `mailhost.model.tally.Tally`; empty: it is computed.
    :ivar bounds: of a histogram.
    :ivar largest: of several processes the largest counts, not the sum.
    """

    name: str
    kind: str
    words: str
    source: str = ""
    bounds: tuple[float, ...] = ()
    largest: bool = False

    @property
    def label(self) -> str:
        """The label that names the virtual server; windows_exporter says ``site``."""
        return "site" if self.name.startswith("windows_") else "server"


def _counters(*rows: tuple[str, str, str]) -> tuple[Metric, ...]:
    return tuple(Metric(name, "counter", words, source) for name, source, words in rows)


def _gauges(*rows: tuple[str, str]) -> tuple[Metric, ...]:
    return tuple(Metric(name, "gauge", words) for name, words in rows)


_WINDOWS = _counters(
    ("windows_smtp_inbound_connections_total", "sessions", "Inbound sessions."),
    ("windows_smtp_messages_received_total", "accepted_messages", "Messages accepted."),
    ("windows_smtp_messages_submitted_total", "accepted_messages", "Messages queued."),
    (
        "windows_smtp_message_bytes_received_total",
        "accepted_octets",
        "Octets of messages accepted.",
    ),
    (
        "windows_smtp_messages_refused_for_size_total",
        "oversized_messages",
        "Messages refused as too large.",
    ),
    (
        "windows_smtp_pickup_directory_messages_retrieved_total",
        "pickup_messages",
        "Messages out of Pickup, or from programs.",
    ),
    (
        "windows_smtp_bytes_received_total",
        "received_octets",
        "Octets of sessions, contents and all, that clients and other hosts have said.",
    ),
    (
        "windows_smtp_bytes_sent_total",
        "sent_octets",
        "Octets of sessions, contents and all, that were said to them.",
    ),
    (
        "windows_smtp_outbound_connections_total",
        "outbound_connections",
        "Connections to other hosts, begun.",
    ),
    (
        "windows_smtp_outbound_connections_refused_total",
        "refused_connections",
        "Connections that other hosts refused.",
    ),
    (
        "windows_smtp_connection_errors_total",
        "unreachable_connections",
        "Connections to other hosts that were not established.",
    ),
    ("windows_smtp_messages_sent_total", "relayed_messages", "Messages that other hosts took."),
    (
        "windows_smtp_message_bytes_sent_total",
        "relayed_octets",
        "Octets of messages that other hosts took.",
    ),
    (
        "windows_smtp_message_send_retries_total",
        "relay_retries",
        "Attempts for other hosts after the first.",
    ),
    ("windows_smtp_messages_delivered_total", "delivered_messages", "Messages delivered here."),
    ("windows_smtp_directory_drops_total", "delivered_messages", "Messages put into Drop."),
    (
        "windows_smtp_message_delivery_retries_total",
        "delivery_retries",
        "Attempts to deliver here after the first.",
    ),
    ("windows_smtp_ndrs_generated_total", "failure_reports", "Non-delivery reports made."),
    (
        "windows_smtp_dsn_failures_total",
        "report_problems",
        "Times that reports could not be made and were put off.",
    ),
    (
        "windows_smtp_badmailed_messages_ndr_of_dns_total",
        "badmail_reports",
        "Reports that came into Badmail because they cannot be delivered.",
    ),
    (
        "windows_smtp_badmailed_messages_bad_pickup_file_total",
        "badmail_files",
        "Pickup files that came into Badmail because they cannot be sent.",
    ),
    (
        "windows_smtp_badmailed_messages_no_recipients_total",
        "badmail_nobody",
        "Pickup files that came into Badmail because they name no recipient.",
    ),
    (
        "windows_smtp_badmailed_messages_hop_count_exceeded_total",
        "badmail_loops",
        "Pickup files that came into Badmail because they have come through too many hosts.",
    ),
    (
        "windows_smtp_etrn_messages_total",
        "etrn_messages",
        "Messages started by ETRN.",
    ),
    (
        "windows_smtp_routing_table_lookups_total",
        "routed_recipients",
        "Ways looked up, one for each recipient and attempt.",
    ),
    ("windows_smtp_dns_queries_total", "", "Questions to DNS, of all virtual servers."),
) + _gauges(
    ("windows_smtp_inbound_connections_current", "Inbound sessions now."),
    ("windows_smtp_outbound_connections_current", "Connections to other hosts now."),
    ("windows_smtp_local_queue_length", "Messages that wait in memory to be delivered here."),
    (
        "windows_smtp_current_messages_in_local_delivery",
        "Messages that are being delivered here just now.",
    ),
    ("windows_smtp_messages_pending_routing", "Messages that wait for DNS."),
    ("windows_smtp_categorizer_queue_length", "Look-ups that wait for the directory."),
    ("windows_smtp_remote_queue_length", "Messages that wait in memory for other hosts."),
    (
        "windows_smtp_local_retry_queue_length",
        "Messages that were put off and wait for the next attempt to deliver them here.",
    ),
    (
        "windows_smtp_remote_retry_queue_length",
        "Messages that were put off and wait for the next attempt at another host.",
    ),
)

_OURS = (
    _counters(
        ("mailhost_accepted_recipients_total", "accepted_recipients", "Recipients accepted."),
        (
            "mailhost_relayed_recipients_total",
            "relayed_recipients",
            "Recipients that other hosts took.",
        ),
        (
            "mailhost_delivered_recipients_total",
            "delivered_recipients",
            "Recipients delivered to here.",
        ),
        (
            "mailhost_expanded_recipients_total",
            "expanded_recipients",
            "Groups whose members have taken their place.",
        ),
        ("mailhost_failed_recipients_total", "failed_recipients", "Recipients given up."),
        (
            "mailhost_delayed_recipients_total",
            "delayed_recipients",
            "Times that a recipient was put off until another attempt.",
        ),
        ("mailhost_delay_reports_total", "delay_reports", "Reports of a delay made."),
        ("mailhost_success_reports_total", "success_reports", "Reports of success made."),
        (
            "mailhost_etrn_requests_total",
            "etrn_requests",
            "Times that a client asked by ETRN for mail that waits.",
        ),
    )
    + (
        Metric(
            "mailhost_commit_seconds",
            "histogram",
            "From the end of a content to its commit.",
            "commit_seconds",
            COMMIT_BOUNDS,
        ),
        Metric(
            "mailhost_message_age_seconds",
            "histogram",
            "Age of messages when they were relayed or delivered.",
            "age_seconds",
            AGE_BOUNDS,
        ),
    )
    + _gauges(
        ("mailhost_queue_messages", "Messages in the queue."),
        (
            "mailhost_queue_messages_by_age",
            "Messages in the queue, by ``state`` as ``queue list`` shows it, and by ``age``.",
        ),
        ("mailhost_queue_recipients", "Recipients in the queue."),
        ("mailhost_queue_held_recipients", "Recipients that operators hold."),
        ("mailhost_queue_active_messages", "Messages in memory, on their way."),
        ("mailhost_waits", "What mail waits for that belongs to no single site."),
        ("mailhost_site_connections", "Connections to a site now."),
        ("mailhost_site_waiting_messages", "Messages that wait in memory for a site."),
        ("mailhost_site_suspended", "Processes that have suspended a site."),
        ("mailhost_pool_working_threads", "Threads of a pool that work."),
        ("mailhost_pool_waiting_tasks", "Pieces of work that wait for a thread of a pool."),
        ("mailhost_pool_thread_limit", "Threads that a pool may have."),
    )
    + (
        Metric(
            "mailhost_queue_oldest_seconds",
            "gauge",
            "Age of the oldest message in the queue; 0: it is empty.",
            largest=True,
        ),
    )
)

#: Of the directory's statistics, what only grows; the rest is as it is now.
_DIRECTORY_COUNTERS = {
    "asked": "Look-ups that were not remembered.",
    "found": "Addresses that the directory knew.",
    "refused": "Addresses that it did not know, or that get no mail.",
    "failed": "Look-ups without an answer.",
    "expanded": "Groups expanded.",
    "turned_away": "Look-ups not asked because every server is down.",
    "cache_hits": "Look-ups answered from memory.",
    "cache_misses": "Look-ups not answered from memory.",
    "queue_full": "Look-ups refused because too many wait.",
    "timed_out": "Look-ups that took too long.",
    "failovers": "Times that another server took over.",
    "outages": "Times that a server went down.",
}
_DIRECTORY_GAUGES = {
    "cached": "Answers remembered.",
    "pending": "Look-ups that wait.",
    "servers_down": "Servers that are down.",
}
_DNS_COUNTERS = {
    "cache_hits": "Questions answered from memory.",
    "cache_misses": "Questions not answered from memory.",
}

#: All there is, by name, in the order in which it is told.
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        *_WINDOWS,
        *_OURS,
        *_counters(
            *((f"mailhost_directory_{n}_total", "", w) for n, w in _DIRECTORY_COUNTERS.items())
        ),
        *_gauges(*((f"mailhost_directory_{n}", w) for n, w in _DIRECTORY_GAUGES.items())),
        *_counters(*((f"mailhost_dns_{n}_total", "", w) for n, w in _DNS_COUNTERS.items())),
        *_gauges(
            ("mailhost_dns_cached", "Answers of DNS remembered."),
        ),
        Metric(
            "mailhost_reactor_lateness_seconds",
            "histogram",
            "How late a process was, asked four times a second.",
            bounds=LATENESS_BOUNDS,
        ),
        *_counters(
            ("mailhost_reactor_stalls_total", "", "Times that it was late by over 0.1 s."),
        ),
        *_gauges(
            ("mailhost_server_running", "1 where the virtual server runs, else 0."),
            ("mailhost_processes", "Processes that answer."),
            ("mailhost_missing_processes", "Workers that are down, or did not answer in time."),
        ),
    )
}

_TALLIED = tuple(metric for metric in METRICS.values() if metric.source)

#: A name, its labels and a number; of a histogram the counts between the bounds, and the sum.
Sample = tuple[str, dict[str, str], Any]


async def _answer_metrics(parts: Parts) -> dict[str, Any]:
    """All samples of this process, and which process it is: its counters begin with it."""
    samples = [*_dns_samples(parts), *_pulse_samples(parts)]
    # All queues at once: each may be waited for a while.
    counting = [
        (part, [Deferred.fromCoroutine(relay.census.latest()) for relay in part.relays])
        for part in parts.values()
    ]
    for part, queues in counting:
        counted = [await one for one in queues]
        samples += _tally_samples(part)
        samples += _directory_samples(part)
        samples += _queue_samples(part, counted)
        samples += _site_samples(part)
        samples += _pool_samples(part)
    return {"pid": os.getpid(), "samples": samples, "states": _answer_states(parts)}


def _answer_states(parts: Parts) -> dict[str, str]:
    """The state of each virtual server; needs no disk."""
    return {part.name: part.state for part in parts.values()}


def _tally_samples(part: Part) -> Iterator[Sample]:
    tally = part.tally
    for metric in _TALLIED:
        value: Any = getattr(tally, metric.source)
        if metric.kind == "histogram":
            value = [*value.counts, value.total]
        yield metric.name, {metric.label: part.name}, value


def _directory_samples(part: Part) -> Iterator[Sample]:
    found = part.directory_statistics()
    for name, value in found.items():
        end = "_total" if name in _DIRECTORY_COUNTERS else ""
        if f"mailhost_directory_{name}{end}" in METRICS:
            yield f"mailhost_directory_{name}{end}", {"server": part.name}, value


def _dns_samples(parts: Parts) -> Iterator[Sample]:
    resolvers = {id(part.resolver): part.resolver for part in parts.values()}
    for resolver in resolvers.values():
        for name, value in getattr(resolver, "statistics", {}).items():
            end = "_total" if name in _DNS_COUNTERS else ""
            yield f"mailhost_dns_{name}{end}", {}, value
            if name == "cache_misses":
                yield "windows_smtp_dns_queries_total", {"site": ALL_SITES}, value


def _pulse_samples(parts: Parts) -> Iterator[Sample]:
    pulses = {id(part.pulse): part.pulse for part in parts.values() if part.pulse is not None}
    for pulse in pulses.values():
        spread = pulse.lateness
        yield "mailhost_reactor_lateness_seconds", {}, [*spread.counts, spread.total]
        yield "mailhost_reactor_stalls_total", {}, pulse.stalls


def _queue_samples(part: Part, counted: Sequence[Counted | None]) -> list[Sample]:
    """
    :param counted: what is in each of its queues; `None`: that cannot be read now.
    """
    relays = part.relays
    active = sum(relay.pressure.active for relay in relays)
    sites = [view for relay in relays for view in relay.sites()]
    numbers: dict[str, float] = {
        "windows_smtp_inbound_connections_current": len(part.session_views()),
        "windows_smtp_outbound_connections_current": sum(one.connections for one in sites),
        "windows_smtp_current_messages_in_local_delivery": sum(one.local_busy for one in relays),
        "windows_smtp_messages_pending_routing": sum(relay.looking for relay in relays),
        "windows_smtp_categorizer_queue_length": part.directory_statistics().get("pending", 0),
        "windows_smtp_local_queue_length": sum(relay.local_waiting for relay in relays),
        "windows_smtp_remote_queue_length": sum(one.waiting_messages for one in sites),
        "mailhost_queue_active_messages": active,
        "mailhost_waits": sum(len(relay.waits()) for relay in relays),
    }
    known = [one for one in counted if one is not None]
    samples: list[Sample] = []
    # Nothing while one of them cannot be read: the rest is wanted then.
    if len(known) == len(counted):
        now = relays[0].steward.clock.seconds() if relays else 0.0
        numbers |= _stored(known, now)
        samples = [*_aged(part.name, known)]
    samples += [(name, {METRICS[name].label: part.name}, n) for name, n in numbers.items()]
    return samples


def _stored(counted: Sequence[Counted], now: float) -> dict[str, float]:
    """What the queues hold."""
    counts = [one.census.counts for one in counted]
    oldest = min((one.oldest_at for one in counts if one.oldest_at is not None), default=now)
    return {
        "windows_smtp_local_retry_queue_length": sum(one.census.local_retries for one in counted),
        "windows_smtp_remote_retry_queue_length": sum(one.census.remote_retries for one in counted),
        "mailhost_queue_messages": sum(one.messages for one in counts),
        "mailhost_queue_recipients": sum(one.recipients for one in counts),
        "mailhost_queue_held_recipients": sum(one.held for one in counts),
        "mailhost_queue_oldest_seconds": max(0.0, now - oldest),
    }


def _aged(server: str, counted: Sequence[Counted]) -> Iterator[Sample]:
    """The same by state and age."""
    for place, age in enumerate(AGES):
        found = [(one.census.ages[place], one.active[place]) for one in counted]
        for state, count in (
            ("active", sum(active for _, active in found)),
            ("due", sum(max(0, ages.due - active) for ages, active in found)),
            ("waiting", sum(ages.waiting for ages, _ in found)),
            ("held", sum(ages.held for ages, _ in found)),
        ):
            where = {"server": server, "state": state, "age": age}
            yield "mailhost_queue_messages_by_age", where, count


def _site_samples(part: Part) -> Iterator[Sample]:
    found = [view for relay in part.relays for view in relay.sites()]
    found.sort(key=_by_mail)
    for view in islice(found, MAX_SITES):
        where = {"server": part.name, "site": view.key}
        yield "mailhost_site_connections", where, view.connections
        yield "mailhost_site_waiting_messages", where, view.waiting_messages
        yield "mailhost_site_suspended", where, int(view.suspended_until is not None)


def _pool_samples(part: Part) -> Iterator[Sample]:
    for view in part.pools():
        where = {"server": part.name, "pool": view.what}
        yield "mailhost_pool_working_threads", where, view.working
        yield "mailhost_pool_waiting_tasks", where, view.waiting
        yield "mailhost_pool_thread_limit", where, view.limit


def _by_mail(view: SiteView) -> tuple[int, int, str]:
    return -view.waiting_messages, -view.connections, view.key


#: What may be asked.
QUESTIONS: Mapping[str, Callable[..., Maybe[Any]]] = {
    "metrics": _answer_metrics,
    "states": _answer_states,
}
