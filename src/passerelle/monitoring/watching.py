"""Watching: measure what has closed, hold every rule to it, open and close alerts; once a tick.

Each step is one transaction: a window's figures, the alert that they open or close, its sentence on the timeline and
its messages are kept together or not at all. A step that is there already is not taken again, so that a process that
dies anywhere and is started again opens the same alerts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from passerelle.bundle.manifest import PROFILE, Manifest, read_manifest
from passerelle.bundle.profile import Profile, read_profile
from passerelle.clock import Clock, system_clock
from passerelle.decoding import prepared
from passerelle.deployment.spec import Revisions, Variant, environment_folder
from passerelle.errors import PasserelleError
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask
from passerelle.ledger.watermarks import open_until
from passerelle.metrics import largest_loss
from passerelle.monitoring import drifting, estimating, incidents, performance, volume
from passerelle.monitoring.alerts import Alert, Finding, settle
from passerelle.monitoring.handling import speak
from passerelle.monitoring.inputs import Counts, read_counts, read_outputs
from passerelle.monitoring.looking import LOOKED, look
from passerelle.monitoring.marking import drift_days, loss_days, read_marks
from passerelle.monitoring.maturity import floor_day, read_day
from passerelle.monitoring.measuring import Figures, held_out_days, measure
from passerelle.monitoring.parts import Bin
from passerelle.monitoring.rules import rule_of
from passerelle.monitoring.slicing import read_slices
from passerelle.monitoring.streams import Stream
from passerelle.monitoring.tolerance import Agreement
from passerelle.monitoring.windows import Window, has_window, keep_window, newest, oldest, read_windows
from passerelle.project.settings import Project, Watch
from passerelle.state.database import open_state, writing
from passerelle.state.timeline import Event
from passerelle.state.timeline import record as tell

DAY = timedelta(days=1)
#: So many days are measured at a look, at most; the next look goes on.
MOST_DAYS = 60
#: Windows older than this play no part in judging a day.
_MEMORY = timedelta(days=200)
_DRIFT_MEMORY = timedelta(days=120)
#: The series of the days held out at the run, which the first live days are compared with.
REFERENCE = "reference"
#: The series of what each day is expected to lose before its outcomes are known.
ESTIMATED = "estimated"
#: The series of the counts of each day's inputs and scores, as a Profile.
COUNTS = "counts"


class WatchError(PasserelleError):
    """Some of the rules could not be held to what happened: mend what is named; the next look tries again."""


class Scene(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What one call of watch works with; what is read is read once, when it is needed."""

    project: Project
    environment: str
    engine: sa.Engine
    ledger: Path
    now: datetime
    #: The first revision's moment: no day before it is measured.
    begun_at: datetime
    #: The version that answers most units.
    champion: Variant

    @cached_property
    def manifest(self) -> Manifest:
        """What the champion says of itself. Raises BundleError."""
        return read_manifest(self.project.root / self.champion.bundle)[0]

    @cached_property
    def reference(self) -> Profile:
        """What the champion's inputs and scores looked like on the rows that its run held out. Raises BundleError."""
        return read_profile(self.project.root / self.champion.bundle / PROFILE)

    @cached_property
    def open_until(self) -> datetime | None:
        """Up to when the ledger's open segments are known to be written; see watermarks. Raises LedgerError."""
        return open_until(self.ledger)


def watch(project: Project, environment: str, *, now: datetime, machine: Clock = system_clock) -> list[Alert]:
    """Measure the windows that have closed, hold the rules to them, open and close alerts; those that changed now.

    May be called as often as one likes, and again after a death at any point. ``machine`` is the clock by which silence
    is measured: the machine's. A rule that fails stops no other: what went wrong is raised when all have had their turn
    (LedgerError, BundleError ...; WatchError for several).
    """
    engine = open_state(project.state)
    ledger = ledger_folder(project.state, environment)

    def incident(what: Watch, find: Callable[[sa.Connection], Finding]) -> list[Alert | None]:
        with writing(engine) as connection:
            return [_settle(connection, project, environment, what, find(connection), now=now)]

    def days(rules: Callable[[Scene], list[Alert | None]]) -> list[Alert | None]:
        scene = _scene(project, environment, engine=engine, ledger=ledger, now=now)
        return [] if scene is None else rules(scene)

    rules: list[Callable[[], list[Alert | None] | None]] = [
        lambda: incident("quarantine", incidents.put_aside),
        lambda: incident("ledger", lambda _: incidents.damaged(ledger, now=now)),
        lambda: incident("loop", lambda connection: incidents.failing(connection, now=now)),
        lambda: look(project, environment, engine, now=now, machine=machine),
        lambda: days(watch_events),
        lambda: days(watch_losses),
        lambda: days(watch_estimates),
        lambda: speak(project, environment, now=now),
    ]
    changed: list[Alert | None] = []
    failed: list[Exception] = []
    for rule in rules:
        try:
            changed += rule() or []
        except Exception as error:  # noqa: BLE001  (it must not stop the other rules; it is raised below)
            failed.append(error)
    _raise(failed)
    return [alert for alert in changed if alert is not None]


