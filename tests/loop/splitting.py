"""A trial that is a split: a project, its ledger as an endpoint would have recorded it, and its registry."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
from living import FIRST, current, make_project
from shelf import Shelf

from passerelle.ledger.records import Outcome, Prediction, Record
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.loop.rollout import PRODUCTION
from passerelle.loop.trying import begin
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry

NOON = FIRST + timedelta(hours=12)


def split_project(root: Path, **trial: object) -> tuple[Project, Registry]:
    """A project in which version 2 is tried against version 1, by a split."""
    made = make_project(root)
    project = msgspec.structs.replace(made, trial=msgspec.structs.replace(made.trial, mode="split", **trial))
    registry = cast("Registry", Shelf(project))
    for version in (1, 2):
        begin(project, registry, version, salt="s", now=NOON)
    return project, registry


def answer(
    project: Project,
    start: datetime,
    *,
    rows: int = 200,
    failing: float = 0.0,
    challenger: float = 0.3,
    share: float | None = None,
    late: bool = False,
    slots: int = 1,
    unit: str | None = None,
) -> None:
    """Record a day of the current revision's answers, by several workers; the challenger fails on a part of its own.

    ``unit`` asks for all of them, where one is named. ``share`` is the part that really goes to the challenger, where
    it is not the one that the revision says.
    """
    deployment = current(project)
    draw = np.random.default_rng(start.toordinal())
    groups: list[list[Record]] = [[] for _ in range(slots)]
    for number in range(rows):
        at = start + timedelta(hours=24 * number / rows)
        second = len(deployment.live) > 1 and draw.uniform() < (share or deployment.live[1].weight)
        variant = deployment.live[1 if second else 0]
        fails = second and draw.uniform() < failing
        score = challenger if second else 0.3
        id_ = f"{start:%m%d%H}-{number}"
        mine = groups[number % slots]
        mine.append(
            Prediction(
                id=id_,
                unit=unit or id_,
                role="live",
                status=("timed_out" if late else "failed") if fails else "scored",
                revision=deployment.revision,
                version=variant.version,
                digest=variant.digest,
                trial=deployment.trial,
                probability=variant.weight,
                inputs={"distance": 1.0},
                output=None if fails else (score + float(draw.uniform(-0.05, 0.05)),),
                event_at=at,
                received_at=at,
            )
        )
        mine.append(Outcome(id=id_, value=False, known_at=at + timedelta(hours=6), received_at=at))
    for slot, records in enumerate(groups):
        storage = LocalStorage(ledger_folder(project.state, PRODUCTION))
        asyncio.run(record(storage, records, slot=f"worker-{slot}"))
