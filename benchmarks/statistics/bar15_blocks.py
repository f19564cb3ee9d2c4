"""Bar 15: blocks on real days: the flights' own models, resampled to 60 days and recentred exactly at the margin.

Days drawn one by one keep what the test promises for. Whole weeks drawn together keep the resemblance of days that
follow each other, for which it promises nothing: the bar holds it to the same.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from benchmarks.statistics.flight_days import PATH
from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_most, rate_limit

FULL, SMALL = 2000, 200
DAYS, MIN_DAYS, WEEK = 60, 14, 7
#: The margin, as a share of the champion's mean loss.
MARGIN = 0.03


def run(*, replications: int, test: Methods) -> list[Figure]:
    """How often a challenger at the margin is ever promoted, of each pair of models, in shadow and in split."""
    rng = np.random.default_rng(15)
    figures = []
    for name, days in json.loads(PATH.read_text(encoding="utf-8")).items():
        margin = MARGIN * float(np.mean(days["champion"]))
        for mode in ("shadow", "split"):
            pool = np.array(days[mode])
            pool = pool - pool.mean() + margin
            for together in (1, WEEK):
                promoted = sum(
                    _promoted(test, resampled(rng, pool, together=together), margin) for _ in range(replications)
                )
                drawn = "days" if together == 1 else "weeks"
                said = f"blocks at the margin, {mode}, {name}, {drawn} drawn: ever promoted"
                figures.append(at_most(said, promoted / replications, rate_limit(replications)))
    return figures


def _promoted(test: Methods, days: Any, margin: float) -> bool:
    return test.blocks(days, margin=margin, alpha=ALPHA, min_blocks=MIN_DAYS).promoted_at is not None


def resampled(rng: np.random.Generator, pool: Any, *, together: int = 1) -> Any:
    """Sixty days drawn from the pool, so many together as they followed each other; of a split one toss of each."""
    starts = rng.integers(0, len(pool) - together + 1, size=-(-DAYS // together))
    chosen = pool[(starts[:, None] + np.arange(together)).ravel()[:DAYS]]
    return chosen if pool.ndim == 1 else chosen[np.arange(DAYS), rng.integers(0, pool.shape[1], DAYS)]
