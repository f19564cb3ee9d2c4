"""Bar 3: a worse challenger in shadow: how soon it is rolled back, twice the margin worse and as a disaster."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_most
from benchmarks.statistics.streams import EVENTS, zero_one

FULL, SMALL = 2000, 100
MARGIN = 0.01


def run(*, replications: int, test: Methods) -> list[Figure]:
    """Events until the roll-back, median."""
    rng = np.random.default_rng(3)
    figures = []
    for name, disagree, delta, rows, bound in (
        ("twice the margin worse", 0.04, 0.02, EVENTS, 1000),
        ("30 points worse", 0.4, 0.3, 1000, 100),
    ):
        found = []
        for _ in range(replications):
            values = zero_one(rng, rows, disagree=disagree, delta=delta)
            course = test.paired(values, margin=MARGIN, alpha=ALPHA, bounds=(-1, 1), planned_n=3000)
            found.append(course.rolled_back_at or rows + 1)
        figures.append(at_most(f"shadow, {name}: events to roll-back, median", np.median(found), bound))
    return figures
