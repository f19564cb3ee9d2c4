"""Naive: what is often done instead. The bars must tell it from ours: it fails them.

A t test at 5 % looked at again and again; pooled means of the arms; outcomes in the order of their arrival; each event
of a unit as evidence of its own; a chi-square test of the arms at every look; a share of few answers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import chdtri

from benchmarks.statistics import windows
from benchmarks.statistics.frame import Methods

#: It looks after so many events, and not before the first so many.
_EVERY, _FIRST = 10, 50
#: Of so many answers it takes the share of failures.
_LAST = 10
_Z = 1.6448536269514722


class Looks(NamedTuple):
    """What passerelle.trial.Course has, of a test that is asked again and again."""

    promoted_at: int | None
    rolled_back_at: int | None
    lower: Any
    upper: Any


def _looked(means: Any, errors: Any, places: Any, *, rows: int, margin: float, rollback_above: float) -> Looks:
    """The first look at which each side is "significant", and the interval of the last look at each event."""
    low, high = means - _Z * errors, means + _Z * errors
    if not len(places):
        return Looks(None, None, np.full(rows, -np.inf), np.full(rows, np.inf))
    which = np.searchsorted(places, np.arange(1, rows + 1), side="right") - 1
    lower = np.where(which < 0, -np.inf, low[which])
    upper = np.where(which < 0, np.inf, high[which])
    return Looks(_first(places, high < margin), _first(places, low > rollback_above), lower, upper)


def _first(places: Any, reached: Any) -> int | None:
    return int(places[reached.argmax()]) if reached.any() else None


def paired(
    differences: Any, *, margin: float, alpha: float, bounds: Any, planned_n: int, rollback_above: float = 0.0
) -> Looks:
    """A one-sided t test at 5 % after every ten events."""
    del alpha, bounds, planned_n
    values = np.asarray(differences, dtype=np.float64)
    at = np.arange(_FIRST, len(values) + 1, _EVERY)
    means = np.cumsum(values)[at - 1] / at
    errors = np.sqrt(np.maximum(np.cumsum(values**2)[at - 1] / at - means**2, 1e-300) / at)
    return _looked(means, errors, at, rows=len(values), margin=margin, rollback_above=rollback_above)


def split(
    losses: Any,
    arms: Any,
    *,
    share: Any,
    margin: float,
    alpha: float,
    bounds: Any,
    planned_n: int,
    rollback_above: float = 0.0,
) -> Looks:
    """The difference of the two arms' pooled means, whatever the share was, after every ten events."""
    del share, alpha, bounds, planned_n
    loss, arm = np.asarray(losses, dtype=np.float64), np.asarray(arms, dtype=np.float64)
    at = np.arange(_FIRST, len(loss) + 1, _EVERY)
    means, squares = [], np.zeros(len(at))
    for mine in (arm, 1 - arm):
        count = np.maximum(np.cumsum(mine)[at - 1], 1.0)
        mean = np.cumsum(mine * loss)[at - 1] / count
        squares = squares + np.maximum(np.cumsum(mine * loss**2)[at - 1] / count - mean**2, 1e-300) / count
        means.append(mean)
    return _looked(
        means[0] - means[1], np.sqrt(squares), at, rows=len(loss), margin=margin, rollback_above=rollback_above
    )


def blocks(block_means: Any, *, margin: float, alpha: float, min_blocks: int, rollback_above: float = 0.0) -> Looks:
    """A one-sided t test at 5 % after every block."""
    del alpha
    values = np.asarray(block_means, dtype=np.float64)
    at = np.arange(max(2, min_blocks), len(values) + 1)
    means = np.cumsum(values)[at - 1] / at
    errors = np.array([values[:k].std(ddof=1) / np.sqrt(k) for k in at.tolist()])
    return _looked(means, errors, at, rows=len(values), margin=margin, rollback_above=rollback_above)


def ratio(arms: Any, *, share: float, alpha: float) -> int | None:
    """A chi-square test at each unit, from the hundredth on."""
    arm = np.asarray(arms, dtype=np.float64)
    count = np.arange(1, len(arm) + 1)
    statistic = (np.cumsum(arm) - share * count) ** 2 / (count * share * (1 - share))
    alarms = (statistic > chdtri(1, alpha)) & (count >= 100)  # noqa: PLR2004  (one waits a little)
    return int(alarms.argmax()) + 1 if alarms.any() else None


def cohort(happened_at: Any, known_at: Any, *, horizon: float, now: float) -> Any:
    """Everything that has an outcome by now, in the order in which the outcomes came."""
    del happened_at, horizon
    order = np.argsort(known_at, kind="stable")
    return order[known_at[order] <= now]


def units(losses: Any, keys: Any) -> tuple[Any, Any]:
    """Every event is evidence of its own."""
    del keys
    return np.asarray(losses, dtype=np.float64), np.arange(len(losses))


def breaker(failed: Any, *, percent: float) -> int | None:
    """More than the limit of the last ten answers, from the first on."""
    sums = np.concatenate([[0], np.cumsum(np.asarray(failed, dtype=np.int64))])
    at = np.arange(1, len(sums))
    count = np.minimum(at, _LAST)
    over = (sums[at] - sums[at - count]) * 100 > percent * count
    return int(at[over.argmax()]) if over.any() else None


NAIVE = Methods(
    name="naive",
    paired=paired,
    split=split,
    blocks=blocks,
    ratio=ratio,
    cohort=cohort,
    units=units,
    drift=windows.drift,
    performance=windows.performance,
    counted=windows.counted,
    breaker=breaker,
)
