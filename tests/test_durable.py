"""Directories that a power cut does not take."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from mailhost import durable
from mailhost.durable import make_directory


class MakeDirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.top = Path(mkdtemp())
        self.addCleanup(rmtree, self.top)
        self.synced: list[Path] = []

    def make(self, path: Path) -> None:
        """Make it, and note whose names were synced."""
        self.synced.clear()
        with patch.object(durable, "sync_directory", self.synced.append):
            make_directory(path)
        self.assertTrue(path.is_dir())

    def test_all_that_is_missing(self) -> None:
        """Each name that is new."""
        self.make(self.top / "a" / "b")

        self.assertEqual([self.top / "a", self.top], self.synced[:2])

    def test_made_by_somebody_else(self) -> None:
        """A name that is there already may be there on no disk."""
        (self.top / "a" / "b").mkdir(parents=True)

        self.make(self.top / "a" / "b")

        self.assertEqual([self.top / "a", self.top], self.synced[:2])

    def test_not_ours(self) -> None:
        """Nothing above a directory of somebody else's."""
        with patch.object(os, "geteuid", lambda: os.getuid() + 1):
            self.make(self.top)

        self.assertEqual([], self.synced)

    def test_not_for_us_to_sync(self) -> None:
        """A directory that was there and may not be read is no trouble; a broken disk is."""
        self.make(self.top)
        for number, raised in ((errno.EACCES, False), (errno.EINVAL, False), (errno.EIO, True)):
            failure = OSError(number, os.strerror(number))
            with patch.object(durable, "sync_directory", side_effect=failure):
                if raised:
                    self.assertRaises(OSError, make_directory, self.top)
                else:
                    make_directory(self.top)
