"""Tests for `mailhost.control.exposition` and `metrics`, over a real socket."""

from __future__ import annotations

import http.client
import smtplib
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import Mock

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor
from twisted.internet.defer import fail
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailhost.config.reader import load_settings
from mailhost.control.exposition import Exposition, Outlook, Totals
from mailhost.control.metrics import METRICS
from mailhost.control.steered import Answer, Answers
from mailhost.errors import SpoolProblem
from mailhost.model.tally import Spread
from mailhost.service import MailhostService
from tests.control.steered import FakeSteered

RECEIVED = "windows_smtp_messages_received_total"
QUEUED = "mailhost_queue_messages"
COMMITS = "mailhost_commit_seconds"
BAD = "windows_smtp_badmailed_messages"
STATES_NOW = {"one": "running", "a b": "stopped"}


def told(pid: int, received: int, server: str = "one") -> dict[str, Any]:
    """What a worker says."""
    return {
        "pid": pid,
        "states": STATES_NOW,
        "samples": [
            [RECEIVED, {"site": server}, received],
            [QUEUED, {"server": server}, received],
        ],
    }


def numbers_of(text: str) -> dict[tuple[str, str], float]:
    """By name and the values of the labels, in the order of these, as Prometheus reads it."""
    return {
        (sample.name, ",".join(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class OutlookCase(TestCase):
    timeout = 30

    def open(self, steered: Any) -> Outlook:
        outlook = Outlook("127.0.0.1", 0, Exposition(steered), reactor)
        outlook.open()
        self.addCleanup(outlook.close)
        self.outlook = outlook
        return outlook

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        """The status, and what was answered."""
        address = self.outlook.address
        assert address is not None

        def request() -> tuple[int, str]:
            connection = http.client.HTTPConnection(*address, timeout=10)
            try:
                connection.request(method, path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            finally:
                connection.close()

        found: tuple[int, str] = await deferToThread(request)
        return found

    async def scrape(self) -> dict[tuple[str, str], float]:
        status, text = await self.ask("/metrics")
        self.assertEqual(200, status)
        return numbers_of(text)


class ExpositionTests(OutlookCase):
    def setUp(self) -> None:
        self.steered = FakeSteered()
        self.open(self.steered)

    async def test_workers_add_up(self) -> None:
        """Numbers of the same thing are one number; a worker that is missing is told."""
        self.steered.answers["metrics"] = [told(1, 5), told(2, 7)]
        self.steered.missing = (2,)

        found = await self.scrape()

        self.assertEqual((12, 12), (found[RECEIVED, "one"], found[QUEUED, "one"]))
        self.assertEqual((2, 1), (found["mailhost_processes", ""], found[MISSING]))
        running = [found["mailhost_server_running", name] for name in ("one", "a b")]
        self.assertEqual([1, 0], running)

    async def test_oldest_of_all(self) -> None:
        """The age of the oldest message is that of the oldest in any worker."""
        name = "mailhost_queue_oldest_seconds"
        self.steered.answers["metrics"] = [
            {"pid": n, "samples": [[name, {"server": "one"}, age]], "states": STATES_NOW}
            for n, age in enumerate((3.5, 60.0, 0))
        ]
        self.assertEqual(60.0, (await self.scrape())[name, "one"])

    async def test_spread(self) -> None:
        """A histogram has what is below each bound."""
        spread = Spread(METRICS[COMMITS].bounds)
        for seconds in (0.001, 0.002, 30.0):
            spread.add(seconds)
        sample = [COMMITS, {"server": "one"}, [*spread.counts, spread.total]]
        self.steered.answers["metrics"] = [
            {"pid": n, "samples": [sample], "states": STATES_NOW} for n in (1, 2)
        ]

        found = await self.scrape()

        buckets = [found[f"{COMMITS}_bucket", f"{le},one"] for le in ("0.001", "0.0025", "10.0")]
        self.assertEqual([2, 4, 4], buckets)
        self.assertEqual(6, found[f"{COMMITS}_count", "one"])
        self.assertAlmostEqual(60.006, found[f"{COMMITS}_sum", "one"])

    async def test_labels_of_any_kind(self) -> None:
        """What stands in a label is not taken for the text's own signs."""
        where = {"server": "a b", "site": 'x"\\\n{}'}
        sample = ["mailhost_site_connections", where, 3]
        self.steered.answers["metrics"] = [{"pid": 1, "samples": [sample], "states": STATES_NOW}]

        found = await self.scrape()

        self.assertEqual(3, found["mailhost_site_connections", 'a b,x"\\\n{}'])

    async def test_server_that_has_gone(self) -> None:
        """Virtual servers that are not configured any more are not told."""
        self.steered.answers["metrics"] = [told(1, 5, "gone")]

        self.assertNotIn((RECEIVED, "gone"), await self.scrape())

    async def test_health(self) -> None:
        """Alive, but not ready while a virtual server is stopped."""
        self.steered.answers["states"] = [STATES_NOW]

        self.assertEqual((200, "ok\n"), await self.ask("/healthz"))
        self.assertEqual((503, "a b is stopped\n"), await self.ask("/readyz"))

    async def test_ready(self) -> None:
        """Each runs somewhere; or no worker answers."""
        all_run = {"one": "running", "a b": "running"}
        for states, answer in (
            ([all_run], (200, "ready\n")),
            ([STATES_NOW, all_run], (200, "ready\n")),
            ([{"one": "paused"}, {"one": "stopped"}], (503, "one is paused\n")),
            ([], (503, "no worker answers\n")),
        ):
            self.steered.answers["states"] = states
            self.assertEqual(answer, await self.ask("/readyz"))

    async def test_other_requests(self) -> None:
        """Nothing else is there, and nothing can be changed."""
        for status, method, path in (
            (404, "GET", "/"),
            (404, "GET", "/metrics/x"),
            (404, "GET", "/v1/status"),
            (405, "POST", "/metrics"),
            (405, "HEAD", "/healthz"),
        ):
            self.assertEqual(status, (await self.ask(path, method))[0], path)
        self.assertEqual([], self.steered.done)

    async def test_fault(self) -> None:
        """A fault of the program is for the log; the next one is answered."""
        self.steered.answers["metrics"] = [{}]
        self.assertEqual(500, (await self.ask("/metrics"))[0])
        self.assertEqual(1, len(self.flushLoggedErrors(KeyError)))
        self.steered.answers["metrics"] = [told(1, 5)]

        self.assertEqual(5, (await self.scrape())[RECEIVED, "one"])

    async def test_address_in_use(self) -> None:
        """Said in the log; opening and closing fail for nobody."""
        lines: list[str] = []
        self.addCleanup(globalLogPublisher.removeObserver, add := _keep(lines))
        globalLogPublisher.addObserver(add)
        address = self.outlook.address
        assert address is not None
        second = Outlook(*address, Exposition(self.steered), reactor)

        second.open()
        await second.close()

        self.assertEqual(1, sum("Metrics cannot be told" in line for line in lines))
        self.assertIsNone(second.address)


MISSING = "mailhost_missing_processes", ""


def _keep(lines: list[str]) -> Any:
    return lambda event: lines.append(str(event.get("log_format")))


class TotalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.totals = Totals()

    def take(self, *parts: dict[str, Any], missing: tuple[int, ...] = ()) -> tuple[float, ...]:
        """Received and queued."""
        numbered = [n for n in range(len(parts) + len(missing)) if n not in missing]
        answers = tuple(Answer(n, part) for n, part in zip(numbered, parts, strict=True))
        found = self.totals.take(Answers(answers, missing))
        return found[RECEIVED, (("site", "one"),)][0], found[QUEUED, (("server", "one"),)][0]

    def test_worker_that_has_ended(self) -> None:
        """Its successor begins at nothing; what is told goes on."""
        self.assertEqual((12, 12), self.take(told(1, 5), told(2, 7)))
        self.assertEqual((13, 6), self.take(told(1, 5), told(3, 1)))
        self.assertEqual((15, 8), self.take(told(1, 6), told(3, 2)))

    def test_worker_that_does_not_answer(self) -> None:
        """Its counters stand still; what it has now is not known."""
        self.take(told(1, 5), told(2, 7))

        self.assertEqual((13, 6), self.take(told(1, 6), missing=(1,)))
        self.assertEqual((14, 14), self.take(told(1, 6), told(2, 8)))


class PageTests(SynchronousTestCase):
    def test_every_metric_is_explained(self) -> None:
        """docs/operations.rst has a row for each, with its kind and its words."""
        page = (Path(__file__).parents[2] / "docs/operations.rst").read_text("utf-8")
        rows = {tuple(line.split(None, 2)) for line in page.splitlines()}

        for metric in METRICS.values():
            self.assertIn((f"``{metric.name}``", metric.kind, metric.words), rows)


SERVICE = """
control: {folder}/control.sock
virtual_servers:
  - {{name: one, home: {folder}/one, domain: one.example, fqdn: a.example, listen: ["{one}"],
      messages: {{max_message_size: 1K, max_session_size: unlimited}}}}
  - {{name: two, home: {folder}/two, domain: two.example, fqdn: b.example, listen: ["{two}"]}}
"""


def free_address(host: str) -> str:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


class ServiceTests(OutlookCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.one, self.two = free_address("127.0.0.1"), free_address("127.0.0.2")
        file = self.folder / "mailhost.yaml"
        text = SERVICE.format(folder=self.folder, one=self.one, two=self.two)
        file.write_text(text, "utf-8")
        self.service = MailhostService(load_settings(file), reactor, lambda: load_settings(file))
        self.service.startService()
        self.addCleanup(self.service.stopService)
        self.open(self.service)

    def send(self, address: str, *to: str, octets: int = 10) -> Any:
        host, port = address.split(":")

        def client() -> str:
            with smtplib.SMTP(host, int(port), "client.example", timeout=10) as smtp:
                try:
                    smtp.sendmail("a@example.org", list(to), f"\r\n{'x' * octets}\r\n")
                except smtplib.SMTPSenderRefused as refused:
                    return str(refused.smtp_code)
            return "sent"

        return deferToThread(client)

    async def test_numbers(self) -> None:
        """What was done with two virtual servers is told, each thing where it happened."""
        await self.send(self.one, "x@one.example", "y@one.example")
        await self.send(self.one, "x@one.example")
        self.assertEqual("552", await self.send(self.one, "x@one.example", octets=1500))
        await self.send(self.two, "x@two.example")
        (self.folder / "two" / "Pickup" / "nobody.eml").write_bytes(b"From: a@x.example\r\n\r\nx")
        (self.folder / "two" / "Pickup" / "loop.eml").write_bytes(
            b"From: a@x.example\r\nTo: b@two.example\r\n" + b"Received: x\r\n" * 20 + b"\r\nx"
        )
        (self.folder / "two" / "Pickup" / "m.eml").write_bytes(
            b"x-sender: a@two.example\r\nx-receiver: b@two.example\r\n\r\nhello\r\n"
        )
        drops = "windows_smtp_directory_drops_total"
        found = await self.scrape()
        nobody, loops = f"{BAD}_no_recipients_total", f"{BAD}_hop_count_exceeded_total"
        pickup = (nobody, "two"), (loops, "two")
        left = (QUEUED, "one"), (QUEUED, "two")
        while (
            (found[drops, "one"], found[drops, "two"]) != (2, 2)
            or not all(map(found.__getitem__, pickup))
            or any(map(found.__getitem__, left))
        ):
            await deferLater(reactor, 0.05)
            found = await self.scrape()

        one, two = (
            {name: value for (name, label), value in found.items() if label == server}
            for server in ("one", "two")
        )
        for name, values in {
            "windows_smtp_inbound_connections_total": (3, 1),
            RECEIVED: (2, 2),
            "windows_smtp_messages_refused_for_size_total": (1, 0),
            "windows_smtp_pickup_directory_messages_retrieved_total": (0, 1),
            "windows_smtp_outbound_connections_total": (0, 0),
            "mailhost_accepted_recipients_total": (3, 2),
            "mailhost_delivered_recipients_total": (3, 2),
            f"{COMMITS}_count": (2, 1),
            "mailhost_message_age_seconds_count": (2, 2),
            QUEUED: (0, 0),
            "mailhost_queue_held_recipients": (0, 0),
            "mailhost_queue_oldest_seconds": (0, 0),
            "mailhost_server_running": (1, 1),
            nobody: (0, 1),
            loops: (0, 1),
            f"{BAD}_bad_pickup_file_total": (0, 0),
            "windows_smtp_routing_table_lookups_total": (3, 2),
            "windows_smtp_messages_pending_routing": (0, 0),
        }.items():
            self.assertEqual(values, (one[name], two[name]), name)
        self.assertGreater(one["windows_smtp_message_bytes_received_total"], 20)
        self.assertGreater(one["windows_smtp_bytes_received_total"], 200)
        self.assertGreater(one["windows_smtp_bytes_sent_total"], 500)
        self.assertIn(("windows_smtp_dns_queries_total", "_Total"), found)
        self.assertGreater(found["mailhost_reactor_lateness_seconds_count", ""], 0)
        self.assertIn(("mailhost_dns_cached", ""), found)

    async def test_pools(self) -> None:
        """Threads by what they are for; those for logins once there are some."""
        one = self.service.virtual_servers["one"]
        await one._logins._in_thread(lambda: None)
        assert one.relay is not None
        await one.relay.line._in_thread(lambda: None)

        found = await self.scrape()

        limits = {
            tuple(labels.split(",")): value
            for (name, labels), value in found.items()
            if name == "mailhost_pool_thread_limit"
        }
        every = {"commit": 1, "files": 4, "delivery": 8, "greylist": 1, "trace": 1}
        logins = {"passwords": 2, "outbound logins": 4}
        self.assertEqual(
            {(what, "one"): limit for what, limit in {**every, **logins}.items()}
            | {(what, "two"): limit for what, limit in every.items()},
            limits,
        )
        for name in ("mailhost_pool_working_threads", "mailhost_pool_waiting_tasks"):
            self.assertIn((name, "commit,one"), found)

    async def test_every_metric(self) -> None:
        """All are told from the beginning, but those of a directory and of sites."""
        _, text = await self.ask("/metrics")

        families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        quiet = {name for name in METRICS if "_directory_" in name and "mailhost" in name}
        quiet |= {name for name in METRICS if name.startswith("mailhost_site_")}
        self.assertEqual(set(METRICS) - quiet, families)

    async def test_directory(self) -> None:
        """What a directory counts, each as what it is; what has no name here is left out."""
        statistics = {"cache_hits": 5, "servers_down": 1, "unheard_of": 9}
        two = self.service.virtual_servers["two"]
        self.patch(two._directory, "resolver", Mock(statistics=statistics))

        found = await self.scrape()

        told = {key: value for key, value in found.items() if "_directory_" in key[0]}
        told = {key: value for key, value in told.items() if key[0].startswith("mailhost_")}
        self.assertEqual(
            {
                ("mailhost_directory_cache_hits_total", "two"): 5,
                ("mailhost_directory_servers_down", "two"): 1,
            },
            told,
        )

    async def test_queue_that_cannot_be_read(self) -> None:
        """What it holds is not known; everything else is told all the same."""
        relay = self.service.virtual_servers["two"].relay
        assert relay is not None
        for question in ("counts", "census"):
            self.patch(relay.store, question, lambda *given: fail(SpoolProblem("no disk")))

        found = await self.scrape()

        self.assertEqual(0, found[QUEUED, "one"])
        self.assertNotIn((QUEUED, "two"), found)
        # Nor is it a reason to tell operators nothing at all.
        view = await self.service.view()
        one, two = view.servers
        self.assertEqual((0, 0, ""), (one.messages, one.recipients, one.problem))
        self.assertEqual((None, None), (two.messages, two.recipients))
        self.assertEqual("the queue cannot be read now: no disk", two.problem)
        self.assertEqual(0, found[RECEIVED, "two"])
        self.assertEqual((200, "ready\n"), await self.ask("/readyz"))

    async def test_stopped(self) -> None:
        """Counters outlive a stop and a start; readiness does not."""
        await self.send(self.one, "x@one.example")
        ready = await self.ask("/readyz")
        await self.service.stop("one")
        stopped = await self.ask("/readyz")
        counted = await self.scrape()
        await self.service.start("one")
        await self.send(self.one, "x@one.example")

        self.assertEqual((200, "ready\n"), ready)
        self.assertEqual((503, "one is stopped\n"), stopped)
        self.assertEqual(1, counted[RECEIVED, "one"])
        self.assertEqual(2, (await self.scrape())[RECEIVED, "one"])

    async def test_queue_by_age(self) -> None:
        """What waits, by state and age; what was put off, by where it goes."""
        drop = self.folder / "two" / "Drop"
        drop.rmdir()
        drop.write_text("no directory")
        await self.send(self.two, "x@two.example", "y@two.example")
        found = await self.scrape()
        retry = "windows_smtp_local_retry_queue_length", "two"
        while not found[retry]:
            await deferLater(reactor, 0.05)
            found = await self.scrape()

        counted = {
            labels: count
            for (name, labels), count in found.items()
            if name == "mailhost_queue_messages_by_age" and count
        }
        self.assertEqual({"under 5m,two,waiting": 1}, counted)
        self.assertEqual((1, 1), (found[retry], found[QUEUED, "two"]))
        self.assertEqual(0, found["windows_smtp_remote_retry_queue_length", "two"])
        self.assertGreater(found["mailhost_queue_oldest_seconds", "two"], 0)
