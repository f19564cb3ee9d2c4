"""Schema: what an event's fields are, and the one form in which rows travel from the data to the model.

``Columns`` is that form: a numpy array per field. The notebook's training rows, the events that the endpoint
answers and the golden rows in a bundle are all read into it by the code below, so that a model meets the same
types in production as in the notebook.

| kind | in JSON | in Columns | when it is missing |
|---|---|---|---|
| integer | 5 | int64, or float64 where the column is nullable | NaN |
| number | 5.25 | float64 | NaN |
| boolean | true | bool, or object where the column is nullable | None |
| string | "EWR" | object of str | None |
| timestamp | "2013-01-31T12:00:00Z" | datetime64[us], in UTC | NaT |
| date | "2013-01-31" | datetime64[D] | NaT |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.errors import SchemaError

Kind = Literal["integer", "number", "boolean", "string", "timestamp", "date"]
"""What a field holds."""

Columns = dict[str, NDArray[Any]]
"""Rows, column by column: arrays of one length, in the form that the table above gives for each kind."""

Row = Mapping[str, Any]
"""One event as JSON gives it: field → value."""

MAX_ISSUES = 20
#: Two answers to the same row may differ by this, absolute up to 1 and relative beyond: rounding of the same sums.
TOLERANCE = 1e-12
_MISSING: Any = object()
_MAX_INTEGER = 2**63


class Column(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field of an event, and what it may hold."""

    #: The field's name, as the caller writes it.
    name: str
    #: What it holds.
    kind: Kind
    #: May it be missing (null)?
    nullable: bool = False
    #: The smallest and largest possible value; beyond them the value is impossible, not merely rare.
    minimum: float | None = None
    maximum: float | None = None
    #: The only values that are possible, for strings; None means that new values may appear.
    allowed: tuple[str, ...] | None = None
    #: How a timestamp without an offset is meant (an IANA name); files only, an event always says its offset.
    timezone: str | None = None


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """One reason why a row does not fit: which row (from 0), which field, why."""

    row: int
    field: str
    reason: str


