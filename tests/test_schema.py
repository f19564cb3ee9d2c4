"""Schema: what an event may hold, and that nothing changes on its way into Columns and back."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import SchemaError
from passerelle.schema import (
    Column,
    Columns,
    RowsError,
    Schema,
    as_array,
    count,
    decode_columns,
    encode_columns,
    take,
)

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(-(2**53), 2**53),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "string": st.text(max_size=20),
    "timestamp": st.dates(date(1, 1, 3), date(9999, 12, 29)).map(
        lambda day: datetime(day.year, day.month, day.day, 7, 30, 15, 123456, timezone(timedelta(hours=2)))
    ),
    "date": st.dates(),
}


def as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


@st.composite
def rows_and_schema(draw: st.DrawFn) -> tuple[Schema, list[dict[str, Any]]]:
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=6))
    columns = tuple(
        Column(name=f"c{number}", kind=kind, nullable=draw(st.booleans()))  # type: ignore[arg-type]
        for number, kind in enumerate(kinds)
    )
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    column.name: (st.none() | KINDS[column.kind] if column.nullable else KINDS[column.kind]).map(
                        as_json
                    )
                    for column in columns
                }
            ),
            min_size=1,
            max_size=8,
        )
    )
    return Schema(columns=columns), rows


@given(rows_and_schema())
def test_events_come_back_as_they_were_sent(given_: tuple[Schema, list[dict[str, Any]]]) -> None:
    schema, rows = given_
    columns = decode_columns(encode_columns(schema.validate(rows)))
    again = schema.rows(columns)
    for sent, back in zip(rows, again, strict=True):
        for column in schema.columns:
            value = sent[column.name]
            if column.kind == "timestamp" and value is not None:
                assert datetime.fromisoformat(back[column.name]) == datetime.fromisoformat(value)
            else:
                assert back[column.name] == value
    assert schema.rows(schema.validate(again)) == again


HOUR = Column(name="hour", kind="integer")


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (HOUR, "5", "'5' is not an integer"),
        (HOUR, 5.5, "5.5 is not an integer"),
        (HOUR, True, "True is not an integer"),
        (HOUR, 2**63, "is not an integer"),
        (HOUR, None, "is null, and may not be"),
        (Column(name="hour", kind="integer", minimum=0, maximum=23), 24, "24 is above 23, the largest possible value"),
        (Column(name="hour", kind="integer", minimum=0, maximum=23), -1, "-1 is below 0, the smallest possible value"),
        (Column(name="t", kind="number"), math.nan, "is not a finite number: send null if it is not known"),
        (Column(name="t", kind="number"), math.inf, "is not a finite number"),
        (Column(name="t", kind="number"), 10**400, "is not a finite number"),
        (Column(name="t", kind="number"), "warm", "'warm' is not a number"),
        (Column(name="b", kind="boolean"), 1, "1 is neither true nor false"),
        (Column(name="s", kind="string"), 7, "7 is not a string"),
        (Column(name="s", kind="string", allowed=("EWR", "JFK")), "HPN", "'HPN' is not one of 'EWR', 'JFK'"),
        (Column(name="at", kind="timestamp"), "2013-01-31T12:00:00", "is not a moment with its offset"),
        (Column(name="at", kind="timestamp"), "yesterday", "is not a moment with its offset"),
        (Column(name="at", kind="timestamp"), "0001-01-01T00:00:00+05:00", "is beyond the years 1 to 9999"),
        (Column(name="day", kind="date"), "31.1.2013", "is not a day, like 2013-01-31"),
    ],
)
def test_a_wrong_value_is_named_with_its_row_field_and_reason(column: Column, value: Any, reason: str) -> None:
    good: dict[str, Any] = {"integer": 5, "number": 1.0, "boolean": True, "string": "EWR", "date": "2013-01-31"}
    first = {column.name: good.get(column.kind, "2013-01-31T12:00:00Z")}
    with pytest.raises(RowsError) as caught:
        Schema(columns=(column,)).validate([first, {column.name: value}])
    assert [(issue.row, issue.field) for issue in caught.value.issues] == [(1, column.name)]
    assert reason in caught.value.issues[0].reason


def test_missing_and_extra_fields_are_told_apart_from_null() -> None:
    schema = Schema(columns=(HOUR, Column(name="gust", kind="number", nullable=True)))
    with pytest.raises(RowsError) as caught:
        schema.validate([{"gust": None, "wind": 3}, {"hour": 5}])
    found = {(issue.row, issue.field): issue.reason for issue in caught.value.issues}
    assert found == {
        (0, "hour"): "is missing",
        (0, "wind"): "is not a field of this model",
        (1, "gust"): "is missing: send null if it is not known",
    }


def test_a_flood_of_issues_is_cut_and_never_quadratic() -> None:
    with pytest.raises(RowsError) as caught:
        Schema(columns=(HOUR,)).validate([{"hour": "x"}] * 5000)
    assert len(caught.value.issues) == 20


def test_whole_floats_are_integers_as_other_languages_write_them() -> None:
    assert Schema(columns=(HOUR,)).validate([{"hour": 5.0}])["hour"].tolist() == [5]


def test_null_makes_no_text() -> None:
    column = Column(name="s", kind="string", nullable=True)
    assert as_array(["a", None], column).tolist() == ["a", None]


def test_select_names_what_is_not_there() -> None:
    with pytest.raises(SchemaError, match=r"there is no field 'minute'; the fields are hour"):
        Schema(columns=(HOUR,)).select(["minute"])


def test_take_keeps_rows_together() -> None:
    columns: Columns = {"a": np.array([1, 2, 3]), "b": np.array(["x", "y", "z"], dtype=object)}
    part = take(columns, np.array([2, 0]))
    assert count(part) == 2
    assert part["a"].tolist() == [3, 1]
    assert part["b"].tolist() == ["z", "x"]
