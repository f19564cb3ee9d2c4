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

from passerelle.trial.course import Course, check, evidence, numbers

_SIZES = np.array([0.5, 1.0, 2.0, 8.0])
_WEIGHTS = np.array([0.2, 0.5, 0.2, 0.1])
#: A bet never risks more than this share of what it has.
_RISK = 0.9
_STEPS = 50
#: A bound is searched where a gain's Taylor series is as short as this: its rest, of so many terms, is rounding.
_SHORT, _ORDER = 0.1, 11


#: Two numbers, or two arrays: those of each difference, known before it.
Bounds = tuple[ArrayLike, ArrayLike]


def bets(differences: NDArray[np.float64], *, bounds: Bounds, alpha: float, planned_n: int) -> NDArray[np.float64]:
    """The bets on each difference, of shape (rows, 4): each from the differences before it, and its bounds, alone."""
    low, high = (np.broadcast_to(np.asarray(bound, dtype=np.float64), differences.shape) for bound in bounds)
    width = high - low
    count = np.arange(1, len(differences) + 1)
    centred = differences - (low[:1] + high[:1]) / 2
    sums, squares = np.cumsum(centred), np.cumsum(centred**2)
    seen = np.maximum(squares - sums**2 / count, 0.0)
    before = (width**2 / 4 + np.concatenate([[0.0], seen[:-1]])[: len(differences)]) / count
    unit = np.sqrt(2 * math.log(1 / alpha) / (before * np.maximum(count, planned_n)))
    found: NDArray[np.float64] = np.minimum(unit[:, None] * _SIZES, _RISK / width[:, None])
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
    """Test paired differences, loss(challenger) - loss(champion) of the same events, in the order of the events.

    Args:
        differences: Of shape (events,), in units of the loss.
        margin: The worsening that is accepted, in units of the loss.
        alpha: The probability that a challenger no better than the margin is ever promoted, at most; and that one no
            worse than ``rollback_above`` is ever rolled back. However long and often one looks.
        bounds: The smallest and the largest that a difference can be: known beforehand, not read from the data.
        planned_n: The events that the trial is planned for (see ``plan``). It aims the bets: a wrong one costs events,
            not errors. From a plan or an earlier period, not from these events.
        rollback_above: What it must be proven worse than to be rolled back: 0 where it answers people, the margin where
            it harms nobody.

    The evidence of the answer is the largest that was reached. Raises ValueError for a difference outside of the bounds
    or not finite, and for arguments that cannot be.

    Source: Waudby-Smith and Ramdas 2023 (see the module); bets as in the design's reference, A2.

    >>> course = paired([-0.1, 0.0] * 2000, margin=0.01, alpha=0.05, bounds=(-1, 1), planned_n=500)
    >>> course.promoted_at, course.rolled_back_at
    (121, None)
    >>> bool(course.upper[119] >= 0.01 > course.upper[120]), bool(course.upper[-1] < 0.0)
    (True, True)
    """
    values = numbers("differences", differences)
    low, high = bounds
    check(margin=margin, alpha=alpha, bounds=bounds, planned_n=planned_n, rollback_above=rollback_above)
    if not ((values >= low) & (values <= high)).all():
        raise ValueError(f"a difference lies outside of [{low}, {high}]: the bounds must hold every one")
    return course(
        values,
        bounds=bounds,
        nulls=(low, high),
        margin=margin,
        alpha=alpha,
        planned_n=planned_n,
        rollback_above=rollback_above,
    )


