"""
``docs/settings.rst``, written from the classes that read the configuration.

:Room: ``config`` (floor 7)
:Called by: whoever changes a setting::

    python -m mailhost.config.reference > docs/settings.rst
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from mailhost.config.keys import (
    Key,
    ListKey,
    ScalarKey,
    SectionKey,
    SectionsKey,
    known_keys,
)
from mailhost.config.settings import Settings

_HEAD = """\
Settings
========

.. This page is generated: python -m mailhost.config.reference > docs/settings.rst

The configuration is one file, ``etc/mailhost.yaml`` or ``etc/mailhost.ini`` below the current
directory, else the same names in ``/etc/mailhost/``, or the file that ``--config`` names. Both
forms hold the same tree. ``mailhost check`` reads it and reports every fault as
``file:line: key: what is wrong; allowed: what is allowed``.

Every key may be left out, unless it says *must be given*.

- Sizes are octets, or take K, M or G (1024-based). Times are seconds, or take s, m, h or d.
- ``unlimited`` or ``none`` lifts a limit; for a size 0 does so too.
- A list is a YAML list, or one text with commas between the values.
- ``null`` (in INI nothing after the ``=``) means the default, where null is allowed.
- YAML anchors, aliases and tags are refused. ``[``, ``:`` and ``*`` mean something else in YAML, so
  ``"[::]:25"`` and ``"*.example.com"`` stand in quotes there; INI knows no quotes.
- In INI a line that is indented deeper than its key continues the value, and a comment is a line of
  its own that starts with ``#`` or ``;``.
- Relative paths start at the current directory of the process.

*IIS* names the property of the IIS 6 SMTP Service that a key replaces.
"""

_WIDTH = 98


@frozen
class _Place:
    """Where a page stands, in YAML and in INI."""

    yaml: str
    ini: str

    def below(self, name: str, key: SectionKey | SectionsKey) -> _Place:
        many = isinstance(key, SectionsKey)
        yaml = f"{self.yaml}.{name}" if self.yaml else name
        step = f"{key.ini} NAME" if isinstance(key, SectionsKey) else name
        ini = f"{self.ini} / {step}" if self.ini else step
        return evolve(self, yaml=f"{yaml}[]" if many else yaml, ini=ini)


def reference() -> str:
    """The whole page, reStructuredText."""
    return _HEAD + "".join(f"\n\n{part}" for part in _pages(Settings, _Place("", ""))) + "\n"


def _pages(page: type[Any], place: _Place) -> Iterator[str]:
    """*page*, then the pages below it."""
    yield "\n\n".join(_page(page, place))
    for name, declared in known_keys(page).items():
        if isinstance(declared.key, SectionKey | SectionsKey):
            yield from _pages(declared.key.page, place.below(name, declared.key))


def _page(page: type[Any], place: _Place) -> Iterator[str]:
    title = place.yaml or "The topmost keys"
    yield f"{title}\n{'-' * len(title)}"
    yield f"{(inspect.getdoc(page) or '').partition(chr(10))[0]}"
    yield f"In INI: ``[{place.ini or 'mailhost'}]``."
    for name, declared in known_keys(page).items():
        yield _entry(name, declared.key)


def _entry(name: str, key: Key) -> str:
    lines = [f"``{name}``", _wrapped(key.help, "    "), ""]
    for label, words in _facts(key):
        lines.append(_wrapped(f":{label}: {words}", "    ", "        "))
    return "\n".join(lines)


def _facts(key: Key) -> Iterator[tuple[str, str]]:
    if isinstance(key, SectionKey):
        yield "Value", "a table, see below"
    else:
        yield from _value_facts(key)
    if key.iis:
        yield "IIS", key.iis


def _value_facts(key: Key) -> Iterator[tuple[str, str]]:
    yield "Value", _allowed(key)
    if isinstance(key, ScalarKey | ListKey) and key.kind.unit:
        yield "Unit", key.kind.unit
    yield "Default", f"``{key.default}``" if key.default else "none; must be given"


def _allowed(key: Key) -> str:
    if isinstance(key, ListKey):
        word = f"``{key.word}``, or " if key.word else ""
        null = "; or null" if key.nullable else ""
        between = " or ".join(f"``{c}``" for c in key.separators)
        return (
            f"{word}a list (in one text with {between} between the values) of: "
            f"{_literal(key.kind.allowed)}{null}"
        )
    if isinstance(key, ScalarKey):
        return _literal(key.kind.allowed) + ("; or null" if key.nullable else "")
    assert isinstance(key, SectionsKey)
    return "a list of tables, see below" + (f"; at least {key.least}" if key.least else "")


def _literal(words: str) -> str:
    """*words* with what reStructuredText would take for markup escaped."""
    return words.replace("*", "\\*").replace("_", "\\_")


def _wrapped(words: str, first: str = "", rest: str | None = None) -> str:
    return textwrap.fill(
        words,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    sys.stdout.write(reference())
