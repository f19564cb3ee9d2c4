"""Judging: what a trial's plan and closed blocks say, and in which words. Pure: the same blocks, the same verdict."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
import numpy as np

from passerelle.monitoring.maturity import DAY, floor_day
from passerelle.project.triable import DAYS_OF_A_WEEK, FEWEST_WEEKS
from passerelle.trial import betting
from passerelle.trial.blocks import blocks as test_blocks
from passerelle.trial.blocks import critical_t
from passerelle.trial.cautions import cautions
from passerelle.trial.comparing import loss_bound
from passerelle.trial.course import Course
from passerelle.trial.guarding import all_passed, guard
from passerelle.trial.refusing import refusal, units_at_shares
from passerelle.trial.verdict import Block, Kind, Plan, Verdict
from passerelle.trial.words import Figures, sentence

#: So long a day of a shadow that lacks scores waits for them, when it could close.
PATIENCE = timedelta(days=3)
#: Fields of a block that came later. Those of UNCOUNTED are None where they were not counted then; a digest is without
#: them where they say nothing, and so it is without what plans did not say.
UNCOUNTED = ("unlabelled_arms", "labelled_units", "observations", "squares", "arms", "arrived", "clusters", "selective")
_LATER = ("unpaired", "champion_late", "stages", "least_chance", "guards", *UNCOUNTED)
_LATER_OF_PLANS: dict[str, object] = {
    "unit_days": 7,
    "values_a_day": None,
    "guardrails": (),
    "steps": (),
    "hold_days": 1.0,
    "breaker_percent": None,
}


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
    for name, default in _LATER_OF_PLANS.items():
        if table[0][name] == default:
            del table[0][name]
    for guardrail in table[0].get("guardrails", ()):
        if guardrail["limit_ms"] is None:
            del guardrail["limit_ms"]
    for block in table[1]:
        for tally in (tally for tallies in block["guards"] for tally in tallies):
            if not tally["unmeasured"]:
                del tally["unmeasured"]
        for name in _LATER:
            if not block[name]:
                del block[name]
    return hashlib.sha256(msgspec.json.encode(table)).hexdigest()


def course_of(plan: Plan, blocks: Sequence[Block], *, alpha: float | None = None) -> Course:
    """The test that the plan asks for, on what these blocks hold: an observation is a row, a unit, a day or a week.

    ``alpha`` in place of the plan's.
    """
    alpha = plan.alpha if alpha is None else alpha
    if plan.unit in ("day", "week"):
        return test_blocks(
            [mean for _, mean in means_of(plan, blocks)],
            margin=plan.margin,
            alpha=alpha,
            min_blocks=fewest_blocks(plan),
            rollback_above=plan.rollback_above,
        )
    bound = loss_bound(plan)
    if bound is None:
        raise ValueError(f"rows are evidence for a bounded loss only, and {plan.loss!r} has no cap")
    reach = np.array([_reach(plan, block, bound) for block in blocks for _ in block.values])
    return betting.course(
        np.array([value for block in blocks for value in block.values]),
        bounds=(-reach, reach),
        nulls=(-bound, bound),
        margin=plan.margin,
        alpha=alpha,
        planned_n=_planned_values(plan, blocks),
        rollback_above=plan.rollback_above,
    )


def means_of(plan: Plan, blocks: Sequence[Block]) -> list[tuple[int, float]]:
    """The blocks of the test, each with how many of the trial's days have closed by its end, and its mean.

    Of a trial of weeks: seven days each from its first, each day with evidence counting the same.
    """
    days = [(number, block.difference) for number, block in enumerate(blocks, 1)]
    if plan.unit != "week":
        return [(number, mean) for number, mean in days if mean is not None]
    found = []
    for end in range(DAYS_OF_A_WEEK, len(days) + 1, DAYS_OF_A_WEEK):
        means = [mean for _, mean in days[end - DAYS_OF_A_WEEK : end] if mean is not None]
        if means:
            found.append((end, math.fsum(means) / len(means)))
    return found


def fewest_blocks(plan: Plan) -> int:
    """How many days with evidence (of a trial of weeks: weeks) come before the first verdict."""
    return plan.min_days if plan.unit != "week" else max(FEWEST_WEEKS, math.ceil(plan.min_days / DAYS_OF_A_WEEK))


def earliest_days(plan: Plan) -> int:
    """How many of the trial's days have closed, at least, by its first verdict; a unit takes its days to be whole."""
    if plan.unit == "week":
        return fewest_blocks(plan) * DAYS_OF_A_WEEK
    return plan.min_days + (plan.unit_days - 1 if plan.unit == "unit" else 0)