def course(
    values: NDArray[np.float64],
    *,
    bounds: Bounds,
    nulls: tuple[float, float],
    margin: float,
    alpha: float,
    planned_n: int,
    rollback_above: float,
) -> Course:
    """The test of ``paired``, unchecked, and with bounds of each value. ``nulls``: between these the mean must lie.

    The nulls must lie within the bounds of every value.
    """
    sizes = bets(values, bounds=bounds, alpha=alpha, planned_n=planned_n)
    needed = -math.log(alpha)
    promote = log_course(values, sizes, margin)
    rollback = log_course(-values, sizes, -rollback_above)
    promoted_at, rolled_back_at = _first(promote >= needed), _first(rollback >= needed)
    low, high = float(nulls[0]), float(nulls[1])

    def find_bounds() -> tuple[NDArray[Any], NDArray[Any]]:
        upper = _running(values, sizes, needed, nulls=(low, high), known=(margin, promoted_at))
        turned = _running(-values, sizes, needed, nulls=(-high, -low), known=(-rollback_above, rolled_back_at))
        return -turned, upper

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
    nulls: tuple[float, float],
    known: tuple[float, int | None],
) -> NDArray[np.float64]:
    """The running upper bound after each value: the smallest of the nulls that has been refuted, the largest before.

    A larger null is refuted earlier. So the nulls are taken outwards from the final bound in short ranges, and of each
    range only the values up to where its lower end was refuted, and from where its upper end was, are looked at.
    ``known`` is a null and where it was refuted: the bound is below it from there on, and not before.
    """
    below, start = nulls
    upper = np.full(len(values), start)
    if not len(values) or _refuted(values, sizes, needed, start) is None:
        return upper
    refuted = start  # a range that begins below the final bound, and holds it
    while refuted > _reach(values, sizes, below, start):
        middle = (below + refuted) / 2
        below, refuted = (middle, refuted) if _refuted(values, sizes, needed, middle) is None else (below, middle)
    end = len(values)
    while end and below < start:
        above = _reach(values[:end], sizes[:end], below, start)
        at = _refuted(values[:end], sizes[:end], needed, above)
        if at is not None:
            upper[at - 1 : end] = _roots(values[:end], sizes[:end], needed, (below, above), since=at - 1)
            end = at - 1
        below = above
    upper = np.minimum.accumulate(upper)
    null, at = known
    if at is not None:
        upper[at - 1 :] = np.minimum(upper[at - 1 :], np.nextafter(null, -math.inf))
        upper[: at - 1] = np.maximum(upper[: at - 1], np.nextafter(null, math.inf))
    else:
        upper = np.maximum(upper, null) if null < start else upper
    return upper


def _reach(values: NDArray[np.float64], sizes: NDArray[np.float64], below: float, start: float) -> float:
    """How far above ``below`` the evidence is its Taylor polynomial around the middle, for practical purposes."""
    steepest = float((sizes[:, -1] / (1 + sizes[:, -1] * (below - values))).max())
    return min(start, below + 2 * _SHORT / steepest)


def _roots(
    values: NDArray[np.float64], sizes: NDArray[np.float64], needed: float, nulls: tuple[float, float], *, since: int
) -> NDArray[np.float64]:
    """After each value from ``since`` on, the null between these two that has just the evidence; infinite beyond.

    The logarithm of each bet's product is, around the middle c of the nulls, the polynomial of the cumulated powers of
    bet / (1 + bet (c - D)): one polynomial for each value, so that all roots are bisected at once.
    """
    below, above = nulls
    middle = (below + above) / 2
    gains = 1 + sizes * (middle - values)[:, None]
    slopes = sizes / gains
    terms = [np.cumsum(np.log(gains), axis=0)[since:]]
    powers = np.ones_like(slopes)
    for order in range(1, _ORDER + 1):
        powers = powers * -slopes
        terms.append(np.cumsum(powers, axis=0)[since:] / -order)

    table = np.stack(terms)
    count = len(values) - since
    low, high = np.full(count, below), np.full(count, above)
    high[~_reached(table, high - middle, needed)] = math.inf
    alive = np.flatnonzero(high < math.inf)
    table = table[:, alive]
    for _ in range(_STEPS):
        # A value whose root is above that of an earlier one does not move the running bound.
        moves = low[alive] < np.minimum.accumulate(high)[alive]
        if moves.sum() < 0.7 * len(alive):
            alive, table = alive[moves], table[:, moves]
        centre = (low[alive] + high[alive]) / 2
        enough = _reached(table, centre - middle, needed)
        low[alive] = np.where(enough, low[alive], centre)
        high[alive] = np.where(enough, centre, high[alive])
    return high


def _reached(table: NDArray[np.float64], distance: NDArray[np.float64], needed: float) -> NDArray[np.bool_]:
    """Is the evidence there, so far from the middle? ``table`` holds the coefficients: of shape (order, values, 4)."""
    products = table[-1]
    for terms in table[-2::-1]:
        products = products * distance[:, None] + terms
    largest = products.max(axis=1)
    return np.asarray(largest + np.log(np.exp(products - largest[:, None]) @ _WEIGHTS) >= needed)


def _refuted(values: NDArray[np.float64], sizes: NDArray[np.float64], needed: float, null: float) -> int | None:
    return _first(log_course(values, sizes, null) >= needed)


def _first(reached: NDArray[Any]) -> int | None:
    return int(reached.argmax()) + 1 if reached.any() else None
