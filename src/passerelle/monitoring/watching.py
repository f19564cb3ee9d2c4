"""Watching: measure what has closed, hold every rule to it, open and close alerts; once a tick.

Each step is one transaction: a window's figures, the alert that they open or close, its sentence on the timeline and
its messages are kept together or not at all. A step that is there already is not taken again, so that a process that
dies anywhere and is started again opens the same alerts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from passerelle.bundle.manifest import PROFILE, Manifest, read_manifest
from passerelle.bundle.profile import Profile, read_profile
from passerelle.clock import Clock, system_clock
from passerelle.deployment.spec import Deployment, Revisions, Variant, environment_folder
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask
from passerelle.monitoring import drift, incidents, performance, volume
from passerelle.monitoring.alerts import Alert, Finding, settle
from passerelle.monitoring.inputs import Counts, read_counts
from passerelle.monitoring.looking import look
from passerelle.monitoring.maturity import closed, floor_day, read_day
from passerelle.monitoring.rules import rule_of
from passerelle.monitoring.windows import Window, has_window, keep_window, newest, oldest, read_windows
from passerelle.project.settings import Project, Watch
from passerelle.state.database import open_state, writing

DAY = timedelta(days=1)
#: Windows older than this play no part in judging a day.
_MEMORY = timedelta(days=200)
_DRIFT_MEMORY = timedelta(days=120)
#: The series of the days held out at the run, which the first live days are compared with.
REFERENCE = "reference"
#: The series of the counts of each day's inputs and scores, as a Profile.
COUNTS = "counts"


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of watch works with."""

    project: Project
    environment: str
    engine: sa.Engine
    ledger: Path
    now: datetime
    #: The version that answers most units, and what it says of itself.
    champion: Variant
    manifest: Manifest
    #: What its inputs and scores looked like on the rows that its run held out.
    reference: Profile


def watch(project: Project, environment: str, *, now: datetime, machine: Clock = system_clock) -> list[Alert]:
    """Measure the windows that have closed, hold the rules to them, open and close alerts; those that changed now.

    May be called as often as one likes, and again after a death at any point. ``machine`` is the clock by which silence
    is measured: the machine's. Raises LedgerError or StateError if the
    ledger or the state cannot be read.
    """
    engine = open_state(project.state)
    ledger = ledger_folder(project.state, environment)
    changed = []
    with writing(engine) as connection:
        found = incidents.put_aside(connection)
        changed.append(_settle(connection, project, environment, "quarantine", found, now=now))
        found = incidents.damaged(ledger, now=now)
        changed.append(_settle(connection, project, environment, "ledger", found, now=now))
    changed += look(project, environment, engine, now=now, machine=machine)
    deployment = Revisions(environment_folder(project.state, environment)).current()
    if deployment is not None:
        changed += watch_days(_scene(project, deployment, engine=engine, ledger=ledger, now=now))
    return [alert for alert in changed if alert is not None]


def _scene(project: Project, deployment: Deployment, *, engine: sa.Engine, ledger: Path, now: datetime) -> Scene:
    champion = deployment.champion
    bundle = project.root / champion.bundle
    manifest, _ = read_manifest(bundle)
    return Scene(
        project=project,
        environment=deployment.environment,
        engine=engine,
        ledger=ledger,
        now=now,
        champion=champion,
        manifest=manifest,
        reference=read_profile(bundle / PROFILE),
    )


def watch_days(scene: Scene) -> list[Alert | None]:
    """The rules of event time: each day once, when it has closed."""
    first = _first_day(scene)
    if first is None:
        return []
    changed: list[Alert | None] = []
    for start in _due(scene, "volume", first, horizon_hours=0):
        counts = _read_counts(scene, start)
        if counts is None:
            break  # nothing follows this day: that no event comes is for the rule of silence to say
        changed += _watch_events(scene, start, counts)
    _keep_reference(scene)
    mature = _due(scene, "performance", first, horizon_hours=scene.project.task.horizon_hours)
    changed += [_watch_performance(scene, start) for start in mature]
    return changed


def _first_day(scene: Scene) -> datetime | None:
    """The day on which the ledger begins; None if it has no live prediction."""
    kept = oldest(scene.engine, scene.environment, "volume")
    if kept is not None:
        return kept
    found = ask(scene.ledger, "SELECT min(event_at) FROM all_predictions WHERE role = 'live'").rows[0][0]
    return None if found is None else floor_day(found)


def _due(scene: Scene, series: str, first: datetime, *, horizon_hours: float) -> list[datetime]:
    """The days that have closed and are not measured yet, in order."""
    before = newest(scene.engine, scene.environment, series)
    start = first if before is None else before.start + DAY
    due = []
    while start + DAY + timedelta(hours=horizon_hours) <= scene.now:
        if not closed(scene.ledger, start, horizon_hours=horizon_hours, now=scene.now):
            break
        due.append(start)
        start += DAY
    return due


def _read_counts(scene: Scene, start: datetime) -> Counts | None:
    return read_counts(
        scene.ledger,
        start,
        reference=scene.reference,
        schema=scene.manifest.schema,
        version=scene.champion.version,
        privacy=scene.project.privacy,
    )