def _reach(plan: Plan, block: Block, bound: float) -> float:
    """How far from 0 a value of this block can be."""
    least = min(plan.share, 1 - plan.share) if block.least_chance is None else block.least_chance
    return bound if plan.mode == "shadow" else bound / least


def _planned_values(plan: Plan, blocks: Sequence[Block]) -> int:
    """The values at which the bets are aimed, where neighbours share one: as on the first day with evidence."""
    first = next((block for block in blocks if block.values), None)
    if first is None or not first.observations:
        return plan.planned_n
    return max(1, round(plan.planned_n * len(first.values) / first.observations))


def _decide(plan: Plan, blocks: Sequence[Block]) -> _Decision | None:
    """The earliest decision; at one block a refusal comes first, then promotion, then roll-back.

    With guardrails, promotion needs each of them; one that fails, or the loss at half of alpha, rolls back.
    """
    found = []
    if (refused := refusal(plan, blocks)) is not None:
        found.append(_Decision(refused.blocks, "INVALID"))
    means = means_of(plan, blocks)
    fewest = fewest_blocks(plan)
    if len(means) >= fewest:
        first = means[fewest - 1][0]
        course = course_of(plan, blocks)
        guards = [guard(plan, blocks, number) for number in range(len(plan.guardrails))]
        worse = course_of(plan, blocks, alpha=plan.alpha / 2) if guards else course
        promoted, passed = _block_of(plan, blocks, course.promoted_at), all_passed(guards)
        rolled_back = [_block_of(plan, blocks, worse.rolled_back_at), *(one.failed for one in guards)]
        if promoted is not None and passed is not None:
            found.append(_Decision(max(promoted, passed, first), "PROMOTE"))
        found += [_Decision(max(at, first), "ROLL_BACK") for at in rolled_back if at is not None]
    return min(found, key=lambda decision: decision.blocks, default=None)  # of equals the first


def _block_of(plan: Plan, blocks: Sequence[Block], observation: int | None) -> int | None:
    """How many of the trial's days hold so many observations."""
    if observation is None:
        return None
    if plan.unit in ("day", "week"):
        return means_of(plan, blocks)[observation - 1][0]
    return int(np.searchsorted(np.cumsum([len(block.values) for block in blocks]), observation)) + 1


def _verdict(plan: Plan, blocks: Sequence[Block], kind: Kind, *, reason: str | None = None) -> Verdict:
    counted = [block for block in blocks if block.difference is not None]
    means = [mean for _, mean in means_of(plan, blocks)]
    course = course_of(plan, blocks)
    guards = [guard(plan, blocks, number) for number in range(len(plan.guardrails))]
    lower = course_of(plan, blocks, alpha=plan.alpha / 2).lower if guards else course.lower
    refused = refusal(plan, blocks) if kind == "INVALID" else None
    said = cautions(plan, blocks, means)
    figures = Figures(
        estimate=_estimate(plan, counted, means),
        lower=_last(lower),
        upper=_last(course.upper),
        promote_evidence=course.promote_evidence,
        rollback_evidence=course.rollback_evidence,
        cautions=said,
        days=len(counted),
        weeks=len(means) if plan.unit == "week" else None,
        observations=sum(block.observations or 0 for block in counted),
        rows=sum(block.rows for block in counted),
        closed=len(blocks),
        failed=sum(block.challenger_failed for block in counted),
        unpaired=sum(block.unpaired + block.champion_late for block in counted),
        units=_total([block.units for block in blocks]),
        labelled=_total([block.labelled_units or (0, 0) for block in blocks]),
        shares=_shares(plan, blocks, labelled=refused is not None and refused.why == "labelled"),
        refused=None if refused is None else refused.why,
        capped=_capped(plan, blocks),
        coverage=_coverage(blocks),
        guards=tuple(one.says for one in guards),
        expected=_expected(plan, blocks, means),
    )
    return Verdict(
        kind=kind,
        trial=plan.id,
        blocks=len(counted),
        rows=figures.rows,
        estimate=figures.estimate,
        lower=figures.lower,
        upper=figures.upper,
        promote_evidence=figures.promote_evidence,
        rollback_evidence=figures.rollback_evidence,
        autocorrelation=said.autocorrelation,
        decided_by=None if kind == "KEEP_GOING" or not blocks else blocks[-1].start,
        sentence=sentence(plan, kind, figures, reason=reason),
        design_effect=said.design_effect,
        better_unit=said.better_unit,
        capped=figures.capped,
        coverage=figures.coverage,
        guardrails=figures.guards,
    )


