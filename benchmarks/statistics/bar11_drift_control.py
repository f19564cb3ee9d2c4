"""Bar 11: 20 features that stay as they are, 1,000 windows of 500 events a run, also with a wobble of 0.05 sd."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.frame import Figure, Methods, at_most
from benchmarks.statistics.windows import EVERY, REFERENCE, normal

FULL, SMALL = 5, 1
WINDOWS = 1000
#: False alarms of a run: one is expected at most; two in the mean of all runs are allowed.
ALLOWED = 2


def run(*, replications: int, test: Methods) -> list[Figure]:
    """How many false alarms there are in a run, in the mean."""
    figures = []
    for wobble in (0.0, 0.05):
        alarms = 0
        for number in range(replications):
            rng = np.random.default_rng([11, number])
            before, after = normal(rng, REFERENCE, wobble=wobble), normal(rng, WINDOWS, wobble=wobble)
            alarms += len(test.drift(before, after, false_alarm_every=EVERY)) if test.drift else WINDOWS
        name = f"drift in control, wobble {wobble:g} sd: false alarms in 1,000 windows"
        figures.append(at_most(name, alarms / replications, ALLOWED))
    return figures
