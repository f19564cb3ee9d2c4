"""Judging: what a trial's plan and closed blocks say, and in which words. Pure: the same blocks, the same verdict."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
import numpy as np

from passerelle.metrics import largest_loss
from passerelle.monitoring.maturity import DAY, floor_day
from passerelle.trial.betting import paired
from passerelle.trial.blocks import blocks as test_blocks
from passerelle.trial.blocks import critical_t
from passerelle.trial.course import Course
from passerelle.trial.ratio import log_evidence
from passerelle.trial.verdict import Block, Kind, Plan, Verdict
from passerelle.trial.words import Figures, sentence

#: The probability that a split whose units go where they should is ever called INVALID.
RATIO_ALPHA = 0.001
#: So long a day of a shadow that lacks scores waits for them, when it could close.
PATIENCE = timedelta(days=3)
#: Fields of a block that came later (of these None: not counted then). A digest is without them where they say nothing.
UNCOUNTED = ("unlabelled_arms", "labelled_units")
_LATER = ("unpaired", "champion_late", *UNCOUNTED)
#: Fewer blocks have no autocorrelation worth a number.
_FEW = 8


class _Decision(NamedTuple):
    #: How many of the blocks it needed.
    blocks: int
    kind: Kind


def judge(plan: Plan, blocks: Sequence[Block], *, now: datetime | None = None) -> Verdict:
    """The verdict of a trial after these closed blocks: of the first block at which one is reached.

    ``now`` matters only to a trial whose days cannot be closed: it is INCONCLUSIVE a day after the last one's horizon
    (and after the patience that a shadow has).
    """
    blocks = blocks[: plan.max_days]
    decision = _decide(plan, blocks)
    over = first_block(plan) + (plan.max_days + 1) * DAY + timedelta(hours=plan.horizon_hours)
    over += PATIENCE if plan.mode == "shadow" else timedelta()
    if decision is None and (len(blocks) == plan.max_days or (now is not None and now >= over)):
        decision = _Decision(len(blocks), "INCONCLUSIVE")
    if decision is None:
        return _verdict(plan, blocks, "KEEP_GOING")
    return _verdict(plan, blocks[: decision.blocks], decision.kind)


def first_block(plan: Plan) -> datetime:
    """Where a trial's evidence begins: its first whole day. The rest of the day it starts on is a noisy one."""
    midnight = floor_day(plan.started_at)
    return midnight if midnight == plan.started_at else midnight + DAY


def set_aside(plan: Plan, blocks: Sequence[Block], *, reason: str) -> Verdict:
    """INCONCLUSIVE, because somebody or something else ended the trial: "version 5 takes its place"."""
    return _verdict(plan, blocks[: plan.max_days], "INCONCLUSIVE", reason=reason)


def digest(plan: Plan, blocks: Sequence[Block]) -> str:
    """The sha256 of a plan and a block table, as JSON: what a verdict was computed from."""
    table = msgspec.to_builtins([plan, list(blocks)], order="deterministic")
    for block in table[1]:
        for name in _LATER:
            if not block[name]:
                del block[name]
    return hashlib.sha256(msgspec.json.encode(table)).hexdigest()


def loss_bound(plan: Plan) -> float | None:
    """The largest loss that one event of the trial can have; None where it has no bound."""
    return largest_loss(plan.loss, cap=plan.cap, classes=max(2, len(plan.classes)))


def course_of(plan: Plan, blocks: Sequence[Block]) -> Course:
    """The test that the plan asks for, on what these blocks hold: an observation is a day, or a row."""
    if plan.unit == "day":
        return test_blocks(
            [block.difference for block in blocks if block.difference is not None],
            margin=plan.margin,
            alpha=plan.alpha,
            min_blocks=plan.min_days,
            rollback_above=plan.rollback_above,
        )
    bound = loss_bound(plan)
    if bound is None:
        raise ValueError(f"rows are evidence for a bounded loss only, and {plan.loss!r} has no cap")
    reach = bound if plan.mode == "shadow" else bound / min(plan.share, 1 - plan.share)
    return paired(
        [value for block in blocks for value in block.values],
        margin=plan.margin,
        alpha=plan.alpha,
        bounds=(-reach, reach),
        planned_n=plan.planned_n,
        rollback_above=plan.rollback_above,
    )


def _decide(plan: Plan, blocks: Sequence[Block]) -> _Decision | None:
    """The earliest decision; at one block a mismatch of the units comes first, then promotion, then roll-back."""
    found = []
    if (alarm := _mismatch(plan, blocks)) is not None:
        found.append(_Decision(alarm, "INVALID"))
    with_evidence = [number for number, block in enumerate(blocks, 1) if block.difference is not None]
    if len(with_evidence) >= plan.min_days:
        course = course_of(plan, blocks)
        ends = np.arange(1, len(with_evidence) + 1)
        if plan.unit == "row":
            ends = np.cumsum([len(blocks[number - 1].values) for number in with_evidence])
        reached: list[tuple[Kind, int | None]] = [
            ("PROMOTE", course.promoted_at),
            ("ROLL_BACK", course.rolled_back_at),
        ]
        for kind, at in reached:
            if at is not None:
                place = max(int(np.searchsorted(ends, at)), plan.min_days - 1)
                found.append(_Decision(with_evidence[place], kind))
    return min(found, key=lambda decision: decision.blocks, default=None)  # of equals the first


