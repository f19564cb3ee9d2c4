"""Bar 18: the circuit breaker: how often it trips over what fails seldom, and how soon over what fails.

A trial's life is 20,000 answers of the challenger, each a failure by chance alone; it is looked at after each. (The
loop looks at each tick, so less often.) What fails on a twentieth of its answers is to be left alone. What fails on a
tenth is ended in most such trials: that is known, said in docs/decisions/breaker.md, and here lest it grow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.statistics.frame import Figure, Methods, at_most, rate_limit

FULL, SMALL = 2000, 100
ANSWERS = 20_000
PERCENT = 20.0
#: Share of failures → how many trials of a hundred may be ended by them.
FALSE = {0.01: 0.001, 0.05: 0.01, 0.10: 0.7}
#: What it fails on from some moment on (1 in 100 before) → answers until it is taken away, in the median.
WORSE = {0.3: 100, 0.5: 50, 1.0: 25}
BEFORE, AFTER = 500, 2000


def run(*, replications: int, test: Methods) -> list[Figure]:
    """Trips over seldom failures, and how many answers a broken challenger still gives."""
    rng = np.random.default_rng(18)
    figures = []
    for share, allowed in FALSE.items():
        tripped = [_trip(test, rng.random(ANSWERS) < share) is not None for _ in range(replications)]
        limit = rate_limit(replications, rate=allowed)
        figures.append(at_most(f"breaker at 20 %, fails on {share:.0%}: ever tripped", np.mean(tripped), limit))
    for share, bound in WORSE.items():
        late: list[float] = []
        while len(late) < replications:
            shares = np.repeat([0.01, share], [BEFORE, AFTER])
            at = _trip(test, rng.random(BEFORE + AFTER) < shares)
            late.append(np.inf if at is None or at <= BEFORE else at - BEFORE)
        figures.append(
            at_most(f"breaker at 20 %, fails on {share:.0%} from now on: answers, median", np.median(late), bound)
        )
    return figures


def _trip(test: Methods, failed: Any) -> int | None:
    return None if test.breaker is None else test.breaker(failed, percent=PERCENT)
