"""The example of the manual, run as a reader would run it."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "ldap_resolver.py"


class ExampleTests(TestCase):
    timeout = 60

    async def run_example(self, *arguments: str) -> tuple[bytes, bytes, int]:
        """Standard output, standard error and exit status."""
        return await getProcessOutputAndValue(
            sys.executable,
            ["-W", "ignore", str(EXAMPLE), *arguments],
            {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            str(ROOT),
        )

    async def test_in_memory(self) -> None:
        """A mailbox on a host, a group with forwarding, and nobody."""
        out, err, code = await self.run_example(
            "robert@example.com", "team@example.com", "nobody@example.com"
        )
        self.assertEqual((b"", 0), (err, code))
        self.assertEqual(
            b"robert@example.com user robert@example.com at mail.example.com\n"
            b"team@example.com group maria@example.net at its domain, "
            b"robert@example.com at mail.example.com\n"
            b"nobody@example.com 550 5.1.1 User unknown: nobody@example.com\n",
            out,
        )

    async def test_no_server(self) -> None:
        """A directory that is down is told with its status."""
        out, err, code = await self.run_example(
            "--server", "ldap://127.0.0.1:1", "robert@example.com"
        )
        self.assertEqual((b"", 1), (out, code))
        self.assertIn(b"4.4.3 no directory server answers", err)