def _watch_events(scene: Scene, start: datetime, counts: Counts) -> list[Alert | None]:
    """Volume, inputs and scores of a day: read once, kept in one transaction."""
    whole = msgspec.structs.replace(counts.inputs, scores=counts.scores.scores)
    with writing(scene.engine) as connection:
        if has_window(connection, scene.environment, "volume", start):
            return []
        changed = [_volume(connection, scene, start, counts.events)]
        streams = drift.input_streams(counts.inputs, scene.reference)
        changed.append(_drift(connection, scene, "input_drift", start, streams=streams, counts=whole))
        streams = drift.score_streams(counts.scores, scene.reference)
        changed.append(_drift(connection, scene, "score_drift", start, streams=streams, counts=counts.scores))
        _keep(connection, scene, COUNTS, start, {"version": scene.champion.version, "profile": whole})
    return changed


def _volume(connection: sa.Connection, scene: Scene, start: datetime, events: int) -> Alert | None:
    windows = read_windows(connection, scene.environment, "volume", since=start - _MEMORY)
    earlier = [(one.start, msgspec.convert(one.value, volume.Counted)) for one in windows]
    counted = volume.judge(earlier, start, events, factor=rule_of(scene.project, "volume").threshold or 1.0)
    _keep(connection, scene, "volume", start, counted)
    return _settle_day(connection, scene, "volume", volume.finding(counted, start))


def _drift(
    connection: sa.Connection,
    scene: Scene,
    watched: Literal["input_drift", "score_drift"],
    start: datetime,
    *,
    streams: dict[str, drift.Stream],
    counts: Profile,
) -> Alert | None:
    words = "inputs" if watched == "input_drift" else "scores"
    windows = read_windows(connection, scene.environment, watched, since=start - _DRIFT_MEMORY)
    shown = drift.stability_of(counts, scene.reference)
    judged = drift.judge(
        [msgspec.convert(one.value, drift.Judged) for one in windows],
        streams,
        version=scene.champion.version,
        rows=counts.rows,
        stability={name: value for name, value in shown.items() if (name in counts.inputs) == (words == "inputs")},
        false_alarm_every=rule_of(scene.project, watched).threshold or 1.0,
    )
    _keep(connection, scene, watched, start, judged)
    return _settle_day(connection, scene, watched, drift.finding(judged, start, what=words))


def _keep_reference(scene: Scene) -> None:
    """Keep the days that the first champion's run held out, once: before the first mature day."""
    if newest(scene.engine, scene.environment, REFERENCE) or newest(scene.engine, scene.environment, "performance"):
        return
    days = performance.held_out_days(scene.project, scene.manifest)
    with writing(scene.engine) as connection:
        for start, figures in days:
            _keep(connection, scene, REFERENCE, start, figures)


def _watch_performance(scene: Scene, start: datetime) -> Alert | None:
    day = read_day(scene.ledger, start, horizon_hours=scene.project.task.horizon_hours)
    figures = performance.measure(day.rows, scene.project, scene.manifest.classes)
    threshold = rule_of(scene.project, "performance").threshold or 1.0
    with writing(scene.engine) as connection:
        if has_window(connection, scene.environment, "performance", start):
            return None
        held_out = read_windows(connection, scene.environment, REFERENCE)
        lived = read_windows(connection, scene.environment, "performance", since=start - _MEMORY)
        earlier = [_held_out(one) for one in held_out if one.start >= start - _MEMORY] + [_lived(one) for one in lived]
        judged = performance.judge(earlier, figures, false_alarm_every=threshold)
        value = {**msgspec.to_builtins(figures), **msgspec.to_builtins(judged)}
        keep_window(connection, scene.environment, Window(start=start, watch="performance", value=value))
        before = earlier[-1][1] if earlier else performance.Judged(excess=None)
        since = performance.began([(one.start, _lived(one)[1]) for one in lived], start)
        found = performance.finding(judged, figures, start, before=before, since=since)
        return _settle_day(connection, scene, "performance", found)


def _held_out(window: Window) -> tuple[performance.Figures, performance.Judged]:
    figures = msgspec.convert(window.value, performance.Figures)
    return figures, performance.Judged(excess=performance.excess_of(figures))


def _lived(window: Window) -> tuple[performance.Figures, performance.Judged]:
    return msgspec.convert(window.value, performance.Figures), msgspec.convert(window.value, performance.Judged)


def _keep(connection: sa.Connection, scene: Scene, series: str, start: datetime, value: Any) -> None:
    keep_window(connection, scene.environment, Window(start=start, watch=series, value=msgspec.to_builtins(value)))


def _settle_day(connection: sa.Connection, scene: Scene, what: Watch, finding: Finding) -> Alert | None:
    return _settle(connection, scene.project, scene.environment, what, finding, now=scene.now)


def _settle(
    connection: sa.Connection, project: Project, environment: str, what: Watch, finding: Finding, *, now: datetime
) -> Alert | None:
    rule = rule_of(project, what)
    return settle(connection, environment, rule, finding, now=now, channels=project.alerts.channels)
