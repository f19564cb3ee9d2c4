"""Evidence: closes the days of a trial, from the ledger, once they are mature; a closed day is never changed.

Only events of the trial count: live answers whose ``trial`` is the plan's id, from its first whole day on; in a shadow
the challenger's record of the same id stands beside them. A model's own failure counts as the largest loss. An event
without an outcome by its horizon is counted as unlabelled, and as nothing else. What is missing of a shadow's scores is
no random sample: a day that lacks some waits for them before it closes, and then says how many it lacks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.ledger.position import Position
from passerelle.ledger.storage import ledger_folder
from passerelle.metrics import positions, row_losses
from passerelle.monitoring.maturity import DAY, Day, closed, read_day, read_units
from passerelle.project.settings import Project, TaskKind
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.judging import PATIENCE, first_block, loss_bound
from passerelle.trial.split import pseudo_outcomes
from passerelle.trial.verdict import Block, Plan, Record

Array = NDArray[Any]


class _Compared(NamedTuple):
    #: The rows that the trial compares, in order; in a shadow the champion's come first.
    events: list[dict[str, Any]]
    #: Of each its outcome.
    truths: list[str | None]
    #: See Block.
    unpaired: int = 0
    champion_late: int = 0


def close_blocks(project: Project, record: Record, *, now: datetime) -> list[Block]:
    """Close and keep the days of a running trial that can be closed, in order; answer all that are kept.

    Raises LedgerError if the ledger cannot be read.
    """
    engine = open_state(project.state)
    plan = record.plan
    kept = trials.blocks(engine, plan.id)
    if record.status != "running":
        return kept
    folder = ledger_folder(project.state, plan.environment)
    first = first_block(plan)
    while len(kept) < plan.max_days:
        day = first + len(kept) * DAY
        if not closed(folder, day, horizon_hours=plan.horizon_hours, now=now):
            break
        block = read_block(folder, plan, day)
        if block.unpaired and now < day + DAY + timedelta(hours=plan.horizon_hours) + PATIENCE:
            break
        trials.keep(engine, plan.id, block)
        kept.append(block)
    return kept


def read_block(folder: Path, plan: Plan, day: datetime, *, upto: Position | None = None) -> Block:
    """A day of a trial, from the ledger in ``folder``, read up to a position. Raises LedgerError."""
    read = read_day(folder, day, horizon_hours=plan.horizon_hours, upto=upto)
    split = plan.mode == "split"
    fresh = read_units(folder, plan.id, first_block(plan), day, upto=read.position) if split else {}
    return block_of(plan, read, fresh=fresh)


def block_of(plan: Plan, day: Day, *, fresh: Mapping[str, int]) -> Block:
    """The block that a day's rows make; ``fresh`` is read_units', of a split. Pure."""
    events, truths, unpaired, champion_late = _events(plan, day)
    known = [number for number, truth in enumerate(truths) if truth is not None]
    arms = labelled = None
    if plan.mode == "split":
        arms = _arms(plan, (row["version"] for row, truth in zip(events, truths, strict=True) if truth is None))
        seen = {events[number]["unit"] for number in known}
        labelled = _arms(plan, (version for unit, version in fresh.items() if unit in seen))
    rows = [events[number] for number in known]
    losses = _losses(plan, rows, [truths[number] for number in known])
    if np.isnan(
        losses
    ).any():  # of an unbounded loss, on a day when neither model answered: there is nothing to compare
        rows, losses = [], losses[:0]
    challenger = np.array([row["version"] == plan.challenger for row in rows], dtype=bool)
    failed = np.array([row["status"] != "scored" for row in rows], dtype=bool)
    if plan.mode == "shadow":
        values = losses[challenger] - losses[~challenger]
    else:
        chance = np.array([row["probability"] for row in rows], dtype=np.float64)
        share = np.where(challenger, chance, 1 - chance)
        bound = loss_bound(plan)
        start = plan.reference if bound is None else min(plan.reference, bound)
        values = pseudo_outcomes(losses, challenger, share=share, start=start)
    return Block(
        start=day.start,
        rows=len(values),
        difference=_mean(values),
        champion_loss=_mean(losses[~challenger]),
        challenger_loss=_mean(losses[challenger]),
        unlabelled=(len(events) - len(known)) // (2 if plan.mode == "shadow" else 1),
        challenger_failed=int((failed & challenger).sum()),
        champion_failed=int((failed & ~challenger).sum()),
        units=_arms(plan, fresh.values()),
        unlabelled_arms=arms,
        labelled_units=labelled,
        unpaired=unpaired,
        champion_late=champion_late,
        position=day.position,
        values=tuple(values.tolist()) if plan.unit == "row" else (),
    )


def _arms(plan: Plan, versions: Iterable[int]) -> tuple[int, int]:
    """How many of these are the champion's, and the challenger's."""
    counts = Counter(versions)
    return counts[plan.champion], counts[plan.challenger]


def truths_of(texts: Sequence[str], task: TaskKind, classes: Sequence[Any]) -> Array:
    """Outcomes, as JSON text, in the form that metrics takes: positions in ``classes``, or numbers.

    >>> truths_of(["true", "false", "3"], "binary", (False, True)).tolist()
    [1, 0, -1]
    """
    values = [msgspec.json.decode(text) for text in texts]
    return np.array(values, dtype=np.float64) if task == "regression" else positions(values, classes)


def _events(plan: Plan, day: Day) -> _Compared:
    rows = day.rows.to_pylist()
    mine = [row for row in rows if row["role"] == "live" and row["trial"] == plan.id]
    if plan.mode == "split":
        events = [row for row in mine if row["version"] in (plan.champion, plan.challenger)]
        return _Compared(events, [row["truth"] for row in events])
    beside = {row["id"]: row for row in rows if row["role"] == "shadow" and row["version"] == plan.challenger}
    # A shadow is scored without haste: a champion that was late under load is not compared with it.
    answers = [row for row in mine if row["version"] == plan.champion]
    champions = [row for row in answers if row["status"] != "timed_out"]
    pairs = [(row, beside[row["id"]]) for row in champions if row["id"] in beside]
    return _Compared(
        [row for row, _ in pairs] + [row for _, row in pairs],
        [row["truth"] for row, _ in pairs] * 2,
        unpaired=len(champions) - len(pairs),
        champion_late=len(answers) - len(champions),
    )


def _losses(plan: Plan, rows: Sequence[dict[str, Any]], truths: Sequence[str | None]) -> Array:
    """Of each row. A failure, or an answer of another shape than the champion's, counts as the largest loss.

    Where the loss has no bound, that is the largest of the day; NaN if there is none.
    """
    width = len(plan.classes) if plan.task == "multiclass" else 1
    answered = np.array([row["status"] == "scored" and len(row["output"]) == width for row in rows], dtype=bool)
    losses = np.full(len(rows), np.nan)
    if answered.any():
        outputs = np.array([row["output"] for row, use in zip(rows, answered, strict=True) if use], dtype=np.float64)
        texts = [truth for truth, use in zip(truths, answered, strict=True) if use and truth is not None]
        truth = truths_of(texts, plan.task, plan.classes)
        losses[answered] = row_losses(plan.loss, outputs, truth, cap=plan.cap)
    bound = loss_bound(plan)
    if bound is None and answered.any():
        bound = float(losses[answered].max())
    losses[~answered] = np.nan if bound is None else bound
    return losses


def _mean(values: Array) -> float | None:
    """Summed exactly, so that every machine finds the same."""
    return math.fsum(values) / len(values) if len(values) else None
