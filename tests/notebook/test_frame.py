from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import SchemaError
from passerelle.notebook.frame import STRING, from_frame, infer_schema, to_frame
from passerelle.schema import Column, Columns, Schema, as_array, take

YEARS = datetime(1900, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001  (Hypothesis adds the zone)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(-(2**53), 2**53),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "string": st.text(),
    "timestamp": st.datetimes(*YEARS, timezones=st.timezones()),
    "date": st.dates(),
}
DTYPES = {
    ("integer", False): "int64",
    ("integer", True): "float64",
    ("number", False): "float64",
    ("number", True): "float64",
    ("boolean", False): "bool",
    ("boolean", True): "object",
    ("string", False): str(pd.Series([], dtype=STRING).dtype),
    ("string", True): str(pd.Series([], dtype=STRING).dtype),
    ("timestamp", False): "datetime64[us, UTC]",
    ("timestamp", True): "datetime64[us, UTC]",
    ("date", False): "datetime64[us]",
    ("date", True): "datetime64[us]",
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Columns, Schema]:
    rows = draw(st.integers(0, 6))
    columns, fields = {}, []
    for kind, values in VALUES.items():
        for nullable in (False, True):
            field = Column(name=f"{kind} {nullable}", kind=kind, nullable=nullable)  # type: ignore[arg-type]
            one = st.none() | values if nullable else values
            columns[field.name] = as_array(draw(st.lists(one, min_size=rows, max_size=rows)), field)
            fields.append(field)
    return columns, Schema(columns=tuple(fields))


@given(tables())
def test_columns_come_back_from_a_frame_as_they_were(table: tuple[Columns, Schema]) -> None:
    columns, schema = table
    frame = to_frame(columns, schema)
    back = from_frame(frame, schema)
    for column in schema.columns:
        assert str(frame[column.name].dtype) == DTYPES[column.kind, column.nullable]
        assert back[column.name].dtype == columns[column.name].dtype
        np.testing.assert_array_equal(back[column.name], columns[column.name])


@given(tables())
def test_a_rows_dtypes_and_values_do_not_depend_on_the_batch(table: tuple[Columns, Schema]) -> None:
    columns, schema = table
    frame = to_frame(columns, schema)
    for row in range(len(frame)):
        alone = to_frame(take(columns, [row]), schema)
        pd.testing.assert_frame_equal(alone, frame.iloc[[row]].reset_index(drop=True))


@given(tables())
def test_what_was_inferred_from_a_frame_reads_that_frame(table: tuple[Columns, Schema]) -> None:
    columns, schema = table
    frame = to_frame(columns, schema)
    inferred = infer_schema(frame, {column.name: column for column in schema.columns if column.nullable})
    again = to_frame(from_frame(frame, inferred), inferred)
    if len(frame):
        pd.testing.assert_frame_equal(again, frame)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.Series([1, 2], dtype="Int64"), "integer"),
        (pd.Series([1, 2], dtype="int8"), "integer"),
        (pd.Series([True, None], dtype="boolean"), "boolean"),
        (pd.Series(["a", None], dtype="category"), "string"),
        (pd.Series(["a", "b"], dtype="string"), "string"),
        (pd.Series([1.5, 2], dtype="float32"), "number"),
        (pd.to_datetime(pd.Series(["2013-01-01T05:00-05:00"])), "timestamp"),
        (pd.to_datetime(pd.Series(["2013-01-01"])), "date"),
    ],
)
def test_frames_of_other_dtypes_are_read(values: pd.Series[Any], kind: str) -> None:
    frame = values.to_frame("x")
    schema = infer_schema(frame, {})
    assert schema.column("x").kind == kind
    back = to_frame(from_frame(frame, schema), schema)["x"]
    assert [None if pd.isna(one) else one for one in back] == [None if pd.isna(one) else one for one in values]


@pytest.mark.parametrize(
    ("values", "column", "says"),
    [
        ([1.0, 2.5], Column(name="x", kind="integer"), "'x' holds 2.5 at index 1, and its kind is integer"),
        ([1.0, None], Column(name="x", kind="number"), "'x' is missing in 1 of 2 rows (first at index 1)"),
        ([1.0, np.inf], Column(name="x", kind="number"), "holds inf at index 1"),
        (["a", 5], Column(name="x", kind="string"), "holds 5 at index 1, and its kind is string"),
        (["a", "b"], Column(name="x", kind="number"), "holds 'a' at index 0, and its kind is number"),
        ([True, False], Column(name="x", kind="integer"), "holds True at index 0"),
        (pd.to_datetime(["2013-01-01T05:00"]), Column(name="x", kind="timestamp"), "give it its zone"),
        (pd.to_datetime(["2013-01-01T05:00"]), Column(name="x", kind="date"), "its kind is date"),
    ],
)
def test_what_does_not_fit_is_named(values: Any, column: Column, says: str) -> None:
    with pytest.raises(SchemaError) as refused:
        from_frame(pd.DataFrame({"x": values}), Schema(columns=(column,)))
    assert says in str(refused.value)


def test_columns_that_no_event_can_say_are_refused() -> None:
    with pytest.raises(SchemaError, match="'x' holds mixed values"):
        infer_schema(pd.DataFrame({"x": [[1], "a"]}), {})
    with pytest.raises(SchemaError, match="moments without a zone"):
        infer_schema(pd.DataFrame({"x": pd.to_datetime(["2013-01-01T05:00"])}), {})


def test_a_column_that_is_not_there_is_named_with_what_to_do() -> None:
    schema = Schema(columns=(Column(name="hour", kind="integer"), Column(name="dist", kind="number")))
    with pytest.raises(
        SchemaError, match=r"no column 'dist'; it has hour. Deliver the column with the others, or name"
    ):
        from_frame(pd.DataFrame({"hour": [5]}), schema)
