"""Marking: a person says of an alert what it was: how it is now, or an incident. Later days are compared accordingly.

Drift and performance compare a day with the days before it. An alarm alone cannot say whether these still hold. Without
a word drift takes the change for how it is now, and performance takes it for an incident until it has lasted 14 days.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
import sqlalchemy as sa

from passerelle.decoding import prepared
from passerelle.errors import StateError
from passerelle.monitoring import drifting, performance
from passerelle.monitoring.alerts import Alert, Finding, settle, tell
from passerelle.monitoring.measuring import Figures
from passerelle.monitoring.rules import rule_of
from passerelle.monitoring.windows import Window, keep_window, newest, read_windows
from passerelle.project.settings import Project, Watch
from passerelle.state import tables
from passerelle.state.database import open_state, writing

#: What compares days with days before them.
MARKED: tuple[Watch, ...] = ("input_drift", "score_drift", "performance")
#: The series of the marks: one window, at the beginning of time, that is written over.
_SERIES = "marks"
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)

LossDay = tuple[datetime, Figures, performance.Judged]


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said of an alert."""

    alert: str
    watch: Watch
    says: Literal["normal", "incident"]
    #: The days (their starts) that it is said of: from the alert's first to the last one measured while it was open.
    first_day: datetime
    last_day: datetime
    at: datetime
    by: str = ""

    def covers(self, start: datetime) -> bool:
        """Is it said of this day?"""
        return self.first_day <= start <= self.last_day


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    marks: tuple[Mark, ...] = ()


def mark_normal(project: Project, environment: str, alert_id: str, now: datetime, *, by: str = "somebody") -> Alert:
    """Say that what an alert is about is how it is now: the baseline begins anew with its first day. It closes.

    Later days are judged once the new baseline has the days that it needs (drift 14, performance 5). What was said of
    it before is replaced. Raises StateError for an alert that is not there, or not of drift or performance.
    """
    return _mark(project, environment, alert_id, "normal", now=now, by=by)


def mark_incident(project: Project, environment: str, alert_id: str, now: datetime, *, by: str = "somebody") -> Alert:
    """Say that an alert was an incident: its days are left out of the baseline, which goes on as it was. It closes.

    Its days are those from its first to the last that was measured by now, or before it closed. What goes on after
    them alarms anew. What was said of it before is replaced. Raises StateError as mark_normal does.
    """
    return _mark(project, environment, alert_id, "incident", now=now, by=by)


def read_marks(connection: sa.Connection, environment: str, watch: Watch) -> list[Mark]:
    """What was said of the alerts of a watch."""
    return [one for one in _all(connection, environment) if one.watch == watch]


def drift_days(
    days: Iterable[tuple[datetime, drifting.Judged]], marks: Sequence[Mark]
) -> list[tuple[datetime, drifting.Judged]]:
    """The days that a day is compared with, oldest first: without incidents. Pure.

    What is how it is now needs nothing: the baseline began anew with the alarm.
    """
    kept: list[tuple[datetime, drifting.Judged]] = []
    after = False
    for start, judged in days:
        if _is_incident(marks, start):
            after = True
            continue
        kept.append((start, judged))
        after = False
    if after and kept:  # what led to the alarm was evidence of the incident
        start, last = kept[-1]
        kept[-1] = start, msgspec.structs.replace(last, evidence={}, mean=0.0)
    return kept


def loss_days(days: Iterable[LossDay], marks: Sequence[Mark]) -> list[LossDay]:
    """The days that a day is compared with, oldest first: no incidents, and none before what is now normal. Pure."""
    normal = max((one for one in marks if one.says == "normal"), key=lambda one: one.first_day, default=None)
    kept: list[LossDay] = []
    after = False
    for start, figures, judged in days:
        if normal is not None and start < normal.first_day:
            continue
        if _is_incident(marks, start):
            after = True
            continue
        if normal is not None and normal.covers(start):  # no alarm any more, but a day like any other
            kept.append((start, figures, performance.Judged(excess=performance.excess_of(figures))))
        else:
            kept.append((start, figures, judged))
        after = False
    if after and kept:
        start, figures, last = kept[-1]
        over = {"evidence": 0.0, "alarm": False, "going_on": False, "quiet": 0, "lasting": 0, "blind": False}
        kept[-1] = start, figures, msgspec.structs.replace(last, **over)
    return kept


def _is_incident(marks: Sequence[Mark], start: datetime) -> bool:
    return any(one.says == "incident" and one.covers(start) for one in marks)


def _all(connection: sa.Connection, environment: str) -> tuple[Mark, ...]:
    kept = newest(connection, environment, _SERIES)
    return () if kept is None else msgspec.convert(kept.value, prepared(_Kept)).marks


def _mark(
    project: Project,
    environment: str,
    alert_id: str,
    says: Literal["normal", "incident"],
    *,
    now: datetime,
    by: str,
) -> Alert:
    with writing(open_state(project.state)) as connection:
        alert = _find(connection, environment, alert_id)
        marks = _all(connection, environment)
        before = next((one for one in marks if one.alert == alert_id), None)
        if before is not None and before.says == says and alert.closed_at is not None:
            return alert  # said already
        mark = _made(connection, alert, says, now=now, by=by)
        others = [one for one in marks if one.alert != alert_id]
        value = msgspec.to_builtins(_Kept(marks=(*others, mark)))
        keep_window(connection, environment, Window(start=_ALWAYS, watch=_SERIES, value=value))
        sentence = _sentence(mark)
        if alert.closed_at is not None:
            tell(connection, alert, "marked", sentence, now=now)
            return alert
        rule = rule_of(project, alert.watch)
        finding = Finding(state="quiet", sentence=sentence)
        closed = settle(connection, environment, rule, finding, now=now, channels=project.alerts.channels)
        return alert if closed is None else closed


def _made(
    connection: sa.Connection, alert: Alert, says: Literal["normal", "incident"], *, now: datetime, by: str
) -> Mark:
    first = alert.first_day or alert.opened_at
    until = alert.closed_at or now
    days = [one.start for one in read_windows(connection, alert.environment, alert.watch, since=first)]
    last = max((day for day in days if day < until), default=alert.last_day or first)
    return Mark(alert=alert.id, watch=alert.watch, says=says, first_day=first, last_day=last, at=now, by=by)


def _find(connection: sa.Connection, environment: str, alert_id: str) -> Alert:
    table = tables.alerts
    value = connection.execute(
        sa.select(table.c.value).where(table.c.id == alert_id, table.c.environment == environment)
    ).scalar_one_or_none()
    if value is None:
        raise StateError(
            f"there is no alert {alert_id!r} in {environment}: passerelle alerts --to {environment} names them."
        )
    alert = msgspec.convert(value, prepared(Alert))
    if alert.watch not in MARKED:
        raise StateError(
            f"{alert_id} is an alert of {alert.watch}, which compares no day with days before it, so there is nothing "
            f"to begin anew or leave out: that is for {', '.join(MARKED)}."
        )
    return alert


def _sentence(mark: Mark) -> str:
    first, last = f"{mark.first_day:%Y-%m-%d}", f"{mark.last_day:%Y-%m-%d}"
    if mark.says == "normal":
        return f"{mark.by} says that this is how it is now: later days are compared with those from {first} on."
    days = f"{first} is" if first == last else f"the days from {first} to {last} are"
    return f"{mark.by} says that it was an incident: {days} left out of what later days are compared with."
