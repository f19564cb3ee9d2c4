"""The timeline keeps sentences in the order of their time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from passerelle.state.database import open_state
from passerelle.state.timeline import Event, events, record

NOW = datetime(2013, 1, 31, 12, tzinfo=UTC)


def _event(minutes: int, kind: str) -> Event:
    at = NOW + timedelta(minutes=minutes)
    return Event(at=at, kind=kind, subject="s", sentence=f"at {minutes}", details={"minutes": minutes})


def test_events_come_back_as_they_were_recorded_oldest_first(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    for minutes, kind in ((5, "run"), (1, "delivery"), (3, "run"), (3, "version")):
        record(engine, _event(minutes, kind))
    assert events(engine) == [_event(1, "delivery"), _event(3, "run"), _event(3, "version"), _event(5, "run")]
    assert events(engine, kind="run") == [_event(3, "run"), _event(5, "run")]


def test_limit_keeps_the_newest(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    for minutes in range(5):
        record(engine, _event(minutes, "run"))
    assert events(engine, limit=2) == [_event(3, "run"), _event(4, "run")]
    assert events(engine, kind="alert", limit=2) == []
    other = Event(at=NOW, kind="run", subject="other", sentence="elsewhere")
    record(engine, other)
    assert events(engine, subject="other", limit=1) == [other]
