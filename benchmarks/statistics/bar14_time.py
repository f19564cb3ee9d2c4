"""Bar 14: 20,000 pairs are judged in a moment, and their whole band is drawn in a few."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.statistics.frame import ALPHA, Figure, Methods, at_most
from benchmarks.statistics.streams import EVENTS, zero_one

FULL, SMALL = 5, 1


def run(*, replications: int, test: Methods) -> list[Figure]:
    """The fastest of the replications, in seconds of one core."""
    rng = np.random.default_rng(14)
    verdicts, bands = [], []
    for _ in range(replications):
        values = zero_one(rng, EVENTS, disagree=0.04, delta=0.0)
        began = time.process_time()
        course = test.paired(values, margin=0.01, alpha=ALPHA, bounds=(-1, 1), planned_n=3000)
        verdicts.append(time.process_time() - began)
        course.upper, course.lower  # noqa: B018  (they are found when they are looked at)
        bands.append(time.process_time() - began)
    return [
        at_most("time: verdict on 20,000 pairs, in s", min(verdicts), 0.2),
        at_most("time: whole band of 20,000 pairs, in s", min(bands), 4.0),
    ]
