"""Betting: an anytime-valid test of bounded differences, row by row, with bets of a planned size.

With differences D_i = loss(challenger) - loss(champion) in [lo, hi], R = hi - lo, and for a null mean u:

    v_t      = (R^2 / 4 + sum_{i<=t} (D_i - mean_t)^2) / (t + 1)              (known before the next bet)
    bet_t,j  = min(k_j sqrt(2 ln(1 / alpha) / (v_{t-1} max(t, planned_n))), 0.9 / R)
    E_t(u)   = sum_j w_j prod_{i<=t} (1 + bet_i,j (u - D_i))

E is a nonnegative supermartingale while the mean of D_i, given the past, is at least u: the probability that it ever
reaches 1 / alpha is at most alpha (Ville), however long and often one looks. Bets do not depend on u, so E rises with
u: the smallest u that is refuted is the running upper bound, found by bisection. The lower bound is that of -D, turned.
Waudby-Smith and Ramdas 2023, "Estimating means of bounded random variables by betting"; k and w were tuned by
simulation (the design's reference, A2).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from passerelle.trial.course import Course, evidence

_SIZES = np.array([0.5, 1.0, 2.0, 8.0])
_WEIGHTS = np.array([0.2, 0.5, 0.2, 0.1])
#: A bet never risks more than this share of what it has.
_RISK = 0.9
_STEPS = 50
#: Distances from the final bound at which the running bound is followed, as shares of the way to the first.
_PLACES = np.geomspace(1e-4, 1.0, 160)


def bets(
    differences: NDArray[np.float64], *, bounds: tuple[float, float], alpha: float, planned_n: int
) -> NDArray[np.float64]:
    """The bets on each difference, of shape (rows, 4): each from the differences before it alone."""
    low, high = bounds
    width = high - low
    count = np.arange(1, len(differences) + 1)
    centred = differences - (low + high) / 2
    sums, squares = np.cumsum(centred), np.cumsum(centred**2)
    spread = (width**2 / 4 + np.maximum(squares - sums**2 / count, 0.0)) / (count + 1)
    before = np.concatenate([[width**2 / 4], spread[:-1]])[: len(differences)]
    unit = np.sqrt(2 * math.log(1 / alpha) / (before * np.maximum(count, planned_n)))
    found: NDArray[np.float64] = np.minimum(unit[:, None] * _SIZES, _RISK / width)
    return found


def log_course(differences: NDArray[np.float64], sizes: NDArray[np.float64], null: float) -> NDArray[np.float64]:
    """Logarithm of E_t(null) after each difference: the evidence that the mean is below ``null``."""
    products = np.cumsum(np.log1p(sizes * (null - differences)[:, None]), axis=0)
    largest = products.max(axis=1)
    return np.asarray(largest + np.log((_WEIGHTS * np.exp(products - largest[:, None])).sum(axis=1)))


def paired(
    differences: ArrayLike,
    *,
    margin: float,
    alpha: float,
    bounds: tuple[float, float],
    planned_n: int,
    rollback_above: float = 0.0,
) -> Course:
    """Test paired differences (challenger - champion), in the order of their events; ``bounds`` hold all of them.

    The evidence of the answer is the largest that was reached. Between two places where they are followed, the running
    bounds stand at the wider. Raises ValueError for a difference outside of the bounds, or not finite.

    >>> course = paired([-0.1, 0.0] * 2000, margin=0.01, alpha=0.05, bounds=(-1, 1), planned_n=500)
    >>> course.rolled_back_at is None, bool(course.upper[-1] < 0.0)
    (True, True)
    """
    values = np.asarray(differences, dtype=np.float64)
    low, high = bounds
    if not ((values >= low) & (values <= high)).all():  # NaN is not
        raise ValueError(f"a difference lies outside of [{low}, {high}]: the bounds must hold every one")
    sizes = bets(values, bounds=bounds, alpha=alpha, planned_n=planned_n)
    needed = -math.log(alpha)
    promote = log_course(values, sizes, margin)
    rollback = log_course(-values, sizes, -rollback_above)
    promoted_at, rolled_back_at = _first(promote >= needed), _first(rollback >= needed)

    def find_bounds() -> tuple[NDArray[Any], NDArray[Any]]:
        upper = _running(values, sizes, needed, start=high, known=(margin, promoted_at))
        return -_running(-values, sizes, needed, start=-low, known=(-rollback_above, rolled_back_at)), upper

    return Course(
        promoted_at=promoted_at,
        rolled_back_at=rolled_back_at,
        promote_evidence=evidence(float(promote.max(initial=0.0))),
        rollback_evidence=evidence(float(rollback.max(initial=0.0))),
        find_bounds=find_bounds,
    )


def _running(
    values: NDArray[np.float64],
    sizes: NDArray[np.float64],
    needed: float,
    *,
    start: float,
    known: tuple[float, int | None],
) -> NDArray[np.float64]:
    """The running upper bound after each value: the smallest null that has been refuted, ``start`` before any was.

    A larger null is refuted earlier, so the nulls are followed outwards from the final bound, each only up to where the
    one before was refuted. ``known`` is a null and where it was refuted: the bound is below it from there on.
    """
    upper = np.full(len(values), start, dtype=np.float64)
    if not len(values) or _refuted(values, sizes, needed, start) is None:
        return upper
    accepted, refuted = float(values.mean()), start
    for _ in range(_STEPS):
        middle = (accepted + refuted) / 2
        if _refuted(values, sizes, needed, middle) is None:
            accepted = middle
        else:
            refuted = middle
    end = len(values)
    for null in (refuted, *(refuted + (start - refuted) * _PLACES)):
        at = _refuted(values[:end], sizes[:end], needed, null)
        if at is None:
            continue
        upper[at - 1 : end] = np.minimum(upper[at - 1 : end], null)
        end = at
        if end == 1:
            break
    upper = np.minimum.accumulate(upper)
    null, at = known
    if at is not None:
        upper[at - 1 :] = np.minimum(upper[at - 1 :], np.nextafter(null, -math.inf))
        upper[: at - 1] = np.maximum(upper[: at - 1], np.nextafter(null, math.inf))
    else:
        upper = np.maximum(upper, null) if null < start else upper
    return upper


def _refuted(values: NDArray[np.float64], sizes: NDArray[np.float64], needed: float, null: float) -> int | None:
    return _first(log_course(values, sizes, null) >= needed)


def _first(reached: NDArray[Any]) -> int | None:
    return int(reached.argmax()) + 1 if reached.any() else None
