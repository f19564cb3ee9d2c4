"""Watching: measure what has closed, hold every rule to it, open and close alerts; once a tick.

Each step is one transaction: a window's figures, the alert that they open or close, its sentence on the timeline and
its messages are kept together or not at all. A step that is there already is not taken again, so that a process that
dies anywhere and is started again opens the same alerts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from passerelle.bundle.manifest import Manifest, read_manifest
from passerelle.deployment.spec import Deployment, Revisions, Variant, environment_folder
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask
from passerelle.monitoring import incidents, performance, volume
from passerelle.monitoring.alerts import Alert, Finding, settle
from passerelle.monitoring.maturity import closed, floor_day, read_day
from passerelle.monitoring.rules import rule_of
from passerelle.monitoring.windows import Window, has_window, keep_window, newest, read_windows
from passerelle.project.settings import Project, Watch
from passerelle.state.database import open_state, writing

DAY = timedelta(days=1)
#: Windows older than this play no part in judging a day.
_MEMORY = timedelta(days=200)
#: The series of the days held out at the run, which the first live days are compared with.
REFERENCE = "reference"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of watch works with."""

    project: Project
    environment: str
    engine: sa.Engine
    ledger: Path
    now: datetime
    #: The version that answers most units, and what it says of itself.
    champion: Variant
    manifest: Manifest
    bundle: Path


def watch(project: Project, environment: str, *, now: datetime) -> list[Alert]:
    """Measure the windows that have closed, hold the rules to them, open and close alerts; those that changed now.

    May be called as often as one likes, and again after a death at any point. Raises LedgerError or StateError if the
    ledger or the state cannot be read.
    """
    engine = open_state(project.state)
    ledger = ledger_folder(project.state, environment)
    changed = []
    with writing(engine) as connection:
        found = incidents.put_aside(connection)
        changed.append(_settle(connection, project, environment, "quarantine", found, now=now))
    with writing(engine) as connection:
        found = incidents.damaged(ledger, now=now)
        changed.append(_settle(connection, project, environment, "ledger", found, now=now))
    deployment = Revisions(environment_folder(project.state, environment)).current()
    if deployment is not None:
        look = _look(project, deployment, engine=engine, ledger=ledger, now=now)
        changed += watch_days(look)
    return [alert for alert in changed if alert is not None]


def champion_of(deployment: Deployment) -> Variant:
    """The version that answers most units; the older one of equals."""
    return max(deployment.live, key=lambda one: (one.weight, -one.version))


def _look(project: Project, deployment: Deployment, *, engine: sa.Engine, ledger: Path, now: datetime) -> Look:
    champion = champion_of(deployment)
    bundle = project.root / champion.bundle
    manifest, _ = read_manifest(bundle)
    return Look(
        project=project,
        environment=deployment.environment,
        engine=engine,
        ledger=ledger,
        now=now,
        champion=champion,
        manifest=manifest,
        bundle=bundle,
    )


def watch_days(look: Look) -> list[Alert | None]:
    """The rules of event time: each day once, when it has closed."""
    first = _first_day(look)
    if first is None:
        return []
    newest_event = ask(look.ledger, "SELECT max(event_at) FROM all_predictions WHERE role = 'live'").rows[0][0]
    # A day that nothing follows may be the last there is: that none come is for the rule of silence to say.
    days = [start for start in _due(look, "volume", first, horizon_hours=0) if newest_event >= start + DAY]
    changed = [_watch_volume(look, start) for start in days]
    _keep_reference(look)
    mature = _due(look, "performance", first, horizon_hours=look.project.task.horizon_hours)
    return changed + [_watch_performance(look, start) for start in mature]


def _first_day(look: Look) -> datetime | None:
    """The day on which the ledger begins; None if it has no live prediction."""
    before = newest(look.engine, look.environment, "volume")
    if before is not None:
        return before.start
    found = ask(look.ledger, "SELECT min(event_at) FROM all_predictions WHERE role = 'live'").rows[0][0]
    return None if found is None else floor_day(found)