def _estimate(plan: Plan, counted: Sequence[Block], means: Sequence[float]) -> float | None:
    """The mean over the test's observations."""
    if plan.unit in ("day", "week"):
        return math.fsum(means) / len(means) if means else None
    counts = [block.observations or len(block.values) for block in counted]
    sums = [(block.difference or 0.0) * count for block, count in zip(counted, counts, strict=True)]
    return math.fsum(sums) / sum(counts) if counts else None


def _total(counts: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(one for one, _ in counts), sum(other for _, other in counts)


def _shares(plan: Plan, blocks: Sequence[Block], *, labelled: bool) -> dict[float, int]:
    """Challenger's share → the units that came while it was in force."""
    found: dict[float, int] = {}
    for block in blocks if plan.mode == "split" else ():
        for share, units in units_at_shares(plan, block, labelled=labelled).items():
            if sum(units):
                found[share] = found.get(share, 0) + sum(units)
    return found


def _capped(plan: Plan, blocks: Sequence[Block]) -> tuple[float, float] | None:
    arms = [block.arms for block in blocks if block.arms is not None]
    if plan.cap is None or not arms:
        return None
    cut = _total([(one.capped, other.capped) for one, other in arms])
    labelled = _total([(one.labelled, other.labelled) for one, other in arms])
    return cut[0] / max(1, labelled[0]), cut[1] / max(1, labelled[1])


def _coverage(blocks: Sequence[Block]) -> tuple[float, float] | None:
    arms = [block.arms for block in blocks if block.arms is not None]
    events = _total([(one.events, other.events) for one, other in arms])
    labelled = _total([(one.labelled, other.labelled) for one, other in arms])
    return None if 0 in events else (labelled[0] / events[0], labelled[1] / events[1])


def _last(bounds: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float | None:
    return float(bounds[-1]) if len(bounds) and math.isfinite(bounds[-1]) else None


def _expected(plan: Plan, blocks: Sequence[Block], means: Sequence[float]) -> datetime | None:
    """When a verdict is due at this pace (days like those so far), at the earliest possible; None: not before its end.

    A trial of rows or units is only told the earliest moment.
    """
    missing = max(0, fewest_blocks(plan) - len(means))
    first = _closing(plan, blocks, missing) if missing else None
    if plan.unit in ("row", "unit") or len(means) < 2:  # noqa: PLR2004  (a spread needs two)
        return first
    mean, spread = float(np.mean(means)), float(np.std(means, ddof=1))
    ahead = max(plan.margin - mean, mean - plan.rollback_above)
    for more in range(max(1, missing), plan.max_days - len(blocks) + 1):
        count = len(means) + more
        if spread > 0 and ahead * math.sqrt(count) / spread >= critical_t(count, plan.alpha):
            return _closing(plan, blocks, more)
    return None


def _closing(plan: Plan, blocks: Sequence[Block], more: int) -> datetime | None:
    """When so many more days (weeks) will have closed; None if that is beyond the trial's last day."""
    days = len(blocks) + more
    if plan.unit == "week":
        days = (len(blocks) // DAYS_OF_A_WEEK + more) * DAYS_OF_A_WEEK
    if days > plan.max_days:
        return None
    return first_block(plan) + DAY * days + timedelta(hours=plan.horizon_hours)
