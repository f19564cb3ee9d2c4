"""Planning: what a trial says when it starts, from the project's settings and the champion's record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from passerelle.bundle.manifest import read_manifest
from passerelle.errors import SettingsError
from passerelle.metrics import row_losses
from passerelle.monitoring.maturity import DAY, Day, floor_day, read_days
from passerelle.project.settings import Evidence, Project
from passerelle.registry.versions import Version
from passerelle.trial.comparing import truths_of
from passerelle.trial.verdict import Plan

#: The champion's mean loss is taken over this many of its last mature days.
REFERENCE_DAYS = 28
#: (z of 95 % + z of 80 %)^2: rows for a fixed-size test of this power, in units of variance / margin^2.
_POWER = 6.1826
#: Of rows and units a day keeps this many values; where there are more, neighbours share one.
VALUES_A_DAY = 500
UNITS: dict[Evidence, Literal["row", "day", "unit", "week"]] = {
    "rows": "row",
    "units": "unit",
    "days": "day",
    "weeks": "week",
}


def make_plan(
    project: Project,
    *,
    environment: str,
    champion: Version,
    challenger: int,
    revision: int,
    reference: float,
    reference_source: str,
    now: datetime,
) -> Plan:
    """The plan of a trial that begins with a revision.

    ``reference`` is the champion's mean loss, ``reference_source`` says where that comes from. Raises SettingsError for
    a reference that no margin can be a share of, BundleError if the champion's bundle is damaged.
    """
    if not (math.isfinite(reference) and reference > 0):
        raise SettingsError(
            f"the champion's mean loss is {reference:g} ({reference_source}): a margin cannot be a share of it. "
            "Choose another trial.loss."
        )
    trial = project.trial
    margin = trial.margin * reference
    return Plan(
        id=f"{environment}-{challenger}-{revision}",
        environment=environment,
        champion=champion.number,
        challenger=challenger,
        mode=trial.mode,
        share=trial.steps[-1] if trial.steps else trial.share,
        task=project.task.kind,
        classes=read_manifest(champion.path)[0].classes,
        loss=project.loss,
        cap=trial.cap,
        margin=margin,
        reference=reference,
        reference_source=reference_source,
        alpha=trial.alpha,
        unit=UNITS[trial.evidence],
        min_days=trial.min_days,
        max_days=trial.max_days,
        horizon_hours=project.task.horizon_hours,
        rollback_above=0.0 if trial.mode == "split" else margin,
        planned_n=_planned_rows(project, reference, margin),
        started_at=now,
        unit_days=trial.unit_days,
        values_a_day=VALUES_A_DAY if trial.evidence in ("rows", "units") else None,
        guardrails=trial.guardrails,
        steps=trial.steps,
        hold_days=trial.hold_days,
        breaker_percent=trial.breaker_percent if trial.mode == "split" else None,  # a shadow harms nobody
    )


def reference_loss(project: Project, champion: Version, folder: Path, *, now: datetime) -> tuple[float, str] | None:
    """A version's mean loss over its last 28 mature days in the ledger ``folder``, and where that comes from.

    Of its scores whose outcome was known in time, as a shadow too: a version that was promoted yesterday has answered
    for a day, and was scored for weeks. None if there is none. Raises LedgerError, and BundleError if the version's
    bundle is damaged.
    """
    horizon_hours = project.task.horizon_hours
    end = floor_day(now - timedelta(hours=horizon_hours))
    start = end - REFERENCE_DAYS * DAY
    days = read_days(folder, start, end, horizon_hours=horizon_hours)
    found = mean_loss(days, project, champion.number, classes=read_manifest(champion.path)[0].classes)
    if found is None:
        return None
    mean, rows = found
    first, last = f"{start:%d %b}", f"{end - DAY:%d %b %Y}"
    return mean, f"version {champion.number} on {rows:,} mature events, {first} to {last}"


def mean_loss(day: Day, project: Project, version: int, *, classes: Sequence[Any]) -> tuple[float, int] | None:
    """The mean loss of a version's scores in these days, and of how many; None if there is none."""
    columns = (day.rows.column(name).to_pylist() for name in ("version", "status", "truth", "output"))
    mine = [
        (truth, output)
        for number, status, truth, output in zip(*columns, strict=True)
        if number == version and status == "scored" and truth is not None
    ]
    if not mine:
        return None
    truth = truths_of([text for text, _ in mine], project.task.kind, classes)
    outputs = np.array([output for _, output in mine], dtype=np.float64)
    losses = row_losses(project.loss, outputs, truth, cap=project.trial.cap)
    return math.fsum(losses) / len(losses), len(losses)


def _planned_rows(project: Project, reference: float, margin: float) -> int:
    """At how many rows the bets are aimed: a guess, and a guess ten times off costs little.

    The variance of a row's loss is guessed from its mean; that of a paired difference is a quarter of it.
    """
    trial = project.trial
    variance = reference * (1 - reference) if project.loss == "zero_one" else reference**2
    share = trial.steps[-1] if trial.steps else trial.share
    variance *= 1 / (share * (1 - share)) if trial.mode == "split" else 0.25
    return max(100, math.ceil(_POWER * variance / margin**2))
