"""Bar 13: mature 0/1 losses, 500 a window: at what is tolerated no more alarms than asked, beyond it soon one."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.statistics.frame import Figure, Methods, at_most
from benchmarks.statistics.windows import AFTER, BEFORE, EVERY, ROWS, delay, median

FULL, SMALL = 300, 30
WINDOWS = 1000
LOSS, TOLERANCE, WORSE = 0.10, 0.01, 0.15
#: Of the runs so many are long ones, at the tolerance.
_LONG = 6


def run(*, replications: int, test: Methods) -> list[Figure]:
    """Alarms in 1,000 windows at the tolerance, and the median delay beyond it."""
    long = max(1, replications // _LONG)
    alarms = 0
    for number in range(long):
        rng = np.random.default_rng([13, number])
        alarms += len(_alarms(test, rng.random((WINDOWS, ROWS)) < LOSS + TOLERANCE))
    return [
        at_most("loss at what is tolerated: alarms in 1,000 windows", alarms / long, 1.0),
        at_most(
            "loss from 0.10 to 0.15: median windows until told",
            median(lambda rng: delay(_alarms(test, _worse(rng))), replications=replications, seed=13),
            5,
        ),
    ]


def _worse(rng: np.random.Generator) -> Any:
    chance = np.repeat([LOSS, WORSE], [BEFORE, AFTER])
    return rng.random((BEFORE + AFTER, ROWS)) < chance[:, None]


def _alarms(test: Methods, windows: Any) -> list[int]:
    if test.performance is None:
        return list(range(len(windows)))
    losses = windows.astype(np.float64)
    return list(test.performance(losses, reference=LOSS, tolerance=TOLERANCE, false_alarm_every=EVERY))
