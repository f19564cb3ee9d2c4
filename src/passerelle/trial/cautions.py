"""Cautions: how far observations are from independent, and which unit of evidence would not flatter. Pure.

Rows of one day (of one unit) that resemble each other are weaker evidence than they look. With the mean squares between
and within the days of an analysis of variance, and n0 rows a day,

    ICC = (between - within) / (between + (n0 - 1) within)          (intraclass correlation)
    design effect = 1 + (rows a day, weighted by rows - 1) ICC      (Kish 1965)

is how many rows carry the evidence of one. Of few days it is a noisy figure: the warning is given where it is above 1.2
and the days differ more than chance, and units that come back, make them (an F test at 5 %).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import fdtri

from passerelle.trial.verdict import Block, Plan

#: Beyond this the chosen unit flatters.
NOTABLE_EFFECT = 1.2
#: From this autocorrelation on, days resemble the days before them.
NOTABLE_AUTOCORRELATION = 0.4
#: Fewer blocks have no autocorrelation, and no design effect, worth a number.
_FEW = 8
_CONFIDENCE = 0.95

BetterUnit = Literal["units", "days", "weeks"]


class Cautions(NamedTuple):
    """See Verdict."""

    autocorrelation: float | None
    design_effect: float | None
    better_unit: BetterUnit | None
    #: Events of each unit so far; None where units are not counted.
    per_unit: float | None


def cautions(plan: Plan, blocks: Sequence[Block], means: Sequence[float]) -> Cautions:
    """What is to be said of these blocks; ``means`` are those of the test's blocks (days, or weeks)."""
    correlated = autocorrelation(means)
    per_unit = _per_unit(plan, blocks)
    if plan.unit in ("day", "week"):
        better: BetterUnit | None = None
        if plan.unit == "day" and (correlated or 0.0) >= NOTABLE_AUTOCORRELATION:
            better = "weeks"
        return Cautions(correlated, _effect_of_days(blocks)[0], better, per_unit)
    effect, sure = _effect_of_days(blocks)
    better = "days" if sure and effect is not None and effect > NOTABLE_EFFECT else None
    if plan.unit == "row":
        within = _effect_of_units(blocks, per_unit)
        if within is not None and within > max(effect or 1.0, NOTABLE_EFFECT):
            effect, better = within, better or "units"
    return Cautions(correlated, effect, better, per_unit)


def autocorrelation(values: Sequence[float]) -> float | None:
    """Of each value with the one before it; None for too few, or for values that are all equal."""
    if len(values) < _FEW:
        return None
    gaps = np.array(values) - np.mean(values)
    square = float((gaps**2).sum())
    return float((gaps[1:] * gaps[:-1]).sum()) / square if square > 0 else None


def _effect_of_days(blocks: Sequence[Block]) -> tuple[float | None, bool]:
    """The design effect of observations within days, and whether it is more than chance; None for too few days."""
    counted = [
        (block.observations, block.difference, block.squares)
        for block in blocks
        if block.observations and block.difference is not None and block.squares is not None
    ]
    groups, total = len(counted), sum(count for count, _, _ in counted)
    if groups < _FEW or total <= groups:
        return None, False
    counts = np.array([count for count, _, _ in counted], dtype=np.float64)
    means = np.array([mean for _, mean, _ in counted])
    between = float((counts * (means - (counts @ means) / total) ** 2).sum()) / (groups - 1)
    within = math.fsum(squares for _, _, squares in counted) / (total - groups)
    effect = _effect(between, within, (total - (counts**2).sum() / total) / (groups - 1), (counts**2).sum() / total)
    # Where units come back within the day, days differ for that alone: by as much as the units' means make them.
    days = [block.clusters for block in blocks if block.clusters is not None]
    noise, free = within, total - groups
    if (units := sum(day.groups - 1 for day in days)) >= _FEW:
        noise, free = max(within, math.fsum(day.between for day in days) / units), units
    sure = effect is not None and between > float(fdtri(groups - 1, free, _CONFIDENCE)) * noise
    return effect, sure


def _effect_of_units(blocks: Sequence[Block], per_unit: float | None) -> float | None:
    """The design effect of rows within units: as alike as the rows of a unit on one day, as many as it brings in all.

    Where no unit came back on the same day, all of its rows count as one: that is the most it can be.
    """
    if per_unit is None or per_unit <= 1:
        return None if per_unit is None else 1.0
    days = [block.clusters for block in blocks if block.clusters is not None]
    groups, rows = sum(day.groups - 1 for day in days), sum(day.rows for day in days)
    free = rows - sum(day.groups for day in days)
    if groups < _FEW or free < _FEW:
        return per_unit
    between, within = math.fsum(day.between for day in days) / groups, math.fsum(day.within for day in days) / free
    size = (rows - sum(day.squared_rows / day.rows for day in days)) / groups
    return _effect(between, within, size, per_unit)


def _effect(between: float, within: float, size: float, weighted_size: float) -> float | None:
    spread = between + (size - 1) * within
    if spread <= 0:
        return None
    return 1 + (float(weighted_size) - 1) * max(0.0, (between - within) / float(spread))


def _per_unit(plan: Plan, blocks: Sequence[Block]) -> float | None:
    """Events of each unit so far, where rows are the evidence and units are counted."""
    if plan.unit != "row":
        return None
    units = sum(block.arrived if block.arrived is not None else sum(block.units) for block in blocks)
    return sum(block.rows + block.unlabelled for block in blocks) / units if units else None
