"""Ratio: do the arms of a split get the units that they should? A sample ratio mismatch makes a trial INVALID.

Lindon and Malek 2022 (NeurIPS): the evidence is the ratio of a Dirichlet-multinomial, centred at the shares, and of the
multinomial with the shares themselves: a nonnegative martingale while units are given their arms as planned, at every
unit, so that the probability of ever alarming wrongly is at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from passerelle.trial.course import numbers

#: How sharply the alternatives gather around the planned shares.
_KAPPA = 1000.0


def log_evidence(
    counts: Sequence[ArrayLike], shares: Sequence[float]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Logarithm of the evidence that the arms do not get their shares, from the units of each (numbers, or arrays).

    >>> float(log_evidence([0, 0], [0.5, 0.5]))
    0.0
    """
    total = np.zeros(())
    seen = np.zeros(())
    for count, share in zip(counts, shares, strict=True):
        units = np.asarray(count, dtype=np.float64)
        weight = _KAPPA * share
        total = total + gammaln(weight + units) - gammaln(weight) - units * math.log(share)
        seen = seen + units
    return np.asarray(total - gammaln(_KAPPA + seen) + gammaln(_KAPPA))


def ratio(arms: ArrayLike, *, share: float, alpha: float) -> int | None:
    """The first unit (from 1) at which the arms do not fit ``share``; None if they always do.

    Args:
        arms: Of shape (units,): of each unit, in the order in which they came, whether it went to the challenger (1) or
            not (0). A unit counts once, however many events it brings.
        share: The probability that a unit goes to the challenger. Where it was changed, each stage is its own test.
        alpha: The probability of ever alarming while units go where they should, at most.

    Raises ValueError for an arm other than 0 and 1, and for a share or an alpha outside of (0, 1).

    >>> ratio([0, 1] * 5000, share=0.5, alpha=0.001), ratio([1] * 500, share=0.5, alpha=0.001)
    (None, 126)
    """
    arm = numbers("arms", arms)
    if not ((arm == 0) | (arm == 1)).all():
        raise ValueError("an arm is neither 0 (the champion) nor 1 (the challenger)")
    for name, value in (("share", share), ("alpha", alpha)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value}: a probability between 0 and 1 is wanted")
    challenger = np.cumsum(arm)
    champion = np.arange(1, len(challenger) + 1) - challenger
    alarms = log_evidence([champion, challenger], [1 - share, share]) >= -math.log(alpha)
    return int(alarms.argmax()) + 1 if alarms.any() else None
