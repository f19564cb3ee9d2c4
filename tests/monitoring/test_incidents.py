"""Quarantine, damage, volume, and the reference that exists at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from watched import DAY, FEBRUARY, make_project

from passerelle.bundle.manifest import read_manifest
from passerelle.ledger.compaction import compact
from passerelle.ledger.records import Outcome
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.monitoring.alerts import find_alerts
from passerelle.monitoring.measuring import held_out_days
from passerelle.monitoring.volume import Counted, finding, judge
from passerelle.monitoring.watching import watch
from passerelle.notebook.submission import Answers
from passerelle.project.settings import Project
from passerelle.schema import encode_columns
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.timeline import Event
from passerelle.state.timeline import record as tell_timeline

NOW = datetime(2013, 5, 2, 12, tzinfo=UTC)


def _deliver(project: Project, name: str, status: str, *, table: str = "weather", day: int = 0) -> None:
    with writing(open_state(project.state)) as connection:
        problems = ["temp is 12.0 at row 3, below what is possible."] if status == "quarantined" else []
        values = {"id": name, "at": NOW + timedelta(days=day), "status": status, "rows": {}, "problems": problems}
        connection.execute(sa.insert(tables.deliveries).values(values))
        connection.execute(sa.insert(tables.files).values(delivery=name, table=table, sha256=name, name=f"{name}.csv"))


def _watch(project: Project, day: int) -> list[str]:
    changed = watch(project, "production", now=NOW + timedelta(days=day))
    return [("-" if one.closed_at else "+") + one.watch for one in changed]


def test_a_delivery_that_was_put_aside_waits_for_one_of_its_table(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    _deliver(project, "weather-1", "accepted")
    assert _watch(project, 0) == []
    _deliver(project, "weather-2", "quarantined", day=1)
    assert _watch(project, 1) == ["+quarantine"]
    [alert] = find_alerts(open_state(project.state), "production")
    assert alert.sentence == (
        "the delivery weather-2.csv was put aside: temp is 12.0 at row 3, below what is possible."
    )
    assert (alert.level, alert.details["newest"]) == ("ticket", "weather-2")
    _deliver(project, "flights-2", "accepted", table="flights", day=2)
    assert _watch(project, 2) == []
    _deliver(project, "weather-2b", "accepted", day=3)
    assert _watch(project, 3) == ["-quarantine"]


def test_another_delivery_that_is_put_aside_is_another_alert(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    _deliver(project, "stray", "quarantined", table="readme")
    assert _watch(project, 0) == ["+quarantine"]
    _deliver(project, "weather-2", "quarantined", day=1)
    assert _watch(project, 1) == ["+quarantine"]
    first, second = find_alerts(open_state(project.state), "production")
    assert (first.closed_at is None, second.closed_at is None) == (False, True)
    assert second.details["newest"] == "weather-2"


def test_the_older_delivery_that_still_waits_is_the_same_alert(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    _deliver(project, "stray", "quarantined", table="readme")
    _deliver(project, "weather-2", "quarantined", day=1)
    assert _watch(project, 1) == ["+quarantine"]
    _deliver(project, "weather-2b", "accepted", day=2)
    assert _watch(project, 2) == []
    [alert] = find_alerts(open_state(project.state), "production")
    assert (alert.closed_at, alert.details["newest"]) == (None, "stray")


def test_a_damaged_segment_is_a_ticket_for_a_day(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    folder = ledger_folder(project.state, "production")
    outcome = Outcome(id="a", value=True, known_at=NOW, received_at=NOW)
    asyncio.run(record(LocalStorage(folder), [outcome], slot="test"))
    [segment] = (folder / "segments").glob("*.seg")
    segment.write_bytes(segment.read_bytes() + b"torn")
    assert compact(folder, now=NOW).damaged
    assert _watch(project, 0) == ["+ledger"]
    [alert] = find_alerts(open_state(project.state), "production")
    assert alert.sentence.startswith(f"the ledger's segment {segment.name} is damaged: ")
    assert alert.sentence.endswith(". All before it was kept.")
    assert _watch(project, 1) == ["-ledger"]


def _counts(events: list[int], *, factor: float = 2.0) -> list[Counted]:
    earlier: list[tuple[datetime, Counted]] = []
    for number, one in enumerate(events):
        start = FEBRUARY + number * DAY
        earlier.append((start, judge(earlier, start, one, factor=factor)))
    return [counted for _, counted in earlier]


def test_a_step_of_the_loop_that_keeps_failing_is_a_ticket(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    engine = open_state(project.state)

    def tell(minutes: int, step: str, *, problem: bool) -> list[str]:
        at = NOW + timedelta(minutes=minutes)
        sentence = f"the step {step} failed: no space." if problem else f"the step {step} works again"
        event = Event(at=at, kind="loop", subject=step, sentence=sentence, details={"problem": True} if problem else {})
        tell_timeline(engine, event)
        return [f"{'-' if one.closed_at else '+'}{one.watch}" for one in watch(project, "production", now=at)]

    assert tell(0, "look", problem=True) == []
    assert tell(10, "ingest", problem=True) == []
    assert tell(50, "ingest", problem=False) == []
    assert tell(60, "look", problem=True) == ["+loop"]
    [alert] = find_alerts(engine, "production")
    assert (alert.level, alert.details) == ("ticket", {"steps": ["look"]})
    assert alert.sentence == "the step look failed: no space. It has failed since 2013-05-02 12:00."
    assert tell(70, "look", problem=False) == ["-loop"]
    assert tell(80, "look", problem=True) == []  # it begins anew


def test_weekends_are_compared_with_weekends() -> None:
    week = [900, 300, 310, 920, 910, 905, 915]
    assert [one.normal for one in _counts(week * 4)][21:] == [True] * 7
    fewer = _counts([*week * 3, 900, 140])
    assert (fewer[-1].normal, fewer[-1].usual) == (False, 300.0)
    twice = _counts([*week * 3, 1801])
    found = finding(twice[-1], FEBRUARY)
    assert (found.state, found.sentence) == (
        "firing",
        "2013-02-01 had 1,801 events, and 900 are usual on such a day.",
    )


def test_the_first_days_and_rare_events_are_not_judged() -> None:
    # The first day began in its middle, so its weekday is known a week later than the others.
    assert [one.normal for one in _counts([1, *[900] * 22])] == [None] * 15 + [True] * 8
    assert {one.normal for one in _counts([10] * 20 + [0])} == {None}


def test_an_unusual_day_is_no_reference() -> None:
    counted = _counts([900] * 22 + [100] * 35)
    assert [one.normal for one in counted[22:36]] == [False] * 14
    assert {one.usual for one in counted[22:36]} == {900.0}
    # After weeks of it there is nothing left to compare with: it is what is usual then.
    assert [one.normal for one in counted[-7:]] == [None] * 7


def test_the_days_held_out_at_the_run_are_the_first_reference(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    bundle = project.state / "bundles" / "1"
    manifest, _ = read_manifest(bundle)
    run = msgspec.structs.replace(manifest, provenance=msgspec.structs.replace(manifest.provenance, run="r1"))
    assert held_out_days(project, manifest) == []
    assert held_out_days(project, run) == []  # its files are gone
    # Three days of four rows, and a fourth that is cut.
    times = np.array(
        ["2013-01-28"] * 4 + ["2013-01-29"] * 4 + ["2013-01-30"] * 4 + ["2013-01-31"], dtype="datetime64[us]"
    )
    late = np.array([True, False, False, False] * 3 + [True])
    outputs = np.full((13, 1), 0.5)
    outputs[4:8] = 0.25
    (project.state / "holdouts").mkdir()
    (project.state / "holdouts" / "r1.msgpack").write_bytes(encode_columns({"at": times, "late": late}))
    folder = project.state / "runs" / "r1" / "submission"
    folder.mkdir(parents=True)
    Answers(inputs={"temp": np.zeros(13)}, outputs=outputs).write(folder / "holdout.msgpack")
    found = held_out_days(project, run)
    assert [start for start, _ in found] == [datetime(2013, 1, day, tzinfo=UTC) for day in (28, 29, 30)]
    assert [figures.loss for _, figures in found] == pytest.approx([0.25, 0.1875, 0.25])
    assert [figures.expected for _, figures in found] == pytest.approx([0.25, 0.1875, 0.25])
    assert found[0][1].rows == 4


def test_one_is_not_said_as_many() -> None:
    one = finding(Counted(events=1, usual=900.0, normal=False), FEBRUARY)
    assert one.sentence == "2013-02-01 had only 1 event, and 900 are usual on such a day."


def test_an_alert_on_the_volume_is_over_when_few_events_are_usual() -> None:
    """A thousand events a day, then ten for good; Sundays of ten alone are no end."""
    earlier: list[tuple[datetime, Counted]] = []
    states = []
    for number in range(120):
        day = FEBRUARY + number * DAY
        counted = judge(earlier, day, 1000 if number < 60 else 10, factor=2)
        states.append(finding(counted, day).state)
        earlier.append((day, counted))
    assert [states.index("firing"), states.index("quiet", 60)] == [60, 95]
    assert states[95:] == ["quiet"] * 25
    weeks = [(FEBRUARY + number * DAY, Counted(events=10 if number % 7 == 0 else 1000)) for number in range(28)]
    sunday = judge(weeks, FEBRUARY + 28 * DAY, 10, factor=2)
    assert (sunday.usual, finding(sunday, FEBRUARY).state) == (10, "unsure")
