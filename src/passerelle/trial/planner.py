"""Planner: before a trial starts, how many labels and days it will need, in shadow and in split; or that it cannot end.

Pure: from the margin, the traffic, and how much losses vary. For an equal challenger, with s the standard deviation of
one unit's value, a test of fixed size needs n80 = (z_{1-alpha} + z_.80)^2 s^2 / margin^2 units for 80 % power. The
anytime-valid test (see betting) needs about

    median  0.9 n80 + c        90 %  2.4 n80 + c        c = 1.1 f (f / (f + n80))^1.5,   f = ln(1 / alpha) R / (0.9 m)

where m is the margin. f is what the largest bet takes to win even where no two losses differ (R: the width of the
bounds): it counts where the margin is small beside R and losses hardly vary. The constants are from simulation: 0.9 and
2.4 from the design's reference (B2), c from ours; benchmarks/statistics/bar16_planner.py holds all of them against the
tests themselves.

Where a day is the unit, the course of the anytime-valid t test (see blocks) is simulated with a fixed seed, on normal
days of that standard deviation.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from passerelle.trial.blocks import critical_t
from passerelle.trial.course import check, numbers

Mode = Literal["shadow", "split"]
Unit = Literal["row", "key", "day"]

_MEDIAN, _LATE, _CORNER = 0.9, 2.4, 1.1
_RISK = 0.9
_POWER = 0.8
#: The correlation of two versions' losses on one event, where nothing better is known: a retrained model is much like
#: the one before.
CORRELATION = 0.8
#: Longer is never.
_LONGEST_DAYS = 3650
#: Of the simulated courses of days.
_COURSES, _SEED = 1000, 2026


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial of one mode needs to promote an equal challenger."""

    mode: Mode
    #: The standard deviation of one unit's value that this rests on.
    deviation: float
    #: Units (rows, keys; days) of a test of fixed size and 80 % power: what ``planned_n`` should be.
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


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be expected of a trial, before it starts."""

    margin: float
    unit: Unit
    mode: Mode
    #: Labels that become mature each day, as it was said.
    per_day: float
    horizon_days: float
    max_days: int
    shadow: Need
    split: Need
    #: Labels that a split needs for each of a shadow's; None where one of them never ends.
    ratio: float | None
    #: Why the trial should not start as it is: the margin cannot be resolved in time. None: it can.
    refused: str | None
    #: What would make it end, each in one sentence; empty where nothing needs to.
    instead: tuple[str, ...]
    #: What was taken for granted, for want of data.
    assumed: tuple[str, ...]

    @property
    def need(self) -> Need:
        """That of the mode which was asked for."""
        return self.shadow if self.mode == "shadow" else self.split


class _Variation(msgspec.Struct, frozen=True, kw_only=True):
    """How much one unit's value varies, in both modes, and what that takes for granted."""

    shadow: float
    #: Of one loss: the split's value follows from it, and from the share.
    loss: float
    assumed: tuple[str, ...]


