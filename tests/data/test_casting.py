"""What is written is taken at its word, and what does not fit is named by row."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.data.casting import Cast, cast, guess
from passerelle.schema import Column, Kind


def _cast(values: Any, kind: Kind, *, text: bool = True, **more: Any) -> Cast:
    if not isinstance(values, pa.ChunkedArray):
        values = pa.chunked_array([pa.array(values, pa.string())])
    return cast(values, Column(name="x", kind=kind, **more), text=text)


def _typed(values: list[Any], kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


TEXTS: list[tuple[Kind, str, Any]] = [
    ("integer", "5", 5),
    ("integer", "-5", -5),
    ("integer", "+5", 5),
    ("integer", "5.0", 5),
    ("integer", "9223372036854775807", 2**63 - 1),
    ("number", "5", 5.0),
    ("number", "-1e3", -1000.0),
    ("number", ".5", 0.5),
    ("boolean", "TRUE", True),
    ("boolean", "False", False),
    ("boolean", "0", False),
    ("string", " 007 ", " 007 "),
    ("timestamp", "2013-01-31T12:00:00Z", datetime(2013, 1, 31, 12, tzinfo=UTC)),
    ("timestamp", "2013-01-31 12:00:00.25-05:00", datetime(2013, 1, 31, 17, 0, 0, 250_000, tzinfo=UTC)),
    ("timestamp", "2013-01-31 12:00", datetime(2013, 1, 31, 12, tzinfo=UTC)),
    ("timestamp", "2013-01-31T12:00:00.123456789Z", datetime(2013, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)),
    ("timestamp", "2013-01-31", datetime(2013, 1, 31, tzinfo=UTC)),
    ("date", "2012-02-29", date(2012, 2, 29)),
]


@pytest.mark.parametrize(("kind", "text", "value"), TEXTS)
def test_a_cell_is_read_alone_and_beside_a_bad_one(kind: Kind, text: str, value: Any) -> None:
    assert _cast([text, None, ""], kind).values.to_pylist() == [value, None, None]
    if kind != "string":  # the bad one sends the column down the slow path, which must say the same
        beside = _cast([text, "??", text], kind)
        assert beside.values.to_pylist() == [value, None, value]
        assert [(one.rows, one.values) for one in beside.misfits] == [((1,), ("??",))]


BAD: list[tuple[Kind, str, str]] = [
    ("integer", "5.5", "is not an integer"),
    ("integer", "05:17", "is not an integer"),
    ("integer", "0x10", "is not an integer"),
    ("integer", " 5", "is not an integer"),
    ("integer", "9223372036854775808", "is beyond 64 bits"),
    ("number", "05:17", "is not a number"),
    ("number", "1,5", "is not a number"),
    ("number", "nan", "is not a number"),
    ("number", "inf", "is not a number"),
    ("number", "1e999", "is not finite"),
    ("number", "1_000", "is not a number"),
    ("boolean", "yes", "is not true or false"),
    ("timestamp", "31/01/2013 12:00", "is not a moment"),
    ("timestamp", "2013-02-30T12:00:00Z", "is not a moment"),
    ("timestamp", "20130131", "is not a moment"),
    ("date", "2013-02-30", "is not a day"),
    ("date", "2013-01-31T12:00:00Z", "is not a day"),
]


@pytest.mark.parametrize(("kind", "text", "reason"), BAD)
def test_a_cell_that_does_not_fit_is_named(kind: Kind, text: str, reason: str) -> None:
    result = _cast(["", text, text], kind)
    (misfit,) = result.misfits
    assert misfit.reason.startswith(reason)
    assert (misfit.rows, misfit.values) == ((1, 2), (text, text))
    assert result.values.null_count == 3


def test_a_moment_without_offset_is_meant_in_the_columns_time_zone() -> None:
    result = _cast(["2013-01-31 12:00", "2013-07-01 12:00"], "timestamp", timezone="America/New_York")
    expected = [datetime(2013, 1, 31, 17, tzinfo=UTC), datetime(2013, 7, 1, 16, tzinfo=UTC)]
    assert result.values.to_pylist() == expected
    mixed = _cast(["2013-01-31 12:00", "2013-07-01T16:00:00Z"], "timestamp", timezone="America/New_York")
    assert mixed.values.to_pylist() == expected


@pytest.mark.parametrize("text", ["2013-11-03 01:30", "2013-03-10 02:30"])  # the hour that is twice, and never
@pytest.mark.parametrize("typed", [False, True])
def test_a_moment_that_the_clock_change_makes_unclear_is_refused(text: str, *, typed: bool) -> None:
    values = pa.chunked_array([["2013-01-31 12:00", text]])
    if typed:
        values = values.cast(pa.timestamp("ns"))
    result = _cast(values, "timestamp", text=not typed, timezone="America/New_York")
    assert [(one.rows, one.reason[:21]) for one in result.misfits] == [((1,), "happened twice or nev")]


def test_typed_columns_keep_what_means_the_same() -> None:
    assert _cast(_typed([5.0, None, float("nan")], pa.float64()), "integer", text=False).values.to_pylist() == [
        *(5, None, None)
    ]
    assert _cast(_typed([5, None], pa.uint8()), "number", text=False).values.to_pylist() == [5.0, None]
    decimals = _typed([Decimal("1.50")], pa.decimal128(9, 2))
    assert _cast(decimals, "number", text=False).values.to_pylist() == [1.5]
    plus_one = _typed([datetime(2013, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))], pa.timestamp("ns", "+01:00"))
    assert _cast(plus_one, "timestamp", text=False).values.to_pylist() == [datetime(2013, 1, 1, tzinfo=UTC)]
    midnight = _typed([datetime(2013, 1, 1)], pa.timestamp("ns"))  # noqa: DTZ001  (as pandas writes a day)
    assert _cast(midnight, "date", text=False).values.to_pylist() == [date(2013, 1, 1)]


def test_typed_columns_that_do_not_fit_are_named() -> None:
    result = _cast(_typed([1.0, 5.5, float("inf"), 2.0**60], pa.float64()), "integer", text=False)
    assert [(one.rows, one.values) for one in result.misfits] == [
        ((2,), (float("inf"),)),
        ((1,), (5.5,)),
        ((3,), (2.0**60,)),
    ]
    assert result.values.to_pylist() == [1, None, None, None]
    late = _typed([2**63], pa.uint64())
    assert _cast(late, "integer", text=False).misfits[0].values == (2**63,)
    noon = _typed([datetime(2013, 1, 1, 12)], pa.timestamp("us"))  # noqa: DTZ001  (a day with a time of day)
    assert _cast(noon, "date", text=False).misfits[0].reason == "is not a day: it has a time of day"


@pytest.mark.parametrize(
    ("values", "type_", "kind", "reason"),
    [
        ([1], pa.int64(), "string", "holds int64, not text"),
        ([True], pa.bool_(), "number", "holds bool, not a number"),
        ([1], pa.int64(), "boolean", "holds int64, not true or false"),
        ([[1]], pa.list_(pa.int64()), "number", "holds list<element: int64>, not a number"),
        (["05:17"], pa.string(), "number", "is not a number"),
        (["5"], pa.string(), "integer", "is not an integer"),
    ],
)
def test_a_column_of_another_type_is_refused(values: list[Any], type_: pa.DataType, kind: Kind, reason: str) -> None:
    (misfit,) = _cast(_typed(values, type_), kind, text=False).misfits
    assert misfit.reason.replace("item: ", "element: ") == reason
    assert misfit.values[0] == values[0]


def test_values_of_several_types_are_judged_one_by_one() -> None:
    result = cast([1, "05:17", True, None, 2.5, [3]], Column(name="x", kind="number"), text=False)
    assert result.values.to_pylist() == [1.0, None, None, None, 2.5, None]
    assert (result.misfits[0].rows, result.misfits[0].values) == ((1, 2, 5), ("05:17", True, [3]))
    days = cast(["2013-01-31", 5, "2013-13-01"], Column(name="x", kind="date"), text=False)
    assert days.values.to_pylist() == [date(2013, 1, 31), None, None]
    assert [one.rows for one in days.misfits] == [(1,), (2,)]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["5", None, "-3"], "integer"),
        (["5", "2.5"], "number"),
        (["007", "12"], "string"),
        (["99999999999999999999"], "string"),
        (["1e999"], "string"),
        (["true", "FALSE"], "boolean"),
        (["0", "1"], "integer"),
        (["2013-01-31"], "date"),
        (["2013-01-31", "2013-01-31T12:00:00Z"], "timestamp"),
        (["2013-02-30"], "string"),
        (["05:17"], "string"),
        ([None, ""], None),
    ],
)
def test_a_first_delivery_is_guessed(texts: list[str | None], kind: Kind | None) -> None:
    values = pa.chunked_array([pa.array(texts, pa.string())])
    if texts == [None, ""]:
        values = pa.chunked_array([pa.array([None, None], pa.string())])
    assert guess(values, text=True) == kind


def test_text_of_typed_files_is_guessed_for_moments_and_days_only() -> None:
    assert guess(pa.chunked_array([["5", "6"]]), text=False) == "string"
    assert guess(pa.chunked_array([["2013-01-31T12:00:00Z"]]), text=False) == "timestamp"
    with pytest.raises(ValueError, match=r"values of several types \(int, str\)"):
        guess([1, "a", None], text=False)
    with pytest.raises(ValueError, match="holds list<"):
        guess(pa.chunked_array([[[1]]]), text=False)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_integers_survive_their_text(values: list[int | None]) -> None:
    texts = [None if value is None else str(value) for value in values]
    result = _cast(texts, "integer")
    assert result.values.to_pylist() == values
    assert result.misfits == ()


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_survive_their_text_to_the_last_bit(values: list[float | None]) -> None:
    texts = [None if value is None else repr(value) for value in values]
    assert [repr(one) for one in _cast(texts, "number").values.to_pylist()] == [repr(one) for one in values]


@given(st.lists(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), min_size=1), st.booleans())  # noqa: DTZ001
def test_moments_survive_their_text(moments: list[datetime], spoil: bool) -> None:  # noqa: FBT001  (drawn)
    aware = [one.replace(tzinfo=UTC) for one in moments]
    texts = [one.isoformat() for one in aware] + (["?"] if spoil else [])  # the slow path says the same
    assert _cast(texts, "timestamp").values.to_pylist()[: len(aware)] == aware
