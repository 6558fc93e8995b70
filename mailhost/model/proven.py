"""
What is known of an answer of DNS beyond what it says.

:Room: ``model``
:RFC: 6840 §5.8 (the AD bit).
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

T = TypeVar("T", covariant=True)


class TrustAD(Enum):
    """Which name servers are believed that DNSSEC has proven an answer."""

    LOOPBACK = "loopback"
    ALWAYS = "always"
    NEVER = "never"


class Proven(tuple[T, ...]):
    """An answer that DNSSEC has proven; equal to one with the same values that it has not."""

    __slots__ = ()