def _raise(failed: list[Exception]) -> None:
    """What nobody foresaw as it is; else what was foreseen, each sentence once."""
    for error in failed:
        if not isinstance(error, PasserelleError):
            raise error
    said = list(dict.fromkeys(str(error) for error in failed))
    if len(said) > 1:
        raise WatchError(" ".join(said)) from failed[0]
    if failed:
        raise failed[0]


def _scene(project: Project, environment: str, *, engine: sa.Engine, ledger: Path, now: datetime) -> Scene | None:
    """None before anything was deployed."""
    revisions = Revisions(environment_folder(project.state, environment))
    deployment = revisions.current()
    if deployment is None:
        return None
    return Scene(
        project=project,
        environment=environment,
        engine=engine,
        ledger=ledger,
        now=now,
        begun_at=revisions.get(revisions.numbers()[0]).created_at,
        champion=deployment.champion,
    )


def watch_events(scene: Scene) -> list[Alert | None]:
    """The rules on volume, inputs and scores: each day once, when it has closed."""
    changed: list[Alert | None] = []
    for start in _due(scene, "volume", horizon_hours=0):
        counts = _read_counts(scene, start)
        if counts is None:
            break  # nothing follows this day: that no event comes is for the rule of silence to say, where it can
        changed += _watch_events(scene, start, counts)
    return changed


def watch_losses(scene: Scene) -> list[Alert | None]:
    """The rule on the loss: each day once, when it is mature."""
    due = _due(scene, "performance", horizon_hours=scene.project.task.horizon_hours)
    if due:
        _keep_reference(scene)
    return [_watch_performance(scene, start) for start in due]


def watch_estimates(scene: Scene) -> list[Alert | None]:
    """What each day will turn out to lose: once it has closed and was counted, by what was mature then. No alert."""
    project = scene.project
    if project.task.kind == "regression":
        return []
    horizon = timedelta(hours=project.task.horizon_hours)
    counted = newest(scene.engine, scene.environment, "volume")
    unmeasured = next(iter(_due(scene, "performance", horizon_hours=project.task.horizon_hours)), None)
    for start in _due(scene, ESTIMATED, horizon_hours=0):
        # Each day by all that was mature when it closed: it would otherwise depend on when one looks.
        if counted is None or counted.start < start or (unmeasured is not None and unmeasured <= start - horizon):
            break
        _estimate(scene, start, mature_before=start - horizon + timedelta(microseconds=1))
    return []


def _estimate(scene: Scene, start: datetime, *, mature_before: datetime) -> None:
    project, since = scene.project, mature_before - timedelta(days=estimating.PAST)
    days = _windows_between(scene, "performance", since, mature_before)
    mature = {one.start: one.value for one in days if one.value.get("loss") is not None}
    calibrated = [value["bins"] for value in mature.values() if value.get("bins")][-estimating.CALIBRATED_BY :]
    enough = calibrated if len(calibrated) >= estimating.FEWEST else []
    bins = [msgspec.convert(one, prepared(Bin)) for day in enough for one in day]
    outputs = read_outputs(scene.ledger, start, width=len(scene.reference.scores))
    loss = estimating.estimate(outputs, bins, task=project.task.kind, loss=project.loss, cap=project.trial.cap)
    estimates = {one.start: one.value["loss"] for one in _windows_between(scene, ESTIMATED, since, start)}
    past = [(estimates[day], value["loss"]) for day, value in mature.items() if estimates.get(day) is not None]
    reference = next((one["reference"] for one in reversed(mature.values()) if one.get("reference") is not None), None)
    found = estimating.judge(len(outputs), loss, past, reference=reference)
    with writing(scene.engine) as connection:
        if has_window(connection, scene.environment, ESTIMATED, start):
            return
        before = newest(connection, scene.environment, ESTIMATED)
        begins = found.warning and not (before is not None and before.value["warning"])
        _keep(connection, scene, ESTIMATED, start, found)
        # Once the outcomes are there it is no news.
        if begins and reference is not None and not has_window(connection, scene.environment, "performance", start):
            told = estimating.sentence(found, f"{start:%Y-%m-%d}", reference)
            subject = f"{scene.environment}-performance"
            details = {"watch": "performance", "state": "estimated", "day": f"{start:%Y-%m-%d}"}
            tell(connection, Event(at=scene.now, kind="warning", subject=subject, sentence=told, details=details))


