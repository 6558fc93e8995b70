"""Tests for `mailhost.control.door`."""

from __future__ import annotations

import shutil
import socket
import stat
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource

from mailhost.control.door import Door


class DoorTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailhost-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "new" / "control.sock"

    def open(self) -> Door:
        door = Door(self.path, Resource(), reactor)
        door.open()
        self.addCleanup(door.close)
        return door

    def is_open(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.path)) == 0

    async def test_made_and_removed(self) -> None:
        """For its owner only, in a directory for its owner only."""
        door = self.open()
        self.assertTrue(self.is_open())
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))
        self.assertEqual(0o700, stat.S_IMODE(self.path.parent.stat().st_mode))

        await door.close()

        self.assertFalse(self.path.exists())

    def test_left_by_the_dead(self) -> None:
        """A socket on which nobody listens makes way."""
        self.path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.path))

        self.open()

        self.assertTrue(self.is_open())

    async def test_another_server(self) -> None:
        """It keeps its socket, at our start and at our end."""
        self.open()
        first = self.path.lstat().st_ino

        await self.open().close()

        self.assertEqual(first, self.path.lstat().st_ino)
        self.assertTrue(self.is_open())

    async def test_exchanged(self) -> None:
        """What has taken the name since is left alone."""
        door = self.open()
        self.path.unlink()
        await door.close()
        self.open()
        door = self.open()
        self.path.rename(self.path.with_suffix(".away"))
        self.path.write_text("mine")

        await door.close()

        self.assertEqual("mine", self.path.read_text())

    def test_something_else(self) -> None:
        """A file, a link or a missing right: no socket, and nothing is removed."""
        self.path.parent.mkdir()
        self.path.write_text("precious")
        self.open()
        self.assertEqual("precious", self.path.read_text())

        self.path.unlink()
        self.path.symlink_to(self.folder / "elsewhere")
        self.open()
        self.assertTrue(self.path.is_symlink())
        self.assertFalse((self.folder / "elsewhere").exists())

        self.path = self.path.parent / "file" / "control.sock"
        self.path.parent.write_text("no folder")
        self.open()
