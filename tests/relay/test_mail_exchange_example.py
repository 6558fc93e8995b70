"""The example of the manual, run as a reader would run it."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.support.dns_server import DNSServer

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "mail_exchange_resolver.py"


class ExampleTests(TestCase):
    def setUp(self) -> None:
        self.server = DNSServer(reactor)
        self.addCleanup(self.server.stop)
        self.server.start(
            {
                "example.com": {"MX": ["20 b.example.com.", "10 a.example.com."]},
                "a.example.com": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
                "b.example.com": {"A": ["192.0.2.2"]},
                "null.example.com": {"MX": ["0 ."]},
            }
        )

    async def run_example(self, domain: str) -> tuple[bytes, bytes, int]:
        """Standard output, standard error and exit status."""
        arguments = [str(EXAMPLE), domain, "127.0.0.1", str(self.server.port)]
        return await getProcessOutputAndValue(
            sys.executable, arguments, {"PYTHONPATH": str(ROOT)}, str(ROOT)
        )

    async def test_hosts(self) -> None:
        """Each host is a line: preference, name, addresses."""
        out, err, code = await self.run_example("example.com")
        self.assertEqual((b"", 0), (err, code))
        self.assertEqual(
            b"10 a.example.com 2001:db8::1 192.0.2.1\n20 b.example.com 192.0.2.2\n", out
        )

    async def test_no_host(self) -> None:
        """A domain that takes no mail is told with its status."""
        out, err, code = await self.run_example("null.example.com")
        self.assertEqual((b"", 1), (out, code))
        self.assertIn(b"5.1.10 null.example.com", err)
