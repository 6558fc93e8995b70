"""Two virtual servers below one limit of outbound connections, in one process and in two."""

from __future__ import annotations

from tests.cli.test_steer import SteerCase
from tests.support.peer_case import LOOPBACK, SENDER, content
from tests.support.process import split_address
from tests.support.recording_sink import RecordingSink

_MESSAGES = 300
_LIMIT = 3


class OneProcessTests(SteerCase):
    workers = 1

    def setUp(self) -> None:
        super().setUp()
        self.sink = RecordingSink(LOOPBACK, 0.05)
        self.sink.start()
        self.addCleanup(self.sink.stop)
        host, port = split_address(self.sink.address)
        self.tree["max_outbound_connections"] = _LIMIT
        for server in self.tree["virtual_servers"]:
            server["access"] = {"relay": {"default": "allow"}}
            server["delivery"] = {"smart_host": f"[{host}]:{port}"}
        self.mailhost.write(self.tree)
        self.start()

    def submit(self, count: int, name: str, test_id: str) -> None:
        with self.client(name) as client:
            for _ in range(count):
                client.sendmail(SENDER, ["there@example.org"], content(test_id))

    def test_nobody_is_starved(self) -> None:
        """One has hundreds of messages for a slow host: the other's single one comes soon."""
        self.submit(_MESSAGES, "one", "many")
        most = 0

        def taken(test_id: str, count: int) -> bool:
            nonlocal most
            most = max(most, self.sink.open_sessions)
            return sum(one.test_id == test_id for one in self.sink.copies) >= count

        self.mailhost.process.wait_until(lambda: taken("many", 20), "the first copies")
        before = len(self.sink.copies)
        self.submit(1, "the other", "single")
        self.mailhost.process.wait_until(lambda: taken("single", 1), "the other's copy")
        between = len(self.sink.copies) - before
        self.mailhost.process.wait_until(lambda: taken("many", _MESSAGES), "all the others")

        self.assertLess(between, _MESSAGES // 2)
        self.assertLessEqual(most, _LIMIT)


class WorkersTests(OneProcessTests):
    workers = 2
