"""Schedule: when each request is due, in seconds from the beginning. Pure.

A schedule is made before the first request is sent and never looks at an answer: that is what makes the loop *open*.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise


def constant(rate: float, *, requests: int | None = None, seconds: float | None = None) -> Sequence[float]:
    """Due moments of a constant rate, requests per second: until so many are due, or for so long; what comes first.

    Each is counted from the beginning, so that no rounding adds up.

    >>> list(constant(4, seconds=1))
    [0.0, 0.25, 0.5, 0.75]
    >>> list(constant(2, requests=3))
    [0.0, 0.5, 1.0]
    """
    _check(rate, requests, seconds)
    most = math.inf if seconds is None else math.ceil(seconds * rate)
    count = int(min(most, math.inf if requests is None else requests))
    return array("d", (number / rate for number in range(count)))


def poisson(rate: float, *, seed: int, requests: int | None = None, seconds: float | None = None) -> Sequence[float]:
    """Due moments of callers that know nothing of each other: the gaps are exponential, their mean is 1 / rate.

    The same seed gives the same moments.

    >>> [round(moment, 3) for moment in poisson(10, seed=1, requests=3)]
    [0.014, 0.202, 0.347]
    """
    _check(rate, requests, seconds)
    chance = random.Random(seed)  # noqa: S311  (arrivals, not a secret)
    moments = array("d")
    moment = chance.expovariate(rate)
    while (seconds is None or moment < seconds) and (requests is None or len(moments) < requests):
        moments.append(moment)
        moment += chance.expovariate(rate)
    return moments


def warped(moments: Sequence[datetime], factor: float, *, seconds: float | None = None) -> Sequence[float]:
    """Due moments of events that happened at these moments, in their order, lived ``factor`` times as fast.

    Those due after ``seconds`` are left out. Raises ValueError if the moments are not in order.

    >>> from datetime import UTC
    >>> list(warped([datetime(2013, 2, 1, hour, tzinfo=UTC) for hour in (6, 7, 9)], 3600))
    [0.0, 1.0, 3.0]
    """
    _check(factor, len(moments), seconds)
    due = array("d", ((moment - moments[0]).total_seconds() / factor for moment in moments))
    if any(after < before for before, after in pairwise(due)):
        raise ValueError("the moments are not in order")
    return due if seconds is None else array("d", (moment for moment in due if moment < seconds))


def _check(rate: float, requests: int | None, seconds: float | None) -> None:
    if not 0 < rate < math.inf:
        raise ValueError(f"a rate of {rate:g} is not above 0")
    if requests is None and seconds is None:
        raise ValueError("say how many requests, or for how many seconds")
