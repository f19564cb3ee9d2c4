"""A ledger that a trial can be judged from: days of events, two versions, outcomes; and the project around it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from passerelle.ledger.records import Outcome, Prediction, Record
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.project.settings import Project, ProjectSection, Task, Trial
from passerelle.trial.verdict import Plan

START = datetime(2013, 2, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def project_in(root: Path, *, kind: str = "binary", **trial: Any) -> Project:
    """A project whose state is below ``root``."""
    task = Task(kind=kind, target="late", key=("id",), horizon_hours=36)  # type: ignore[arg-type]
    return Project(project=ProjectSection(name="trips"), task=task, trial=Trial(**trial), root=root)


def plan_of(**changes: Any) -> Plan:
    """A shadow trial of version 2 against version 1, on days, from START."""
    fields: dict[str, Any] = {
        "id": "production-2-2",
        "environment": "production",
        "champion": 1,
        "challenger": 2,
        "mode": "shadow",
        "share": 0.5,
        "task": "binary",
        "classes": (False, True),
        "loss": "brier",
        "cap": None,
        "margin": 0.01,
        "reference": 0.2,
        "reference_source": "its holdout",
        "alpha": 0.05,
        "unit": "day",
        "min_days": 4,
        "max_days": 10,
        "horizon_hours": 36.0,
        "rollback_above": 0.01,
        "planned_n": 1000,
        "started_at": START,
    }
    return Plan(**(fields | changes))


def prediction(id: str, at: datetime, output: Iterable[float] | None, **changes: Any) -> Prediction:  # noqa: A002  (the record's own word)
    """A live answer of version 1 in the trial of plan_of."""
    fields: dict[str, Any] = {
        "id": id,
        "unit": id,
        "role": "live",
        "status": "scored" if output is not None else "failed",
        "revision": 2,
        "version": 1,
        "digest": "d" * 64,
        "trial": "production-2-2",
        "inputs": {"hour": 5},
        "output": None if output is None else tuple(output),
        "event_at": at,
        "received_at": at,
    }
    return Prediction(**(fields | changes))


def outcome(id: str, value: Any, at: datetime) -> Outcome:  # noqa: A002  (the record's own word)
    """An outcome that was known and received at a moment."""
    return Outcome(id=id, value=value, known_at=at, received_at=at)


def days(
    count: int, *, rows: int = 40, seed: int = 1, worse: float = 0.0, plan: Plan | None = None
) -> list[list[Record]]:
    """Days of events with their outcomes; the challenger's probabilities are ``worse`` further from the truth.

    Truth and noise are shared by the events of a day only in so far as a day is harder or easier than another.
    """
    plan = plan or plan_of()
    rng = np.random.default_rng(seed)
    found = []
    for day in range(count):
        records: list[Record] = []
        hard = rng.normal(0.3, 0.05)
        for row in range(rows):
            at = START + day * DAY + timedelta(minutes=10 + row * 1400 / rows)
            id_, truth = f"{day}-{row}", bool(rng.random() < 0.3)
            away = [float(np.clip(hard + rng.normal(more, 0.05), 0.01, 0.99)) for more in (0.0, worse)]
            chances = [1 - gap if truth else gap for gap in away]
            if plan.mode == "shadow":
                records.append(prediction(id_, at, [chances[0]], trial=plan.id))
                records.append(prediction(id_, at, [chances[1]], trial=plan.id, role="shadow", version=2))
            else:
                arm = int(rng.random() < plan.share)
                chance = plan.share if arm else 1 - plan.share
                records.append(prediction(id_, at, [chances[arm]], trial=plan.id, version=1 + arm, probability=chance))
            records.append(outcome(id_, truth, at + timedelta(hours=6)))
        found.append(records)
    return found


def write(project: Project, records: Iterable[Record], *, slot: str = "worker-0") -> Path:
    """Record them durably, in a sealed segment; the ledger's folder."""
    folder = ledger_folder(project.state, "production")
    asyncio.run(record(LocalStorage(folder), list(records), slot=slot))
    return folder
