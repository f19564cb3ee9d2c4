"""Arrow tables ↔ Columns, and the id of a row.

The Arrow type of each kind is ARROW; ``schema`` has the form that Columns gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerelle.errors import SchemaError
from passerelle.schema import Column, Columns, Kind, Schema, count

#: What Arrow, and so Delta, holds for each kind.
ARROW: dict[Kind, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
}

_EXACT = 2**53


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of these columns; every field may be null there, for it is the contract that says which may."""
    return pa.schema([pa.field(column.name, ARROW[column.kind]) for column in columns])


def columns_of(table: pa.Table, schema: Schema) -> Columns:
    """The schema's fields of an Arrow table, whose types are those of ARROW, as Columns.

    Raises SchemaError for a column that is not there, for a null where none may be, and for an integer beyond 2^53 in
    a nullable column (it is held as float64 there).

    >>> schema = Schema(columns=(Column(name="hour", kind="integer", nullable=True),))
    >>> columns_of(pa.table({"hour": [5, None]}), schema)
    {'hour': array([ 5., nan])}
    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise SchemaError(f"there is no column {missing[0]!r}; the columns are {', '.join(table.column_names)}.")
    return {column.name: _array_of(table[column.name], column) for column in schema.columns}


def arrow_of(columns: Columns, schema: Schema) -> pa.Table:
    """Columns as an Arrow table: the inverse of columns_of.

    >>> schema = Schema(columns=(Column(name="hour", kind="integer", nullable=True),))
    >>> arrow_of({"hour": np.array([5.0, np.nan])}, schema)["hour"].to_pylist()
    [5, None]
    """
    arrays = []
    for column in schema.columns:
        values, kind = columns[column.name], ARROW[column.kind]
        if column.kind == "timestamp":
            arrays.append(pa.array(values, type=pa.timestamp("us")).cast(kind))
        else:
            arrays.append(pa.array(values, type=kind, from_pandas=True))
    return pa.table(arrays, schema=arrow_schema(schema.columns))


def row_ids(columns: Columns, key: Sequence[str]) -> list[str]:
    """The id of each row: the values of its key, as a caller writes them in JSON, joined by "/".

    It is the id of the prediction for that row, and of its outcome. Where several values are joined, a "/" or "%"
    within one is written %2F or %25, so that no two keys have one id; the value of a single column stays as it is.

    >>> row_ids({"origin": np.array(["EWR"], dtype=object), "flight": np.array([1545])}, ["origin", "flight"])
    ['EWR/1545']
    >>> row_ids({"way": np.array(["in/out"], dtype=object), "gate": np.array([7])}, ["way", "gate"])
    ['in%2Fout/7']
    """
    if not key:
        return [""] * count(columns)
    parts = [_texts(columns[name]) for name in key]
    if len(parts) == 1:
        return parts[0]
    return ["/".join(map(_escaped, values)) for values in zip(*parts, strict=True)]


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("/", "%2F")


def _array_of(values: pa.ChunkedArray, column: Column) -> NDArray[Any]:
    if values.null_count and not column.nullable:
        raise SchemaError(f"column {column.name!r} holds {values.null_count:,} nulls, and may hold none.")
    kind = column.kind
    if kind == "integer" and column.nullable:
        largest = pc.min_max(values).as_py()
        if largest["max"] is not None and max(abs(largest["min"]), abs(largest["max"])) > _EXACT:
            raise SchemaError(f"column {column.name!r} holds integers beyond 2^53 and nulls: make it a string.")
        values = values.cast(pa.float64())
    if kind in ("integer", "number"):
        # A NaN of a chunk without nulls is kept, one of a chunk with nulls is made: both mean missing.
        return np.asarray(
            values.to_numpy(), dtype=np.int64 if not column.nullable and kind == "integer" else np.float64
        )
    if kind == "boolean" and not column.nullable:
        return np.asarray(values.to_numpy(), dtype=np.bool_)
    if kind == "boolean":
        array = np.empty(len(values), dtype=object)
        array[:] = values.to_pylist()
        return array
    if kind == "string":
        return np.asarray(values.to_numpy(), dtype=object)
    if kind == "timestamp":
        return np.asarray(values.cast(pa.timestamp("us")).to_numpy(), dtype="datetime64[us]")
    return np.asarray(values.to_numpy(), dtype="datetime64[D]")


def _texts(values: NDArray[Any]) -> list[str]:
    if values.dtype.kind == "M" and values.dtype != np.dtype("datetime64[D]"):
        return [f"{text.removesuffix('.000000')}Z" for text in np.datetime_as_string(values, unit="us").tolist()]
    if values.dtype.kind == "M":
        return [str(text) for text in np.datetime_as_string(values, unit="D").tolist()]
    if values.dtype.kind == "f":
        return [str(int(value)) if value.is_integer() else repr(value) for value in values.tolist()]
    return [_text(value) for value in values.tolist()]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
