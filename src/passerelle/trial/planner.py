"""Planner: before a trial starts, how many labels and days it will need, in shadow and in split; or that it cannot end.

Pure: from the margin, the traffic, and how much losses vary; for a challenger that is as good as the champion. How it
is computed stands in needs.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from passerelle.trial.course import check, numbers
from passerelle.trial.needs import BLOCK_DAYS, Asked, Mode, Need, Unit, Variation, need_of

#: The correlation of two versions' losses on one event, where nothing better is known: a retrained model is much like
#: the one before.
CORRELATION = 0.8


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
    #: The smallest margin of which half of all trials end in time, where this one's do not; None: none, or it does.
    resolvable: float | None
    #: What would make it end, each in one sentence; empty where nothing needs to.
    instead: tuple[str, ...]
    #: What was taken for granted, for want of data.
    assumed: tuple[str, ...]

    @property
    def need(self) -> Need:
        """That of the mode which was asked for."""
        return self.shadow if self.mode == "shadow" else self.split


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
        per_day: Labels that become mature each day: of rows, or of units where a unit is one value.
        horizon_days: Days after an event until its outcome is taken as the truth.
        unit: Of evidence: "row" (events are independent), "unit" (one value for each), "day" or "week" (its mean).
        mode: Which of the two is to be tried: ``refused`` and ``instead`` are about it.
        deviation: The standard deviation of one unit's paired difference, from an earlier trial; of a day its mean's.
            Without it ``losses`` are needed.
        losses: The champion's losses in the past, of shape (units,): one for each row or unit, or one for each event
            where a day or a week is the unit.
        days: Of the same shape: on which day (in which week) each was, any labels. For days (weeks) as the unit.
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
    asked = Asked(
        unit=unit,
        per_day=per_day,
        share=share,
        alpha=alpha,
        reach=bounds[1] - bounds[0],
        min_days=min_days,
        max_days=max_days,
    )
    shadow, split = (need_of(asked, found, margin, each) for each in ("shadow", "split"))
    return _forecast(asked, found, margin=margin, mode=mode, horizon_days=horizon_days, needs=(shadow, split))


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
) -> Variation:
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
    elif deviation is not None and unit not in BLOCK_DAYS:
        of_loss = min(deviation / of_difference, reach / 2)
        assumed.append(f"the two versions' losses of one {unit} correlate at {correlation:g} (for the split)")
    else:
        of_loss = reach / 2
        assumed.append("losses vary as much as they can (for the split)")
    if deviation is None:
        length = BLOCK_DAYS.get(unit)
        spread = of_loss if length is None or log is None else _block_spread(log, days, per_day * length, assumed)
        deviation = spread * of_difference
        assumed.append(f"the two versions' losses of one {unit} correlate at {correlation:g}")
    if max(deviation, of_loss) == 0:
        raise ValueError("the losses are all equal: they do not say how much a difference varies; say deviation")
    return Variation(shadow=deviation, loss=of_loss, assumed=tuple(assumed))


def _block_spread(log: NDArray[np.float64], days: ArrayLike | None, per_block: float, assumed: list[str]) -> float:
    """The standard deviation of a block's mean loss."""
    if days is None:
        assumed.append(
            "the events of one block of time are independent of each other, since it is not known which fell together"
        )
        return float(log.std(ddof=1)) / math.sqrt(per_block)
    labels = np.asarray(days)
    if labels.shape != log.shape:
        raise ValueError(f"days has the shape {labels.shape} and losses {log.shape}: each loss has its day")
    _, which = np.unique(labels, return_inverse=True)
    means = np.bincount(which, weights=log) / np.bincount(which)
    if len(means) < 2:  # noqa: PLR2004  (a spread needs two)
        raise ValueError("all losses are of one block: how blocks vary is not to be known from it")
    return float(means.std(ddof=1))


def _forecast(
    asked: Asked,
    variation: Variation,
    *,
    margin: float,
    mode: Mode,
    horizon_days: float,
    needs: tuple[Need, Need],
) -> Forecast:
    shadow, split = needs
    need = shadow if mode == "shadow" else split
    refused, resolvable, instead = None, None, []
    if not need.resolves:
        days = f"{need.days:,} days or more" if need.days else "more than ten years"
        refused = (
            f"a margin of {margin:.3g} cannot be resolved in {asked.max_days} days: "
            f"half of all trials in {mode} would need {days}"
        )
        resolvable, most = (_resolved(asked, variation, mode, likely=likely) for likely in (False, True))
        instead = _instead(asked, variation, mode, needs, margins=(margin, resolvable, most))
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
        resolvable=resolvable,
        instead=tuple(instead),
        assumed=variation.assumed,
    )


def _instead(
    asked: Asked,
    variation: Variation,
    mode: Mode,
    needs: tuple[Need, Need],
    *,
    margins: tuple[float, float | None, float | None],
) -> list[str]:
    """What would let the trial end in time. ``margins``: the one that was asked, and what half and 90 % resolve."""
    shadow, split = needs
    margin, half, most = margins
    found = []
    if half is not None:
        also = "" if most is None else f" ({most:.3g}: 90 %)"
        found.append(f"a margin of {half:.3g} or more: half of all trials then end in time{also}")
    if mode == "split" and shadow.resolves:
        found.append(f"a shadow, if labels come whoever answers: half of all trials end within {shadow.days} days")
    need = shadow if mode == "shadow" else split
    if mode == "split" and asked.share != 0.5:  # noqa: PLR2004  (halves)
        halves = need_of(msgspec.structs.replace(asked, share=0.5), variation, margin, "split")
        if halves.days is not None and (need.days is None or halves.days < need.days):
            found.append(f"a share of 0.5: half of all trials end within {halves.days:,} days")
    if need.days is not None:
        also = "" if need.days_90 is None else f" ({need.days_90:,}: 90 %)"
        found.append(f"max_days = {need.days:,}: half of all trials then end in time{also}")
    if asked.unit not in BLOCK_DAYS and need.labels is not None:
        found.append(f"traffic of {math.ceil(need.labels / asked.max_days):,} labels a day")
    return found


def _resolved(asked: Asked, variation: Variation, mode: Mode, *, likely: bool) -> float | None:
    """The smallest margin that is resolved in time, rounded up to 3 digits; None: none within the bounds is."""

    def resolves(margin: float) -> bool:
        need = need_of(asked, variation, margin, mode, longest=asked.max_days)
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
