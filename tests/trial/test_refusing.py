"""Outcomes that depend on the score: found, in shadow too; and nothing is found where they do not."""

import math
import os
from typing import Any

import numpy as np
import pytest
from day_tables import Array, at, day_of, side
from hypothesis import given
from hypothesis import strategies as st
from test_trial_judging import GOOD, block
from trial_days import START, plan_of

from passerelle.trial.counts import Stage
from passerelle.trial.evidence import block_of
from passerelle.trial.judging import judge
from passerelle.trial.ratio import log_evidence
from passerelle.trial.refusing import fits, refusal
from passerelle.trial.verdict import Block


def labelled(rng: np.random.Generator, scores: Array, how: str) -> Array:
    """Which events have an outcome: all but some, for this reason."""
    chance = {
        "at random": np.full(len(scores), 0.6),
        "a little": np.where(scores > np.quantile(scores, 0.9), 0.83, 0.9),
        "blocked": np.where(scores > np.quantile(scores, 0.9), 0.0, 1.0),
        "refused": np.where(scores > np.quantile(scores, 0.8), 0.2, 0.95),
        "investigated": np.where(scores > np.quantile(scores, 0.85), 0.9, 0.1),
        "low": np.where(scores < np.quantile(scores, 0.15), 0.3, 0.9),
    }[how]
    found: Array = rng.random(len(scores)) < chance
    return found


def blocks_of(rng: np.random.Generator, how: str, *, days: int = 14, rows: int = 150, **plan: Any) -> list[Block]:
    found = []
    for number in range(days):
        start = at(START, number)
        scores = rng.beta(2, 5, rows)
        truth = rng.random(rows) < scores
        known = labelled(rng, scores, how)
        other = np.clip(scores + rng.normal(0, 0.05, rows), 0, 1)
        sides = [
            side(start, scores, truth, known=known),
            side(start, other, truth, known=known, version=2, role="shadow"),
        ]
        found.append(block_of(plan_of(**plan), day_of(start, *sides), day=start))
    return found


@pytest.mark.parametrize("how", ["blocked", "refused", "investigated", "low"])
def test_outcomes_that_depend_on_the_score_are_found_in_a_shadow(how: str) -> None:
    blocks = blocks_of(np.random.default_rng(2), how)
    refused = refusal(plan_of(), blocks)
    assert refused is not None
    assert refused.why == "selective"
    assert 1 < refused.blocks <= 14, "no single day says enough"
    plan = plan_of(min_days=14, max_days=60)
    verdict = judge(plan, blocks)
    assert verdict.kind == "INVALID"
    assert "INVALID: whether an event has an outcome depends on the score that it was given" in verdict.sentence
    assert "nothing is concluded and version 1 stays" in verdict.sentence


@pytest.mark.parametrize("how", ["at random", "a little"])
def test_outcomes_that_are_missing_at_random_are_no_reason(how: str) -> None:
    """The tolerance is ten points: a difference below it is never called selective in more than 1 of 1,000 trials."""
    times = 300 if os.environ.get("PASSERELLE_SOAK") else 20
    for number in range(times):
        blocks = blocks_of(np.random.default_rng([3, number]), how, days=20, rows=100)
        assert refusal(plan_of(), blocks) is None


def test_the_tolerance_is_borne_however_many_events_there_are() -> None:
    for number in range(3):
        blocks = blocks_of(np.random.default_rng([5, number]), "a little", days=40, rows=2000)
        assert refusal(plan_of(), blocks) is None
    strong = blocks_of(np.random.default_rng(6), "at random", days=1, rows=2000)[0].selective
    assert strong is not None
    assert [len(end) for end in strong] == [10, 10], "neighbours share a value"


def test_one_bad_day_is_no_proof() -> None:
    rng = np.random.default_rng(4)
    blocks = blocks_of(rng, "at random", days=10, rows=3000)
    blocks[5] = blocks_of(rng, "blocked", days=1, rows=3000)[0]
    assert refusal(plan_of(), blocks) is None


def test_scores_that_are_all_the_same_have_no_ends() -> None:
    start = at(START, 0)
    known = np.arange(40) % 2 == 0
    sides = [side(start, np.full(40, 0.2), known), side(start, np.full(40, 0.2), known, version=2, role="shadow")]
    assert block_of(plan_of(), day_of(start, *sides), day=start).selective == ((), ())
    two = np.where(np.arange(40) < 6, 0.9, 0.1)
    sides = [side(start, two, known, known=two < 0.5), side(start, two, known, version=2, role="shadow")]
    high, low = block_of(plan_of(), day_of(start, *sides), day=start).selective or ((), ())
    assert (high, low) == ((-1.0,) * 6, ()), "most have the lowest score: they are no end"


def test_a_few_high_scores_are_an_end() -> None:
    start = at(START, 0)
    few = np.where(np.arange(40) < 2, 0.9, 0.1)
    answers = side(start, few, few, known=few < 0.5)
    read = day_of(start, answers, side(start, few, few, version=2, role="shadow"))
    assert block_of(plan_of(), read, day=start).selective == ((-1.0, -1.0), ())


def test_blocks_of_before_say_nothing() -> None:
    assert refusal(plan_of(), [block(day, GOOD[day % 4]) for day in range(20)]) is None


_UNITS = st.tuples(st.integers(0, 400), st.integers(0, 400))


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5]), _UNITS), min_size=1, max_size=6))
def test_what_is_shown_of_the_shares_is_what_refuses(days: list[tuple[float, tuple[int, int]]]) -> None:
    plan = plan_of(mode="split", share=0.5, rollback_above=0.0)
    blocks = [
        block(number, 0.0, stages=(Stage(share=share, units=units, labelled=(0, 0)),))
        for number, (share, units) in enumerate(days)
    ]
    assigned, labelled = fits(plan, blocks)
    assert (assigned.evidence >= assigned.refused_at) == (refusal(plan, blocks) is not None)
    assert assigned.units == tuple(sum(units[arm] for _, units in days) for arm in (0, 1))
    total = sum(assigned.units)
    wanted = sum(share * sum(units) for share, units in days)
    assert assigned.expected == (pytest.approx(wanted / total) if total else None)
    assert (labelled.units, labelled.evidence, labelled.expected) == ((0, 0), 0.0, None)


def test_the_evidence_against_the_shares_is_the_ratios_own_and_none_of_a_shadow() -> None:
    blocks = [block(0, 0.0, units=(40, 60)), block(1, 0.0, units=(60, 50))]
    (assigned, _) = fits(plan_of(mode="split", share=0.5, rollback_above=0.0), blocks)
    known = [float(log_evidence(units, [0.5, 0.5])) / math.log(10) for units in ([40, 60], [100, 110])]
    assert assigned.evidence == pytest.approx(max(0.0, *known))
    assert fits(plan_of(), blocks) == ()
