"""Guardrails: exact bets on what must not get worse, beside the loss."""

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_trial_judging import BAD, GOOD, block
from trial_days import DAY, START, days, outcome, plan_of, prediction, project_in, write

from passerelle.ledger.records import Prediction
from passerelle.project.settings import Guardrail
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.counts import Tally
from passerelle.trial.evidence import close_blocks
from passerelle.trial.guarding import guard
from passerelle.trial.judging import digest, judge
from passerelle.trial.replaying import replay
from passerelle.trial.verdict import Block, Plan

ERRORS = Guardrail(watch="errors", margin=0.02)


def guarded(*guardrails: Guardrail, **changes: Any) -> Plan:
    return plan_of(**({"min_days": 4, "max_days": 60, "guardrails": guardrails or (ERRORS,)} | changes))


def with_tally(day: int, difference: float, *tallies: Tally) -> Block:
    return block(day, difference, guards=(tallies,))


def test_promotion_needs_the_guardrail_too() -> None:
    plan = guarded()
    quiet = [with_tally(day, GOOD[day % 4], Tally(events=60, worse=0, better=0)) for day in range(20)]
    alone = judge(plan_of(min_days=4, max_days=60), quiet)
    verdict = judge(plan, quiet)
    assert (alone.kind, verdict.kind) == ("PROMOTE", "PROMOTE")
    assert alone.decided_by is not None
    assert verdict.decided_by is not None
    assert verdict.decided_by > alone.decided_by, "360 events do not prove 2 % fewer than that"
    [says] = verdict.guardrails
    assert (says.watch, says.state, says.estimate) == ("errors", "pass", 0.0)
    assert says.upper < 0.02
    assert "; errors +0.00 % (" in verdict.sentence
    assert verdict.sentence.count("pass") == 1
    waiting = judge(plan, quiet[:4])
    assert waiting.kind == "KEEP_GOING"
    assert ", and guardrails must pass: errors" in waiting.sentence


def test_a_trial_that_goes_on_says_at_what_evidence_it_decides() -> None:
    """With guardrails the loss rolls back at half of alpha; without, at alpha."""
    blocks = [with_tally(day, 0.01 * (-1) ** day, Tally(events=10, worse=0, better=0)) for day in range(6)]
    assert " of 20, to roll back " in judge(guarded(), blocks).sentence
    assert " of 40" in judge(guarded(), blocks).sentence
    assert " of 40" not in judge(msgspec.structs.replace(guarded(), guardrails=()), blocks).sentence


def test_a_guardrail_that_fails_rolls_back_whatever_the_loss_says() -> None:
    plan = guarded()
    failing = [with_tally(day, GOOD[day % 4], Tally(events=200, worse=20, better=1)) for day in range(8)]
    verdict = judge(plan, failing)
    assert verdict.kind == "ROLL_BACK"
    [says] = verdict.guardrails
    assert says.state == "fail"
    assert says.lower > 0.02
    assert says.estimate == pytest.approx(0.095)
    assert "no worse than the margin in anything would be rolled back with" in verdict.sentence


def test_with_guardrails_the_loss_rolls_back_at_half_of_alpha() -> None:
    blocks = [with_tally(day, BAD[day % 4] * 0.6, Tally(events=100, worse=0, better=0)) for day in range(30)]
    before = judge(plan_of(min_days=4, max_days=60), blocks)
    after = judge(guarded(), blocks)
    assert (before.kind, after.kind) == ("ROLL_BACK", "ROLL_BACK")
    half = judge(plan_of(min_days=4, max_days=60, alpha=0.025), blocks)
    assert after.decided_by == half.decided_by
    assert after.lower == half.lower


@pytest.mark.parametrize("share", [None, 0.1, 0.5])
def test_errors_beyond_the_margin_are_passed_as_seldom_as_alpha_says(share: float | None) -> None:
    """At the margin, looked at after every day; and at no difference at all, for the roll-back of a split."""
    times = 2000 if os.environ.get("PASSERELLE_SOAK") else 300
    rng = np.random.default_rng(11)
    passed = failed = 0
    plan = guarded(mode="split" if share else "shadow", share=share or 0.5)
    for _ in range(times):
        passed += guard(plan, _tallies(rng, share, worse=0.02, count=20), 0).passed is not None
        failed += guard(plan, _tallies(rng, share, worse=0.0 if share else 0.02, count=20), 0).failed is not None
    most = (0.05 + 2 * (0.05 * 0.95 / times) ** 0.5) * times
    assert passed <= most
    assert failed <= most / 2


def _tallies(
    rng: np.random.Generator, share: float | None, *, worse: float, count: int, base: float = 0.01
) -> list[Block]:
    found = []
    for day in range(count):
        events = 300
        if share is None:
            tally = Tally(
                events=events, worse=rng.binomial(events, base + worse), better=rng.binomial(events // 2, base * 2)
            )
            tally = msgspec.structs.replace(tally, better=min(tally.better, events - tally.worse))
        else:
            challenger = rng.binomial(events, share)
            wrong = rng.binomial(challenger, base + worse), rng.binomial(events - challenger, base)
            tally = Tally(share=share, events=events, worse=wrong[0], better=wrong[1])
        found.append(with_tally(day, 0.0, tally))
    return found


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12),
    st.sampled_from([None, 0.1, 0.5]),
)
def test_the_bounds_say_what_the_decisions_say(counts: list[tuple[int, int, int]], share: float | None) -> None:
    blocks = [
        with_tally(day, 0.0, Tally(share=share, events=sum(one), worse=one[1], better=one[2]))
        for day, one in enumerate(counts)
    ]
    plan = guarded(mode="split" if share else "shadow", share=share or 0.5)
    found = guard(plan, blocks, 0)
    assert (found.passed is not None) == (found.says.upper <= 0.02)
    assert (found.failed is not None) == (found.says.lower >= (0.0 if share else 0.02))
    assert -1 <= found.says.lower <= 1
    assert -1 <= found.says.upper <= 1
    for more in range(len(blocks)):
        shorter = guard(plan, blocks[: more + 1], 0)
        assert shorter.says.upper >= found.says.upper - 1e-9, "a bound only tightens"


