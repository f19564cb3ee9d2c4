"""A split whose share is changed on the way: evidence and ratio, stage by stage."""

import os
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from day_tables import arrivals_of, at, day_of, side
from test_trial_judging import GOOD, block
from trial_days import START, plan_of

from passerelle.trial.counts import Stage
from passerelle.trial.evidence import block_of
from passerelle.trial.judging import course_of, judge
from passerelle.trial.refusing import refusal
from passerelle.trial.verdict import Block

SHARES = (0.1, 0.25, 0.5)
MARGIN = 0.04


def ramp(rng: np.random.Generator, *, days: int = 18, rows: int = 400) -> list[Block]:
    """From 10 to 50 % while the error falls from 20 to 5 %; the challenger is worse by just the margin."""
    plan = plan_of(mode="split", unit="row", loss="zero_one", share=0.1, margin=MARGIN, rollback_above=0.0)
    found = []
    for number in range(days):
        error = 0.20 - 0.15 * number / (days - 1)
        share = SHARES[number * len(SHARES) // days]
        arm = rng.random(rows) < share
        wrong = rng.random(rows) < error + np.where(arm, MARGIN, 0.0)
        start = at(START, number)
        table = side(
            start,
            np.where(wrong, 0.9, 0.1),
            np.zeros(rows),
            version=np.where(arm, 2, 1),
            probability=np.where(arm, share, 1 - share),
        )
        found.append(block_of(plan, day_of(start, table), day=start, arrivals=arrivals_of(table)))
    return found


def pooled_t(blocks: Sequence[Block]) -> float:
    """The naive way: the arms' means over all days; its upper bound at 5 %."""
    rows = [[sum(stage.units[arm] for stage in one.stages) or one.units[arm] for one in blocks] for arm in (0, 1)]
    wrong = [
        sum((one.champion_loss or 0.0) * count for one, count in zip(blocks, rows[0], strict=True)),
        sum((one.challenger_loss or 0.0) * count for one, count in zip(blocks, rows[1], strict=True)),
    ]
    shares = [count / sum(arm) for count, arm in zip(wrong, rows, strict=True)]
    error = sum(share * (1 - share) / sum(arm) for share, arm in zip(shares, rows, strict=True)) ** 0.5
    return float(shares[1] - shares[0] + 1.645 * error)


@pytest.mark.parametrize("unit", ["row", "day"])
def test_a_ramp_while_the_error_falls_does_not_promote(unit: str) -> None:
    """Simpson: the challenger came later, on easier days. Counting its events together promotes it nearly always."""
    times = 500 if os.environ.get("PASSERELLE_SOAK") else 30
    plan = plan_of(mode="split", unit=unit, loss="zero_one", share=0.1, margin=MARGIN, rollback_above=0.0, min_days=14)
    promoted = naive = 0
    differences = []
    for number in range(times):
        blocks = ramp(np.random.default_rng([7, number]))
        promoted += course_of(plan, blocks).promoted_at is not None
        naive += pooled_t(blocks) < MARGIN
        differences += [one.difference for one in blocks]
        assert refusal(plan, blocks) is None
    assert promoted <= (0.05 + 2 * (0.05 * 0.95 / times) ** 0.5) * times
    assert naive > 0.9 * times
    assert np.mean(differences) == pytest.approx(MARGIN, abs=4 * np.std(differences) / len(differences) ** 0.5)


def test_each_share_has_bounds_of_its_own() -> None:
    blocks = ramp(np.random.default_rng(1))
    assert [one.least_chance for one in blocks] == [None] * 6 + [0.25] * 6 + [0.5] * 6
    assert [one.stages == () for one in blocks] == [True] * 6 + [False] * 12
    extreme = max(abs(value) for one in blocks[12:] for value in one.values)
    assert 1.5 < extreme <= 2.0


def test_a_days_bounds_are_known_before_it_whenever_the_next_step_comes() -> None:
    """Up to 95 %: on a day of 25 % the champion's chance may fall to 5 % by the evening, and bets must bear that."""
    plan = plan_of(mode="split", unit="row", loss="zero_one", share=0.1, steps=(0.1, 0.25, 0.95), rollback_above=0.0)
    table = side(START, np.full(40, 0.1), np.zeros(40), version=np.full(40, 1), probability=np.full(40, 0.75))
    day = block_of(plan, day_of(START, table), day=START, arrivals=arrivals_of(table))
    assert day.least_chance == pytest.approx(0.05)
    modest = msgspec.structs.replace(plan, steps=(0.1, 0.25, 0.5))
    assert block_of(modest, day_of(START, table), day=START, arrivals=arrivals_of(table)).least_chance == 0.25


def stages(*counts: tuple[float, int, int]) -> tuple[Stage, ...]:
    return tuple(Stage(share=share, units=(one, other), labelled=(one, other)) for share, one, other in counts)


def test_units_are_tested_share_by_share() -> None:
    plan = plan_of(mode="split", share=0.1, rollback_above=0.0, min_days=4, max_days=60)
    first = [block(day, GOOD[day % 4], units=(900, 100), labelled_units=(900, 100)) for day in range(3)]
    second = [
        block(day, GOOD[day % 4], units=(500, 500), labelled_units=(500, 500), stages=stages((0.5, 500, 500)))
        for day in range(3, 8)
    ]
    assert judge(plan, [*first, *second]).kind == "PROMOTE"
    pooled = [msgspec.structs.replace(one, stages=()) for one in second]
    assert judge(plan, [*first, *pooled]).kind == "INVALID", "as if the share had never been changed"
    astray = [
        msgspec.structs.replace(one, stages=stages((0.1, 90, 10), (0.5, 350, 550)), units=(440, 560)) for one in second
    ]
    verdict = judge(plan, [*first, *astray])
    assert (verdict.kind, verdict.decided_by) == ("INVALID", at(START, 3))
    assert "got 21.5 % of 4,000 units instead of 19.0 % (shares of 10 % to 50 %), which chance" in verdict.sentence
    late = [
        msgspec.structs.replace(one, stages=(Stage(share=0.5, units=(500, 500), labelled=(500, 380)),))
        for one in second
    ]
    refused = refusal(plan, [*first, *late])
    assert refused is not None
    assert refused.why == "labelled"


def test_events_that_could_go_one_way_only_compare_nothing() -> None:
    """The share was 100 % for a while: there is no champion's answer that could have been."""
    plan = plan_of(mode="split", unit="row", share=0.5, rollback_above=0.0)
    table = side(
        START, np.array([0.2, 0.4, 0.9]), np.zeros(3), version=np.array([1, 2, 2]), probability=np.array([0.5, 0.5, 1])
    )
    found = block_of(plan, day_of(START, table), day=START)
    assert found.values == pytest.approx((-(0.04 - 0.2) / 0.5, (0.16 - 0.12) / 0.5))
