"""
What comes with a request and what goes back, as attrs classes: read by them, and described by them.

:Room: ``control``
:Called by: the tables of routes declare with `text`, `whole` and the others; `mailhost.control.api`
    reads with `read_page`; `mailhost.control.openapi` describes with `Shape.schema`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
from attrs import NOTHING, field, frozen

from mailhost.control.refusal import Refusal

_SHAPE, _ROWS = "mailhost.control.shape", "mailhost.control.rows"
_MOST_CHARACTERS = 512
#: More seconds than any time that anybody asks about.
_MOST_SECONDS = 1e10

T = TypeVar("T")


@frozen
class Shape:
    """
    One value that comes with a request.

    :ivar schema: of JSON Schema, as it stands in a body.
    :ivar allowed: what may be written, for people.
    :ivar read: from what JSON has; raises `ValueError` where it is something else.
    :ivar parse: from the text behind the question mark, to what *read* takes.
    """

    schema: Mapping[str, Any]
    allowed: str
    read: Callable[[Any], Any]
    parse: Callable[[str], Any] = str


def _declared(shape: Shape, default: Any) -> Any:
    return field(default=default, metadata={_SHAPE: shape})


def _check(good: bool) -> None:
    if not good:
        raise ValueError


# ---- declaring what comes


def text(
    default: Any = None,
    *,
    allowed: str = "",
    pattern: str = "",
    most: int = _MOST_CHARACTERS,
    least: int = 0,
) -> Any:
    """A text of *least* to *most* characters; *pattern* is one of a whole text."""

    def read(value: Any) -> str:
        _check(isinstance(value, str) and least <= len(value) <= most)
        _check(not pattern or re.fullmatch(pattern, value) is not None)
        return str(value)

    schema: dict[str, Any] = {"type": "string", "minLength": least, "maxLength": most}
    if pattern:
        schema["pattern"] = f"^(?:{pattern})$"
    return _declared(Shape(schema, allowed or f"a text of up to {most} characters", read), default)


def whole(least: int, most: int, default: Any = None) -> Any:
    """A whole number."""

    def read(value: Any) -> int:
        _check(isinstance(value, int) and not isinstance(value, bool) and least <= value <= most)
        return int(value)

    def parse(value: str) -> int:
        _check(re.fullmatch(r"[0-9]{1,15}", value) is not None)
        return int(value)

    schema = {"type": "integer", "minimum": least, "maximum": most}
    return _declared(Shape(schema, f"a whole number from {least} to {most}", read, parse), default)


def number(default: Any = None, *, most: float = _MOST_SECONDS, allowed: str = "seconds") -> Any:
    """A number from 0 on, and less than *most*."""

    def read(value: Any) -> float:
        # A text as well: that is how times stand in a list of words.
        _check(isinstance(value, int | float | str) and not isinstance(value, bool))
        found = float(value)
        _check(math.isfinite(found) and 0 <= found < most)
        return found

    schema = {"type": "number", "minimum": 0, "exclusiveMaximum": most}
    return _declared(Shape(schema, allowed, read), default)


def choice(*words: str, default: Any = None) -> Any:
    """One of *words*."""

    def read(value: Any) -> str:
        _check(isinstance(value, str) and value in words)
        return str(value)

    return _declared(
        Shape({"type": "string", "enum": list(words)}, " or ".join(words), read), default
    )


def truth() -> Any:
    """True or false; false where nothing is said."""

    def read(value: Any) -> bool:
        _check(isinstance(value, bool))
        return bool(value)

    return _declared(Shape({"type": "boolean"}, "true or false", read), False)


def texts(
    default: Any = NOTHING,
    *,
    each: Callable[[str], str] = str,
    pattern: str = "",
    most: int | None = None,
) -> Any:
    """
    A list of texts.

    :param each: reads one; may raise a `Refusal` of its own.
    :param pattern: of each, for the description.
    :param most: so many; `None`: as many as the body holds.
    """

    def read(value: Any) -> list[str]:
        _check(isinstance(value, list) and all(isinstance(one, str) for one in value))
        _check(most is None or len(value) <= most)
        return [each(one) for one in value]

    item: dict[str, Any] = {"type": "string"}
    if pattern:
        item["pattern"] = f"^(?:{pattern})$"
    schema: dict[str, Any] = {"type": "array", "items": item}
    allowed = "a list of texts"
    if most is not None:
        schema["maxItems"] = most
        allowed = f"a list of up to {most} texts"
    return _declared(Shape(schema, allowed, read), default)


def table(page: type[Any]) -> Any:
    """A table with the keys of *page*; it must be given."""

    def read(value: Any) -> Any:
        _check(isinstance(value, dict))
        return read_page(page, value)

    return _declared(Shape({"page": page}, "a table; an empty one is everything", read), NOTHING)


def nullable(declared: Any, default: Any) -> Any:
    """What *declared* is, or null."""
    shape: Shape = declared.metadata[_SHAPE]

    def read(value: Any) -> Any:
        return None if value is None else shape.read(value)

    schema = {**shape.schema, "type": [shape.schema["type"], "null"]}
    return _declared(Shape(schema, f"{shape.allowed}; or null", read), default)


# ---- declaring what goes


def rows(page: type[Any], *also: tuple[str, type[Any]]) -> Any:
    """A list of tables as of *page*, with further keys; they may come from other processes."""
    return field(metadata={_ROWS: (page, also)})


def rows_in(attribute: attrs.Attribute[Any]) -> Any:
    """What `rows` was told; `None`: it is another attribute."""
    return attribute.metadata.get(_ROWS)


# ---- reading


def wire_name(attribute: attrs.Attribute[Any]) -> str:
    """``from_`` is called ``from``, which Python keeps for itself."""
    return attribute.name.rstrip("_")


def shapes_of(page: type[Any]) -> dict[str, tuple[attrs.Attribute[Any], Shape]]:
    """The values of *page* by the name they are written with."""
    return {
        wire_name(one): (one, one.metadata[_SHAPE])
        for one in attrs.fields(page)
        if _SHAPE in one.metadata
    }


def read_page(page: type[T], given: Mapping[str, Any], as_text: bool = False) -> T:
    """
    *given* as an instance of *page*.

    :param as_text: it stood behind a question mark: all values are texts.
    :raises Refusal: 400, with the name and what is allowed.
    """
    known = shapes_of(page)
    strange = sorted(set(given) - set(known))
    if strange:
        allowed = ", ".join(known) or "nothing"
        raise Refusal(400, f"{strange[0][:64]}: not known; allowed: {allowed}")
    values: dict[str, Any] = {}
    for name, (attribute, shape) in known.items():
        if name not in given:
            if attribute.default is NOTHING:
                raise Refusal(400, f"{name}: {shape.allowed}")
            continue
        value = given[name]
        if value is None and attribute.default is None:
            continue  # said, and not said, is the same
        try:
            values[attribute.alias or attribute.name] = shape.read(
                shape.parse(value) if as_text else value
            )
        except (ValueError, OverflowError):
            raise Refusal(400, f"{name}: {shape.allowed}") from None
    return page(**values)


@frozen
class Nothing:
    """Nothing comes with the request."""


@frozen
class OfServer:
    """A virtual server; without it all of them are meant."""

    server: str | None = text(allowed="the name of a virtual server", most=64)