def test_events_are_counted_with_and_without_an_outcome(tmp_path: Path) -> None:
    project = project_in(tmp_path, guardrails=(ERRORS, Guardrail(watch="invalid", margin=0.01)))
    plan = guarded(*project.trial.guardrails)
    record = trials.start(open_state(project.state), plan)
    first, *rest = days(6)
    broken = [
        msgspec.structs.replace(one, output=None, status="failed")
        if isinstance(one, Prediction) and one.role == "shadow" and one.id in ("0-1", "0-2")
        else msgspec.structs.replace(one, output=(1.2,))
        if isinstance(one, Prediction) and one.role == "shadow" and one.id == "0-3"
        else one
        for one in first
        if not (hasattr(one, "value") and one.id == "0-1")
    ]
    write(project, [one for day in (broken, *rest) for one in day])
    blocks = close_blocks(project, record, now=START + 20 * DAY)
    assert blocks[0].guards == (
        (Tally(events=40, worse=2, better=0),),
        (Tally(events=40, worse=1, better=0),),
    )
    assert blocks[0].challenger_failed == 1, "of the loss only the labelled one"
    assert blocks[1].guards == ((Tally(events=40, worse=0, better=0),),) * 2
    assert digest(plan, blocks) != digest(plan_of(min_days=4, max_days=60), blocks)
    assert replay(project, plan.id).same


def test_a_splits_errors_are_counted_by_share(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    plan = guarded(mode="split", share=0.25, rollback_above=0.0)
    record = trials.start(open_state(project.state), plan)
    at = START + DAY / 3
    records = [
        prediction("a", at, None, version=2, probability=0.25),
        prediction("b", at, [0.3], version=2, probability=0.5),
        prediction("c", at, None, version=1, probability=0.5),
        prediction("d", at, [0.3], version=1, probability=0.75),
        outcome("d", value=True, at=at),
    ]
    write(project, records)
    [found] = close_blocks(project, record, now=START + DAY * 2.6)[:1]
    assert found.guards == (
        (Tally(share=0.25, events=2, worse=1, better=0), Tally(share=0.5, events=2, worse=0, better=1)),
    )
    assert guard(plan, [found], 0).says.estimate == pytest.approx((4 - 2) / 4)


def test_what_came_too_late_is_no_error(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    plan = guarded(mode="split", share=0.5, rollback_above=0.0)
    record = trials.start(open_state(project.state), plan)
    at = START + DAY / 3
    late = [
        msgspec.structs.replace(prediction(f"late-{one}", at, None, version=2, probability=0.5), status="timed_out")
        for one in range(50)
    ]
    write(project, [*late, prediction("failed", at, None, version=2, probability=0.5)])
    [found] = close_blocks(project, record, now=START + DAY * 2.6)[:1]
    assert found.guards == ((Tally(share=0.5, events=51, worse=1, better=0),),)


def test_all_events_together_fail_or_not_whatever_order_their_days_came_in() -> None:
    """Late events of an early day are no prefix that was ever looked at; and each of a split's looks has half."""
    plan = guarded(mode="split", share=0.5, rollback_above=0.0)
    bad, good = Tally(share=0.5, events=60, worse=30, better=0), Tally(share=0.5, events=400, worse=0, better=40)
    found = guard(plan, [with_tally(0, 0.0, bad), with_tally(1, 0.0, good)], 0)
    assert (found.failed, found.fails_now) == (1, False)
    assert guard(plan, [with_tally(0, 0.0, bad)], 0).fails_now
    fewest = {
        mode: next(
            number
            for number in range(1, 99)
            if guard(
                msgspec.structs.replace(plan, mode=mode, guardrails=(Guardrail(watch="errors", margin=1e-9),)),
                [with_tally(0, 0.0, Tally(share=0.5, events=number, worse=number, better=0))],
                0,
            ).fails_now
        )
        for mode in ("shadow", "split")
    }
    assert fewest["split"] > fewest["shadow"]


def test_what_a_unit_does_again_is_no_new_evidence(tmp_path: Path) -> None:
    """One unit that always fails is drawn to the challenger half of the time: that is one event, and proves nothing."""
    project = project_in(tmp_path)
    plan = guarded(mode="split", share=0.5, rollback_above=0.0)
    record = trials.start(open_state(project.state), plan)
    records = []
    for day in range(2):
        at = START + DAY * (day + 1 / 3)
        poisoned = [prediction(f"{day}-{one}", at, None, version=2, probability=0.5, unit="bad") for one in range(150)]
        others = [prediction(f"{day}-u{one}", at, [0.3], version=one % 2 + 1, probability=0.5) for one in range(40)]
        records += [*poisoned, *others, outcome(f"{day}-u0", value=True, at=at)]
    write(project, records)
    blocks = close_blocks(project, record, now=START + DAY * 3.6)[:2]
    assert [block.guards for block in blocks] == [
        ((Tally(share=0.5, events=41, worse=1, better=0),),),
        ((Tally(share=0.5, events=40, worse=0, better=0),),),
    ]
    assert guard(plan, blocks, 0).failed is None
