"""
The service extensions, one file per EHLO keyword.

:Room: ``smtp``
:RFC: 5321 §2.2 (the extension model), §4.1.1.11 (parameters).
"""

from functools import lru_cache

from mailhost.smtp.extensions.auth import AUTH
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.extensions.chunking import CHUNKING
from mailhost.smtp.extensions.eightbitmime import EIGHTBITMIME
from mailhost.smtp.extensions.enhancedstatuscodes import ENHANCEDSTATUSCODES
from mailhost.smtp.extensions.pipelining import PIPELINING
from mailhost.smtp.extensions.size import SIZE
from mailhost.smtp.extensions.starttls import STARTTLS
from mailhost.smtp.rules import Rules

#: In the order in which EHLO lists them.
EXTENSIONS: tuple[Extension, ...] = (
    SIZE,
    PIPELINING,
    ENHANCEDSTATUSCODES,
    EIGHTBITMIME,
    CHUNKING,
    STARTTLS,
    AUTH,
)


@lru_cache(maxsize=256)
def ehlo_lines(rules: Rules, secure: bool) -> tuple[str, ...]:
    """
    What stands in the answer to EHLO behind the greeting.

    :param secure: TLS is on.
    """
    return tuple(one.ehlo_line(rules, secure) for one in EXTENSIONS if one.offered(rules, secure))


__all__ = ["EXTENSIONS", "Extension", "ehlo_lines"]