def _windows_between(scene: Scene, series: str, since: datetime, until: datetime) -> list[Window]:
    return read_windows(scene.engine, scene.environment, series, since=since, until=until)


def _first_day(scene: Scene) -> datetime | None:
    """The day on which the ledger begins, the first revision's or a later one; None if it has no live prediction.

    Earlier moments are a caller's mistake: they would be days upon days to measure.
    """
    begun = floor_day(scene.begun_at)
    kept = oldest(scene.engine, scene.environment, "volume")
    if kept is not None:
        return max(kept, begun)
    sql = "SELECT min(event_at) FROM all_predictions WHERE role = 'live' AND event_at >= ?"
    found = ask(scene.ledger, sql, [begun]).rows[0][0]
    return None if found is None else floor_day(found)


def _due(scene: Scene, series: str, *, horizon_hours: float) -> list[datetime]:
    """The days that have closed and are not measured yet, in order; so many that a look ends in reasonable time."""
    first = _first_day(scene)
    if first is None:
        return []
    before = newest(scene.engine, scene.environment, series)
    start = first if before is None else max(first, before.start + DAY)
    due: list[datetime] = []
    while start + DAY + timedelta(hours=horizon_hours) <= scene.now and len(due) < MOST_DAYS:
        if scene.open_until is not None and scene.open_until < start + DAY:
            break
        due.append(start)
        start += DAY
    return due


def _read_counts(scene: Scene, start: datetime) -> Counts | None:
    # Silence is heard at an endpoint of this machine that had events. Else a day without any is the only sign of it.
    looked = newest(scene.engine, scene.environment, LOOKED)
    heard = looked is not None and looked.value.get("silent_s") is not None
    return read_counts(
        scene.ledger,
        start,
        reference=scene.reference,
        schema=scene.manifest.schema,
        version=scene.champion.version,
        privacy=scene.project.privacy,
        last=not heard and scene.now - start >= 2 * DAY,
    )


def _watch_events(scene: Scene, start: datetime, counts: Counts) -> list[Alert | None]:
    """Volume, inputs and scores of a day: read once, kept in one transaction."""
    whole = msgspec.structs.replace(counts.inputs, scores=counts.scores.scores)
    with writing(scene.engine) as connection:
        if has_window(connection, scene.environment, "volume", start):
            return []
        changed = [_volume(connection, scene, start, counts.events)]
        streams = drifting.input_streams(counts.inputs, scene.reference)
        changed.append(_drift(connection, scene, "input_drift", start, streams=streams, counts=whole))
        streams = drifting.score_streams(counts.scores, scene.reference)
        changed.append(_drift(connection, scene, "score_drift", start, streams=streams, counts=counts.scores))
        _keep(connection, scene, COUNTS, start, {"version": scene.champion.version, "profile": whole})
    return changed


def _volume(connection: sa.Connection, scene: Scene, start: datetime, events: int) -> Alert | None:
    windows = read_windows(connection, scene.environment, "volume", since=start - _MEMORY)
    earlier = [(one.start, msgspec.convert(one.value, prepared(volume.Counted))) for one in windows]
    counted = volume.judge(earlier, start, events, factor=rule_of(scene.project, "volume").threshold or 1.0)
    _keep(connection, scene, "volume", start, counted)
    return _settle_day(connection, scene, "volume", volume.finding(counted, start))


