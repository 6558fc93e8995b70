"""
Errors from the kernel itself, given to SQLite and to us alike.

A process lives a whole day (`day`) while its system calls fail for some time; after it
everything that was acknowledged is there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest, TestCase

from tests.crash.ledger import Ledger
from tests.crash.recorded import can_record
from tests.crash.recovery import faults_of

_ROOT = Path(__file__).parents[2]
_CHILD = "import sys; from tests.crash.day import live_in_child; live_in_child(sys.argv[1], '', 0)"
_SECONDS = 30


class RealErrorTests(TestCase):
    timeout = 60

    async def assert_survives(self, *injections: str) -> None:
        """Each injection in a day of its own; see `strace`, option ``inject``."""
        why_not = can_record()
        if why_not:
            raise SkipTest(f"no system calls can be made to fail: {why_not}")
        children = [self.start(injection) for injection in injections]
        for injection, home, child in children:
            said, _ = child.communicate(timeout=_SECONDS)
            # A disk that fails for long ends the day early; that must not cost anything.
            self.assertIn(child.returncode, (0, 1), said)
            trace = (home / "trace").read_text("utf-8")
            self.assertIn("(INJECTED)", trace, injection)
            ledger = Ledger().read((home / "ledger").read_bytes())
            self.assertTrue(ledger.accepted, f"{injection} came before anything was accepted")
            self.assertEqual([], await faults_of(reactor, home, ledger), injection)
            self.flushLoggedErrors()

    def start(self, injection: str) -> tuple[str, Path, subprocess.Popen[str]]:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        home = Path(folder.name)
        call = injection.partition(":")[0]
        tracing = ["strace", "-f", "-o", str(home / "trace"), "-e", f"trace={call}"]
        child = subprocess.Popen(
            [*tracing, "-e", f"inject={injection}", sys.executable, "-c", _CHILD, str(home)],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return injection, home, child

    async def test_writes_of_the_database(self) -> None:
        """Full, over quota, broken: once, and for some time."""
        await self.assert_survives(
            "pwrite64:error=ENOSPC:when=30",
            "pwrite64:error=ENOSPC:when=45..70",
            "pwrite64:error=EDQUOT:when=30",
            "pwrite64:error=EDQUOT:when=45..70",
            "pwrite64:error=EIO:when=50..90",
        )

    async def test_syncs_of_the_database(self) -> None:
        """A sync that fails, of the log or of a large content."""
        await self.assert_survives(
            "fdatasync:error=EIO:when=9..10",
            "fdatasync:error=EIO:when=6",
            "fdatasync:error=ENOSPC:when=11",
        )

    async def test_bodies(self) -> None:
        """A directory that cannot be synced, a large content that cannot be written or moved."""
        await self.assert_survives(
            "fsync:error=EIO:when=1",
            "writev:error=ENOSPC:when=1",
            "rename:error=EIO:when=1",
        )
