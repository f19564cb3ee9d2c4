"""Columns and Arrow are two forms of the same rows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.data.columns import ARROW, arrow_of, arrow_schema, columns_of, row_ids
from passerelle.errors import SchemaError
from passerelle.schema import Column, Kind, Schema, decode_columns, encode_columns

EARLY, LATE = datetime(1700, 1, 1), datetime(2200, 1, 1)  # noqa: DTZ001  (Hypothesis wants them so)
VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "timestamp": st.datetimes(EARLY, LATE).map(lambda one: one.replace(tzinfo=UTC)),
    "date": st.dates(date(1, 1, 1), date(9999, 12, 31)),
}


@st.composite
def _tables(draw: st.DrawFn) -> tuple[Schema, pa.Table]:
    count = draw(st.integers(0, 8))
    columns, arrays = [], []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))):
        nullable = draw(st.booleans())
        value = st.integers(-(2**53), 2**53) if kind == "integer" and nullable else VALUES[kind]
        one = st.none() | value if nullable else value
        columns.append(Column(name=f"c{number}", kind=kind, nullable=nullable))
        arrays.append(pa.array(draw(st.lists(one, min_size=count, max_size=count)), ARROW[kind]))
    return Schema(columns=tuple(columns)), pa.table(arrays, schema=arrow_schema(columns))


@given(_tables())
def test_arrow_and_columns_are_inverse(case: tuple[Schema, pa.Table]) -> None:
    schema, table = case
    columns = columns_of(table, schema)
    assert arrow_of(columns, schema).equals(table)
    assert arrow_of(decode_columns(encode_columns(columns)), schema).equals(table)  # through a handout's file too


@given(_tables())
def test_columns_of_a_table_are_what_validate_makes_of_the_same_events(case: tuple[Schema, pa.Table]) -> None:
    schema, table = case
    columns = columns_of(table, schema)
    again = schema.validate(schema.rows(columns))
    for name in schema.names:
        assert columns[name].dtype == again[name].dtype
        assert columns[name].tolist() == again[name].tolist() or np.array_equal(
            columns[name], again[name], equal_nan=columns[name].dtype != object
        )


def test_each_kind_has_the_form_that_the_schema_room_says() -> None:
    expected: list[tuple[Kind, bool, str]] = [
        ("integer", False, "int64"),
        ("integer", True, "float64"),
        ("number", True, "float64"),
        ("boolean", False, "bool"),
        ("boolean", True, "object"),
        ("string", True, "object"),
        ("timestamp", True, "datetime64[us]"),
        ("date", True, "datetime64[D]"),
    ]
    for kind, nullable, dtype in expected:
        column = Column(name="x", kind=kind, nullable=nullable)
        empty = pa.table([pa.array([None] if nullable else [], ARROW[kind])], schema=arrow_schema([column]))
        array = columns_of(empty, Schema(columns=(column,)))["x"]
        assert (kind, str(array.dtype)) == (kind, dtype)
        if nullable:
            assert array[0] is None or array[0] != array[0] or np.isnat(array[0])


def test_columns_are_chosen_and_ordered_by_the_schema() -> None:
    table = pa.chunked_array([[1], [2]])
    schema = Schema(columns=(Column(name="b", kind="integer"), Column(name="a", kind="integer")))
    assert list(columns_of(pa.table({"a": table, "x": table, "b": table}), schema)) == ["b", "a"]


def test_what_cannot_be_held_is_refused() -> None:
    schema = Schema(columns=(Column(name="a", kind="integer"),))
    with pytest.raises(SchemaError, match="there is no column 'a'; the columns are b"):
        columns_of(pa.table({"b": [1]}), schema)
    with pytest.raises(SchemaError, match="column 'a' holds 2 nulls, and may hold none"):
        columns_of(pa.table({"a": [1, None, None]}), schema)
    nullable = Schema(columns=(Column(name="a", kind="integer", nullable=True),))
    with pytest.raises(SchemaError, match=r"integers beyond 2\^53 and nulls: make it a string"):
        columns_of(pa.table({"a": [2**53 + 1, None]}), nullable)


def test_a_row_is_named_by_its_key_as_json_writes_it() -> None:
    columns = {
        "at": np.array(["2013-01-31T12:00:00", "2013-01-31T12:00:00.5"], dtype="datetime64[us]"),
        "day": np.array(["2013-01-31", "2013-02-01"], dtype="datetime64[D]"),
        "carrier": np.array(["UA", "B6"], dtype=object),
        "flight": np.array([1545, 7]),
        "maybe": np.array([1545.0, 0.5]),
        "flag": np.array([True, False]),
    }
    assert row_ids(columns, list(columns)) == [
        "2013-01-31T12:00:00Z/2013-01-31/UA/1545/1545/true",
        "2013-01-31T12:00:00.500000Z/2013-02-01/B6/7/0.5/false",
    ]
    assert row_ids(columns, ["carrier"]) == ["UA", "B6"]
    assert row_ids(columns, []) == ["", ""]


TEXTS = st.text(st.sampled_from("/%2F5xy"), max_size=5)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6, unique=True))
def test_no_two_keys_have_one_id(keys: list[tuple[str, str]]) -> None:
    columns = {name: np.array([key[place] for key in keys], dtype=object) for place, name in enumerate("ab")}
    assert len(set(row_ids(columns, ["a", "b"]))) == len(keys)


def test_a_slash_within_a_value_is_escaped_where_values_are_joined() -> None:
    columns = {"a": np.array(["x/y", "x", "9%"], dtype=object), "b": np.array(["z", "y/z", "%2F"], dtype=object)}
    assert row_ids(columns, ["a", "b"]) == ["x%2Fy/z", "x/y%2Fz", "9%25/%252F"]
    assert row_ids(columns, ["a"]) == ["x/y", "x", "9%"]
