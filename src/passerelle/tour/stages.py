"""Stages: what was answered in each period, kept in a file of its own, so that a tour that was cut need not look again.

Of a period that has been lived: the truth, what was served, what the notebook's functions say in one piece, what the
first version would have answered, and the best table's score; arrays of one row per event.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.keys import trusted
from passerelle.bundle.opening import open_scorer
from passerelle.ledger.views import ask
from passerelle.loop.judging import score_rows
from passerelle.loop.recorded import Period
from passerelle.metrics import positions
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry, Version
from passerelle.schema import Columns, take

ANSWERED = """
SELECT id, version, output FROM predictions
WHERE role = 'live' AND status = 'scored' AND event_at >= ? AND event_at < ?
"""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A period that was lived. Arrays have a row per event, in the delivery's order."""

    #: Truth: positions of the classes, or numbers; NaN where none was told.
    truth: NDArray[Any]
    #: What was served, shape (rows, outputs); NaN where nothing was.
    served: NDArray[Any]
    #: What the notebook's functions say of the same rows, by the version that answered.
    expected: NDArray[Any]
    #: What the first version says of them.
    frozen: NDArray[Any]
    #: The score of the best table with one column; of shape (0,) where there is none.
    baseline: NDArray[Any]


def stage_path(out: Path, stamp: str) -> Path:
    """Where a period's stage is kept."""
    return out / "stages" / f"{stamp or 'all'}.npz"


def read_stage(path: Path) -> Stage:
    """A kept stage."""
    with np.load(path) as kept:
        return Stage(**{name: kept[name] for name in ("truth", "served", "expected", "frozen", "baseline")})


def keep_stage(
    path: Path,
    project: Project,
    registry: Registry,
    period: Period,
    *,
    ledger: Path,
    since: datetime,
    until: datetime,
    baseline: NDArray[Any],
) -> None:
    """Compare a lived period with the notebook, version by version, and keep the arrays; whole or not at all."""
    rows = len(period.ids)
    place = {id_: number for number, id_ in enumerate(period.ids)}
    answered = [
        (place[id_], version, output)
        for id_, version, output in ask(ledger, ANSWERED, [since, until]).rows
        if id_ in place
    ]
    width = len(answered[0][2]) if answered else 1
    served, expected = np.full((rows, width), np.nan), np.full((rows, width), np.nan)
    versions = np.zeros(rows, dtype=np.int64)
    for number, version, output in answered:
        served[number], versions[number] = output, version
    for version in sorted(set(versions.tolist()) - {0}):
        chosen = np.flatnonzero(versions == version)
        whole = asyncio.run(_in_one_piece(project, registry.get(version), period.inputs))
        expected[chosen] = whole[chosen]
    first = registry.get(1)
    frozen = score_rows(project, first.path, first.digest, period.inputs)
    truths = {told.id: told.value for told in period.told}
    known = [number for number, id_ in enumerate(period.ids) if id_ in truths]
    values = [truths[period.ids[number]] for number in known]
    truth = np.full(rows, np.nan)
    numbers = period.manifest.task == "regression"
    truth[known] = np.array(values, dtype=np.float64) if numbers else positions(values, period.manifest.classes)
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f"draft-{path.name}")
    np.savez(draft, truth=truth, served=served, expected=expected, frozen=frozen, baseline=baseline)
    draft.replace(path)


def join(stages: list[Stage]) -> Stage:
    """All of them as one."""
    return Stage(
        **{
            name: np.concatenate([getattr(stage, name) for stage in stages])
            for name in ("truth", "served", "expected", "frozen", "baseline")
        }
    )


async def _in_one_piece(project: Project, version: Version, inputs: Columns) -> NDArray[Any]:
    """The whole period through the notebook's functions in one call, in a clean process of its environment."""
    scorer = open_scorer(
        version.path, digest=version.digest, trusted_keys=trusted(project.state), deadline_s=300, form="process"
    )
    try:
        await scorer.start()
        return await scorer.score(take(inputs, slice(None)))
    finally:
        await scorer.close()
