"""
What a sender asked for, as one text in a row or a file.

:Room: ``spool``
:Called by: `mailhost.spool.group` and `badmail` (writes), `reader` (reads).

Only what was asked for is written: an ordinary message has no text at all, and a parameter
that this program learns later needs no other format of the queue.
"""

from __future__ import annotations

import json
from typing import TypeVar

import attrs

from mailhost.model.parameters import MailParameters, RecipientParameters

_P = TypeVar("_P", MailParameters, RecipientParameters)


def parameters_tree(asked: MailParameters | RecipientParameters) -> dict[str, object]:
    """What was asked for, by name."""
    return attrs.asdict(asked, recurse=False, filter=lambda field, value: value != field.default)


def parameters_text(asked: MailParameters | RecipientParameters) -> str | None:
    """JSON, ASCII; `None` where nothing was asked for."""
    tree = parameters_tree(asked)
    return json.dumps(tree, separators=(",", ":")) if tree else None


def read_parameters(text: object, nothing: _P) -> _P:
    """
    What `parameters_text` has written.

    :param nothing: the value for no text.
    :raises ValueError: this program does not write that.
    """
    if text is None:
        return nothing
    if not isinstance(text, str):
        raise ValueError("what was asked for is no text")
    return parameters_of(json.loads(text), nothing)


def parameters_of(tree: object, nothing: _P) -> _P:
    """
    What `parameters_tree` has given.

    :param nothing: the value for no names.
    :raises ValueError: this program does not write that.
    """
    if tree == {}:
        return nothing
    if not isinstance(tree, dict):
        raise ValueError("what was asked for is no JSON object")
    try:
        return type(nothing)(**tree)
    except TypeError as error:
        raise ValueError(str(error)) from error
