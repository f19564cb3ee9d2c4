"""Blocks: an anytime-valid t-test on the means of blocks of time, whose spread is not known.

The rows of a day share its storms: they are not independent evidence, a day's mean difference is. For k blocks with
mean difference d and standard deviation s (k - 1), the evidence against "worse than the margin m" is, with
t = sqrt(k) (m - d) / s,

    E_k = sum_j w_j f(t; k - 1, sqrt(k) a_j) / f(t; k - 1, 0)      (0 where t < 0)

where f is the density of the non-central t. The ratio is that of the data's scale-free part under a mean of a_j
standard deviations and under none, so E is a nonnegative martingale where the mean is the margin, and smaller, path by
path, where it is worse: the probability that it ever reaches 1 / alpha is at most alpha (Ville). Lai 1976; Wang and
Ramdas 2025, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance". It assumes block
means that are nearly normal and nearly independent.

E rises with t, so that for each k there is one t that decides, and the bounds of the confidence sequence are
d +- t s / sqrt(k): no search is needed.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, logsumexp

from passerelle.trial.course import Course, check, evidence, numbers

#: The alternatives, in standard deviations of a block's mean difference; they weigh the same.
_EFFECTS = np.array([0.05, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.3])
_LARGEST_T = 1e9
_STEPS = 50
#: A spread this small beside the values is rounding.
_ROUNDING = 1e-9


def log_density_ratio(t: float, freedom: float, noncentrality: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of f(t; freedom, noncentrality) / f(t; freedom, 0), for t >= 0 and noncentrality >= 0.

    As a series of positive terms, summed in logarithms (Johnson, Kotz and Balakrishnan 1995, chapter 31): exact where
    the densities themselves vanish.

    >>> float(log_density_ratio(0.0, 5.0, 2.0))
    -2.0
    """
    delta = np.asarray(noncentrality, dtype=np.float64)
    x = math.sqrt(2) * t / math.sqrt(freedom + t * t) * delta
    largest = float(x.max(initial=0.0))
    # A term is x sqrt((freedom + i) / 2) / i times the one before: they rise to about this i, and die out beyond.
    peak = (largest**2 + math.sqrt(largest**4 + 8 * largest**2 * freedom)) / 4
    i = np.arange(int(peak + 12 * math.sqrt(peak + 1)) + 50)
    logs = gammaln((freedom + i + 1) / 2) - gammaln((freedom + 1) / 2) - gammaln(i + 1.0)
    with np.errstate(divide="ignore"):
        powers = np.log(x)[..., None] * np.maximum(i, 1)
    powers = np.where(i == 0, 0.0, powers)
    total: NDArray[np.float64] = logsumexp(logs + powers, axis=-1) - delta**2 / 2
    return total


def log_evidence(t: float, count: int) -> float:
    """Logarithm of E of ``count`` blocks whose t statistic is ``t``; 0 (none) for one, -inf for t < 0."""
    if count < 2:  # noqa: PLR2004  (a spread needs two)
        return 0.0
    if t < 0:
        return -math.inf
    ratios = log_density_ratio(min(t, _LARGEST_T), count - 1, math.sqrt(count) * _EFFECTS)
    return float(logsumexp(ratios) - math.log(len(_EFFECTS)))


@lru_cache(maxsize=100_000)
def critical_t(count: int, alpha: float) -> float:
    """The t from which ``count`` blocks decide; infinite while so few cannot."""
    if log_evidence(_LARGEST_T, count) < -math.log(alpha):
        return math.inf
    below, above = 0.0, 1.0
    while log_evidence(above, count) < -math.log(alpha):
        below, above = above, above * 2
    for _ in range(_STEPS):
        middle = (below + above) / 2
        below, above = (middle, above) if log_evidence(middle, count) < -math.log(alpha) else (below, middle)
    return above


def blocks(
    block_means: ArrayLike, *, margin: float, alpha: float, min_blocks: int, rollback_above: float = 0.0
) -> Course:
    """Test the blocks' mean differences (challenger - champion), in their order; no verdict before ``min_blocks``.

    Args:
        block_means: Of shape (blocks,), in units of the loss: a day's mean difference, or a week's. Of a split the mean
            of its pseudo-outcomes.
        margin: The worsening that is accepted, in units of the loss.
        alpha: The probability of each wrong verdict, at most, however often one looks; as far as block means are nearly
            normal and nearly independent.
        min_blocks: No verdict before so many. Ten at least are wise: the fewer, the more it rests on normality.
        rollback_above: What the challenger must be proven worse than to be rolled back.

    The bounds run from the block of the first possible verdict; before it they are infinite. Blocks that are all equal
    say nothing of their spread, and decide nothing. Raises ValueError for a difference that is not finite, and for
    arguments that cannot be.

    Source: Lai 1976; Wang and Ramdas 2025 (see the module).

    >>> course = blocks([-0.004, -0.002, -0.003, -0.001] * 4, margin=0.005, alpha=0.05, min_blocks=14)
    >>> course.promoted_at, course.rolled_back_at, bool(course.upper[-1] < 0.005)
    (14, None, True)
    """
    values = numbers("block_means", block_means)
    check(margin=margin, alpha=alpha, rollback_above=rollback_above)
    if min_blocks < 1:
        raise ValueError(f"min_blocks is {min_blocks}: one block at least is wanted")
    count = np.arange(1, len(values) + 1)
    means = np.cumsum(values) / count
    errors = _standard_errors(values)
    decides = np.array([critical_t(k, alpha) if k >= min_blocks else math.inf for k in count.tolist()])
    reach = np.where(errors > 0, errors, math.inf) * decides
    upper = np.minimum.accumulate(means + reach)
    lower = np.maximum.accumulate(means - reach)
    return Course(
        promoted_at=_first(upper <= margin),
        rolled_back_at=_first(lower >= rollback_above),
        promote_evidence=_evidence(margin - means, errors),
        rollback_evidence=_evidence(means - rollback_above, errors),
        find_bounds=lambda: (lower, upper),
    )


def _standard_errors(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the mean of the first k, for each k; 0 where there is no spread but rounding."""
    found = np.zeros(len(values))
    for k in range(2, len(values) + 1):
        spread = float(values[:k].std(ddof=1))
        if spread > _ROUNDING * float(np.abs(values[:k]).max()):
            found[k - 1] = spread / math.sqrt(k)
    return found


def _first(reached: NDArray[Any]) -> int | None:
    return int(reached.argmax()) + 1 if reached.any() else None


def _evidence(ahead: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    """The evidence after the last block: 1 where nothing can be said."""
    if not len(ahead) or errors[-1] == 0:
        return 1.0
    return evidence(log_evidence(float(ahead[-1] / errors[-1]), len(ahead)))
