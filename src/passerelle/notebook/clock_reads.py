"""Clock: does a function of the notebook ask what time it is?

Its answer on an event would then be another one tomorrow, and the answers that a bundle was proved with could not be
had again. The names in a function's code are resolved to what they are (``from datetime import datetime as d; d.now``
is found), in the functions and classes of the notebook that it reads too; what a library does inside is not seen.
"""

from __future__ import annotations

import datetime as dt
import dis
import functools
import sys
import time
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from passerelle.errors import SubmissionError

_OF_DATES = frozenset({"now", "today", "utcnow"})
_OF_TIME = frozenset({"time", "time_ns"})
#: A call of one of these with "now" or "today" reads the clock.
_READERS = frozenset({"Timestamp", "datetime64", "to_datetime"})


def check_clock(functions: Iterable[Any], namespace: Mapping[str, Any]) -> None:
    """Raise SubmissionError if a function reads the clock; ``namespace`` holds the notebook's globals."""
    seen: set[int] = set()
    for function in functions:
        for code, values in _codes(function, namespace, seen):
            for name in _clocks(code, values):
                raise SubmissionError(
                    f"{code.co_name} reads the clock ({name}): the same event would be answered otherwise at another "
                    "moment. Send the moment as a field of the event (a column of the main table, say asked_at), and "
                    "let features read that."
                )


def _codes(  # noqa: C901  (a case per kind of callable)
    thing: Any, namespace: Mapping[str, Any], seen: set[int]
) -> Iterator[tuple[types.CodeType, dict[str, Any]]]:
    """The code of every function of the notebook that a callable reaches, with the values outside it by their names."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    inner: list[Any] = []
    if isinstance(thing, functools.partial):
        inner = [thing.func]
    elif isinstance(thing, types.MethodType):
        inner = [thing.__func__, type(thing.__self__)]
    elif isinstance(thing, type):
        if thing.__module__ == namespace.get("__name__"):
            inner = [getattr(one, "__func__", one) for one in vars(thing).values()]
    elif isinstance(thing, types.FunctionType):
        inner = [getattr(thing, "__wrapped__", None)]
        if thing.__globals__ is namespace:
            values = dict(zip(thing.__code__.co_freevars, _contents(thing), strict=True))
            for code in _nested(thing.__code__):
                yield code, {**namespace, **values}
                inner += [values.get(name, namespace.get(name)) for name in (*code.co_names, *code.co_freevars)]
    elif type(thing).__module__ == namespace.get("__name__"):
        inner = [type(thing)]
    for one in inner:
        yield from _codes(one, namespace, seen)


def _contents(function: types.FunctionType) -> list[Any]:
    return [cell.cell_contents if cell != types.CellType() else None for cell in function.__closure__ or ()]


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _clocks(code: types.CodeType, values: Mapping[str, Any]) -> Iterator[str]:  # noqa: C901  (a case per instruction)
    """What reads the clock in one code: names and their attributes are followed to the objects that they mean."""
    imported: dict[str, Any] = {}
    module: Any = None
    value: Any = None
    name = ""
    for one in dis.get_instructions(code):
        said = one.argval
        if one.opname == "IMPORT_NAME":
            module = value = sys.modules.get(str(said))
        elif one.opname == "IMPORT_FROM":
            value = getattr(module, str(said), None)
        elif one.opname.startswith("STORE_"):
            if value is not None and isinstance(said, str) and module is not None:
                imported[said] = value
            value = None
            continue
        elif one.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            value, name = getattr(value, str(said), None) if value is not None else None, f"{name}.{said}"
        elif one.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FAST", "LOAD_DEREF")) and isinstance(said, str):
            value, name = imported.get(said, values.get(said)), said
            if one.opname.startswith("LOAD_FAST") and said not in imported:
                value = None
        elif one.opname.startswith("LOAD_CONST") and said in ("now", "today"):
            if getattr(value, "__name__", "") in _READERS:
                yield f"{name}({said!r})"
        elif one.opname not in ("CACHE", "PUSH_NULL", "PRECALL"):
            value = None
        if _is_clock(value):
            yield name


def _is_clock(value: Any) -> bool:
    name, owner = getattr(value, "__name__", None), getattr(value, "__self__", None)
    if not isinstance(value, types.MethodType | types.BuiltinFunctionType):
        return False
    of_dates = name in _OF_DATES and isinstance(owner, type) and issubclass(owner, dt.date)
    return of_dates or (name in _OF_TIME and owner is time)
