"""
One SMTP reply: code, enhanced status and words, checked when it is made.

:Room: ``model``
:RFC: 5321 §4.2 (replies), 2034 and 3463 (enhanced status codes).
:Used by: `mailhost.smtp.replies` holds nearly all that we send.
"""

from __future__ import annotations

import re
from functools import lru_cache

from attrs import Attribute, evolve, field

from mailhost.model.values import value

_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_UNSAFE = re.compile(r"[^\x20-\x7e]")
#: §4.5.3.1.5: a reply line may have 512 octets, code and CRLF included.
_MAX_WORDS = 480


def printable(words: str) -> str:
    """*words* with everything but printable ASCII replaced by ``?``."""
    if words.isascii() and words.isprintable():
        return words
    return _UNSAFE.sub("?", words)


def _lines(words: str | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(words, str):
        return (printable(words)[:_MAX_WORDS],)
    return tuple(printable(line)[:_MAX_WORDS] for line in words) or ("",)


#: Codes after which the connection ends (RFC 5321 §3.8).
CLOSING = frozenset({221, 421})


@value
class Reply:
    """
    What one side says after a command.

    :ivar code: 200-559.
    :ivar status: enhanced status such as ``"5.7.1"``, or `None` where RFC 2034
        §4 allows none (banner, HELO/EHLO, 354).  Its class equals the code's.
    :ivar words: one text per line; whatever could break a line is replaced.
    :ivar setting: behind a refusal, as in ``docs/settings.rst``, from the virtual server's
        table on; empty where the protocol wants it so, or another decides.  Never said.
    :ivar reason: of a refusal, for the log; empty where the words say all.  Never said.
    :raises ValueError: code and status do not go together.
    """

    code: int = field()
    status: str | None = field()
    words: tuple[str, ...] = field(converter=_lines)
    setting: str = field(default="", kw_only=True, eq=False)
    reason: str = field(default="", kw_only=True, eq=False)
    # What it is on the wire, once somebody has asked.
    _octets: bytes = field(default=b"", init=False, eq=False, repr=False)

    @code.validator
    def _check_code(self, attribute: Attribute[int], value: int) -> None:
        if not 200 <= value <= 599:
            raise ValueError(f"{value} is no reply code (RFC 5321 §4.2.1)")

    @status.validator
    def _check_status(self, attribute: Attribute[str | None], value: str | None) -> None:
        if value is None:
            return
        if not _STATUS.fullmatch(value) or int(value[0]) != self.code // 100:
            raise ValueError(f"status {value!r} does not go with code {self.code}")

    @property
    def positive(self) -> bool:
        """2yz or 3yz."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """4yz: trying the same later may help (RFC 5321 §4.2.1)."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5yz."""
        return self.code >= 500

    @property
    def closes(self) -> bool:
        """Whether the connection ends after it: 221 and 421."""
        return self.code in CLOSING

    def __str__(self) -> str:
        status = f"{self.status} " if self.status else ""
        return f"{self.code} {status}{' '.join(self.words)}"

    def because(self, reason: str, setting: str = "") -> Reply:
        """The same, with what is behind it."""
        return evolve(self, reason=reason, setting=setting or self.setting)

    @property
    def octets(self) -> bytes:
        """The reply on the wire, CRLF included; most of what is said is said again and again."""
        if not self._octets:
            object.__setattr__(self, "_octets", self._encoded())
        return self._octets

    def _encoded(self) -> bytes:
        last = len(self.words) - 1
        if not last:
            return f"{self}\r\n".encode("ascii")
        status = f"{self.status} " if self.status else ""
        return "".join(
            f"{self.code}{' ' if n == last else '-'}{status}{line}\r\n"
            for n, line in enumerate(self.words)
        ).encode("ascii")


@lru_cache(maxsize=1024)
def without_status(reply: Reply) -> Reply:
    """The same for a session that does not offer ENHANCEDSTATUSCODES (RFC 2034)."""
    return reply if reply.status is None else Reply(reply.code, None, reply.words)