def plan(
    *,
    margin: float,
    per_day: float,
    horizon_days: float = 0.0,
    unit: Unit = "row",
    mode: Mode = "shadow",
    deviation: float | None = None,
    losses: ArrayLike | None = None,
    days: ArrayLike | None = None,
    correlation: float = CORRELATION,
    share: float = 0.5,
    alpha: float = 0.05,
    bounds: tuple[float, float] = (0.0, 1.0),
    min_days: int = 14,
    max_days: int = 60,
) -> Forecast:
    """The labels and days that a trial needs, in shadow and in split; or that it can never end, and what would.

    Args:
        margin: The worsening that is accepted, in units of the loss.
        per_day: Labels that become mature each day: of rows, or of keys where a key is the unit.
        horizon_days: Days after an event until its outcome is taken as the truth.
        unit: Of evidence: "row" (events are independent), "key" (one value for each), "day" (a day's mean).
        mode: Which of the two is to be tried: ``refused`` and ``instead`` are about it.
        deviation: The standard deviation of one unit's paired difference, from an earlier trial. Of days: of their
            means. Without it ``losses`` are needed.
        losses: The champion's losses in the past, of shape (units,): one for each row or key, or one for each event
            where a day is the unit.
        days: Of the same shape: on which day each was (any labels). For days as the unit.
        correlation: Of the two versions' losses on one unit, where ``deviation`` is not known: the spread of a
            difference is then that of a loss times sqrt(2 (1 - correlation)).
        share: The challenger's, in a split.
        alpha: As in the tests.
        bounds: The smallest and the largest that one loss can be.
        min_days: No verdict before so many days of evidence.
        max_days: The trial ends without one after so many.

    Raises ValueError for arguments that cannot be, and where neither ``deviation`` nor ``losses`` is given.

    >>> forecast = plan(margin=0.02, per_day=500, deviation=0.2, losses=[0, 0, 0, 0, 0, 0, 0, 0, 0, 1] * 100)
    >>> forecast.shadow.labels, forecast.shadow.labels_90, forecast.split.labels, round(forecast.ratio, 1)
    (633, 1560, 5039, 8.0)
    >>> forecast.refused is None
    True
    >>> forecast = plan(margin=0.0005, per_day=500, deviation=0.2, max_days=60)
    >>> print(forecast.refused)
    a margin of 0.0005 cannot be resolved in 60 days: half of all trials in shadow would need 1,781 days or more
    >>> print(forecast.instead[0])
    a margin of 0.00273 or more: half of all trials then end in time (0.00446: 90 %)
    """
    _check(margin=margin, per_day=per_day, horizon_days=horizon_days, share=share, alpha=alpha, bounds=bounds)
    if min_days < 1 or max_days < min_days:
        raise ValueError(f"min_days is {min_days} and max_days {max_days}: 1 <= min_days <= max_days is wanted")
    if not -1 <= correlation < 1:
        raise ValueError(f"correlation is {correlation}: a number from -1 to below 1 is wanted")
    found = _variation(
        unit=unit,
        deviation=deviation,
        losses=losses,
        days=days,
        correlation=correlation,
        per_day=per_day,
        reach=bounds[1] - bounds[0],
    )
    asked = _Asked(
        unit=unit,
        per_day=per_day,
        share=share,
        alpha=alpha,
        reach=bounds[1] - bounds[0],
        min_days=min_days,
        max_days=max_days,
    )
    shadow, split = (_need(asked, found, margin, each) for each in ("shadow", "split"))
    return _forecast(asked, found, margin=margin, mode=mode, horizon_days=horizon_days, needs=(shadow, split))


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    unit: Unit
    per_day: float
    share: float
    alpha: float
    #: From the smallest loss to the largest.
    reach: float
    min_days: int
    max_days: int


def _check(
    *,
    margin: float,
    per_day: float,
    horizon_days: float,
    share: float,
    alpha: float,
    bounds: tuple[float, float],
) -> None:
    reach = bounds[1] - bounds[0]
    check(margin=margin, alpha=alpha, rollback_above=0.0, bounds=(-reach, reach))
    if margin <= 0:
        raise ValueError(f"margin is {margin}: the worsening that is accepted is a positive number, however small")
    if not (per_day > 0 and math.isfinite(per_day)):
        raise ValueError(f"per_day is {per_day}: labels come, or no trial ends")
    if not (horizon_days >= 0 and math.isfinite(horizon_days)):
        raise ValueError(f"horizon_days is {horizon_days}: 0 or more is wanted")
    if not 0 < share < 1:
        raise ValueError(f"share is {share}: a probability between 0 and 1 is wanted")


def _variation(
    *,
    unit: Unit,
    deviation: float | None,
    losses: ArrayLike | None,
    days: ArrayLike | None,
    correlation: float,
    per_day: float,
    reach: float,
) -> _Variation:
    """From what is known; what is not is said in ``assumed``."""
    assumed = []
    if deviation is None and losses is None:
        raise ValueError("how much do losses vary? Say deviation (of an earlier trial), or losses (of the champion)")
    if deviation is not None and not (deviation > 0 and math.isfinite(deviation)):
        raise ValueError(f"deviation is {deviation}: a positive number is wanted")
    of_difference = math.sqrt(2 * (1 - correlation))
    log = None if losses is None else numbers("losses", losses)
    if log is not None and len(log) < 2:  # noqa: PLR2004  (a spread needs two)
        raise ValueError(f"losses holds {len(log)}: a spread needs two at least")
    if log is not None:
        of_loss = float(log.std(ddof=1))
    elif deviation is not None and unit != "day":
        of_loss = min(deviation / of_difference, reach / 2)
        assumed.append(f"the two versions' losses of one {unit} correlate at {correlation:g} (for the split)")
    else:
        of_loss = reach / 2
        assumed.append("losses vary as much as they can (for the split)")
    if deviation is None:
        spread = of_loss if unit != "day" or log is None else _day_spread(log, days, per_day, assumed)
        deviation = spread * of_difference
        of_what = "day's means" if unit == "day" else unit
        assumed.append(f"the two versions' losses of one {of_what} correlate at {correlation:g}")
    if max(deviation, of_loss) == 0:
        raise ValueError("the losses are all equal: they do not say how much a difference varies; say deviation")
    return _Variation(shadow=deviation, loss=of_loss, assumed=tuple(assumed))


