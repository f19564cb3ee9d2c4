"""Forecasting: what the planner says of the next trial, from the project's settings and the champion's own record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerelle.bundle.manifest import read_manifest
from passerelle.errors import DeploymentError
from passerelle.ledger.storage import ledger_folder
from passerelle.loop.rollout import revisions
from passerelle.loop.train import holdout_path
from passerelle.metrics import largest_loss, positions, row_losses
from passerelle.monitoring.maturity import DAY, floor_day, read_days
from passerelle.notebook.submission import HOLDOUT, SUBMISSION, read_answers
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry, Version
from passerelle.schema import decode_columns
from passerelle.state.database import open_state
from passerelle.trial import plan, trials
from passerelle.trial.needs import Mode, Unit
from passerelle.trial.planner import Forecast
from passerelle.trial.planning import REFERENCE_DAYS, UNITS

#: Fewer days of an earlier trial do not say how days vary.
_FEW = 8
_DAY_US = 86_400_000_000

Array = NDArray[Any]


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """A forecast, and what of the project it rests on."""

    environment: str
    #: The version that a challenger would be tried against.
    champion: int
    #: Its mean loss, the loss's name, the margin as a share of it, and what was looked at.
    reference: float
    loss: str
    margin_share: float
    source: str
    #: When half of all trials would have their verdict, if one began now; None: not within ten years.
    expected: datetime | None
    forecast: Forecast


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a forecast rests on: read once, it serves any number of questions."""

    environment: str
    champion: Version
    record: _Record
    #: How days' differences varied in earlier trials, and which; None: not known.
    deviation: float | None
    earlier: str


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """A version's losses, with the day (a number) and the unit of each; None where they are not known."""

    losses: Array
    days: Array | None
    units: Array | None
    source: str


def forecast_trial(
    project: Project,
    registry: Registry,
    *,
    environment: str,
    now: datetime,
    margin: float | None = None,
    mode: Mode | None = None,
    share: float | None = None,
    per_day: float | None = None,
    max_days: int | None = None,
) -> Outlook:
    """The forecast of a trial that would begin now; what is given replaces what the project says.

    Raises DeploymentError if there is no version, if nothing is known of its losses, or nothing of the traffic.
    """
    known = read_known(project, registry, environment=environment, now=now)
    return forecast_of(
        project, known, now=now, margin=margin, mode=mode, share=share, per_day=per_day, max_days=max_days
    )


def read_known(project: Project, registry: Registry, *, environment: str, now: datetime) -> Known:
    """What is known of the champion's losses and of earlier trials. Raises DeploymentError if nothing is."""
    version = _champion(project, registry, environment)
    record = _lived(project, version, environment, now) or _held_out(project, version)
    if record is None:
        raise DeploymentError(
            f"nothing is known of the losses of version {version.number}: neither mature outcomes in {environment} nor "
            "its answers on held-out rows are here. Record outcomes of its predictions first, or train on this machine."
        )
    deviation, earlier = _earlier(project, environment, UNITS[project.trial.evidence])
    return Known(environment=environment, champion=version, record=record, deviation=deviation, earlier=earlier)


def forecast_of(
    project: Project,
    known: Known,
    *,
    now: datetime,
    margin: float | None = None,
    mode: Mode | None = None,
    share: float | None = None,
    per_day: float | None = None,
    max_days: int | None = None,
) -> Outlook:
    """The forecast from what is known; see forecast_trial."""
    version, record, unit = known.champion, known.record, UNITS[project.trial.evidence]
    losses, days, daily = _in_units(record, unit)
    if (traffic := per_day or daily) is None:
        raise DeploymentError("the held-out rows have no times, so the traffic is not known: say --per-day.")
    reference = float(record.losses.mean())
    if not reference > 0:
        raise DeploymentError(f"the mean loss is {reference:g} ({record.source}): a margin cannot be a share of it.")
    margin_share = margin or project.trial.margin
    trial, bound = project.trial, _bound(project, version, record.losses, margin_share * reference)
    if margin_share * reference >= bound:
        raise DeploymentError(
            f"a margin of {margin_share:g} of the loss is {margin_share * reference:.3g}, and no loss is worse than "
            f"{bound:.3g}: every challenger would keep to it. Say a smaller one, 0.03 or so."
        )
    forecast = plan(
        margin=margin_share * reference,
        per_day=traffic,
        horizon_days=project.task.horizon_hours / 24,
        unit=unit,
        mode=mode or trial.mode,
        deviation=known.deviation,
        losses=losses,
        days=days,
        share=share or (trial.steps or (trial.share,))[-1],
        alpha=trial.alpha,
        bounds=(0.0, bound),
        min_days=min(trial.min_days, max_days or trial.max_days),
        max_days=max_days or trial.max_days,
    )
    return Outlook(
        environment=known.environment,
        champion=version.number,
        reference=reference,
        loss=project.loss,
        margin_share=margin_share,
        source="; ".join(part for part in (record.source, known.earlier) if part),
        expected=_expected(forecast, now),
        forecast=forecast,
    )


def _champion(project: Project, registry: Registry, environment: str) -> Version:
    """The version that answers in the environment; before there is one, the newest."""
    current = revisions(project, environment).current()
    if current is not None:
        return registry.get(current.champion.version)
    versions = registry.versions()
    if not versions:
        raise DeploymentError("there is no version yet: passerelle train makes the first.")
    return max(versions, key=lambda one: one.number)


