"""Bar 5: traffic ramps from 10 to 50 % while events get easier (20 to 5 % errors), with a challenger at the margin."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_most, rate_limit
from benchmarks.statistics.streams import EVENTS, assigned

FULL, SMALL = 2000, 100
MARGIN = 0.02


def run(*, replications: int, test: Methods) -> list[Figure]:
    """How often it is ever promoted: by pooled means always (Simpson's paradox)."""
    rng = np.random.default_rng(5)
    late = np.arange(EVENTS) >= EVENTS // 2
    share, error = np.where(late, 0.5, 0.1), np.where(late, 0.05, 0.20)
    promoted = 0
    for _ in range(replications):
        losses, arms = assigned(rng, EVENTS, share=share, error=error, delta=MARGIN)
        course = test.split(losses, arms, share=share, margin=MARGIN, alpha=ALPHA, bounds=(0, 1), planned_n=7000)
        promoted += course.promoted_at is not None
    return [at_most("ramp at the margin: ever promoted", promoted / replications, rate_limit(replications))]
