"""
What a delivered message is called on disk.

:Room: ``content`` -- the name only; `mailhost.delivery` and `mailhost.spool.badmail` write.
:IIS: §10.3, §10.5 (24 hexadecimal digits).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

_DIGITS = frozenset("0123456789abcdef")


def is_file_stem(text: str) -> bool:
    """Whether *text* is 24 lower-case hexadecimal digits."""
    return len(text) == 24 and _DIGITS.issuperset(text)


def file_stem(queue_id: str, recipients: Iterable[str] = (), salt: int = 0) -> str:
    """
    24 hexadecimal digits for one message and one set of recipients.

    The same arguments give the same name, in whatever order the recipients
    come, so a second attempt after a crash meets the file of the first.  The
    first 16 digits are the queue id's, which rise with time; the last 8 are
    mixed with a digest where there are recipients.  Nothing of an address can
    be seen in it.

    :param queue_id: 24 hexadecimal digits; anything else is digested first.
    :param salt: another number gives another name.
    """
    stem = queue_id.lower()
    if not is_file_stem(stem):
        stem = sha256(queue_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    words = "\n".join([*sorted(set(recipients)), *([str(salt)] if salt else [])])
    if not words:
        return stem
    mixed = int.from_bytes(sha256(words.encode("utf-8", "surrogatepass")).digest()[:4])
    return f"{stem[:16]}{int(stem[16:], 16) ^ mixed:08x}"