def _lived(project: Project, version: Version, environment: str, now: datetime) -> _Record | None:
    """Of the version's last 28 mature days in the ledger; None without an outcome."""
    horizon_hours = project.task.horizon_hours
    end = floor_day(now - timedelta(hours=horizon_hours))
    start = end - REFERENCE_DAYS * DAY
    rows = read_days(ledger_folder(project.state, environment), start, end, horizon_hours=horizon_hours).rows
    ours = pc.and_(pc.equal(rows["version"], version.number), pc.equal(rows["status"], "scored"))
    rows = rows.filter(pc.and_(ours, pc.is_valid(rows["truth"])))
    if len(rows) < 2:  # noqa: PLR2004  (a spread needs two)
        return None
    texts, units = (rows[name].combine_chunks().dictionary_encode() for name in ("truth", "unit"))
    values = [msgspec.json.decode(text) for text in texts.dictionary.to_pylist()]  # few are different
    labels = [values[code] for code in texts.indices.to_pylist()]
    outputs = np.asarray(pc.list_flatten(rows["output"]), dtype=np.float64).reshape(len(rows), -1)
    return _Record(
        losses=_losses(project, version, outputs, labels),
        days=(np.asarray(pc.cast(rows["event_at"], pa.int64())) - round(start.timestamp() * 1_000_000)) // _DAY_US,
        units=np.asarray(units.indices),
        source=f"version {version.number} on {len(rows):,} mature events, {start:%d %b} to {end - DAY:%d %b %Y}",
    )


def _held_out(project: Project, version: Version) -> _Record | None:
    """Of the rows that were held out when the version was trained here; None where they are not kept."""
    run = version.tags.get("run") or read_manifest(version.path)[0].provenance.run or ""
    answers, kept = project.state / "runs" / run / SUBMISSION / HOLDOUT, holdout_path(project, run)
    if not (run and answers.is_file() and kept.is_file()):
        return None
    outputs, rows = read_answers(answers).outputs, decode_columns(kept.read_bytes())
    days = None
    if project.task.time is not None and project.task.time in rows:
        days = rows[project.task.time].astype("datetime64[D]").astype(np.int64)
    unit = rows.get(project.task.unit or "")
    return _Record(
        losses=_losses(project, version, outputs, rows[project.task.target].tolist()),
        days=days,
        units=None if unit is None else unit.astype(str),
        source=f"version {version.number} on the {len(outputs):,} rows held out when it was trained",
    )


def _losses(project: Project, version: Version, outputs: Array, labels: Sequence[Any]) -> Array:
    classes = read_manifest(version.path)[0].classes
    number = project.task.kind == "regression"
    truth = np.array(labels, dtype=np.float64) if number else positions(labels, classes)
    return np.asarray(row_losses(project.loss, outputs, truth, cap=project.trial.cap), dtype=np.float64)


def _in_units(record: _Record, unit: Unit) -> tuple[Array, Array | None, float | None]:
    """The losses, one for each unit of evidence (of blocks: of each event, with its block), and how many come a day."""
    days = record.days
    span = None if days is None else len(np.unique(days))
    if unit == "unit" and record.units is not None:
        _, which = np.unique(record.units, return_inverse=True)
        means = np.bincount(which, weights=record.losses) / np.bincount(which)
        return means, None, None if span is None else len(means) / span
    daily = None if span is None else len(record.losses) / span
    if unit == "week" and days is not None:
        weeks = (days - days.min()) // 7
        return record.losses, weeks if len(np.unique(weeks)) > 1 else None, daily
    return record.losses, days if unit == "day" and span is not None and span > 1 else None, daily


def _earlier(project: Project, environment: str, unit: Unit) -> tuple[float | None, str]:
    """How days' differences varied in the trials before, in shadow and of this loss: the middle one; None: none was.

    A split's days vary by the toss as well.
    """
    if unit != "day":
        return None, ""
    engine = open_state(project.state)
    found = []
    for record in trials.history(engine, environment):
        if record.plan.mode != "shadow" or record.plan.loss != project.loss:
            continue
        days = [one.difference for one in trials.blocks(engine, record.plan.id) if one.difference is not None]
        if len(days) >= _FEW and (spread := float(np.std(days, ddof=1))) > 0:
            found.append((spread, record.plan.id))
    if not found:
        return None, ""
    spread, trial = sorted(found)[(len(found) - 1) // 2]
    return spread, f"days as in trial {trial} (standard deviation {spread:.3g})"


def _bound(project: Project, version: Version, losses: Array, margin: float) -> float:
    """The largest loss of one event. Blocks of an unbounded loss need none: then it is beyond what was seen."""
    classes = read_manifest(version.path)[0].classes
    bound = largest_loss(project.loss, cap=project.trial.cap, classes=max(2, len(classes)))
    return bound if bound is not None else max(10 * float(losses.max()), 2 * margin)


def _expected(forecast: Forecast, now: datetime) -> datetime | None:
    """Evidence begins with the next whole day, and is complete a horizon after its last."""
    if forecast.need.days is None:
        return None
    midnight = floor_day(now)
    first = midnight if midnight == now else midnight + DAY
    return first + math.ceil(forecast.need.days) * DAY + timedelta(days=forecast.horizon_days)
