"""A content that is converted as the relay does it."""

from __future__ import annotations

from mailhost.content.conversion import Converter, Survey


def converted(
    octets: bytes, *, eight_bit: bool, step: int | None = None
) -> tuple[dict[int, str], bytes]:
    """
    What has to be changed, and what comes out.

    :param eight_bit: for a host with 8BITMIME.
    :param step: octets in a block; `None`: one block.
    :raises mailhost.content.mime.Unreadable: it cannot be converted.
    """
    size = step or max(1, len(octets))
    blocks = [octets[start : start + size] for start in range(0, len(octets), size)]
    survey = Survey(eight_bit)
    for block in blocks:
        survey.feed(block)
    survey.finish()
    converter = Converter(survey.encodings)
    return survey.encodings, b"".join(map(converter.feed, blocks)) + converter.finish()
