"""Tests for `mailhost.content.names`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.content.names import file_stem, is_file_stem

QUEUE_ID = "0123456789abcdef01234567"


class FileStemTests(SynchronousTestCase):
    def test_without_recipients(self) -> None:
        """The name is the queue id."""
        self.assertEqual(QUEUE_ID, file_stem(QUEUE_ID))
        self.assertEqual(QUEUE_ID, file_stem(QUEUE_ID.upper()))

    def test_a_set_of_recipients(self) -> None:
        """Order and repetition change nothing, another set another name."""
        name = file_stem(QUEUE_ID, ["a@example.com", "b@example.com"])

        self.assertEqual(name, file_stem(QUEUE_ID, ["b@example.com", "a@example.com"] * 2))
        self.assertEqual(QUEUE_ID[:16], name[:16])
        others = [
            QUEUE_ID,
            file_stem(QUEUE_ID, ["a@example.com"]),
            file_stem(QUEUE_ID, ["a@example.com", "b@example.com"], salt=1),
            file_stem("0123456789abcdef01234568", ["a@example.com", "b@example.com"]),
        ]
        self.assertEqual(5, len({name, *others}))

    @given(st.text(), st.lists(st.text()), st.integers(0, 9))
    def test_nothing_from_outside(self, queue_id: str, paths: list[str], salt: int) -> None:
        """Whatever the words, the name is 24 hexadecimal digits (attacks.md A70)."""
        self.assertTrue(is_file_stem(file_stem(queue_id, paths, salt)))