def _day_spread(log: NDArray[np.float64], days: ArrayLike | None, per_day: float, assumed: list[str]) -> float:
    """The standard deviation of a day's mean loss."""
    if days is None:
        assumed.append("the events of a day are independent of each other; say days to know better")
        return float(log.std(ddof=1)) / math.sqrt(per_day)
    labels = np.asarray(days)
    if labels.shape != log.shape:
        raise ValueError(f"days has the shape {labels.shape} and losses {log.shape}: each loss has its day")
    _, which = np.unique(labels, return_inverse=True)
    means = np.bincount(which, weights=log) / np.bincount(which)
    if len(means) < 2:  # noqa: PLR2004  (a spread needs two)
        raise ValueError("all losses are of one day: how days vary is not to be known from it")
    return float(means.std(ddof=1))


def _need(asked: _Asked, variation: _Variation, margin: float, mode: Mode, *, longest: int = _LONGEST_DAYS) -> Need:
    deviation = _deviation(asked, variation, mode)
    if asked.unit == "day":
        median, late = _days_needed(margin / deviation, asked.alpha, asked.min_days, longest)
        found = [None if days is None else (days, math.ceil(days * asked.per_day)) for days in (median, late)]
        planned = max(1, math.ceil(_fixed_size(deviation, margin, asked.alpha)))
    else:
        width = 2 * asked.reach / (1 if mode == "shadow" else min(asked.share, 1 - asked.share))
        size = _fixed_size(deviation, margin, asked.alpha)
        slowest = -math.log(asked.alpha) * width / (_RISK * margin)
        corner = _CORNER * slowest * (slowest / (slowest + size)) ** 1.5
        found = [_rows(asked, factor * size + corner) for factor in (_MEDIAN, _LATE)]
        planned = max(1, math.ceil(size))
    (days, labels), (days_90, labels_90) = (one or (None, None) for one in found)
    return Need(
        mode=mode,
        deviation=deviation,
        planned_n=planned,
        labels=labels,
        labels_90=labels_90,
        days=days,
        days_90=days_90,
        resolves=days is not None and days <= asked.max_days,
        resolves_90=days_90 is not None and days_90 <= asked.max_days,
    )


def _deviation(asked: _Asked, variation: _Variation, mode: Mode) -> float:
    """Of one unit's value. A split's (loss - b) / chance of its arm varies by sd(loss) / sqrt(share (1 - share))."""
    if mode == "shadow":
        return variation.shadow
    tossed = variation.loss / math.sqrt(asked.share * (1 - asked.share))
    if asked.unit == "day":  # the day's own difference, and which of its events fell to whom
        return math.hypot(variation.shadow, tossed / math.sqrt(asked.per_day))
    return tossed


def _fixed_size(deviation: float, margin: float, alpha: float) -> float:
    z = NormalDist().inv_cdf
    return ((z(1 - alpha) + z(_POWER)) * deviation / margin) ** 2


def _rows(asked: _Asked, units: float) -> tuple[int, int] | None:
    """Days and labels; no verdict before the first days are over."""
    days = max(asked.min_days, math.ceil(units / asked.per_day))
    return None if days > _LONGEST_DAYS else (days, math.ceil(units))


