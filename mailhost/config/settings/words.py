"""
Words that mean themselves.

:Room: ``config.settings``
"""

from __future__ import annotations

from mailhost.config.units import Kind, choice


def words(*known: str) -> Kind:
    """One of the words *known*."""
    return choice({word: word for word in known})
