"""What a person says of an alert: how it is now, or an incident. Days that come after it are compared accordingly."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from watched import DAY, FEBRUARY, deploy, live, make_project

from passerelle.errors import StateError
from passerelle.monitoring import drifting, performance
from passerelle.monitoring.alerts import find_alerts
from passerelle.monitoring.marking import Mark, drift_days, loss_days, mark_incident, mark_normal, read_marks
from passerelle.monitoring.measuring import Figures
from passerelle.monitoring.watching import watch
from passerelle.monitoring.windows import read_windows
from passerelle.project.settings import Project
from passerelle.state import tables
from passerelle.state.database import open_state
from passerelle.state.timeline import events

HALF = timedelta(hours=12)


def _noon(day: int) -> Any:
    return FEBRUARY + day * DAY + HALF


def _watch(project: Project, days: range) -> list[str]:
    return [
        f"{day} {'-' if alert.closed_at else '+'}{alert.watch}"
        for day in days
        for alert in watch(project, "production", now=_noon(day))
    ]


def _values(project: Project, series: str, first: int) -> list[dict[str, Any]]:
    windows = read_windows(open_state(project.state), "production", series, since=FEBRUARY + first * DAY)
    return [one.value for one in windows]


def test_an_incident_of_the_inputs_is_left_out_and_days_are_judged_at_once(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 16, events=60)
    live(project, FEBRUARY + 16 * DAY, [0.0] * 2, events=60, shift=30)
    live(project, FEBRUARY + 18 * DAY, [0.0] * 2, events=60)
    live(project, FEBRUARY + 20 * DAY, [0.0] * 3, events=60, shift=30)
    assert _watch(project, range(17, 19)) == ["17 +input_drift"]
    alert = mark_incident(project, "production", "production-input_drift-2013-02-17", _noon(18), by="Ada")
    assert (alert.closed_at, alert.watch) == (_noon(18), "input_drift")
    told = events(open_state(project.state), kind="alert")[-1]
    assert told.sentence == (
        "over: Ada says that it was an incident: the days from 2013-02-17 to 2013-02-18 are left out of what later "
        "days are compared with."
    )
    # Usual days are as before, and what happens again alarms at once: nothing is learned anew.
    assert _watch(project, range(19, 22)) == ["21 +input_drift"]
    assert [(one["baseline_days"], one["alarm"]) for one in _values(project, "input_drift", 18)] == [
        (16, False),
        (17, False),
        (18, True),
    ]
    # It goes on after it was called an incident: another alert.
    mark_incident(project, "production", "production-input_drift-2013-02-21", _noon(21))
    assert _watch(project, range(22, 23)) == ["22 +input_drift"]
    # Both were incidents, but the last is how it is now: later days are compared with it.
    mark_normal(project, "production", "production-input_drift-2013-02-22", _noon(22))
    live(project, FEBRUARY + 23 * DAY, [0.0] * 3, events=60, shift=30)
    assert _watch(project, range(23, 26)) == []
    assert [one["baseline_days"] for one in _values(project, "input_drift", 22)] == [1, 2, 3]


def test_a_loss_that_is_how_it_is_now_is_the_reference_of_later_days(tmp_path: Path) -> None:
    project = make_project(tmp_path, '[alerts]\nchannels = ["ON_CALL"]\n')
    live(project, FEBRUARY, [0.0] * 10 + [0.5] * 9 + [0.0] * 2)
    assert _watch(project, range(12, 15)) == ["12 +performance"]
    alert = mark_normal(project, "production", "production-performance-2013-02-11", _noon(14), by="Ada")
    assert alert.closed_at == _noon(14)
    with open_state(project.state).connect() as connection:
        bodies = connection.execute(sa.select(tables.outbox.c.body).order_by(tables.outbox.c.id)).scalars().all()
        [mark] = read_marks(connection, "production", "performance")
    assert bodies[0].startswith("over: Ada says that this is how it is now: later days are compared with those from ")
    assert (mark.first_day, mark.last_day) == (FEBRUARY + 10 * DAY, FEBRUARY + 12 * DAY)
    assert _watch(project, range(15, 20)) == []
    later = _values(project, "performance", 13)
    assert [one["reference_days"] for one in later] == [3, 4, 5, 6, 7]
    assert [one["in_control"] for one in later] == [None, None, True, True, True]
    assert later[-1]["reference"] > 0.3  # 0.2 or so was ordinary before


def test_an_incident_of_the_loss_is_left_out_with_the_calm_days_in_it(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 10 + [0.5, 0.0, 0.5] + [0.0] * 4)
    assert _watch(project, range(12, 15)) == ["12 +performance"]
    mark_incident(project, "production", "production-performance-2013-02-11", _noon(14))
    assert _watch(project, range(15, 18)) == []
    later = _values(project, "performance", 13)
    assert [one["reference_days"] for one in later] == [10, 11, 12]
    assert [one["going_on"] for one in later] == [False] * 3


def test_what_was_said_is_said_once_and_can_be_said_otherwise(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 16, events=60)
    live(project, FEBRUARY + 16 * DAY, [0.0] * 3, events=60, shift=30)
    _watch(project, range(17, 19))
    engine, name = open_state(project.state), "production-input_drift-2013-02-17"

    def told() -> int:
        return len(events(engine, kind="alert"))

    mark_incident(project, "production", name, _noon(18))
    once = told()
    mark_incident(project, "production", name, _noon(19))
    assert told() == once
    mark_normal(project, "production", name, _noon(20))
    assert told() == once + 1
    with engine.connect() as connection:
        [mark] = read_marks(connection, "production", "input_drift")
        assert read_marks(connection, "production", "performance") == []
    # The days of an alert are those up to its end, whenever it is spoken of.
    assert (mark.says, mark.first_day, mark.last_day) == ("normal", FEBRUARY + 16 * DAY, FEBRUARY + 17 * DAY)
    assert find_alerts(engine, "production", open_only=True) == []


def test_what_cannot_be_said(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 15, events=100)
    live(project, FEBRUARY + 15 * DAY, [0.0] * 2, events=40)
    deploy(project, 2)
    assert _watch(project, range(16, 17)) == ["16 +volume"]
    with pytest.raises(StateError, match=r"there is no alert 'x' in production: passerelle alerts --to production"):
        mark_normal(project, "production", "x", _noon(16))
    with pytest.raises(StateError, match="in staging"):
        mark_normal(project, "staging", "production-volume-2013-02-16", _noon(16))
    with pytest.raises(StateError, match="is an alert of volume, which compares no day"):
        mark_incident(project, "production", "production-volume-2013-02-16", _noon(16))


def _mark(says: Any, first: int, last: int, watched: Any = "performance") -> Mark:
    days = {"first_day": FEBRUARY + first * DAY, "last_day": FEBRUARY + last * DAY}
    return Mark(alert=f"{first}", watch=watched, says=says, at=_noon(last), **days)


def test_evidence_that_led_to_an_incident_is_not_used_again() -> None:
    days = [
        (FEBRUARY + day * DAY, drifting.Judged(version=1, rows=99, streams={}, evidence={"x.level": 5.0}, mean=5.0))
        for day in range(5)
    ]
    kept = drift_days(days, [_mark("incident", 3, 4)])
    assert [(start, judged.mean) for start, judged in kept] == [
        (FEBRUARY, 5.0),
        (FEBRUARY + DAY, 5.0),
        (FEBRUARY + 2 * DAY, 0.0),
    ]
    assert kept[-1][1].evidence == {}
    # Days after it have evidence of their own.
    assert [judged.mean for _, judged in drift_days(days, [_mark("incident", 1, 2)])] == [5.0, 5.0, 5.0]
    assert drift_days(days, [_mark("normal", 1, 2)]) == days
    assert drift_days(days, [_mark("incident", 0, 9)]) == []


def test_days_of_the_loss_that_are_compared() -> None:
    figures = Figures(rows=100, unlabelled=0, failed=0, loss=0.3, expected=0.2)
    alarming = performance.Judged(excess=0.1, going_on=True, in_control=False, evidence=9.0, quiet=1, lasting=2)
    days = [(FEBRUARY + day * DAY, figures, alarming) for day in range(6)]
    [first, second] = loss_days(days, [_mark("incident", 2, 9)])
    assert first == days[0]
    assert (second[2].evidence, second[2].going_on, second[2].lasting) == (0.0, False, 0)
    normal = loss_days(days, [_mark("normal", 1, 2), _mark("normal", 2, 4)])
    assert [start for start, _, _ in normal] == [FEBRUARY + day * DAY for day in (2, 3, 4, 5)]
    assert [judged.going_on for _, _, judged in normal] == [False, False, False, True]
    assert normal[0][2].excess == pytest.approx(0.1)