@lru_cache(maxsize=256)
def _days_needed(effect: float, alpha: float, min_days: int, longest: int) -> tuple[int | None, int | None]:
    """Days until the t test of days decides, in half and in 90 % of trials; the margin is ``effect`` deviations away.

    None: more than ``longest``.

    >>> _days_needed(1.0, 0.05, 14, 60), _days_needed(0.1, 0.05, 14, 60)
    ((14, 20), (None, None))
    """
    longest = min(longest, max(4 * min_days, math.ceil(80 / effect**2)))
    rng = np.random.default_rng(_SEED)
    count = np.arange(1, longest + 1)
    places = np.unique(np.geomspace(2, max(2, longest), 80).astype(int))
    critical = np.array([critical_t(int(place), alpha) for place in places])
    known = np.isfinite(critical)
    needed = np.where(count < places[known][0], math.inf, np.interp(count, places[known], critical[known]))
    needed[: min_days - 1] = math.inf
    decided = np.full(_COURSES, math.inf)
    for course in range(_COURSES):
        values = rng.standard_normal(longest)
        means = np.cumsum(values) / count
        spread = np.sqrt(np.maximum(np.cumsum(values**2) - count * means**2, 1e-300) / np.maximum(count - 1, 1))
        reached = np.sqrt(count) * (effect + means) >= needed * spread
        if reached.any():
            decided[course] = int(reached.argmax()) + 1
    ordered = np.sort(decided)
    median, late = ordered[_COURSES // 2], ordered[_COURSES * 9 // 10]
    return (int(median) if median <= longest else None), (int(late) if late <= longest else None)


def _forecast(
    asked: _Asked,
    variation: _Variation,
    *,
    margin: float,
    mode: Mode,
    horizon_days: float,
    needs: tuple[Need, Need],
) -> Forecast:
    shadow, split = needs
    need = shadow if mode == "shadow" else split
    refused, instead = None, []
    if not need.resolves:
        days = f"{need.days:,} days or more" if need.days else "more than ten years"
        refused = (
            f"a margin of {margin:.3g} cannot be resolved in {asked.max_days} days: "
            f"half of all trials in {mode} would need {days}"
        )
        instead = _instead(asked, variation, margin, mode, needs)
    return Forecast(
        margin=margin,
        unit=asked.unit,
        mode=mode,
        per_day=asked.per_day,
        horizon_days=horizon_days,
        max_days=asked.max_days,
        shadow=shadow,
        split=split,
        ratio=split.labels / shadow.labels if shadow.labels and split.labels else None,
        refused=refused,
        instead=tuple(instead),
        assumed=variation.assumed,
    )


def _instead(asked: _Asked, variation: _Variation, margin: float, mode: Mode, needs: tuple[Need, Need]) -> list[str]:
    """What would let the trial end in time, the cheapest to say first."""
    shadow, split = needs
    found = []
    half, most = (_resolved(asked, variation, mode, likely=likely) for likely in (False, True))
    if half is not None:
        also = "" if most is None else f" ({most:.3g}: 90 %)"
        found.append(f"a margin of {half:.3g} or more: half of all trials then end in time{also}")
    if mode == "split" and shadow.resolves:
        found.append(f"a shadow, if labels come whoever answers: half of all trials end within {shadow.days} days")
    need = shadow if mode == "shadow" else split
    if mode == "split" and asked.share != 0.5:  # noqa: PLR2004  (halves)
        halves = _need(msgspec.structs.replace(asked, share=0.5), variation, margin, "split")
        if halves.days is not None and (need.days is None or halves.days < need.days):
            found.append(f"a share of 0.5: half of all trials end within {halves.days:,} days")
    if need.days is not None:
        also = "" if need.days_90 is None else f" ({need.days_90:,}: 90 %)"
        found.append(f"max_days = {need.days:,}: half of all trials then end in time{also}")
    if asked.unit != "day" and need.labels is not None:
        found.append(f"traffic of {math.ceil(need.labels / asked.max_days):,} labels a day")
    return found


def _resolved(asked: _Asked, variation: _Variation, mode: Mode, *, likely: bool) -> float | None:
    """The smallest margin that is resolved in time, rounded up to 3 digits; None: none within the bounds is."""

    def resolves(margin: float) -> bool:
        need = _need(asked, variation, margin, mode, longest=asked.max_days)
        return need.resolves_90 if likely else need.resolves

    low, high = 0.0, asked.reach
    if not resolves(high):
        return None
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if resolves(middle) else (middle, high)
        if high - low < 0.001 * high:
            break
    step = 10.0 ** (math.floor(math.log10(high)) - 2)
    return math.ceil(high / step - 1e-9) * step