def _due(look: Look, series: str, first: datetime, *, horizon_hours: float) -> list[datetime]:
    """The days that have closed and are not measured yet, in order."""
    before = newest(look.engine, look.environment, series)
    start = first if before is None else before.start + DAY
    due = []
    while start + DAY + timedelta(hours=horizon_hours) <= look.now:
        if not closed(look.ledger, start, horizon_hours=horizon_hours, now=look.now):
            break
        due.append(start)
        start += DAY
    return due


def _watch_volume(look: Look, start: datetime) -> Alert | None:
    query = "SELECT count(DISTINCT id) FROM all_predictions WHERE role = 'live' AND event_at >= ? AND event_at < ?"
    events = int(ask(look.ledger, query, [start, start + DAY]).rows[0][0])
    threshold = rule_of(look.project, "volume").threshold or 1.0
    with writing(look.engine) as connection:
        if has_window(connection, look.environment, "volume", start):
            return None
        earlier = [
            (one.start, msgspec.convert(one.value, volume.Counted))
            for one in read_windows(connection, look.environment, "volume", since=start - _MEMORY)
        ]
        counted = volume.judge(earlier, start, events, factor=threshold)
        _keep(connection, look, "volume", start, counted)
        return _settle_look(connection, look, "volume", volume.finding(counted, start))


def _keep_reference(look: Look) -> None:
    """Keep the days that the first champion's run held out, once: before the first mature day."""
    if newest(look.engine, look.environment, REFERENCE) or newest(look.engine, look.environment, "performance"):
        return
    days = performance.held_out_days(look.project, look.manifest)
    with writing(look.engine) as connection:
        for start, figures in days:
            _keep(connection, look, REFERENCE, start, figures)


def _watch_performance(look: Look, start: datetime) -> Alert | None:
    day = read_day(look.ledger, start, horizon_hours=look.project.task.horizon_hours)
    figures = performance.measure(day.rows, look.project, look.manifest.classes)
    threshold = rule_of(look.project, "performance").threshold or 1.0
    with writing(look.engine) as connection:
        if has_window(connection, look.environment, "performance", start):
            return None
        held_out = read_windows(connection, look.environment, REFERENCE)
        lived = read_windows(connection, look.environment, "performance", since=start - _MEMORY)
        earlier = [_held_out(one) for one in held_out if one.start >= start - _MEMORY] + [_lived(one) for one in lived]
        judged = performance.judge(earlier, figures, false_alarm_every=threshold)
        value = {**msgspec.to_builtins(figures), **msgspec.to_builtins(judged)}
        keep_window(connection, look.environment, Window(start=start, watch="performance", value=value))
        before = earlier[-1][1] if earlier else performance.Judged(excess=None)
        return _settle_look(connection, look, "performance", performance.finding(judged, figures, start, before=before))


def _held_out(window: Window) -> tuple[performance.Figures, performance.Judged]:
    figures = msgspec.convert(window.value, performance.Figures)
    return figures, performance.Judged(excess=performance.excess_of(figures))


def _lived(window: Window) -> tuple[performance.Figures, performance.Judged]:
    return msgspec.convert(window.value, performance.Figures), msgspec.convert(window.value, performance.Judged)


def _keep(connection: sa.Connection, look: Look, series: str, start: datetime, value: Any) -> None:
    keep_window(connection, look.environment, Window(start=start, watch=series, value=msgspec.to_builtins(value)))


def _settle_look(connection: sa.Connection, look: Look, what: Watch, finding: Finding) -> Alert | None:
    return _settle(connection, look.project, look.environment, what, finding, now=look.now)


def _settle(
    connection: sa.Connection, project: Project, environment: str, what: Watch, finding: Finding, *, now: datetime
) -> Alert | None:
    rule = rule_of(project, what)
    return settle(connection, environment, rule, finding, now=now, channels=project.alerts.channels)
