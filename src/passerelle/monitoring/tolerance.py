"""Tolerance: is the loss more than was agreed to? Bets on the losses of matured windows, row by row. Pure.

The rule on the loss where a project says what it tolerates ([monitoring] tolerance): it asks of nothing but the figure
agreed, without a model of how days differ. It takes rows as independent given what came before, so it judges where days
differ by no more than their rows explain (``dispersion``); where they differ by more, weather say, control's t-test of
days judges (performance).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from scipy.special import chdtrc

from passerelle.monitoring.control import MOST, Floats

#: The stakes of the bets, as shares of the range of the losses: small ones find what is slow, large what is sudden.
STAKES = (0.1, 0.3, 1.0, 3.0)
#: Days whose means vary more than so many times what their rows explain are not judged row by row. Simulated with 500
#: rows, a loss at what is tolerated and N = 1000: 0.2 alarms in 1,000 windows of independent rows, 0.7 of windows
#: dispersed 1.25 times, 1.2 at 1.5, 6 at 2, 28 at 4.
DISPERSED = 1.25
#: A reference of fewer rows is taken to be as bad as it may well be.
_MANY = 10_000
_PROVEN = 0.05
_MOST_OF_ONE = 9.0
_Z_95 = 1.6448536269514722


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """What a project says it tolerates."""

    #: Of the reference's mean loss.
    share: float
    #: The largest loss of one row; None if there is none, and days alone can judge.
    bound: float | None


def tolerated(days: Sequence[tuple[float, float, int]], agreement: Agreement) -> tuple[float, float] | None:
    """The reference's mean loss and the mean loss that is tolerated, of the reference's days; None: days must judge.

    ``days`` are (mean loss, variance of a row's loss, rows) of each. A reference of fewer than 10,000 rows is 1.64
    standard errors worse than it was measured. None where a loss has no bound, or where the bound would be tolerated.

    >>> tolerated([(0.1, 0.09, 5000), (0.1, 0.09, 5000)], Agreement(share=0.1, bound=1.0))
    (0.1, 0.11)
    """
    if agreement.bound is None or not days:
        return None
    means, variances, rows = (np.array(one, dtype=np.float64) for one in zip(*days, strict=True))
    total = float(rows.sum())
    mean = float((means * rows).sum() / total)
    known = mean if total >= _MANY else mean + _Z_95 * math.sqrt(float((variances * rows).sum() / total) / total)
    most = round(known * (1 + agreement.share), 12)
    return (mean, most) if 0 < most < agreement.bound else None


def start() -> Floats:
    """The sums before the first window, one for each stake."""
    return np.zeros(len(STAKES))


def bet(before: Floats, losses: Any, *, most: float, bound: float = 1.0) -> Floats:
    """The Shiryaev-Roberts sums after one more window; the alarm is due when their mean reaches N.

    ``losses`` are the window's rows, each between 0 and ``bound``, NaN for no outcome; ``most`` is the mean loss that
    is tolerated, reference and tolerance together. Each row multiplies a sum by 1 + stake (loss - most), whose mean is
    at most 1 while the loss keeps to what is tolerated (betting: Waudby-Smith and Ramdas 2023; their sum: Shin, Ramdas
    and Rinaldo 2023), so that an alarm at N is expected by chance once in at least N windows. Raises ValueError for
    losses outside of their range, and for a ``most`` outside of it.

    >>> bet(start(), [1.0, 0.0, 1.0], most=0.5).round(3)
    array([1.047, 1.124, 1.125, 0.361])
    """
    rows = np.asarray(losses, dtype=np.float64).ravel() / bound
    rows = rows[~np.isnan(rows)]
    if not 0 < most < bound:
        raise ValueError(f"{most} is tolerated of losses between 0 and {bound}: nothing can be told from that")
    if rows.size and not 0 <= rows.min() <= rows.max() <= 1:
        raise ValueError(f"a loss lies outside of [0, {bound}]: the bound must hold every one")
    # A bet loses less than everything: on a loss of 0 it loses stake times what is tolerated.
    stakes = np.minimum(np.array(STAKES), 0.9 * bound / most)
    grown = np.log1p(stakes[:, None] * (rows - most / bound)).sum(axis=1)
    with np.errstate(over="ignore"):
        return np.asarray(np.minimum((1 + before) * np.exp(np.minimum(grown, 700.0)), MOST), dtype=np.float64)


def beyond(
    windows: Sequence[Any], *, reference: float, tolerance: float, false_alarm_every: float, bound: float = 1.0
) -> list[int]:
    """The windows (indices, from 0) at which the loss is told to be above reference + tolerance; restarts after each.

    ``windows`` are the losses of each window's rows, an array of shape (windows, rows) or one array for each; see bet
    for what they may be. ``reference`` is the mean loss that is known (upper_reference for one measured on few rows).

    >>> random = np.random.default_rng(1)
    >>> losses = [random.random(500) < chance for chance in [0.10] * 50 + [0.15] * 10]
    >>> beyond(losses, reference=0.10, tolerance=0.01, false_alarm_every=1000)[0]
    53
    """
    if not false_alarm_every > 1:
        raise ValueError(f"false_alarm_every is {false_alarm_every}: a number of windows above 1 is wanted")
    alarms, sums = [], start()
    for place, losses in enumerate(windows):
        sums = bet(sums, losses, most=reference + tolerance, bound=bound)
        if sums.mean() >= false_alarm_every:
            alarms.append(place)
            sums = start()
    return alarms


def upper_reference(losses: Any) -> float:
    """The mean of a reference's losses and 1.64 of its standard errors: what it may well be, known from few rows.

    >>> round(upper_reference([0.0] * 90 + [1.0] * 10), 4)
    0.1496
    """
    rows = np.asarray(losses, dtype=np.float64).ravel()
    rows = rows[~np.isnan(rows)]
    if rows.size < 2:  # noqa: PLR2004  (of one there is no standard error)
        raise ValueError(f"{rows.size} losses: a reference needs two at least, and some hundreds to be of use")
    return float(rows.mean() + _Z_95 * rows.std(ddof=1) / math.sqrt(rows.size))


def is_dispersed(days: Sequence[tuple[float, float, int]]) -> bool:
    """Are days proven to have shocks of their own, larger than bets on rows can bear? ``days``: see ``tolerated``.

    By the squared differences of days that follow each other, over what their rows explain (von Neumann 1941): a change
    that lasts is one difference, and no shock; one counts for 9 (3 standard errors) at most. Their mean is above
    DISPERSED, and chance would make it so of independent rows once in 20 times at most (chi-squared; neighbours share a
    day, so that three differences tell as much as two).

    >>> is_dispersed([(0.1, 0.09, 1000), (0.3, 0.21, 1000)] * 6), is_dispersed([(0.1, 0.09, 500), (0.12, 0.1, 500)])
    (True, False)
    """
    if len(days) < 2:  # noqa: PLR2004  (one day does not vary)
        return False
    means, variances, rows = (np.array(one, dtype=np.float64) for one in zip(*days, strict=True))
    explained = variances / rows
    both = explained[1:] + explained[:-1]
    if not (both > 0).all():
        return False
    spread = float(np.minimum(np.diff(means) ** 2 / both, _MOST_OF_ONE).mean())
    free = 2 * len(both) / 3
    return spread > DISPERSED and float(chdtrc(free, spread * free)) < _PROVEN


def dispersion(means: Any, variances: Any, rows: Any) -> float:
    """How many times more windows' means vary than their rows explain: 1 for independent rows, NaN for one window.

    ``means`` and ``variances`` (of a single row) and ``rows``: one number for each window. Above DISPERSED the windows
    have shocks of their own.

    >>> dispersion([0.1, 0.1, 0.4], [0.09, 0.09, 0.24], [100, 100, 100]).__round__(1)
    21.4
    """
    mean, variance, count = (np.asarray(one, dtype=np.float64) for one in (means, variances, rows))
    if len(mean) < 2:  # noqa: PLR2004  (one window does not vary)
        return math.nan
    explained = variance / count
    if not (explained > 0).any():
        return math.nan
    middle = float((mean * count).sum() / count.sum())
    # Each window's own share of the sum is lost to the mean that is taken from the same windows.
    free = 1 - count / count.sum()
    return float(((mean - middle) ** 2).sum() / (explained * free).sum())
