"""
The description of all requests, made of the classes that read and answer them.

:Room: ``control``
:Called by: `mailhost.control.api`, for ``/v1/openapi.json``.

OpenAPI 3.1, whose schemas are those of JSON Schema 2020-12.  Words about a value are those of
its class's docstring.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from mailhost.control.calls import Route
from mailhost.control.rights import Need
from mailhost.control.shapes import Shape, rows_in, shapes_of

_REFUSALS = {
    "400": "It is not understood.",
    "401": "A password or a token is needed (remote control only).",
    "403": "It is not allowed to this caller.",
    "404": "It is not there.",
    "405": "It is done by another method.",
    "409": "It cannot be done now.",
    "413": "The body is too large.",
    "422": "The message cannot be sent as it is.",
    "429": "Too many wrong passwords or tokens (remote control only).",
    "503": "It is not known, because a worker does not answer; or passwords and tokens cannot be "
    "checked now (remote control only).",
}
_PLACES: Mapping[str, Mapping[str, Any]] = {
    "id": {"type": "string", "pattern": "^[0-9a-f]{24}$"},
    "name": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[^/?#]+$"},
}
_NEEDS = {
    Need.SEE: "Readers may, and operators for their virtual servers.",
    Need.MAIL: "Operators may for their virtual servers.",
    Need.RUN: "Operators may for their virtual servers.",
    Need.ADMINISTER: "Administrators only.",
}
_SIMPLE: Mapping[Any, Mapping[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}
_IVAR = re.compile(r":ivar (\w+):((?:[^\n]|\n(?!\s*:|\s*\n))*)")


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """An OpenAPI document of *routes*; made of what JSON has."""
    schemas: dict[str, Any] = {
        "Refusal": {
            "type": "object",
            "properties": {
                "error": {"type": "string"},
                "missing_workers": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "description": "With 503: those that do not answer.",
                },
            },
            "required": ["error"],
        }
    }
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for action in route.actions or ("",):
            path = route.path.replace("{action}", action)
            operation = _operation(route, path, schemas)
            paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mailhost control",
            "version": "1",
            "description": "The same requests are answered on the local socket, without a login.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "password": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": ({"password": []}, {"token": []}),
    }


def _operation(route: Route, path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": dict(_PLACES[name])}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    words = _words_of(route.query)
    for name, (attribute, shape) in shapes_of(route.query).items():
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": attribute.default is attrs.NOTHING,
                "description": words.get(attribute.name, shape.allowed),
                "schema": dict(shape.schema),
            }
        )
    found: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{path.removeprefix('/v1').replace('/', '_')}",
        "summary": route.words,
        "description": _NEEDS[route.need],
        "parameters": parameters,
        "responses": {
            "200": _content(route.words, _reference(route.answer, schemas)),
            **{
                status: _content(what, {"$ref": "#/components/schemas/Refusal"})
                for status, what in _REFUSALS.items()
            },
        },
    }
    if shapes_of(route.body):
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _page(route.body, schemas)}},
        }
    return found


def _content(words: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}


# ---- what comes


def _page(page: type[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A class of `mailhost.control.shapes`, as a table."""
    name = page.__name__
    if name not in schemas:
        schemas[name] = {}
        known, words = shapes_of(page), _words_of(page)
        schemas[name] = _object(
            page,
            {
                key: {
                    **_shape(shape, schemas),
                    "description": words.get(attribute.name, shape.allowed),
                }
                for key, (attribute, shape) in known.items()
            },
            [key for key, (one, _) in known.items() if one.default is attrs.NOTHING],
        )
    return {"$ref": f"#/components/schemas/{name}"}


def _shape(shape: Shape, schemas: dict[str, Any]) -> dict[str, Any]:
    page = shape.schema.get("page")
    return dict(shape.schema) if page is None else _page(page, schemas)


def _object(
    page: type[Any], properties: Mapping[str, Any], required: Sequence[str]
) -> dict[str, Any]:
    return {
        "type": "object",
        "description": _about(page),
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


# ---- what goes


def _reference(page: type[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A class of attributes, by its name; it is described where it is not yet."""
    name = page.__name__
    if name not in schemas:
        schemas[name] = {}  # so that one that holds itself comes to an end
        schemas[name] = _answer(page, schemas)
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(page: type[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    hints, words = get_type_hints(page), _words_of(page)
    properties: dict[str, Any] = {}
    for attribute in attrs.fields(page):
        listed = rows_in(attribute)
        schema = (
            _type(hints[attribute.name], schemas) if listed is None else _listed(listed, schemas)
        )
        if attribute.name in words:
            schema = {**schema, "description": words[attribute.name]}
        properties[attribute.name] = schema
    # A table that comes from another process may leave out what has a default there.
    required = [one.name for one in attrs.fields(page) if one.default is attrs.NOTHING]
    return _object(page, properties, required)


def _listed(listed: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    page, also = listed
    if not also:
        item = _reference(page, schemas)
    else:
        item = _answer(page, schemas)
        item["properties"].update({name: _type(kind, schemas) for name, kind in also})
        item["required"] += [name for name, _ in also]
    return {"type": "array", "items": item}


def _type(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if kind in _SIMPLE:
        return dict(_SIMPLE[kind])
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type(one, schemas) for one in parts]}
    if origin is tuple and parts[-1] is not Ellipsis:
        items = [_type(one, schemas) for one in parts]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if origin is tuple:
        return {"type": "array", "items": _type(parts[0], schemas)}
    if origin is dict:
        return {"type": "object"}
    return _reference(kind, schemas)


# ---- words


def _about(page: type[Any]) -> str:
    text = inspect.cleandoc(page.__doc__ or "")
    return " ".join(text.partition("\n\n:")[0].partition(":ivar")[0].split())


def _words_of(page: type[Any]) -> dict[str, str]:
    """What the docstrings of *page*, and of what it is made of, say of each attribute."""
    found: dict[str, str] = {}
    for one in reversed(page.__mro__):
        text = inspect.cleandoc(one.__doc__ or "") if attrs.has(one) else ""
        found |= {name: " ".join(words.split()) for name, words in _IVAR.findall(text)}
    return found
