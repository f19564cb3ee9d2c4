"""Gaps: shadow scores that were dropped or lost are scored from the recorded inputs, before their day closes.

A shadow must not lose evidence because an endpoint was busy, or was killed: only the challenger's own failure counts
against it. What is scored here is what the endpoint's shadow would have said of the same inputs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from passerelle.bundle.keys import trusted
from passerelle.bundle.opening import open_scorer
from passerelle.bundle.scorer import Scorer
from passerelle.bundle.verify import verify
from passerelle.deployment.spec import Variant
from passerelle.ledger.privacy import hides
from passerelle.ledger.records import Prediction
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.ledger.views import ask
from passerelle.loop.rollout import revisions
from passerelle.loop.score import bundle_of
from passerelle.monitoring.maturity import DAY, closed
from passerelle.project.settings import Project
from passerelle.schema import RowsError, Schema, count, take
from passerelle.serving.batching import BATCH_ROWS, Batcher, Scored
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.judging import first_block
from passerelle.trial.verdict import Plan

#: The ledger slot of what is filled in.
SLOT = "gaps"
#: So many rows that the challenger fails on alone, each with a process of its own, are waited for in one look.
ALONE_ROWS = 20

_MISSING = """
WITH live AS (
    SELECT id, arg_min({unit: unit, revision: revision, inputs: inputs, event_at: event_at, received_at: received_at},
        (received_at, writer, sequence, position)) AS event
    FROM all_predictions WHERE role = 'live' AND trial = $1 AND event_at >= $2 AND event_at < $3 GROUP BY id
)
SELECT id, event.unit, event.revision, event.inputs, event.event_at FROM live
ANTI JOIN (SELECT id FROM all_predictions WHERE role = 'shadow' AND version = $4 AND event_at >= $2 AND event_at < $3)
USING (id) ORDER BY event.event_at, id
"""


def fill_gaps(project: Project, environment: str, *, now: datetime) -> int:
    """Score what the running shadow trial lacks of the days that can be closed now; how many scores that were.

    Raises BundleError if the challenger cannot be loaded, LedgerError if the ledger cannot be read or written.
    """
    going_on = trials.current(open_state(project.state), environment)
    if going_on is None or going_on.status != "running" or going_on.plan.mode != "shadow":
        return 0
    plan = going_on.plan
    folder = ledger_folder(project.state, environment)
    filled = 0
    for day in _days(project, plan, folder, now):
        filled += _fill(project, plan, folder, day)
    return filled


def _days(project: Project, plan: Plan, folder: Path, now: datetime) -> Sequence[datetime]:
    """The days of the trial that no block holds yet, and that can be closed now."""
    kept = trials.blocks(open_state(project.state), plan.id)
    day = kept[-1].start + DAY if kept else first_block(plan)
    days = []
    while now >= day + DAY + timedelta(hours=plan.horizon_hours) and closed(
        folder, day, horizon_hours=plan.horizon_hours, now=now
    ):
        days.append(day)
        day += DAY
    return days


def _fill(project: Project, plan: Plan, folder: Path, day: datetime) -> int:
    rows = ask(folder, _MISSING, [plan.id, day, day + DAY, plan.challenger]).rows
    if not rows:
        return 0
    deployment = revisions(project, plan.environment).get(rows[0][2])
    variant = next(one for one in deployment.shadows if one.version == plan.challenger)
    manifest = verify(bundle_of(project, variant), digest=variant.digest, trusted_keys=deployment.trusted_keys).manifest
    if hides({name: rule for name, rule in deployment.privacy.items() if name in manifest.schema.names}):
        return 0  # what the challenger reads was hashed or dropped: nobody can score it any more
    inputs = [msgspec.json.decode(row[3]) for row in rows]
    scored = asyncio.run(_score(project, variant, manifest.schema, inputs))
    received_at = datetime.now(UTC)  # machine time, as every record's
    predictions = [
        Prediction(
            id=id_,
            unit=unit,
            role="shadow",
            status=one.status,
            revision=revision,
            version=variant.version,
            digest=variant.digest,
            trial=plan.id,
            inputs=sent,
            output=one.output,
            error="the challenger failed" if one.error and hides(deployment.privacy) else one.error,
            event_at=event_at,
            received_at=received_at,
        )
        for (id_, unit, revision, _, event_at), sent, one in zip(rows, inputs, scored, strict=True)
        if one is not None
    ]
    asyncio.run(record(LocalStorage(folder), predictions, slot=SLOT))
    return len(predictions)


async def _score(
    project: Project, variant: Variant, schema: Schema, inputs: list[dict[str, Any]]
) -> list[Scored | None]:
    """What the challenger makes of these inputs, as the endpoint's shadow; None: not known yet, the next look tells."""
    scored: list[Scored | None] = [None] * len(inputs)
    projected = [{name: row[name] for name in schema.names if name in row} for row in inputs]
    for number, row in enumerate(projected):
        try:
            schema.validate([row])
        except RowsError as error:
            scored[number] = Scored("failed", None, str(error))
    readable = [number for number, one in enumerate(scored) if one is None]
    deadline_s = project.serving.deadline_ms / 1000

    def opened() -> Scorer:
        keys = trusted(project.state)
        return open_scorer(bundle_of(project, variant), digest=variant.digest, trusted_keys=keys, deadline_s=deadline_s)

    answers = await score_surely(
        [projected[number] for number in readable], schema=schema, opened=opened, deadline_s=deadline_s
    )
    for number, one in zip(readable, answers, strict=True):
        scored[number] = one
    return scored


async def score_surely(
    rows: Sequence[dict[str, Any]], *, schema: Schema, opened: Callable[[], Scorer], deadline_s: float
) -> list[Scored | None]:
    """What a model makes of valid rows: a failure counts only where the row fails alone, in a fresh process.

    In a batch it may be the neighbours', or that of a process which was being started again. Of many that fail alone
    the first ALONE_ROWS are waited for: if none was scored before them, the model fails and the rest is believed; else
    the rest is None, and another look goes on there. ``opened`` makes a scorer that is not started yet.
    """
    if not rows:
        return []
    found: list[Scored | None] = []
    columns = [schema.validate(rows[first : first + BATCH_ROWS]) for first in range(0, len(rows), BATCH_ROWS)]
    async with _started(opened, deadline_s) as batcher:
        for part in columns:
            found += await batcher.score(part, count(part))
    doubtful = [number for number, one in enumerate(found) if one is not None and one.status != "scored"]
    failed = 0
    told: dict[int, Scored] = {}
    while len(told) < len(doubtful) and failed < ALONE_ROWS:
        async with _started(opened, deadline_s) as batcher:
            for number in doubtful[len(told) :]:
                row = take(columns[number // BATCH_ROWS], [number % BATCH_ROWS])
                (told[number],) = await batcher.score(row, 1)
                if told[number].status != "scored":
                    failed += 1
                    break
    believed = failed == len(told)
    for number in doubtful:
        found[number] = told.get(number, found[number] if believed else None)
    return found


@asynccontextmanager
async def _started(opened: Callable[[], Scorer], deadline_s: float) -> AsyncIterator[Batcher]:
    scorer = opened()
    try:
        await scorer.start()
        yield Batcher(scorer, turn=asyncio.Lock(), deadline_s=deadline_s)
    finally:
        await scorer.close()
