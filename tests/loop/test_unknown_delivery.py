"""A file in the inbox whose name says no table: the loop tells it once, and goes on with the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from passerelle.data.table import read, snapshot
from passerelle.loop.tick import land
from passerelle.project.settings import FILE, load_project
from passerelle.state.database import open_state
from passerelle.state.timeline import events

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SETTINGS = """
[project]
name = "parcels"
[task]
kind = "binary"
target = "late"
key = ["id"]
[data]
main = "events"
"""


def test_a_mistyped_file_is_told_once_and_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(SETTINGS)
    project = load_project(tmp_path / FILE)
    inbox = tmp_path / "deliveries"
    inbox.mkdir()
    for name, text in {"airports.csv": "faa\nEWR\n", "events-1.csv": "id\n1\n", "weather-1.csv": "temp\n3\n"}.items():
        (inbox / name).write_text(text)
    first = land(project, now=NOW)
    assert [len(first.deliveries), first.problem] == [3, None]
    assert set(snapshot(project).tables) == {"airports", "events", "weather"}
    (inbox / "evnets-2.csv").write_text("id\n2\n")
    (inbox / "events-3.csv").write_text("id\n3\n")
    (inbox / "weather-2.csv").write_text("temp\n4\n")
    second = land(project, now=NOW + timedelta(hours=1))
    assert second.problem is None
    assert [one for one in second.deliveries if "put aside" in one] == [second.deliveries[1]]
    assert "no table is called 'evnets'; did you mean 'events'? Then rename the file." in second.deliveries[1]
    assert land(project, now=NOW + timedelta(hours=2)).deliveries == ()
    (inbox / "evnets-2.csv").rename(inbox / "events-2.csv")
    assert land(project, now=NOW + timedelta(hours=3)).deliveries == ("events-2.csv: 1 rows of events.",)
    assert sorted(read(project, "events")["id"].to_pylist()) == [1, 2, 3]
    told = [event.details["status"] for event in events(open_state(project.state), kind="delivery")]
    assert told == ["accepted"] * 3 + ["accepted", "quarantined", "accepted"] + ["accepted"]
