from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import PasserelleError
from passerelle.schema import RowsError
from passerelle.serving.events import BodyError, TooManyRowsError, read_events, read_truths, refuse_repeats


@pytest.mark.parametrize(
    ("body", "row", "field", "reason"),
    [
        (b"[]", 0, "body", "expected `object`, got `array`"),
        (b"{}", 0, "inputs", "is missing: send"),
        (b'{"inputs": []}', 0, "inputs", "expected `object`, got `array`"),
        (b'{"inputs": {}, "label": 1}', 0, "label", "is not a key here"),
        (b'{"inputs": {}, "at": "2013-01-01T00:00:00"}', 0, "at", "expected `datetime` with a timezone component"),
        (b'{"inputs": {}, "at": "yesterday"}', 0, "at", "invalid RFC3339 encoded datetime"),
        (b'{"inputs": {}, "id": ""}', 0, "id", "expected `str` of length >= 1"),
        (b'{"inputs": {}, "id": 5}', 0, "id", "expected `str | null`, got `int`"),
        (b'{"inputs": {}, "unit": 1.5}', 0, "unit", "expected `int | str | null`, got `float`"),
        (b'{"inputs": {"a": 1e999}}', 0, "inputs", "number out of range"),
        (b'{"events": []}', 0, "events", "is empty: send at least one"),
        (b'{"events": {}}', 0, "events", "expected `array`, got `object`"),
        (b'{"events": [{"inputs": {}}, {}]}', 1, "inputs", "is missing"),
        (b'{"events": [{"inputs": {}}, {"inputs": {}, "x": 1}]}', 1, "x", "is not a key here"),
        (b'{"events": [{"inputs": {}}], "id": "a"}', 0, "events", "stands beside the fields of a single event"),
    ],
)
def test_a_fault_is_named_by_row_and_field(body: bytes, row: int, field: str, reason: str) -> None:
    with pytest.raises(RowsError) as caught:
        read_events(body, max_rows=10)
    (issue,) = caught.value.issues
    assert (issue.row, issue.field) == (row, field)
    assert issue.reason.startswith(reason)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"inputs": {"a": NaN}}',
        b'{"inputs": {"a": Infinity}}',
        b'{"inputs": {"a": -Infinity}}',
        b'{"inputs": {"a": ' + b"[" * 100_000,
        b'{"inputs": {"a": "\xff"}}',
        b'{"inputs": {"a": "\\ud800"}}',
        b"{'inputs': {}}",
        b'{"inputs": {}} trailing',
        b"inputs=1",
    ],
)
def test_what_is_not_json_is_refused_with_the_next_step(body: bytes) -> None:
    hint = "send null instead" if b"NaN" in body or b"Infinity" in body else "see /docs"
    with pytest.raises(BodyError, match=hint):
        read_events(body, max_rows=10)


def test_too_many_rows() -> None:
    body = msgspec.json.encode({"events": [{"inputs": {}}] * 11})
    with pytest.raises(TooManyRowsError, match=r"holds 11 events, and 10 are the most"):
        read_events(body, max_rows=10)
    assert len(read_events(body, max_rows=11)[0]) == 11


def test_an_id_stands_once_in_a_request() -> None:
    refuse_repeats(["a", None, "b", None])
    with pytest.raises(RowsError, match="row 2, field 'id': 'a' is also the id of row 0"):
        refuse_repeats(["a", "b", "a"])


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_by_name(body: bytes) -> None:
    for read in (read_events, read_truths):
        with contextlib.suppress(PasserelleError):  # anything else fails the test
            read(body, max_rows=10)


json = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5) | st.integers(-(2**70), 2**70),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "unit", "at", "inputs", "events", "outcomes", "value", "known_at"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(json)
def test_any_json_is_read_or_refused_by_name(value: object) -> None:
    try:
        body = msgspec.json.encode(value)
    except OverflowError:
        return
    for read in (read_events, read_truths):
        with contextlib.suppress(PasserelleError):  # anything else fails the test
            read(body, max_rows=10)


@pytest.mark.parametrize(
    ("body", "row", "field"),
    [
        (b'{"id": "a", "value": true}', 0, "known_at"),
        (b'{"id": "a", "known_at": "2013-01-01T00:00:00Z"}', 0, "value"),
        (b'{"outcomes": []}', 0, "outcomes"),
        (b'{"outcomes": [{"id": "a", "value": null, "known_at": "2013-01-01T00:00:00Z"}]}', 0, "value"),
        (b'{"outcomes": [], "id": "a"}', 0, "outcomes"),
    ],
)
def test_an_outcome_that_lacks_something_is_refused(body: bytes, row: int, field: str) -> None:
    with pytest.raises(RowsError) as caught:
        read_truths(body, max_rows=10)
    assert [(issue.row, issue.field) for issue in caught.value.issues] == [(row, field)]


def test_outcomes_are_read_one_or_many() -> None:
    one = b'{"id": "a", "value": "late", "known_at": "2013-01-01T05:00:00-05:00"}'
    (truth,) = read_truths(one, max_rows=1)
    assert (truth.id, truth.value, truth.known_at.isoformat()) == ("a", "late", "2013-01-01T05:00:00-05:00")
    assert [truth.value for truth in read_truths(b'{"outcomes": [' + one + b"," + one + b"]}", max_rows=2)] == [
        "late"
    ] * 2
