"""Tests for `mailhost.config.reference` and ``docs/settings.rst``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.keys import ListKey, ScalarKey
from mailhost.config.reference import reference
from tests.config.test_settings import every_key

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "settings.rst"


class ReferenceTests(SynchronousTestCase):
    def test_page_is_up_to_date(self) -> None:
        """``docs/settings.rst`` is what the classes say now."""
        self.assertEqual(
            PAGE.read_text("utf-8"),
            reference(),
            "run: python -m mailhost.config.reference > docs/settings.rst",
        )

    def test_command(self) -> None:
        """The command in the page's head writes the page."""
        done = subprocess.run(
            [sys.executable, "-m", "mailhost.config.reference"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )

        self.assertEqual(PAGE.read_bytes(), done.stdout)

    def test_complete(self) -> None:
        """Every key is there with its help, its default and its IIS name."""
        text = " ".join(reference().split())
        for name, declared in every_key():
            key = declared.key
            self.assertIn(f"``{name.rpartition('.')[2]}`` {key.help}", text)
            if isinstance(key, ScalarKey | ListKey) and key.default:
                self.assertIn(f":Default: ``{key.default}``", text)
            self.assertIn(key.iis, text)
