"""Bar 8: a split of 1,000 keys with 20 events each that resemble each other (correlation .1), and equal versions."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_most, rate_limit

FULL, SMALL = 2000, 100
KEYS, EACH, SHARE = 1000, 20, 0.5
#: A key's own error rate is drawn around 10 %, so that two of its events correlate at 1 / (.9 + 8.1 + 1) = .1.
SHAPE = (0.9, 8.1)


def run(*, replications: int, test: Methods) -> list[Figure]:
    """How often the challenger is ever rolled back."""
    rng = np.random.default_rng(8)
    rolled_back = 0
    for _ in range(replications):
        keys = rng.permutation(np.repeat(np.arange(KEYS), EACH))
        losses = (rng.random(len(keys)) < rng.beta(*SHAPE, KEYS)[keys]).astype(np.float64)
        arms = (rng.random(KEYS) < SHARE).astype(np.int64)[keys]
        values, first = test.units(losses, keys)
        course = test.split(
            values, arms[first], share=SHARE, margin=0.02, alpha=ALPHA, bounds=(0, 1), planned_n=len(values)
        )
        rolled_back += course.rolled_back_at is not None
    return [at_most("clusters, equal: ever rolled back", rolled_back / replications, rate_limit(replications))]
