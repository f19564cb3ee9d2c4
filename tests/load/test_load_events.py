"""What is sent: each event once under its id, then again without."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import DataError
from passerelle.load.events import gather, in_order, is_events, read_events
from passerelle.load.plan import at_rate, at_warp
from passerelle.serving.events import Event
from passerelle.serving.events import read_events as decode

START = datetime(2013, 2, 1, tzinfo=UTC)


def events(count: int) -> list[Event]:
    return [
        Event(id=f"e{number}", unit=f"u{number}", at=START + timedelta(hours=number), inputs={"x": number})
        for number in range(count)
    ]


@given(count=st.integers(1, 40), size=st.integers(1, 15), requests=st.integers(1, 30))
def test_requests_are_what_the_endpoint_reads(count: int, size: int, requests: int) -> None:
    sent = [
        event
        for one in islice(gather(events(count), size=size), requests)
        for event in decode(one.body, max_rows=99)[0]
    ]
    again = [events(count)[number % count] for number in range(len(sent))]
    assert [event.inputs for event in sent] == [event.inputs for event in again]
    assert [event.at for event in sent] == [event.at for event in again]
    assert [event.unit for event in sent] == [event.unit for event in again]
    assert [event.id for event in sent] == [event.id if place < count else None for place, event in enumerate(again)]


@given(count=st.integers(1, 40), size=st.integers(1, 15), requests=st.integers(1, 30))
def test_requests_say_how_many_events_are_in_them(count: int, size: int, requests: int) -> None:
    for one in islice(gather(events(count), size=size), requests):
        assert len(decode(one.body, max_rows=99)[0]) == one.events <= size


def test_nothing_gives_no_requests() -> None:
    assert list(gather([], size=3)) == []
    assert list(at_rate([], 10).due) == []
    assert list(at_warp([], 10).due) == []


def test_a_request_is_due_when_its_last_event_has_happened() -> None:
    mixed = events(5)[::-1]
    ordered, moments = in_order(mixed, size=2)
    assert [event.id for event in ordered] == ["e0", "e1", "e2", "e3", "e4"]
    assert moments == [START + timedelta(hours=hour) for hour in (1, 3, 4)]
    plan = at_warp(mixed, 1800, size=2)
    assert list(plan.due) == [0, 4, 6]
    assert [json.loads(one.body)["events"][-1]["id"] for one in islice(plan.requests, 3)] == ["e1", "e3", "e4"]


def test_an_event_without_a_time_cannot_be_replayed() -> None:
    with pytest.raises(DataError, match="event 2 has no time to be replayed by"):
        in_order([*events(1), Event(inputs={})], size=1)


def test_a_plan_says_how_often_the_file_is_gone_through() -> None:
    once, often = at_rate(events(10), 5, size=3), at_rate(events(10), 5, size=3, seconds=3)
    assert (len(once.due), once.span_s, once.passes) == (4, 0.8, 1)
    assert (len(often.due), often.span_s, often.passes) == (15, 3, 4)


def test_a_file_of_events_is_known_by_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "sent.jsonl"
    path.write_text('\n{"id":"a","at":"2013-02-01T05:00:00Z","inputs":{"x":1}}\n{"inputs":{"x":2}}\n')
    assert is_events(path)
    assert read_events(path) == [
        Event(id="a", at=datetime(2013, 2, 1, 5, tzinfo=UTC), inputs={"x": 1}),
        Event(inputs={"x": 2}),
    ]
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"x":1}\n')
    assert not is_events(rows)
    other = tmp_path / "rows.csv"
    other.write_text("inputs\n1\n")
    assert not is_events(other)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert not is_events(empty)


@pytest.mark.parametrize("line", ['{"inputs":{}', '{"inputs":{},"when":1}', '{"inputs":{},"at":"2013-02-01T05:00:00"}'])
def test_a_line_that_is_no_event_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "sent.jsonl"
    path.write_text('{"inputs":{}}\n' + line + "\n")
    with pytest.raises(DataError, match=r"sent\.jsonl, line 2 is no event"):
        read_events(path)
