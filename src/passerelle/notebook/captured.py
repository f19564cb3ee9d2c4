"""Captured: the values that a feature function brings along, and which of its columns change with them."""

from __future__ import annotations

import builtins
import dis
import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from passerelle.errors import SubmissionError
from passerelle.notebook.compare import as_table, compare, named
from passerelle.notebook.lineage import Lineage, trace

Features = Callable[[Any], Any]


class Cells(msgspec.Struct, frozen=True, kw_only=True):
    """What ran in the notebook so far."""

    #: The cells' sources, in the order in which they ran; empty if there is no history.
    sources: tuple[str, ...]
    #: The notebook's globals.
    namespace: dict[str, Any]


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """A value that a function finds outside its arguments."""

    name: str
    value: Any
    #: True for a global, which the cells give a name; False for what travels in a closure, a default, a partial.
    is_global: bool
    #: Puts another value in its place.
    replace: Callable[[Any], None]


def captured_by(features: Any, namespace: Mapping[str, Any]) -> list[Captured]:
    """Every value that a callable reads from outside, through the functions of the notebook that it calls.

    ``namespace`` holds the notebook's globals; the functions of libraries are not entered.

    >>> cells = {"limit": 3}
    >>> exec("def features(raw): return raw + limit", cells)
    >>> [one.name for one in captured_by(cells["features"], cells)]
    ['limit']
    """
    found: dict[tuple[int, str], Captured] = {}
    for one in _walk(features, namespace, set()):
        found.setdefault((id(one.value), one.name), one)
    return list(found.values())


def _walk(thing: Any, namespace: Mapping[str, Any], seen: set[int]) -> Iterator[Captured]:
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, functools.partial):
        for name, value in thing.keywords.items():
            yield Captured(name=name, value=value, is_global=False, replace=_item_setter(thing.keywords, name))
        for value in thing.args:
            yield Captured(
                name=getattr(value, "name", None) or "an argument of partial",
                value=value,
                is_global=False,
                replace=_cannot,
            )
        yield from _walk(thing.func, namespace, seen)
    elif isinstance(thing, types.MethodType):
        if is_fitted(thing.__self__):  # features=preparation.transform
            return
        yield from _walk(thing.__func__, namespace, seen)
        yield from _attributes(thing.__self__)
    elif isinstance(thing, types.FunctionType):
        if thing.__globals__ is namespace:
            yield from _function(thing, namespace, seen)
    elif callable(thing) and isinstance(type(thing).__call__, types.FunctionType) and not is_fitted(thing):
        yield from _attributes(thing)
        yield from _walk(type(thing).__call__, namespace, seen)


def _attributes(thing: Any) -> Iterator[Captured]:
    values = getattr(thing, "__dict__", {})
    if not isinstance(thing, types.ModuleType):
        for name, value in list(values.items()):
            yield Captured(name=name, value=value, is_global=False, replace=_item_setter(values, name))


def _function(function: types.FunctionType, namespace: Mapping[str, Any], seen: set[int]) -> Iterator[Captured]:
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        yield from _walk(wrapped, namespace, seen)
    for name in sorted(_names(function.__code__)):
        if name in function.__globals__ and not hasattr(builtins, name):
            value = function.__globals__[name]
            if _is_code(value):
                yield from _walk(value, namespace, seen)
                continue
            yield Captured(name=name, value=value, is_global=True, replace=_item_setter(function.__globals__, name))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if _is_code(value):
            yield from _walk(value, namespace, seen)
        else:
            yield Captured(name=name, value=value, is_global=False, replace=_cell_setter(cell))
    yield from _defaults(function)


def _defaults(function: types.FunctionType) -> Iterator[Captured]:
    defaults = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount][-len(defaults) :] if defaults else ()
    for place, (name, value) in enumerate(zip(names, defaults, strict=True)):

        def replace(new: Any, place: int = place) -> None:
            values = list(function.__defaults__ or ())
            values[place] = new
            function.__defaults__ = tuple(values)

        yield Captured(name=name, value=value, is_global=False, replace=replace)
    named = function.__kwdefaults__ or {}
    for name, value in list(named.items()):
        yield Captured(name=name, value=value, is_global=False, replace=_item_setter(named, name))


