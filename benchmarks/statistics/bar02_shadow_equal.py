"""Bar 2: an equal challenger in shadow with 0/1 losses: rarely rolled back, and promoted soon."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_least, at_most, rate_limit
from benchmarks.statistics.streams import EVENTS, zero_one

FULL, SMALL = 2000, 100
MARGIN = 0.01
#: A test of fixed size of 80 % power needs 2,473 events, one of 90 % needs 3,425.
N80, N90 = 2473, 3425


def run(*, replications: int, test: Methods) -> list[Figure]:
    """False roll-backs, and events until the promotion."""
    rng = np.random.default_rng(2)
    promoted, rolled_back = [], 0
    for _ in range(replications):
        values = zero_one(rng, EVENTS, disagree=0.04, delta=0.0)
        course = test.paired(values, margin=MARGIN, alpha=ALPHA, bounds=(-1, 1), planned_n=3000)
        rolled_back += course.rolled_back_at is not None
        promoted.append(course.promoted_at or EVENTS + 1)
    median, late = np.quantile(promoted, [0.5, 0.9])
    return [
        at_most("shadow, equal: ever rolled back", rolled_back / replications, rate_limit(replications)),
        at_most("shadow, equal: events to promotion, median", median, 1.25 * N80),
        at_most("shadow, equal: events to promotion, 90 %", late, 2.0 * N90),
        at_least("shadow, equal: promoted within 20,000", np.mean(np.array(promoted) <= EVENTS), 0.97),
    ]
