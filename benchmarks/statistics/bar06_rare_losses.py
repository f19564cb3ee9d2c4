"""Bar 6: rare large losses (a jump of 10 in 2 of 1,000 events; declared bound 12), with a challenger at the margin."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_most, rate_limit
from benchmarks.statistics.streams import EVENTS

FULL, SMALL = 2000, 100
MARGIN, JUMP, RARE = 0.1, 10.0, 0.002


def run(*, replications: int, test: Methods) -> list[Figure]:
    """How often it is ever promoted: what has not happened yet is not forgotten."""
    rng = np.random.default_rng(6)
    promoted = 0
    for _ in range(replications):
        jumps = JUMP * (rng.random(EVENTS) < RARE)
        values = np.clip(rng.normal(MARGIN - JUMP * RARE, 0.3, EVENTS), -2, 2) + jumps
        course = test.paired(values, margin=MARGIN, alpha=ALPHA, bounds=(-12, 12), planned_n=3000)
        promoted += course.promoted_at is not None
    return [
        at_most("rare large losses at the margin: ever promoted", promoted / replications, rate_limit(replications))
    ]