def _names(code: types.CodeType) -> set[str]:
    """The globals that a function's code reads, in the functions inside it too (co_names has attributes as well)."""
    read = {one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return read.union(*map(_names, inner))


def _is_code(value: Any) -> bool:
    return isinstance(value, types.FunctionType | types.MethodType | functools.partial)


def _item_setter(values: dict[str, Any], name: str) -> Callable[[Any], None]:
    return lambda new: values.__setitem__(name, new)


def _cell_setter(cell: types.CellType) -> Callable[[Any], None]:
    def replace(new: Any) -> None:
        cell.cell_contents = new

    return replace


def _cannot(new: Any) -> None:
    raise TypeError(new)


def is_fitted(value: Any) -> bool:
    """Is it an estimator (``fit``, and ``transform`` or ``predict``), or a collection of nothing else?

    What an estimator learned is its own affair: it is fitted on training rows by design.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set):
        return bool(value) and all(is_fitted(one) for one in value)
    return hasattr(value, "fit") and (hasattr(value, "transform") or hasattr(value, "predict"))


def is_plain_code(value: Any) -> bool:
    """A module, a class or a function of a library: no value that could have been computed."""
    return isinstance(value, types.ModuleType | type | types.BuiltinFunctionType | types.FunctionType | np.ufunc)


def columns_changed_by(one: Captured, features: Features, frame: pd.DataFrame) -> list[str] | None:
    """The columns of the features that change when a captured value is another; None if that cannot be tried.

    The value is put in place, the features are computed, and the old value is put back, whatever happens.
    """
    try:
        before = as_table(features(frame.copy()), "what features returns")
    except Exception:  # noqa: BLE001  (a pipeline that does not let itself be looked into)
        return None
    try:
        other = another(one.value)
        one.replace(other)
    except TypeError:
        return None
    try:
        after = as_table(features(frame.copy()), "what features returns")
    except Exception:  # noqa: BLE001  (another value may be anything to a function: then no column can be named)
        return None
    finally:
        one.replace(one.value)
    gone = [name for name in before.columns if name not in after.columns]
    kept = [name for name in before.columns if name in after.columns]
    if len(after) != len(before):
        return list(before.columns)
    return gone + [difference.column for difference in compare(before[kept], after[kept])]


def another(value: Any) -> Any:  # noqa: C901, PLR0911  (a kind of value per line)
    """A value of the same form with other content. Raises TypeError for a kind it does not know.

    >>> another({"EWR": 12.5, "hours": [5, 6]})
    {'EWR': 26.0, 'hours': [11, 13]}
    """
    if isinstance(value, bool | np.bool_):
        return not value
    if isinstance(value, int | float | complex | np.number):
        return value * 2 + 1
    if isinstance(value, str):
        return f"{value}~"
    if isinstance(value, datetime | date):
        return value + timedelta(days=1)
    if isinstance(value, Mapping):
        return {key: another(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(another(inner) for inner in value)
    if isinstance(value, pd.DataFrame):
        return value.apply(another)
    if isinstance(value, pd.Series):
        return pd.Series(_others(value), index=value.index, name=value.name)
    if isinstance(value, pd.Index):
        return pd.Index(_others(value.to_series()), name=value.name)
    if isinstance(value, np.ndarray):
        return _others(pd.Series(value.reshape(-1))).reshape(value.shape)
    if value is None:
        return value
    raise TypeError(type(value).__name__)


def _others(values: pd.Series[Any]) -> np.ndarray[Any, Any]:
    if values.dtype == np.bool_:
        return ~values.to_numpy(dtype=np.bool_)
    if pd.api.types.is_numeric_dtype(values.dtype):
        return np.asarray(values.to_numpy() * 2 + 1)
    rolled = np.roll(values.to_numpy(dtype=object), 1)
    return np.array([one if one is not old else None for one, old in zip(rolled, values, strict=True)], dtype=object)


def functions_of(model: Any) -> list[Any]:
    """The notebook's functions that a model's steps call: those among its parameters (FunctionTransformer's func)."""
    parameters = model.get_params(deep=True) if hasattr(model, "get_params") else {}
    return [value for value in parameters.values() if _is_code(value)]


def check_lineage(
    functions: Sequence[Any],
    features: Features,
    frame: pd.DataFrame,
    cells: Cells,
    *,
    main: str,
    constants: Sequence[str],
) -> str:
    """Refuse functions that read a value computed on the training rows, unless it is declared or a fitted estimator.

    ``functions`` are looked into; ``features`` makes columns of ``frame``, a few raw rows, to see which change with
    the value. One sentence of what was found, or SubmissionError naming the values and the columns.
    """
    lineage = trace(cells.sources, main)
    captured = [
        one
        for function in functions
        for one in captured_by(function, cells.namespace)
        if not (is_fitted(one.value) or (is_plain_code(one.value) and not _is_learned_class(one, lineage)))
    ]
    unknown = sorted(set(constants) - {one.name for one in captured})
    if unknown:
        there = ", ".join(sorted({one.name for one in captured})) or "no such value"
        raise SubmissionError(f"constants names {unknown[0]!r}, which features does not read: it reads {there}.")
    if not cells.sources:
        return "not checked: there is no history of cells to read"
    learned = [one for one in captured if (_is_learned(one, lineage) if one.is_global else lineage.features_learned)]
    found = {one.name: columns_changed_by(one, features, frame) for one in learned if one.name not in constants}
    if found:
        said = "; ".join(
            f"{named(columns)} {'comes' if len(columns) == 1 else 'come'} from {name!r}" if columns else f"{name!r}"
            for name, columns in found.items()
        )
        raise SubmissionError(
            f"features reads what was computed on the training rows: {said}. If that is meant to stay fixed until the "
            f"next training, declare it: submit(..., constants={list(found)!r}); better, let a transformer of the "
            "model's pipeline learn it in fit. It must come from the rows that the model was fitted on, and no others."
        )
    if constants:
        return f"constants of the training rows that were declared: {', '.join(constants)}"
    return "no name computed on the training rows was found in what features reads"


def _is_learned(one: Captured, lineage: Lineage) -> bool:
    """By its name; or by its value, if that was written out and is another by now, filled in a way not followed."""
    if one.name in lineage.literals:
        same = _is_same(one.value, lineage.literals[one.name])
        return not same and (one.name in lineage.learned or isinstance(one.value, dict | list | set))
    return one.name in lineage.learned or (
        type(one.value).__module__ == "__main__" and type(one.value).__name__ in lineage.learned
    )


def _is_same(value: Any, literal: Any) -> bool:
    try:
        return type(value) is type(literal) and bool(value == literal or repr(value) == repr(literal))
    except Exception:  # noqa: BLE001  (a collection of arrays does not say whether it is equal: it is no literal)
        return False


def _is_learned_class(one: Captured, lineage: Lineage) -> bool:
    return isinstance(one.value, type) and one.is_global and one.name in lineage.learned
