"""Bar 12: how many windows of 500 events pass until a change of 1 or 5 of 20 features is told and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.statistics.frame import Figure, Methods, at_most
from benchmarks.statistics.windows import AFTER, BEFORE, EVERY, REFERENCE, delay, median, normal

FULL, SMALL = 60, 3


class _Change(NamedTuple):
    name: str
    #: The first so many features change.
    features: int
    change: Callable[[Any], Any]
    #: Windows until it is told, in the median.
    bound: int


_CHANGES = (
    _Change("+0.3 sd on 1 feature", 1, lambda values: values + 0.3, 3),
    _Change("sd x 1.1 on 1 feature", 1, lambda values: values * 1.1, 12),
    _Change("+0.1 sd on 5 features", 5, lambda values: values + 0.1, 8),
)


def run(*, replications: int, test: Methods) -> list[Figure]:
    """The median delay of each change."""
    return [
        at_most(
            f"drift, {one.name}: median windows until told",
            median(lambda rng, one=one: _delay(rng, one, test), replications=replications, seed=12),  # type: ignore[misc]
            one.bound,
        )
        for one in _CHANGES
    ]


def _delay(rng: np.random.Generator, one: _Change, test: Methods) -> float:
    before, after = normal(rng, REFERENCE), normal(rng, BEFORE + AFTER)
    after[BEFORE:, : one.features] = one.change(after[BEFORE:, : one.features])
    alarms = test.drift(before, after, false_alarm_every=EVERY) if test.drift else []
    known = [alarm.window for alarm in alarms if alarm.window < BEFORE or min(alarm.features) < one.features]
    return delay(known)
