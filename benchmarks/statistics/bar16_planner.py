"""Bar 16: what the planner says, against the tests themselves: labels until an equal challenger is promoted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_least, at_most
from benchmarks.statistics.streams import assigned, zero_one
from passerelle.trial import plan

FULL, SMALL = 500, 100
#: Simulated for each that was planned: a median may be less than it (a plan that is kept early harms nobody).
LEAST, MOST = 0.6, 1.25
#: Of shadows: disagreement and margin of 0/1 losses. Of splits: share, error and margin. Of days: deviations.
SHADOWS = ((0.04, 0.01), (0.04, 0.02), (0.01, 0.005), (0.01, 0.01), (0.002, 0.005), (0.1, 0.02), (0.04, 0.05))
SPLITS = ((0.5, 0.1, 0.02), (0.5, 0.3, 0.05), (0.1, 0.1, 0.04))
DAYS = (0.2, 0.3, 0.5, 1.0)


def run(*, replications: int, test: Methods) -> list[Figure]:
    """The smallest and the largest of simulated / planned, of medians and of 90 % quantiles."""
    rng = np.random.default_rng(16)
    rows = [_shadow(rng, test, case, replications) for case in SHADOWS]
    rows += [_split(rng, test, case, replications) for case in SPLITS]
    days = [_days(rng, test, effect, replications) for effect in DAYS]
    figures = []
    for unit, found in (("rows", rows), ("days", days)):
        for place, quantile in enumerate(("median", "90 %")):
            shares = [one[place] for one in found]
            figures.append(at_most(f"planner, {unit}: largest simulated / planned, {quantile}", max(shares), MOST))
            figures.append(at_least(f"planner, {unit}: smallest simulated / planned, {quantile}", min(shares), LEAST))
    return figures


def _shadow(rng: Any, test: Methods, case: tuple[float, float], replications: int) -> tuple[float, float]:
    disagree, margin = case
    need = plan(margin=margin, per_day=1e9, deviation=math.sqrt(disagree), min_days=1).shadow

    def promoted(rows: int) -> int | None:
        values = zero_one(rng, rows, disagree=disagree, delta=0.0)
        asked = {"margin": margin, "alpha": ALPHA, "bounds": (-1, 1), "planned_n": need.planned_n}
        return test.paired(values, **asked).promoted_at  # type: ignore[no-any-return]

    return _shares(promoted, need.labels, need.labels_90, replications)


def _split(rng: Any, test: Methods, case: tuple[float, float, float], replications: int) -> tuple[float, float]:
    share, error, margin = case
    losses = rng.random(100_000) < error
    need = plan(margin=margin, per_day=1e9, losses=losses, share=share, min_days=1).split

    def promoted(rows: int) -> int | None:
        seen, arms = assigned(rng, rows, share=share, error=error, delta=0.0)
        asked = {"margin": margin, "alpha": ALPHA, "bounds": (0, 1), "planned_n": need.planned_n}
        return test.split(seen, arms, share=share, **asked).promoted_at  # type: ignore[no-any-return]

    return _shares(promoted, need.labels, need.labels_90, replications)


def _days(rng: Any, test: Methods, effect: float, replications: int) -> tuple[float, float]:
    need = plan(margin=0.01, per_day=1, unit="day", deviation=0.01 / effect).shadow

    def promoted(days: int) -> int | None:
        values = rng.normal(0.0, 0.01 / effect, days)
        return test.blocks(values, margin=0.01, alpha=ALPHA, min_blocks=14).promoted_at  # type: ignore[no-any-return]

    return _shares(promoted, need.days, need.days_90, replications)


def _shares(promoted: Any, median: int | None, late: int | None, replications: int) -> tuple[float, float]:
    """Quantiles of what was needed, as shares of what was planned."""
    if median is None or late is None:
        return math.nan, math.nan
    rows = math.ceil(1.6 * late)
    needed = [promoted(rows) or math.inf for _ in range(replications)]
    found = np.quantile(needed, [0.5, 0.9], method="inverted_cdf")
    return float(found[0]) / median, float(found[1]) / late
