"""Watching a ledger: days are measured once, alerts open and close, whatever dies in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from watched import DAY, FEBRUARY, deploy, live, make_project

from passerelle.errors import BundleError
from passerelle.monitoring import watching
from passerelle.monitoring.alerts import Alert, find_alerts, lines_of
from passerelle.monitoring.looking import LOOKED
from passerelle.monitoring.watching import WatchError, watch
from passerelle.monitoring.windows import Window, keep_window, read_windows
from passerelle.project.settings import Project
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.postgresql import VARIABLE
from passerelle.state.timeline import events

HALF = timedelta(hours=12)


def _watch(project: Project, days: range) -> list[str]:
    """Once a day at noon, as a tour does: what opened (+) and closed (-), with the day of February."""
    return [
        f"{day} {'-' if alert.closed_at else '+'}{alert.watch}"
        for day in days
        for alert in watch(project, "production", now=FEBRUARY + day * DAY + HALF)
    ]


def test_a_storm_is_told_when_it_is_mature_and_when_it_is_over(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 10 + [0.5, 0.5] + [0.0] * 6)
    # The 11th (index 10) is mature after 36 hours more; two ordinary days end it.
    assert _watch(project, range(10, 18)) == ["12 +performance", "15 -performance"]
    engine = open_state(project.state)
    [alert] = find_alerts(engine, "production")
    assert alert.id == "production-performance-2013-02-11"
    assert (alert.first_day, alert.last_day) == (FEBRUARY + 10 * DAY, FEBRUARY + 11 * DAY)
    assert alert.level == "page"
    assert "passerelle rollback" in alert.action
    told = [(event.subject, event.details["state"]) for event in events(engine, kind="alert")]
    assert told == [(alert.id, "opened"), (alert.id, "closed")]
    windows = read_windows(engine, "production", "performance")
    assert [window.start for window in windows] == [FEBRUARY + number * DAY for number in range(16)]
    assert [window.value["alarm"] for window in windows].index(True) == 10
    assert windows[0].value["rows"] == 100
    assert lines_of(alert) == [
        f"2013-02-13 12:00  page    closed 2013-02-16 12:00  {alert.sentence}",
    ]


@pytest.mark.parametrize("hours", [24, 72])
def test_a_day_is_measured_once_its_horizon_has_passed_however_long_that_is(tmp_path: Path, hours: int) -> None:
    """At ticks off noon, from the first day on: the days before the first measured one are not lost either."""
    project = make_project(tmp_path)
    project = msgspec.structs.replace(project, task=msgspec.structs.replace(project.task, horizon_hours=hours))
    live(project, FEBRUARY, [0.0] * 8, events=20)
    for day in range(1, 8):
        watch(project, "production", now=FEBRUARY + day * DAY + timedelta(hours=3))
    windows = read_windows(open_state(project.state), "production", "performance")
    assert [window.start for window in windows] == [FEBRUARY + day * DAY for day in range(7 - hours // 24)]


def test_looking_at_all_days_at_once_tells_the_same(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 10 + [0.5, 0.5] + [0.0] * 6)
    assert _watch(project, range(19, 20)) == ["19 +performance", "19 -performance"]
    [alert] = find_alerts(open_state(project.state), "production")
    assert alert.id == "production-performance-2013-02-11"
    assert _watch(project, range(19, 20)) == []


def test_days_with_half_the_events_page_and_the_last_day_of_all_is_not_judged(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 16)
    live(project, FEBRUARY + 16 * DAY, [0.0], events=40)
    live(project, FEBRUARY + 17 * DAY, [0.0] * 2)
    assert _watch(project, range(16, 20)) == ["17 +volume", "18 -volume"]
    windows = read_windows(open_state(project.state), "production", "volume")
    assert [window.value["events"] for window in windows] == [100] * 16 + [40, 100]


@pytest.mark.parametrize("seen", [False, True])
def test_traffic_that_stops_at_a_cloud_is_told_by_the_day(tmp_path: Path, *, seen: bool) -> None:
    """No endpoint of this machine ever had an event, whose silence could be heard."""
    project = make_project(tmp_path)
    if seen:
        with writing(open_state(project.state)) as connection:
            keep_window(connection, "production", Window(start=FEBRUARY, watch=LOOKED, value={}))
    live(project, FEBRUARY, [0.0] * 22)
    assert _watch(project, range(22, 24)) == []
    [told] = _watch(project, range(24, 25))
    assert "volume" in told
    [alert] = find_alerts(open_state(project.state), "production", open_only=True)
    assert alert.sentence == "2013-02-23 had only 0 events, and 100 are usual on such a day."


def test_traffic_that_stops_here_is_for_silence_to_tell(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 22)
    engine = open_state(project.state)
    with writing(engine) as connection:
        keep_window(connection, "production", Window(start=FEBRUARY, watch=LOOKED, value={"silent_s": 0.0}))
    assert _watch(project, range(22, 27)) == []


def test_a_changed_unit_is_a_ticket_that_names_the_field(tmp_path: Path) -> None:
    project = make_project(tmp_path, '[alerts]\nchannels = ["NOWHERE"]\n')
    live(project, FEBRUARY, [0.0] * 16)
    live(project, FEBRUARY + 16 * DAY, [0.0] * 3, shift=30)
    assert _watch(project, range(16, 19)) == ["17 +input_drift"]
    engine = open_state(project.state)
    [alert] = find_alerts(engine, "production", open_only=True)
    assert (alert.level, alert.details["named"][0]["field"]) == ("ticket", "temp")
    assert "temp: its level moved by +" in alert.sentence
    with engine.connect() as connection:
        assert connection.execute(sa.select(tables.outbox)).all() == []  # tickets wait on the page
    # Another version begins the comparison anew; its own reference was that much warmer.
    deploy(project, 2, shift=30)
    live(project, FEBRUARY + 19 * DAY, [0.0] * 2, shift=30, version=2)
    assert _watch(project, range(19, 22)) == ["19 -input_drift"]


def test_a_rule_that_fails_is_said_and_stops_no_other(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 10 + [0.5, 0.5])
    assert _watch(project, range(10, 11)) == []
    profile = project.state / "bundles" / "1" / "profile.json"
    profile.write_bytes(b"?")
    with pytest.raises(BundleError, match=r"profile\.json"):
        _watch(project, range(13, 14))
    engine = open_state(project.state)
    assert [alert.watch for alert in find_alerts(engine, "production")] == ["performance"]
    assert len(read_windows(engine, "production", "performance")) == 12
    # Where several fail, each says why.
    (profile.parent / "manifest.json").write_bytes(b"?")
    live(project, FEBRUARY + 12 * DAY, [0.0] * 4)
    with pytest.raises(WatchError, match=r"profile\.json.*manifest\.json"):
        _watch(project, range(16, 17))


def test_an_event_of_long_ago_holds_nothing_up(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, datetime(1970, 1, 1, tzinfo=UTC), [0.0], events=1)
    live(project, FEBRUARY, [0.0] * 3)
    _watch(project, range(2, 3))
    windows = read_windows(open_state(project.state), "production", "volume")
    assert [window.start for window in windows] == [FEBRUARY, FEBRUARY + DAY]


def test_a_look_measures_so_many_days_and_the_next_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MOST_DAYS", 4)
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 8, events=20)
    engine = open_state(project.state)
    measured = []
    for _ in range(3):
        _watch(project, range(7, 8))
        measured.append([len(read_windows(engine, "production", series)) for series in ("volume", "performance")])
    assert measured == [[4, 4], [7, 6], [7, 6]]


def test_nothing_is_deployed_and_nothing_is_wrong(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    assert watch(project, "staging", now=FEBRUARY) == []
    assert watch(project, "production", now=FEBRUARY) == []
    assert find_alerts(open_state(project.state), "production") == []


def test_a_rule_that_is_turned_off_closes_its_alert(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 10 + [0.5] * 4)
    assert _watch(project, range(11, 13)) == ["12 +performance"]
    quiet = make_rules(project, '[[rules]]\nwatch = "performance"\nlevel = "off"\n')
    assert _watch(quiet, range(13, 14)) == ["13 -performance"]


def make_rules(project: Project, text: str) -> Project:
    from passerelle.project.settings import load_project

    path = project.root / "passerelle.toml"
    path.write_text(path.read_text() + text)
    return load_project(path)


@pytest.mark.usefixtures("database")
def test_killed_at_any_write_and_started_again_it_tells_the_same(tmp_path: Path) -> None:
    """At the tick on which a storm's day is mature: it opens an alert, beside the figures of a day that has closed."""
    project = make_project(tmp_path / "project", '[alerts]\nchannels = ["ONE", "TWO"]\n')
    live(project, FEBRUARY, [0.0] * 10 + [0.5] + [0.0] * 7)
    assert _watch(project, range(11, 12)) == []
    script = Path(__file__).with_name("watching_dying.py")
    command = [sys.executable, "-W", "ignore", str(script), str(project.root), str(tmp_path / "scratch")]
    command.append("7" if VARIABLE in os.environ else "3")  # a copy takes longer there
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    lines = done.stdout.splitlines()
    held = json.loads(lines[0])
    assert len(lines) > 4
    assert [json.loads(line) == held for line in lines] == [True] * len(lines)
    assert [row[0] for row in held["alerts"]] == ["production-performance-2013-02-11"]
    assert [row[0].rpartition("-")[2] for row in held["outbox"]] == ["ONE", "TWO"]
    assert len(held["timeline"]) == 1
    assert [row[1:3] for row in held["windows"] if row[1] == "volume"][-1] == ["volume", "2013-02-12 00:00:00+00:00"]
    assert [row[2] for row in held["windows"] if row[1] == "estimated"][-1] == "2013-02-12 00:00:00+00:00"


def test_an_alert_survives_its_own_json() -> None:
    alert = Alert(
        id="a",
        environment="production",
        watch="latency",
        level="page",
        opened_at=FEBRUARY,
        sentence="slow",
        action="look",
        details={"p99_ms": 4000.0},
    )
    assert msgspec.convert(msgspec.to_builtins(alert), Alert) == alert
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lines_of(alert)[1] == "    Next: look"