def _mismatch(plan: Plan, blocks: Sequence[Block]) -> int | None:
    """After how many blocks the arms of a split do not fit its share; None if they do.

    By the units that came, and by those whose outcomes came too: outcomes that one arm lacks bias what is compared.
    """
    if plan.mode != "split" or not blocks:
        return None
    assigned = _astray(plan, [block.units for block in blocks])
    labelled = _astray(plan, [block.labelled_units or (0, 0) for block in blocks])
    return min((at for at in (assigned, labelled) if at is not None), default=None)


def _astray(plan: Plan, counts: Sequence[tuple[int, int]]) -> int | None:
    units = np.cumsum(counts, axis=0)
    alarms = log_evidence([units[:, 0], units[:, 1]], [1 - plan.share, plan.share]) >= -math.log(RATIO_ALPHA)
    return int(alarms.argmax()) + 1 if alarms.any() else None


def _verdict(plan: Plan, blocks: Sequence[Block], kind: Kind, *, reason: str | None = None) -> Verdict:
    counted = [block for block in blocks if block.difference is not None]
    differences = [block.difference for block in counted if block.difference is not None]
    course = course_of(plan, blocks)
    rows = sum(block.rows for block in counted)
    observed = differences if plan.unit == "day" else [value for block in counted for value in block.values]
    figures = Figures(
        estimate=math.fsum(observed) / len(observed) if observed else None,
        lower=_last(course.lower),
        upper=_last(course.upper),
        promote_evidence=course.promote_evidence,
        rollback_evidence=course.rollback_evidence,
        autocorrelation=_autocorrelation(differences),
        days=len(counted),
        rows=rows,
        closed=len(blocks),
        failed=sum(block.challenger_failed for block in counted),
        unpaired=sum(block.unpaired + block.champion_late for block in counted),
        units=_total([block.units for block in blocks]),
        labelled=_total([block.labelled_units or (0, 0) for block in blocks]),
        assigned_fit=kind != "INVALID" or _astray(plan, [block.units for block in blocks]) is None,
        per_unit=_per_unit(plan, blocks),
        expected=_expected(plan, blocks, differences),
    )
    return Verdict(
        kind=kind,
        trial=plan.id,
        blocks=len(counted),
        rows=rows,
        estimate=figures.estimate,
        lower=figures.lower,
        upper=figures.upper,
        promote_evidence=figures.promote_evidence,
        rollback_evidence=figures.rollback_evidence,
        autocorrelation=figures.autocorrelation,
        decided_by=None if kind == "KEEP_GOING" or not blocks else blocks[-1].start,
        sentence=sentence(plan, kind, figures, reason=reason),
    )


def _total(counts: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(one for one, _ in counts), sum(other for _, other in counts)


def _per_unit(plan: Plan, blocks: Sequence[Block]) -> float | None:
    """Events of each unit so far, where rows are the evidence and units are counted."""
    units = sum(_total([block.units for block in blocks]))
    if plan.unit == "day" or not units:
        return None
    return sum(block.rows + block.unlabelled for block in blocks) / units


def _last(bounds: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float | None:
    return float(bounds[-1]) if len(bounds) and math.isfinite(bounds[-1]) else None


def _autocorrelation(values: Sequence[float]) -> float | None:
    """Of each value with the one before it; None for too few, or for values that are all equal."""
    if len(values) < _FEW:
        return None
    gaps = np.array(values) - np.mean(values)
    square = float((gaps**2).sum())
    return float((gaps[1:] * gaps[:-1]).sum()) / square if square > 0 else None


def _expected(plan: Plan, blocks: Sequence[Block], differences: Sequence[float]) -> datetime | None:
    """When a verdict is due at this pace (days like those so far), at the earliest possible; None: not before its end.

    A trial of rows is only told the earliest moment.
    """
    missing = max(0, plan.min_days - len(differences))
    first = _closing(plan, blocks, missing) if missing else None
    if plan.unit == "row" or len(differences) < 2:  # noqa: PLR2004  (a spread needs two)
        return first
    mean, spread = float(np.mean(differences)), float(np.std(differences, ddof=1))
    ahead = max(plan.margin - mean, mean - plan.rollback_above)
    for more in range(max(1, missing), plan.max_days - len(blocks) + 1):
        count = len(differences) + more
        if spread > 0 and ahead * math.sqrt(count) / spread >= critical_t(count, plan.alpha):
            return _closing(plan, blocks, more)
    return None


def _closing(plan: Plan, blocks: Sequence[Block], more: int) -> datetime | None:
    """When so many more blocks will have closed; None if that is beyond the trial's last day."""
    if len(blocks) + more > plan.max_days:
        return None
    return first_block(plan) + DAY * (len(blocks) + more) + timedelta(hours=plan.horizon_hours)
