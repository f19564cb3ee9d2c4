"""Bar 4: a split in halves, 0/1 losses (the champion errs at 10 %): both errors, events, and what a shadow saves."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_least, at_most, rate_limit
from benchmarks.statistics.streams import EVENTS, assigned, zero_one

FULL, SMALL = 2000, 100
MARGIN, SHARE, ERROR = 0.02, 0.5, 0.10
#: Of a test of fixed size of 80 % power.
N80 = 5564


def run(*, replications: int, test: Methods) -> list[Figure]:
    """At the margin, and equal; and the same question to a shadow whose models disagree on 4 % of the events."""
    rng = np.random.default_rng(4)

    def trial(delta: float) -> tuple[int, int]:
        losses, arms = assigned(rng, EVENTS, share=SHARE, error=ERROR, delta=delta)
        course = test.split(losses, arms, share=SHARE, margin=MARGIN, alpha=ALPHA, bounds=(0, 1), planned_n=7000)
        return course.promoted_at or EVENTS + 1, course.rolled_back_at or EVENTS + 1

    def shadow() -> int:
        values = zero_one(rng, EVENTS, disagree=0.04, delta=0.0)
        course = test.paired(values, margin=MARGIN, alpha=ALPHA, bounds=(-1, 1), planned_n=1000)
        return course.promoted_at or EVENTS + 1

    worse = np.array([trial(MARGIN) for _ in range(replications)])
    equal = np.array([trial(0.0) for _ in range(replications)])
    shadows = [shadow() for _ in range(replications)]
    limit = rate_limit(replications)
    median = np.median(equal[:, 0])
    return [
        at_most("split at the margin: ever promoted", np.mean(worse[:, 0] <= EVENTS), limit),
        at_most("split, equal: ever rolled back", np.mean(equal[:, 1] <= EVENTS), limit),
        at_most("split, equal: events to promotion, median", median, 1.25 * N80),
        at_least("split, equal: events for each of a shadow's", median / np.median(shadows), 5.0),
    ]
