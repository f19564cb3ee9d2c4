"""Bar 17: 20 fields of names with missing values that stay as they are, 1,000 windows of 500 events a run, with wobble.

The log odds of each name, and of a value being missing, differ from window to window. The rarer a name or a missing
value is, the less normal its counts are: a miss of 1 % is 5 rows, more or less.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from benchmarks.statistics.frame import Figure, Methods, at_most
from benchmarks.statistics.windows import EVERY, FEATURES, REFERENCE, ROWS

#: Runs of 1,000 windows; of fewer in a quick look.
FULL, SMALL = 2, 1
WINDOWS, FEW = 1000, 150
#: False alarms of 1,000 windows: one is expected at most; two in the mean of all runs are allowed.
ALLOWED = 2


class _Fields(NamedTuple):
    names: int
    missing: float
    wobble: float


_CASES = (_Fields(5, 0.01, 0.0), _Fields(5, 0.01, 0.2), _Fields(50, 0.01, 0.2), _Fields(2, 0.001, 0.2))


def run(*, replications: int, test: Methods) -> list[Figure]:
    """How many false alarms there are in 1,000 windows."""
    windows = WINDOWS if replications > SMALL else FEW
    figures = []
    for case in _CASES:
        alarms = 0
        for number in range(replications):
            counts = _counts(np.random.default_rng([17, number]), REFERENCE + windows, case)
            found = (
                test.counted(counts[:REFERENCE], counts[REFERENCE:], false_alarm_every=EVERY) if test.counted else []
            )
            alarms += len(found)
        what = f"{case.names} names, {case.missing:.1%} missing, wobble {case.wobble:g}"
        rate = alarms / replications * WINDOWS / windows if test.counted else float("nan")
        figures.append(at_most(f"{what}: false alarms in 1,000 windows", rate, ALLOWED))
    return figures


def _counts(rng: np.random.Generator, windows: int, case: _Fields) -> Any:
    """Of shape (windows, fields, names and missing); the names are as frequent as 1, 1/2, 1/3 ..."""
    odds = 1 / np.arange(1, case.names + 1) * np.exp(case.wobble * rng.normal(size=(windows, FEATURES, case.names)))
    missing = case.missing / (1 - case.missing) * np.exp(case.wobble * rng.normal(size=(windows, FEATURES, 1)))
    missing = missing / (1 + missing)
    shares = np.concatenate([odds / odds.sum(axis=2, keepdims=True) * (1 - missing), missing], axis=2)
    return rng.multinomial(ROWS, shares)