class RowsError(SchemaError):
    """Rows do not fit the schema: correct the fields that are named and send them again."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        self.issues = tuple(issues)
        first = self.issues[0]
        more = f" (and {len(self.issues) - 1} more)" if len(self.issues) > 1 else ""
        super().__init__(f"row {first.row}, field {first.field!r}: {first.reason}{more}")


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of an event, in order.

    >>> schema = Schema(columns=(Column(name="hour", kind="integer"), Column(name="origin", kind="string")))
    >>> schema.validate([{"hour": 5, "origin": "EWR"}])["hour"]
    array([5])
    >>> schema.validate([{"hour": "5", "origin": "EWR"}])
    Traceback (most recent call last):
    passerelle.schema.RowsError: row 0, field 'hour': '5' is not an integer
    """

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The field of this name; a SchemaError names the fields there are if it is not one of them."""
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError(f"there is no field {name!r}; the fields are {', '.join(self.names)}.")

    def select(self, names: Sequence[str]) -> Schema:
        """The schema of these fields alone, in the order given."""
        return Schema(columns=tuple(self.column(name) for name in names))

    def validate(self, rows: Sequence[Row]) -> Columns:
        """Read events into Columns. Raises RowsError with every issue found (the first 20), by row and field."""
        names = set(self.names)
        issues = [
            Issue(row=number, field=name, reason="is not a field of this model")
            for number, row in enumerate(rows)
            for name in sorted(row.keys() - names)
        ]
        columns: Columns = {}
        for column in self.columns:
            values, found = _read(column, [row.get(column.name, _MISSING) for row in rows])
            issues += found
            if not issues:
                columns[column.name] = as_array(values, column)
        if issues:
            raise RowsError(sorted(issues, key=lambda issue: issue.row)[:MAX_ISSUES])
        return columns

    def rows(self, columns: Columns) -> list[dict[str, Any]]:
        """Columns as the events a caller would send: the inverse of validate."""
        lists = {name: _to_json(columns[name], self.column(name)) for name in self.names}
        count = len(next(iter(lists.values()))) if lists else 0
        return [{name: values[number] for name, values in lists.items()} for number in range(count)]


def as_array(values: Sequence[Any], column: Column) -> NDArray[Any]:
    """Python values of a column's kind, None where missing, as the array that Columns holds for it.

    >>> as_array([1, None], Column(name="n", kind="integer", nullable=True))
    array([ 1., nan])
    """
    kind = column.kind
    if kind == "integer" and not column.nullable:
        return np.array(values, dtype=np.int64)
    if kind in ("integer", "number"):
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    if kind == "boolean" and not column.nullable:
        return np.array(values, dtype=np.bool_)
    if kind in ("boolean", "string"):
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    if kind == "timestamp":
        naive = [None if value is None else value.astimezone(UTC).replace(tzinfo=None) for value in values]
        return np.array(naive, dtype="datetime64[us]")
    return np.array(values, dtype="datetime64[D]")


def plain_label(value: Any) -> Any:
    """A class as JSON writes it: a whole float is the integer that it equals, numpy's scalars are Python's.

    >>> plain_label(1.0), plain_label(np.True_), plain_label("late")
    (1, True, 'late')
    """
    if isinstance(value, np.generic):
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def take(columns: Columns, index: Any) -> Columns:
    """The rows at these positions (an integer or boolean array, or a slice)."""
    return {name: array[index] for name, array in columns.items()}


def count(columns: Columns) -> int:
    """How many rows there are.

    >>> count({"hour": np.array([5, 6])})
    2
    """
    return len(next(iter(columns.values()))) if columns else 0


def encode_columns(columns: Columns) -> bytes:
    """Columns as msgpack: numbers as their little-endian bytes, strings as a list. See decode_columns."""
    packed = {}
    for name, array in columns.items():
        if array.dtype == object:
            packed[name] = ("O", array.tolist())
        else:
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            packed[name] = (array.dtype.str.lstrip("<|>="), little.view(np.uint8).tobytes())
    return msgspec.msgpack.encode(packed)


def decode_columns(data: bytes) -> Columns:
    """The inverse of encode_columns; nothing in it is code.

    >>> decode_columns(encode_columns({"hour": np.array([5, 6])}))["hour"]
    array([5, 6])
    """
    columns: Columns = {}
    for name, (kind, payload) in msgspec.msgpack.decode(data).items():
        if kind == "O":
            array = np.empty(len(payload), dtype=object)
            array[:] = payload
            columns[name] = array
        else:
            columns[name] = np.frombuffer(payload, dtype=np.dtype(kind).newbyteorder("<")).copy()
    return columns


def _to_json(array: NDArray[Any], column: Column) -> list[Any]:
    if column.kind == "timestamp":
        return [None if np.isnat(value) else f"{np.datetime_as_string(value, unit='us')}Z" for value in array]
    if column.kind == "date":
        return [None if np.isnat(value) else str(value) for value in array]
    if column.kind == "integer" and array.dtype.kind == "f":
        return [None if math.isnan(value) else int(value) for value in array]
    if array.dtype.kind == "f":
        return [None if math.isnan(value) else value for value in array.tolist()]
    return list(array.tolist())


def _read(column: Column, values: list[Any]) -> tuple[list[Any], list[Issue]]:
    """A field's values, checked; None where one is missing or wrong, with the reason."""
    issues = []
    read = _READERS[column.kind]
    for number, value in enumerate(values):
        if value is None and column.nullable:
            continue
        try:
            if value is _MISSING:
                raise ValueError("is missing" + (": send null if it is not known" if column.nullable else ""))
            if value is None:
                raise ValueError("is null, and may not be")
            values[number] = _possible(column, read(value))
        except ValueError as error:
            issues.append(Issue(row=number, field=column.name, reason=str(error)))
            values[number] = None
    return values, issues[:MAX_ISSUES]


def _possible(column: Column, value: Any) -> Any:
    if column.minimum is not None and value < column.minimum:
        raise ValueError(f"{value!r} is below {column.minimum:g}, the smallest possible value")
    if column.maximum is not None and value > column.maximum:
        raise ValueError(f"{value!r} is above {column.maximum:g}, the largest possible value")
    if column.allowed is not None and value not in column.allowed:
        raise ValueError(f"{value!r} is not one of {', '.join(map(repr, column.allowed))}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004  (a message, not a rule)


def _integer(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -_MAX_INTEGER <= value < _MAX_INTEGER:
        raise ValueError(f"{_shown(value)} is not an integer")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{_shown(value)} is not a finite number: send null if it is not known")
    return number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is not a string")
    return value


def _timestamp(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError(f"{_shown(value)} is not a moment with its offset, like 2013-01-31T12:00:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{_shown(value)} is beyond the years 1 to 9999 in UTC") from error


def _date(value: Any) -> date:
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if not isinstance(day, date) or isinstance(day, datetime):
        raise ValueError(f"{_shown(value)} is not a day, like 2013-01-31")
    return day


_READERS: dict[Kind, Callable[[Any], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": _string,
    "timestamp": _timestamp,
    "date": _date,
}
