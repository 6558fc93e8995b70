"""
Domain names in letters that DNS does not have.

:Room: ``model``
:RFC: 5890 §2.3.2 (A-labels, U-labels), 5891 §4.
"""

from __future__ import annotations

from functools import lru_cache

import idna

#: RFC 1035 §2.3.4: 255 octets on the wire.
_MAX_CHARACTERS = 253


@lru_cache(maxsize=8192)
def a_labels(name: str) -> str:
    """
    *name* as DNS has it, in lower case where it is not ASCII.

    :raises ValueError: there can be no such name.
    """
    if name.isascii():
        return name
    if len(name) > _MAX_CHARACTERS:
        raise ValueError("a domain name is longer than 253 characters")
    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(str(error)) from None
