"""Bar 9: sample ratio mismatch, looked at after each of 20,000 keys; and a trial that has one promotes nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks.statistics.frame import Figure, Methods, at_most, rate_limit
from benchmarks.statistics.streams import EVENTS
from passerelle.ledger.position import Position
from passerelle.trial.judging import judge
from passerelle.trial.verdict import Block, Plan

FULL, SMALL = 2000, 400
#: The share that is planned, and the one that units get.
SHARE, ASTRAY = 0.5, 0.55
ALPHA = 0.001
DAYS, KEYS_A_DAY = 20, 1000


def run(*, replications: int, test: Methods) -> list[Figure]:
    """False alarms at 50/50, keys until 55/45 is seen, and promotions of a split whose units went 55/45."""
    rng = np.random.default_rng(9)
    false = sum(
        test.ratio(rng.random(EVENTS) < SHARE, share=SHARE, alpha=ALPHA) is not None for _ in range(replications)
    )
    found = [
        test.ratio(rng.random(EVENTS) < ASTRAY, share=SHARE, alpha=ALPHA) or EVENTS + 1
        for _ in range(max(100, replications // 10))
    ]
    promoted = sum(_verdict(rng) == "PROMOTE" for _ in range(20))
    limit = rate_limit(replications, rate=ALPHA, errors=2.5)
    return [
        at_most("sample ratio, as planned: ever alarmed", false / replications, limit),
        at_most("sample ratio, 55/45: keys to the alarm, median", np.median(found), 3000),
        at_most("sample ratio, 55/45: trials promoted all the same", promoted, 0),
    ]


def _verdict(rng: np.random.Generator) -> str:
    """Of a challenger that is better beyond doubt, on units that went 55/45 instead of 50/50."""
    start = datetime(2026, 1, 5, tzinfo=UTC)
    challenger = rng.binomial(KEYS_A_DAY, ASTRAY, DAYS).tolist()
    blocks = [
        Block(
            start=start + timedelta(days=day),
            rows=KEYS_A_DAY,
            difference=float(rng.normal(-0.05, 0.01)),
            champion_loss=0.2,
            challenger_loss=0.15,
            unlabelled=0,
            challenger_failed=0,
            champion_failed=0,
            units=(KEYS_A_DAY - mine, mine),
            position=Position(),
        )
        for day, mine in enumerate(challenger)
    ]
    return judge(_plan(start), blocks).kind


def _plan(start: datetime) -> Plan:
    return Plan(
        id="production-2-2",
        environment="production",
        champion=1,
        challenger=2,
        mode="split",
        share=0.5,
        task="binary",
        classes=(False, True),
        loss="brier",
        cap=None,
        margin=0.006,
        reference=0.2,
        reference_source="simulated",
        alpha=0.05,
        unit="day",
        min_days=14,
        max_days=60,
        horizon_hours=24.0,
        rollback_above=0.0,
        planned_n=7000,
        started_at=start,
    )
