"""
What a value is made with where every message makes some.

:Room: ``model``
:Used by: what is made anew for each message.  Whatever is made less often is `attrs.frozen`.

``attrs.frozen`` has a guard at each attribute, and its own ``__init__`` has to get past it:
with the values of a message that took a twentieth of the time that it costs (ADR 0016).  Nothing
here changes a value once it is made, and mypy, for which `value` is `attrs.frozen`, makes sure of
that.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from attrs import define, setters

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    # The hash is not unsafe: see above.
    value = partial(define, unsafe_hash=True, on_setattr=setters.NO_OP)

__all__ = ["value"]
