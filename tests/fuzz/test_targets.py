"""The fuzz targets, with a grammar in place of coverage: what a session could well say."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import targets

HEAD = st.binary(min_size=9, max_size=9)


def sessions(words: list[bytes]) -> st.SearchStrategy[bytes]:
    said = st.lists(st.one_of(st.sampled_from(words), st.binary(max_size=12)), max_size=40)
    return st.builds(lambda head, parts: head + b"".join(parts), HEAD, said)


class TargetTests(SynchronousTestCase):
    @settings(max_examples=200)
    @given(sessions(targets.WORDS))
    def test_server(self, octets: bytes) -> None:
        targets.server(octets)

    @settings(max_examples=200)
    # A transaction that is over, and octets behind its answer: there is no other one.
    @example(b"\x00\xf0\x02220 x\n224 x\n450\n67")
    @given(sessions(targets.REPLIES))
    def test_client(self, octets: bytes) -> None:
        targets.client(octets)

    def test_target_can_fail(self) -> None:
        """A content with a bare line feed that had been taken would be seen."""
        self.assertRaises(AssertionError, targets._sent_on, b"one\ntwo\r\n")