def _drift(
    connection: sa.Connection,
    scene: Scene,
    watched: Literal["input_drift", "score_drift"],
    start: datetime,
    *,
    streams: dict[str, Stream],
    counts: Profile,
) -> Alert | None:
    words = "inputs" if watched == "input_drift" else "scores"
    windows = read_windows(connection, scene.environment, watched, since=start - _DRIFT_MEMORY)
    shown = drifting.stability_of(counts, scene.reference)
    days = [(one.start, msgspec.convert(one.value, prepared(drifting.Judged))) for one in windows]
    judged = drifting.judge(
        [one for _, one in drift_days(days, read_marks(connection, scene.environment, watched))],
        streams,
        version=scene.champion.version,
        rows=counts.rows,
        stability={name: value for name, value in shown.items() if (name in counts.inputs) == (words == "inputs")},
        false_alarm_every=rule_of(scene.project, watched).threshold or 1.0,
    )
    _keep(connection, scene, watched, start, judged)
    return _settle_day(connection, scene, watched, drifting.finding(judged, start, what=words))


def _keep_reference(scene: Scene) -> None:
    """Keep the days that the first champion's run held out, once: before the first mature day."""
    if newest(scene.engine, scene.environment, REFERENCE) or newest(scene.engine, scene.environment, "performance"):
        return
    days = held_out_days(scene.project, scene.manifest)
    with writing(scene.engine) as connection:
        for start, figures in days:
            _keep(connection, scene, REFERENCE, start, figures)


def _watch_performance(scene: Scene, start: datetime) -> Alert | None:
    day = read_day(scene.ledger, start, horizon_hours=scene.project.task.horizon_hours)
    wanted = scene.project.monitoring.slices
    slices = (
        read_slices(scene.ledger, start, wanted, reference=scene.reference.inputs, schema=scene.manifest.schema)
        if wanted
        else {}
    )
    figures, losses = measure(day.rows, scene.project, scene.manifest.classes, slices)
    threshold = rule_of(scene.project, "performance").threshold or 1.0
    with writing(scene.engine) as connection:
        if has_window(connection, scene.environment, "performance", start):
            return None
        held_out = read_windows(connection, scene.environment, REFERENCE)
        lived = read_windows(connection, scene.environment, "performance", since=start - _MEMORY)
        days = [(one.start, *_held_out(one)) for one in held_out if one.start >= start - _MEMORY]
        days += [(one.start, *_lived(one)) for one in lived]
        marks = read_marks(connection, scene.environment, "performance")
        compared = loss_days(days, marks)
        earlier = [(one, known) for _, one, known in compared]
        agreement = _agreement(scene.project, len(scene.manifest.classes))
        judged = performance.judge(earlier, figures, false_alarm_every=threshold, agreement=agreement, losses=losses)
        value = {**msgspec.to_builtins(figures), **msgspec.to_builtins(judged)}
        keep_window(connection, scene.environment, Window(start=start, watch="performance", value=value))
        before = earlier[-1][1] if earlier else performance.Judged(excess=None)
        since = performance.began([(day, known) for day, _, known in compared], start)
        found = performance.finding(judged, figures, start, before=before, since=since)
        return _settle_day(connection, scene, "performance", found)


def _held_out(window: Window) -> tuple[Figures, performance.Judged]:
    figures = msgspec.convert(window.value, prepared(Figures))
    return figures, performance.Judged(excess=performance.excess_of(figures), held_out=True)


def _agreement(project: Project, classes: int) -> Agreement | None:
    share = project.monitoring.tolerance
    bound = largest_loss(project.loss, cap=project.trial.cap, classes=classes)
    return None if share is None else Agreement(share=share, bound=bound)


def _lived(window: Window) -> tuple[Figures, performance.Judged]:
    return msgspec.convert(window.value, prepared(Figures)), msgspec.convert(window.value, prepared(performance.Judged))


def _keep(connection: sa.Connection, scene: Scene, series: str, start: datetime, value: Any) -> None:
    keep_window(connection, scene.environment, Window(start=start, watch=series, value=msgspec.to_builtins(value)))


def _settle_day(connection: sa.Connection, scene: Scene, what: Watch, finding: Finding) -> Alert | None:
    return _settle(connection, scene.project, scene.environment, what, finding, now=scene.now)


def _settle(
    connection: sa.Connection, project: Project, environment: str, what: Watch, finding: Finding, *, now: datetime
) -> Alert | None:
    rule = rule_of(project, what)
    return settle(connection, environment, rule, finding, now=now, channels=project.alerts.channels)
