"""Evidence: closes the days of a trial, from the ledger, once they are mature; a closed day is never changed.

Only events of the trial count: live answers whose ``trial`` is the plan's id, from its first whole day on; in a shadow
the challenger's record of the same id stands beside them. A model's own failure counts as the largest loss. An event
without an outcome by its horizon is counted as unlabelled, and as nothing else. What is missing of a shadow's scores is
no random sample: a day that lacks some waits for them before it closes, and then says how many it lacks.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerelle.ledger.position import Position
from passerelle.ledger.storage import ledger_folder
from passerelle.monitoring.maturity import DAY, Day, closed, read_arrivals, read_days
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.comparing import (
    Array,
    Compared,
    Losses,
    challenger_chances,
    compare,
    loss_bound,
    losses_of,
    only,
)
from passerelle.trial.counting import (
    arms_of,
    arrival_shares,
    clusters_of,
    gathered,
    guards_of,
    selective_of,
    stages_of,
)
from passerelle.trial.judging import PATIENCE, first_block
from passerelle.trial.split import pseudo_outcomes
from passerelle.trial.verdict import Block, Plan, Record

#: Chances are the same when they differ by rounding alone.
_ROUNDING = 1e-9


class _Found(NamedTuple):
    """The observations of a day, and what they are made of: rows with an outcome, or units with such rows."""

    #: Each one's difference, or pseudo-outcome.
    values: Array
    #: Their losses, by version.
    champion: Array
    challenger: Array
    #: Rows with an outcome, and without; and how many the champion and the challenger failed on.
    rows: int
    unlabelled: int
    failed: tuple[int, int]
    #: Of the rows with an outcome.
    losses: Losses
    units: pa.ChunkedArray
    #: In a split: the smallest chance of an arm; None where it is the plan's.
    least_chance: float | None = None


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
    """A day of a trial, from the ledger in ``folder``, read up to a position. Raises LedgerError.

    A trial of units reads all days of those whose last day it is: their first is ``unit_days`` - 1 before.
    """
    since = first_block(plan)
    first = day - (plan.unit_days - 1) * DAY if plan.unit == "unit" else day
    whole = first >= since
    read = read_days(folder, first if whole else day, day + DAY, horizon_hours=plan.horizon_hours, upto=upto)
    arrivals = cohort = None
    if plan.mode == "split" or plan.unit in ("row", "unit") or plan.guardrails:
        arrivals = arrivals_of(folder, plan, day, read.position)
    if plan.unit == "unit" and whole:
        cohort = arrivals_of(folder, plan, first, read.position)
    return block_of(plan, read, day=day, arrivals=arrivals, cohort=cohort)


def block_of(
    plan: Plan, read: Day, *, day: datetime, arrivals: pa.Table | None = None, cohort: pa.Table | None = None
) -> Block:
    """The block that begins at ``day``, of the rows that were read: that day's, and before it its units' first days.

    ``arrivals`` and ``cohort`` are read_arrivals': of the day, and of the first day of the units that it ends. Pure.
    """
    rows = read.rows.filter(pc.greater_equal(read.rows["event_at"], day)) if read.start < day else read.rows
    today = compare(plan, rows)
    mine = _of_rows(plan, today)
    found = mine if plan.unit != "unit" else _of_units(plan, compare(plan, read.rows), cohort)
    kept = gathered(found.values, plan.values_a_day) if plan.unit in ("row", "unit") else found.values[:0]
    mean = _mean(found.values)
    split = plan.mode == "split" and arrivals is not None
    with_outcome = np.zeros(0, dtype=bool)
    if arrivals is not None:
        seen = today.units.filter(pa.array(today.known)).combine_chunks()
        with_outcome = np.asarray(pc.is_in(arrivals["unit"], value_set=seen), dtype=bool)
    return Block(
        start=day,
        rows=found.rows,
        difference=mean,
        champion_loss=_mean(found.champion),
        challenger_loss=_mean(found.challenger),
        unlabelled=found.unlabelled,
        challenger_failed=found.failed[1],
        champion_failed=found.failed[0],
        units=_arms(plan, arrivals["version"]) if split and arrivals is not None else (0, 0),
        unlabelled_arms=_arms(plan, today.rows["version"].filter(pa.array(~today.known))) if split else None,
        labelled_units=_arms(plan, arrivals["version"].filter(pa.array(with_outcome)))
        if split and arrivals is not None
        else None,
        unpaired=today.unpaired,
        champion_late=today.champion_late,
        position=read.position,
        values=tuple(kept.tolist()),
        observations=len(found.values),
        squares=None if mean is None else math.fsum((found.values - mean) ** 2),
        arms=arms_of(plan, today, mine.losses),
        arrived=None if arrivals is None else arrivals.num_rows,
        clusters=clusters_of(mine.units, mine.values),
        stages=stages_of(plan, arrivals, with_outcome) if split and arrivals is not None else (),
        least_chance=found.least_chance,
        guards=guards_of(plan, today, arrivals),
        selective=selective_of(plan, today),
    )


def arrivals_of(folder: Path, plan: Plan, day: datetime, upto: Position) -> pa.Table:
    """The units that came first on this day; of a split those whose version was drawn."""
    found = read_arrivals(folder, plan.id, first_block(plan), day, upto=upto)
    return found if plan.mode == "shadow" else found.filter(pc.less(found["probability"], 1.0))


def _of_rows(plan: Plan, compared: Compared) -> _Found:
    """The rows with an outcome, each an observation."""
    labelled = only(compared, compared.known)
    losses = losses_of(plan, labelled)
    unlabelled = len(compared.known) - len(labelled.known)
    if np.isnan(losses.champion).any() or np.isnan(losses.challenger).any():
        # Of an unbounded loss, on a day when neither model answered: there is nothing to compare.
        labelled = only(labelled, np.zeros(len(labelled.known), dtype=bool))
        losses = losses_of(plan, labelled)
    if plan.mode == "shadow":
        return _Found(
            values=losses.challenger - losses.champion,
            champion=losses.champion,
            challenger=losses.challenger,
            rows=len(labelled.known),
            unlabelled=unlabelled,
            failed=(int(losses.failed[0].sum()), int(losses.failed[1].sum())),
            losses=losses,
            units=labelled.units,
        )
    shares, arm = challenger_chances(labelled), labelled.challenger
    return _Found(
        values=_pseudo(plan, losses.champion, arm, shares),
        champion=losses.champion[~arm],
        challenger=losses.champion[arm],
        rows=len(arm),
        unlabelled=unlabelled,
        failed=(int((losses.failed[0] & ~arm).sum()), int((losses.failed[0] & arm).sum())),
        losses=losses,
        units=labelled.units,
        least_chance=_least_chance(plan, shares),
    )


def _of_units(plan: Plan, compared: Compared, cohort: pa.Table | None) -> _Found:
    """The units of a cohort that have an outcome, in the order of their first event: each one's mean is an observation.

    In a split only what a unit's first version answered is its own: where traffic was ramped up meanwhile, it moved.
    """
    if cohort is None:
        return _of_rows(plan, only(compared, np.zeros(len(compared.known), dtype=bool)))
    place = pc.index_in(compared.units, value_set=cohort["unit"].combine_chunks())
    mine = np.asarray(pc.is_valid(place), dtype=bool)
    number = np.asarray(place.fill_null(0), dtype=np.int64)
    if cohort.num_rows:
        challenger, shares = arrival_shares(plan, cohort)
        if plan.mode == "split":
            mine &= challenger[number] == compared.challenger
    rows = _of_rows(plan, only(compared, mine))
    if not rows.rows:
        return rows
    units = number[mine & compared.known]
    _, first, code = np.unique(units, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    counts = np.bincount(code)

    def means(values: Array) -> Array:
        found: Array = (np.bincount(code, weights=values) / counts)[order]
        return found

    if plan.mode == "shadow":
        champion, other = means(rows.losses.champion), means(rows.losses.challenger)
        return rows._replace(values=other - champion, champion=champion, challenger=other)
    of_unit = np.unique(units)[order]
    losses, arm = means(rows.losses.champion), challenger[of_unit]
    return rows._replace(
        values=_pseudo(plan, losses, arm, shares[of_unit]),
        champion=losses[~arm],
        challenger=losses[arm],
        least_chance=_least_chance(plan, shares[of_unit]),
    )


def _pseudo(plan: Plan, losses: Array, arm: Array, shares: Array) -> Array:
    bound = loss_bound(plan)
    start = plan.reference if bound is None else min(plan.reference, bound)
    return pseudo_outcomes(losses, arm, share=shares, start=start)


def _least_chance(plan: Plan, shares: Array) -> float | None:
    """The smallest chance that an arm may have had on this day; None where it is what the plan's share says.

    It bounds the day's values, so it must be known before them: shares only grow, from the one that the day begins with
    to that of the last step, whenever the next one is taken.
    """
    if not len(shares):
        return None
    last = max(float(shares.max()), *plan.steps, plan.share)
    least = min(float(np.minimum(shares, 1 - shares).min()), 1 - last)
    return None if math.isclose(least, min(plan.share, 1 - plan.share), rel_tol=_ROUNDING) else least


def _arms(plan: Plan, versions: pa.ChunkedArray) -> tuple[int, int]:
    """How many of these are the champion's, and the challenger's."""
    found = np.asarray(versions, dtype=np.int64)
    return int((found == plan.champion).sum()), int((found == plan.challenger).sum())


def _mean(values: Array) -> float | None:
    """Summed exactly, so that every machine finds the same."""
    return math.fsum(values) / len(values) if len(values) else None
