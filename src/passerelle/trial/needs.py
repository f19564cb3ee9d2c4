"""Needs: how many units of evidence a trial of one mode takes to promote an equal challenger. Pure.

With s the standard deviation of one unit's value, a test of fixed size needs n80 = (z_{1-alpha} + z_.80)^2 s^2 / m^2
units for 80 % power, where m is the margin. The anytime-valid test (see betting) needs about

    median  0.9 n80 + c        90 %  2.4 n80 + c        c = 1.1 f (f / (f + n80))^1.5,   f = ln(1 / alpha) R / (0.9 m)

f is what the largest bet takes to win even where no two losses differ (R: the width of the bounds): it counts where the
margin is small beside R and losses hardly vary. The constants are from simulation: 0.9 and 2.4 from the design's
reference (B2), c from ours; benchmarks/statistics/bar16_planner.py holds all of them against the tests themselves.

Where blocks of time are the unit, the course of the anytime-valid t test (see blocks) is simulated with a fixed seed,
on normal blocks of that standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.trial.blocks import critical_t

Mode = Literal["shadow", "split"]
Unit = Literal["row", "unit", "day", "week"]
#: Units that are blocks of time: so many days each.
BLOCK_DAYS = {"day": 1, "week": 7}

_MEDIAN, _LATE, _CORNER = 0.9, 2.4, 1.1
_RISK = 0.9
_POWER = 0.8
_Z = NormalDist().inv_cdf
#: Longer is never.
_LONGEST_DAYS = 3650
#: Numbers of blocks at which the t that decides is computed; between them it is interpolated.
_PLACES = np.unique(np.geomspace(2, _LONGEST_DAYS, 150).astype(int))
#: Of the simulated courses of blocks.
_COURSES, _SEED = 1000, 2026
#: Blocks of the courses that are kept, and longer courses that are simulated at once.
_SHORT, _AT_ONCE = 256, 100

_Array = NDArray[np.float64]


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial of one mode needs to promote an equal challenger."""

    mode: Mode
    #: The standard deviation of one unit's value that this rests on.
    deviation: float
    #: Observations (rows, units; blocks) of a test of fixed size and 80 % power: what ``planned_n`` should be.
    planned_n: int
    #: Mature labels until the verdict: in half of all trials, and in 90 % of them. None: more than ten years bring.
    labels: int | None
    labels_90: int | None
    #: Days of evidence for these; the verdict comes a label horizon later.
    days: int | None
    days_90: int | None
    #: Does half of all trials end within ``max_days``? And do 90 %?
    resolves: bool
    resolves_90: bool


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial is asked, besides its margin; as in plan."""

    unit: Unit
    per_day: float
    share: float
    alpha: float
    #: From the smallest loss to the largest.
    reach: float
    min_days: int
    max_days: int


class Variation(msgspec.Struct, frozen=True, kw_only=True):
    """How much one unit's value varies, in both modes, and what that takes for granted."""

    shadow: float
    #: Of one loss: the split's value follows from it, and from the share.
    loss: float
    assumed: tuple[str, ...]


