"""Columns ↔ DataFrame: the one conversion, used alike in the notebook's kernel and in the process that serves.

So that a feature function meets the same types in production as in the notebook, whatever the batch holds:

| kind | dtype | missing |
|---|---|---|
| integer | int64; float64 where the column is nullable | NaN |
| number | float64 | NaN |
| boolean | bool; object where the column is nullable | None |
| string | pandas' default string dtype: str (pandas 3), object (pandas 2) | NaN (pandas 3), None (pandas 2) |
| timestamp | datetime64[us, UTC] | NaT |
| date | datetime64[us] | NaT |
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from passerelle.errors import SchemaError
from passerelle.schema import Column, Columns, Kind, Schema

#: pandas' default for strings, by its version and not by its options: the serving process has none of them set.
STRING: Any = "str" if int(pd.__version__.partition(".")[0]) >= 3 else object  # noqa: PLR2004  (pandas 3)

#: Integers up to here are exact in float64.
_EXACT = 2.0**53


def to_frame(columns: Columns, schema: Schema) -> pd.DataFrame:
    """Columns as a DataFrame of the schema's fields, in its order, with the index 0, 1, 2 ...

    >>> schema = Schema(columns=(Column(name="hour", kind="integer"), Column(name="origin", kind="string")))
    >>> to_frame({"hour": np.array([5]), "origin": np.array(["EWR"], dtype=object)}, schema).to_dict("records")
    [{'hour': 5, 'origin': 'EWR'}]
    """
    return pd.DataFrame({column.name: _to_pandas(columns[column.name], column) for column in schema.columns})


def _to_pandas(array: NDArray[Any], column: Column) -> Any:
    if column.kind == "string":
        return pd.array(array, dtype=STRING) if STRING == "str" else array
    if column.kind == "timestamp":
        return pd.DatetimeIndex(array.astype("datetime64[us]")).tz_localize("UTC")
    if column.kind == "date":
        return array.astype("datetime64[us]")
    return array


def from_frame(frame: pd.DataFrame, schema: Schema) -> Columns:
    """A DataFrame's rows as Columns: the inverse of to_frame, and the way in for frames that a notebook made.

    Raises SchemaError, naming the column, the row and the value, if a column is not there or holds what its kind
    does not allow (a fraction in an integer, a missing value where none may be, a timestamp without its zone).
    """
    absent = [name for name in schema.names if name not in frame.columns]
    if absent:
        raise SchemaError(
            f"the frame has no column {absent[0]!r}; it has {', '.join(map(str, frame.columns))}. Deliver the column "
            "with the others, or name as inputs only the columns that there are."
        )
    return {column.name: _from_pandas(frame[column.name], column) for column in schema.columns}


def _from_pandas(series: pd.Series[Any], column: Column) -> NDArray[Any]:
    missing = series.isna().to_numpy()
    if missing.any() and not column.nullable:
        raise SchemaError(
            f"column {column.name!r} is missing in {missing.sum():,} of {len(series):,} rows "
            f"(first at index {shown(series.index[missing][0])}), and may not be."
        )
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(object)
    if column.kind in ("integer", "number"):
        return _numbers(series, column, missing)
    if column.kind == "timestamp":
        return _moments(series, column)
    if column.kind == "date":
        return _days(series, column, missing)
    wanted = str if column.kind == "string" else (bool, np.bool_)
    values = series.to_numpy(dtype=object).copy()
    values[missing] = None
    _refuse(series, column, missing, lambda value: isinstance(value, wanted))
    if column.kind == "boolean":
        return values if column.nullable else values.astype(np.bool_)
    return values


def _numbers(series: pd.Series[Any], column: Column, missing: NDArray[Any]) -> NDArray[Any]:
    if series.dtype == object or isinstance(series.dtype, pd.StringDtype) or pd.api.types.is_bool_dtype(series.dtype):
        _refuse(
            series,
            column,
            missing,
            lambda value: isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_),
        )
    elif not pd.api.types.is_numeric_dtype(series.dtype):
        raise _not_a(column, series.dtype)
    if column.kind == "integer" and not column.nullable and pd.api.types.is_integer_dtype(series.dtype):
        if pd.api.types.is_unsigned_integer_dtype(series.dtype) and (series > np.iinfo(np.int64).max).any():
            raise _not_a(column, "a number of more than 63 bits")
        return series.to_numpy(dtype=np.int64)
    numbers: NDArray[Any] = series.astype("float64" if series.dtype == object else series.dtype).to_numpy(
        dtype=np.float64, na_value=np.nan
    )
    wrong = ~missing & ~np.isfinite(numbers)
    if column.kind == "integer":
        wrong |= ~missing & ((numbers != np.floor(numbers)) | (np.abs(numbers) > _EXACT))
    if wrong.any():
        raise _not_a(column, shown(series[wrong].iloc[0]), series.index[wrong][0])
    return numbers if column.nullable or column.kind == "number" else numbers.astype(np.int64)


def _moments(series: pd.Series[Any], column: Column) -> NDArray[Any]:
    if series.dtype == object and series.map(lambda value: isinstance(value, datetime), na_action="ignore").all():
        series = pd.to_datetime(series)
    if not isinstance(series.dtype, pd.DatetimeTZDtype):
        hint = ": give it its zone, .dt.tz_localize('America/New_York')" if _is_naive(series) else ""
        raise SchemaError(f"column {column.name!r} is {series.dtype}, and not moments with their zone{hint}.")
    return np.asarray(series.dt.tz_convert("UTC").dt.tz_localize(None), dtype="datetime64[us]")


def _days(series: pd.Series[Any], column: Column, missing: NDArray[Any]) -> NDArray[Any]:
    if _is_naive(series):
        values = series.to_numpy()
        days = values.astype("datetime64[D]")
        wrong = ~missing & (days != values)
        if wrong.any():
            raise _not_a(column, shown(series[wrong].iloc[0]), series.index[wrong][0])
        return days
    _refuse(series, column, missing, lambda value: isinstance(value, date) and not isinstance(value, datetime))
    return np.array([None if gone else value for value, gone in zip(series, missing, strict=True)], "datetime64[D]")


def _is_naive(series: pd.Series[Any]) -> bool:
    return series.dtype.kind == "M" and not isinstance(series.dtype, pd.DatetimeTZDtype)


def _refuse(series: pd.Series[Any], column: Column, missing: NDArray[Any], fits: Any) -> None:
    for index, value, gone in zip(series.index, series, missing, strict=True):
        if not gone and not fits(value):
            raise _not_a(column, shown(value), index)


def _not_a(column: Column, what: object, index: object = None) -> SchemaError:
    where = "" if index is None else f" at index {shown(index)}"
    return SchemaError(f"column {column.name!r} holds {what}{where}, and its kind is {column.kind}.")


def shown(value: Any) -> str:
    """A value for a message, without its wrapping.

    >>> shown(np.float64(0.5))
    '0.5'
    """
    return repr(value.item() if isinstance(value, np.generic) else value)


def infer_schema(frame: pd.DataFrame, known: Mapping[str, Column]) -> Schema:
    """The schema of a frame's columns: as ``known`` says, else by what the frame holds.

    Raises SchemaError if a column holds what no field of an event can be (lists, mixed types, naive moments).

    >>> infer_schema(pd.DataFrame({"hour": [5, 6], "temp": [1.5, None]}), {}).column("temp").nullable
    True
    """
    return Schema(
        columns=tuple(
            known[str(name)]
            if str(name) in known
            else Column(name=str(name), kind=_kind(frame[name]), nullable=bool(frame[name].isna().any()))
            for name in frame.columns
        )
    )


def _kind(series: pd.Series[Any]) -> Kind:
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return "timestamp"
    if _is_naive(series):
        present = series.dropna()
        if not (present == present.dt.normalize()).all():
            raise SchemaError(
                f"column {series.name!r} holds moments without a zone, so that an event cannot say them: "
                "give it one, .dt.tz_localize('America/New_York')."
            )
        return "date"
    inferred = pd.api.types.infer_dtype(series, skipna=True)
    if inferred == "categorical":
        inferred = pd.api.types.infer_dtype(series.astype(object), skipna=True)
    kind = _INFERRED.get(inferred)
    if kind is None:
        raise SchemaError(
            f"column {series.name!r} holds {inferred} values, which no field of an event can be: make it numbers, "
            "strings, true and false, moments or days."
        )
    return kind


#: What pandas calls the values of a column → what a field of that is.
_INFERRED: dict[str, Kind] = {
    "integer": "integer",
    "floating": "number",
    "mixed-integer-float": "number",
    "boolean": "boolean",
    "string": "string",
    "empty": "string",
    "date": "date",
}
