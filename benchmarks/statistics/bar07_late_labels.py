"""Bar 7: a challenger at the margin whose errors are labelled later than the rest: two and four times as late."""

from __future__ import annotations

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_most, rate_limit
from benchmarks.statistics.streams import EVENTS, assigned

FULL, SMALL = 2000, 100
MARGIN, SHARE, ERROR = 0.02, 0.5, 0.10
#: In the time between two events: a label's mean delay, and the horizon, by which every label has come.
DELAY, HORIZON = 1000.0, 10_000.0


def run(*, replications: int, test: Methods) -> list[Figure]:
    """How often it is ever promoted; and how often another order of the labels within the horizon says otherwise."""
    rng = np.random.default_rng(7)
    figures, changed = [], 0
    happened = np.arange(EVENTS, dtype=np.float64)
    end = EVENTS + HORIZON
    for times in (2.0, 4.0):
        promoted = 0
        for _ in range(replications):
            losses, arms = assigned(rng, EVENTS, share=SHARE, error=ERROR, delta=MARGIN)
            slow = np.where((arms == 1) & (losses == 1), times, 1.0)
            known = happened + np.minimum(rng.exponential(DELAY * slow), HORIZON)
            verdicts = []
            for arrival in (known, happened + rng.uniform(0, HORIZON, EVENTS)):
                order = test.cohort(happened, arrival, horizon=HORIZON, now=end)
                course = test.split(
                    losses[order],
                    arms[order],
                    share=SHARE,
                    margin=MARGIN,
                    alpha=ALPHA,
                    bounds=(0, 1),
                    planned_n=7000,
                )
                verdicts.append((course.promoted_at, course.rolled_back_at))
            promoted += verdicts[0][0] is not None
            changed += verdicts[0] != verdicts[1]
        name = f"late labels (x{times:g}) at the margin: ever promoted"
        figures.append(at_most(name, promoted / replications, rate_limit(replications)))
    return [*figures, at_most("late labels: verdicts that their order changes", changed, 0)]
