"""Decoding: msgspec learns a type's fields when it first decodes into it, and two threads must not teach it at once.

A thread that decodes into a type while another is still learning it reads fields that are not there yet, and the
process ends with a segmentation fault (msgspec 0.22; docs/decisions/prepared-types.md). So whoever decodes into a type
of ours takes it from ``prepared``, which lets one thread at a time learn.
"""

from __future__ import annotations

import threading
from types import UnionType
from typing import Any, TypeVar, overload

import msgspec

Kind = TypeVar("Kind")

#: A lock that its holder may take again: to learn a type may import a module, which prepares types of its own.
_learning = threading.RLock()
_learnt: set[object] = set()


@overload
def prepared(kind: type[Kind]) -> type[Kind]: ...
@overload
def prepared(kind: UnionType) -> Any: ...
def prepared(kind: Any) -> Any:
    """The same type, whose fields msgspec knows by now. Costs a look into a set from the second time on.

    >>> class Point(msgspec.Struct):
    ...     x: float
    >>> msgspec.json.decode(b'{"x": 1.5}', type=prepared(Point))
    Point(x=1.5)
    """
    if kind not in _learnt:
        with _learning:
            msgspec.json.Decoder(kind)
            _learnt.add(kind)
    return kind
