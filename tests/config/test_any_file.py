"""Whatever a configuration file holds, reading it gives settings or faults."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.faults import ConfigurationFaults
from mailhost.config.keys import known_keys
from mailhost.config.reader import load_settings
from mailhost.config.settings import Settings
from tests.config.files import directory_for

_WORDS = st.sampled_from(
    [*known_keys(Settings), "name", "listen", "access", "relay", "except", "domains", "type"]
    + ["- ", "  ", "\n", "\n  ", "\n    ", ": ", "= ", "[", "]", "{", "}", ", ", "&a ", "*a"]
    + ["!!str ", "virtual_server a", " / ", "domain b", "127.0.0.1:25", "null", "~", "'", '"']
    + ["#", "|", "---\n", "example.com", "alias", "1", "\t", "? ", "<<", "none"]
)


class AnyFileTests(SynchronousTestCase):
    """Whatever a file holds, the answer is settings or faults."""

    def read(self, content: bytes) -> None:
        """Read *content* as both forms; any other exception fails the test."""
        for name in ("any.yaml", "any.ini"):
            path = self.directory / name
            path.write_bytes(content)
            try:
                self.assertIsInstance(load_settings(path), Settings)
            except ConfigurationFaults as wrong:
                self.assertTrue(wrong.faults)
                lines = content.count(b"\n") + content.count(b"\r") + 1
                for fault in wrong.faults:
                    self.assertTrue(1 <= fault.line <= lines, str(fault))
                    self.assertTrue(str(fault).isprintable())

    def setUp(self) -> None:
        self.directory = directory_for(self)

    @settings(deadline=None)  # writes files
    @given(st.binary())
    def test_octets(self, content: bytes) -> None:
        """Any octets."""
        self.read(content)

    @settings(deadline=None)  # writes files
    @given(st.text())
    @example("[" * 3000)
    @example("a: " * 3000)
    @example("[" + "a / " * 3000 + "a]")
    @example("virtual_servers: [*a]\n")
    def test_text(self, content: str) -> None:
        """Any text."""
        self.read(content.encode("utf-8", "surrogatepass"))

    @settings(deadline=None)  # writes files
    @given(st.lists(_WORDS).map("".join))
    @example("? workers")
    def test_words_of_the_trade(self, content: str) -> None:
        """Anything made of the words and signs that configurations are made of."""
        self.read(content.encode())
