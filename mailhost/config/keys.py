"""
What is known about a key: one place for reading it, for messages and for the reference.

:Room: ``config`` (floor 1)
:Called by: `mailhost.config.settings` declares with `key`, `keys`, `section`, `sections`;
    `mailhost.config.structure` and `mailhost.config.reference` read with `known_keys`.

A default is written once, as an operator would write it, and parsed when the class is
made: what the reference says is what the program does.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
from attrs import Factory, field, frozen

from mailhost.config.units import Kind

_METADATA = "mailhost.config.key"

T = TypeVar("T")


@frozen
class Key:
    """
    One key of a table.

    :ivar help: what it does.
    :ivar iis: ``GEN-06 MaxConnections``, or empty where IIS has nothing like it.
    :ivar default: as one would write it; empty where the key must be given.
    :ivar name: as it is written, where it cannot be the attribute's name.
    """

    help: str
    iis: str = ""
    default: str = ""
    name: str = ""


@frozen
class ScalarKey(Key):
    """
    A key with one value.

    :ivar kind: the sort of value.
    :ivar nullable: may be null (or "none"), which means the default.
    :ivar stand_in: takes the place of a faulty value of a key without default, so that
        the other faults can be found.
    """

    kind: Kind = attrs.field(kw_only=True)
    nullable: bool = attrs.field(kw_only=True)
    stand_in: str = attrs.field(default="", kw_only=True)

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return not self.default


@frozen
class ListKey(Key):
    """
    A key with several values, a list or one text with separators.

    :ivar kind: the sort of each value.
    :ivar nullable: may be null, which means the default.
    :ivar word: a word that may stand instead of the list, such as ``dns``; it gives `None`.
    :ivar least: how many values there must be.
    :ivar separators: characters between values in one text.
    :ivar tables: a class that an item may be written as: a table instead of a text; its
        method ``item`` makes the value.
    """

    kind: Kind = attrs.field(kw_only=True)
    nullable: bool = attrs.field(kw_only=True)
    word: str = attrs.field(kw_only=True)
    least: int = attrs.field(kw_only=True)
    separators: str = attrs.field(kw_only=True)
    tables: type[Any] | None = attrs.field(kw_only=True)


@frozen
class SectionKey(Key):
    """
    A key that is a table.

    :ivar page: the class with the table's keys.
    :ivar make: from an instance of *page* to the value kept in the settings.
    """

    page: type[Any] = attrs.field(kw_only=True)
    make: Callable[[Any], Any] = attrs.field(kw_only=True)


@frozen
class SectionsKey(Key):
    """
    A key that is a list of tables.

    :ivar page: the class with each table's keys.
    :ivar ini: the first word of such a section's head in INI: ``domain``.
    :ivar least: how many tables there must be.
    """

    page: type[Any] = attrs.field(kw_only=True)
    ini: str = attrs.field(kw_only=True)
    least: int = attrs.field(kw_only=True)


# ---- declaring


def key(
    kind: Kind,
    default: str = "",
    *,
    help: str,
    iis: str = "",
    nullable: bool = False,
    computed: Callable[[Any], Any] | None = None,
    converter: Callable[[Any], Any] | None = None,
    stand_in: str = "",
    name: str = "",
) -> Any:
    """
    A field with one value.

    :param default: as one would write it; ``null`` is `None`, unless *computed*.
    :param computed: gives the default from the other fields of the object.
    """
    told = ScalarKey(
        help,
        iis,
        default,
        name,
        kind=kind,
        nullable=nullable or default == "null",
        stand_in=stand_in,
    )
    options: dict[str, Any] = {
        "metadata": {_METADATA: told},
        "validator": _validator(kind),
        "converter": converter,
    }
    if name.isidentifier():
        options["alias"] = name + "_"
    if computed is not None:
        options["default"] = Factory(computed, takes_self=True)
    elif default:
        options["default"] = None if default == "null" else kind.parse(default)
    return field(**options)


def keys(
    kind: Kind,
    default: str,
    *,
    help: str,
    iis: str = "",
    word: str = "",
    least: int = 0,
    separators: str = ",",
    tables: type[Any] | None = None,
    name: str = "",
) -> Any:
    """
    A field with a tuple of values.

    :param default: as one would write it, without brackets; empty for no values; ``null``
        for no values where null may be written; *word* for `None`.
    """
    if default == word != "":
        value, written = None, word
    elif default == "null":
        value, written = (), "null"
    else:
        parts = [part for part in default.split(",") if part]
        value, written = tuple(kind.parse(part) for part in parts), f"[{default}]"
    told = ListKey(
        help,
        iis,
        written,
        name,
        kind=kind,
        nullable=default == "null",
        word=word,
        least=least,
        separators=separators,
        tables=tables,
    )
    return field(
        default=value,
        validator=_validator(kind, each=True),
        metadata={_METADATA: told},
        alias=name + "_" if name else None,
    )


def section(
    page: type[Any],
    *,
    help: str,
    iis: str = "",
    make: Callable[[Any], Any] | None = None,
    optional: bool = False,
) -> Any:
    """
    A field that is a page of its own.

    :param optional: left out it is `None`; else every key of it has its default then.
    """
    kept = make if make is not None else _itself
    metadata = {_METADATA: SectionKey(help, iis, page=page, make=kept)}
    if optional:
        return field(default=None, metadata=metadata)
    return field(factory=lambda: kept(page()), metadata=metadata)


def sections(page: type[Any], ini: str, *, help: str, iis: str = "", least: int = 0) -> Any:
    """A field with a tuple of pages."""
    told = SectionsKey(help, iis, "" if least else "[]", page=page, ini=ini, least=least)
    return field(default=(), metadata={_METADATA: told})


def _itself(page: T) -> T:
    return page


def _validator(kind: Kind, each: bool = False) -> Callable[[Any, Any, Any], None]:
    """The bounds of *kind* as an attrs validator; the key is named in the message."""

    def validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None:
            return
        try:
            for one in value if each else (value,):
                kind.check(one)
        except ValueError as wrong:
            name = attribute.metadata[_METADATA].name or attribute.name
            raise ValueError(f"{name}: {wrong}; allowed: {kind.allowed}") from None

    return validate


# ---- reading


@frozen
class Declared:
    """
    A key together with the attribute that declares it.

    :ivar argument: the name of the constructor's argument.
    :ivar key: what is known about it.
    """

    argument: str
    key: Key


def known_keys(page: type[Any]) -> Mapping[str, Declared]:
    """The keys of the class *page*, in their order, by the name they are written with."""
    found: dict[str, Declared] = {}
    for attribute in attrs.fields(page):
        told = attribute.metadata.get(_METADATA)
        if told is not None:
            found[told.name or attribute.name] = Declared(attribute.alias or attribute.name, told)
    return types.MappingProxyType(found)
