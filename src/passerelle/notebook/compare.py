"""Compare two tables, row by row and column by column, and say in words how they differ."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from passerelle.errors import SubmissionError

#: Numbers may differ by this, relative to the larger: the order of a sum, and nothing that a model would notice.
TOLERANCE = 1e-12

#: Two numbers, or one number and another scale: how close a ratio must be to be said.
_SAME_UNIT = 1e-9
_NAMED = 5


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A column that differs: in how many rows, and the first of them."""

    column: str
    rows: int
    #: The position of the first row that differs, and both values there.
    first: int
    left: Any
    right: Any
    #: right = slope · left + intercept in all rows that differ, if such a pair there is and it is not trivial.
    unit: tuple[float, float] | None = None


def as_table(values: Any, what: str) -> pd.DataFrame:
    """What a feature function gave, or a model was fitted on, as a DataFrame; an array's columns are "0", "1" ...

    Raises SubmissionError if it is no table, or has a column twice.
    """
    if isinstance(values, pd.Series):
        values = values.to_frame()
    if isinstance(values, pd.DataFrame):
        table = values.set_axis([str(name) for name in values.columns], axis=1)
    else:
        array = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
        if array.ndim not in (1, 2):
            raise SubmissionError(
                f"{what} is {type(values).__name__}: give a DataFrame, or an array of rows and columns."
            )
        array = array.reshape(len(array), -1)
        table = pd.DataFrame(array, columns=[str(number) for number in range(array.shape[1])])
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise SubmissionError(f"{what} has the column {twice[0]!r} twice: give each column a name of its own.")
    return table


def compare(left: pd.DataFrame, right: pd.DataFrame) -> list[Difference]:
    """The columns that differ, rows taken by position. Missing equals missing; floats to 1e-12 relative, else exact.

    >>> compare(pd.DataFrame({"t": [10.0, 20.0]}), pd.DataFrame({"t": [50.0, 68.0]}))[0].unit
    (1.8, 32.0)
    """
    found = []
    for name in left.columns:
        one, two = _plain(left[name]), _plain(right[name])
        wrong = ~equal(one, two)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            found.append(
                Difference(
                    column=name,
                    rows=int(wrong.sum()),
                    first=first,
                    left=left[name].iloc[first],
                    right=right[name].iloc[first],
                    unit=_unit(one[wrong], two[wrong]),
                )
            )
    return found


def equal(one: NDArray[Any], two: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two arrays of one length agree, as ``compare`` means it."""
    kinds = {one.dtype.kind, two.dtype.kind}
    if kinds <= set("iu"):
        return np.asarray(one == two)
    if kinds <= set("iuf"):
        left, right = one.astype(np.float64), two.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs(left - right) <= TOLERANCE * np.maximum(np.abs(left), np.abs(right))
        near &= np.isfinite(left) & np.isfinite(right)
        return np.asarray(near | (left == right) | (np.isnan(left) & np.isnan(right)))
    if kinds in ({"M"}, {"m"}):
        return np.asarray((one == two) | (np.isnat(one) & np.isnat(two)))
    return np.fromiter((_same(a, b) for a, b in zip(_objects(one), _objects(two), strict=True)), np.bool_, len(one))


def _same(one: Any, two: Any) -> bool:
    if one is two:
        return True
    same = one == two
    return same if isinstance(same, bool) else bool(np.all(same))


def _objects(array: NDArray[Any]) -> NDArray[Any]:
    values = array.astype(object)
    if array.dtype.kind in "fMm":
        values[pd.isna(array)] = None
    return values


def _plain(series: pd.Series[Any]) -> NDArray[Any]:
    """A column's values without their wrapping: numbers as numbers, moments in UTC, else objects with None."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(object)
    missing = series.isna().to_numpy()
    if series.dtype == object:
        present = series[~missing]
        if len(present) and all(isinstance(value, Number | np.bool_) for value in present):
            return series.astype("float64").to_numpy()
    if pd.api.types.is_numeric_dtype(series.dtype):  # true and false too: they are 1 and 0 to a model
        if pd.api.types.is_integer_dtype(series.dtype) and not missing.any():
            return series.to_numpy(dtype=series.dtype.name.lower())
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return np.asarray(series.dt.tz_convert("UTC").dt.tz_localize(None))
    if series.dtype.kind in "Mm":
        return series.to_numpy()
    values = series.to_numpy(dtype=object).copy()
    values[missing] = None
    return values


def _unit(left: NDArray[Any], right: NDArray[Any]) -> tuple[float, float] | None:
    if not {left.dtype.kind, right.dtype.kind} <= set("iuf"):
        return None
    one, two = left.astype(np.float64), right.astype(np.float64)
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        return None
    low, high = int(one.argmin()), int(one.argmax())
    if one[low] == one[high]:
        return None
    slope = (two[high] - two[low]) / (one[high] - one[low])
    intercept = two[low] - slope * one[low]
    scale = max(float(np.abs(two).max()), abs(intercept))
    if slope == 0 or np.abs(slope * one + intercept - two).max() > _SAME_UNIT * scale:
        return None
    if abs(intercept) <= _SAME_UNIT * scale:
        intercept = 0.0
    return (float(f"{slope:.12g}"), float(f"{intercept:.12g}"))


def unit_in_words(unit: tuple[float, float], left: str, right: str) -> str:
    """A scale as a formula.

    >>> unit_in_words((1.8, 32.0), "features", "X")
    'X = 1.8 · features + 32'
    """
    slope, intercept = unit
    factor = "" if slope == 1 else f"{slope:.6g} · "
    shift = f" {'+' if intercept > 0 else '-'} {abs(intercept):.6g}" if intercept else ""
    return f"{right} = {factor}{left}{shift}"


def named(names: Sequence[str]) -> str:
    """Names for a message: the first few, and how many more.

    >>> named(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
