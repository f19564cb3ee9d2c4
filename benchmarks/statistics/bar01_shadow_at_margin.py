"""Bar 1: a challenger exactly at the margin, in shadow with 0/1 losses, looked at after each of 20,000 events."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_most, rate_limit
from benchmarks.statistics.streams import EVENTS, zero_one

FULL, SMALL = 2000, 100
MARGIN = 0.01


def run(*, replications: int, test: Methods) -> list[Figure]:
    """How often it is ever promoted."""
    rng = np.random.default_rng(1)
    promoted = 0
    for _ in range(replications):
        values = zero_one(rng, EVENTS, disagree=0.04, delta=MARGIN)
        course = test.paired(values, margin=MARGIN, alpha=ALPHA, bounds=(-1, 1), planned_n=3000)
        promoted += course.promoted_at is not None
    return [at_most("shadow at the margin: ever promoted", promoted / replications, rate_limit(replications))]