def need_of(asked: Asked, variation: Variation, margin: float, mode: Mode, *, longest: int = _LONGEST_DAYS) -> Need:
    """The need of one mode; it is not looked further than so many days."""
    deviation = _deviation(asked, variation, mode)
    size = ((_Z(1 - asked.alpha) + _Z(_POWER)) * deviation / margin) ** 2
    length = BLOCK_DAYS.get(asked.unit)
    if length is not None:
        least = max(2, math.ceil(asked.min_days / length))
        needed = _blocks_needed(margin / deviation, asked.alpha, least, longest // length)
        days, days_90 = (None if blocks is None else blocks * length for blocks in needed)
        labels, labels_90 = (None if each is None else math.ceil(each * asked.per_day) for each in (days, days_90))
    else:
        width = 2 * asked.reach / (1 if mode == "shadow" else min(asked.share, 1 - asked.share))
        slowest = -math.log(asked.alpha) * width / (_RISK * margin)
        corner = _CORNER * slowest * (slowest / (slowest + size)) ** 1.5
        days, labels = _rows(asked, _MEDIAN * size + corner)
        days_90, labels_90 = _rows(asked, _LATE * size + corner)
    return Need(
        mode=mode,
        deviation=deviation,
        planned_n=max(1, math.ceil(size)),
        labels=labels,
        labels_90=labels_90,
        days=days,
        days_90=days_90,
        resolves=days is not None and days <= asked.max_days,
        resolves_90=days_90 is not None and days_90 <= asked.max_days,
    )


def _deviation(asked: Asked, variation: Variation, mode: Mode) -> float:
    """Of one unit's value. A split's (loss - b) / chance of its arm varies by sd(loss) / sqrt(share (1 - share))."""
    if mode == "shadow":
        return variation.shadow
    tossed = variation.loss / math.sqrt(asked.share * (1 - asked.share))
    if asked.unit in BLOCK_DAYS:  # the block's own difference, and which of its events fell to whom
        return math.hypot(variation.shadow, tossed / math.sqrt(asked.per_day * BLOCK_DAYS[asked.unit]))
    return tossed


def _rows(asked: Asked, units: float) -> tuple[int | None, int | None]:
    """Days and labels; no verdict before the first days are over."""
    days = max(asked.min_days, math.ceil(units / asked.per_day))
    return (None, None) if days > _LONGEST_DAYS else (days, math.ceil(units))


@lru_cache(maxsize=256)
def _blocks_needed(effect: float, alpha: float, least: int, longest: int) -> tuple[int | None, int | None]:
    """Blocks until the t test decides, in half and in 90 % of trials; the margin is ``effect`` deviations away.

    None: more than ``longest``.

    >>> _blocks_needed(1.0, 0.05, 14, 60), _blocks_needed(0.1, 0.05, 14, 60)
    ((14, 20), (None, None))
    """
    longest = min(longest, max(4 * least, math.ceil(80 / effect**2)))
    count = np.arange(1, longest + 1)
    places = _PLACES[: int(np.searchsorted(_PLACES, longest)) + 1]
    critical = np.array([critical_t(place, alpha) for place in places.tolist()])
    known = np.isfinite(critical)
    needed = np.where(count < places[known][0], math.inf, np.interp(count, places[known], critical[known]))
    needed[: least - 1] = math.inf
    decided = np.concatenate(
        [
            np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, math.inf)
            for means, spread in _courses(longest)
            for reached in [np.sqrt(count) * (effect + means) >= needed * spread]
        ]
    )
    ordered = np.sort(decided)
    median, late = ordered[_COURSES // 2], ordered[_COURSES * 9 // 10]
    return (int(median) if median <= longest else None), (int(late) if late <= longest else None)


def _courses(longest: int) -> Iterator[tuple[_Array, _Array]]:
    """Mean and spread after each block, of shape (courses, longest), some courses at a time."""
    if longest <= _SHORT:
        means, spread = _short_courses()
        yield means[:, :longest], spread[:, :longest]
        return
    for first in range(0, _COURSES, _AT_ONCE):
        yield _course(range(first, first + _AT_ONCE), longest)


@lru_cache(maxsize=1)
def _short_courses() -> tuple[_Array, _Array]:
    """Those that a trial's last day is looked for on, again and again."""
    return _course(range(_COURSES), _SHORT)


def _course(numbers: range, longest: int) -> tuple[_Array, _Array]:
    """Of the courses of these numbers; each is the same, however far it is looked."""
    count = np.arange(1, longest + 1)
    values = np.array([np.random.default_rng((_SEED, number)).standard_normal(longest) for number in numbers])
    means = np.cumsum(values, axis=1) / count
    squares = np.cumsum(values**2, axis=1) - count * means**2
    return means, np.sqrt(np.maximum(squares, 1e-300) / np.maximum(count - 1, 1))
