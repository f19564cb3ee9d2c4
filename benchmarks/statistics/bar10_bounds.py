"""Bar 10: running bounds: they only tighten, hold the truth, say what verdicts say, and are what was said then."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_least, at_most, rate_limit
from benchmarks.statistics.streams import EVENTS, zero_one

FULL, SMALL = 2000, 100
MARGIN = 0.01
#: A look at these moments must have said what the whole course says of them.
MOMENTS = (10, 300, 4000, EVENTS)


def run(*, replications: int, test: Methods) -> list[Figure]:
    """Coverage in every replication, of the verdicts at the truth; the bounds themselves in every fortieth."""
    rng = np.random.default_rng(10)

    def course(values: Any, *, margin: float = MARGIN, rollback_above: float = 0.0) -> Any:
        return test.paired(
            values, margin=margin, alpha=ALPHA, bounds=(-1, 1), planned_n=3000, rollback_above=rollback_above
        )

    truths = (0.0, MARGIN / 2, MARGIN)
    covered = crossed = loosened = otherwise = looked = 0
    worst, again = 0.0, 0
    for number in range(replications):
        truth = truths[number % len(truths)]
        values = zero_one(rng, EVENTS, disagree=0.04, delta=truth)
        at_truth = course(values, margin=truth, rollback_above=truth)
        covered += at_truth.promoted_at is None and at_truth.rolled_back_at is None
        if number % 40:
            continue
        looked += 1
        found = course(values)
        lower, upper = np.asarray(found.lower), np.asarray(found.upper)
        crossed += bool((lower > upper).any())
        loosened += bool((upper[1:] > upper[:-1]).any() or (lower[1:] < lower[:-1]).any())
        otherwise += (_first(upper < MARGIN), _first(lower > 0)) != (found.promoted_at, found.rolled_back_at)
        for moment in MOMENTS:
            then = course(values[:moment])
            worst = max(worst, _gap(then.upper[-1], upper[moment - 1]), _gap(then.lower[-1], lower[moment - 1]))
        replay = course(values.copy())
        again += (replay.promoted_at, replay.rolled_back_at) != (found.promoted_at, found.rolled_back_at)
    return [
        at_least(
            "bounds: hold the truth at every event", covered / replications, 1 - rate_limit(replications, rate=0.1)
        ),
        at_most("bounds: runs in which they cross", crossed / looked, 0.05),
        at_most("bounds: runs in which one loosens", loosened, 0),
        at_most("bounds: runs that do not say what the verdict says", otherwise, 0),
        at_most("bounds: farthest from what was said at the moment", worst, 1e-9),
        at_most("bounds: replays that decide elsewhere", again, 0),
    ]


def _first(reached: Any) -> int | None:
    return int(reached.argmax()) + 1 if reached.any() else None


def _gap(one: float, other: float) -> float:
    return 0.0 if one == other else abs(float(one) - float(other))
