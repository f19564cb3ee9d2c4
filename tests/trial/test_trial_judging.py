"""What blocks say: which verdict, at which block, in which words."""

import hashlib
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trial_days import DAY, START, plan_of

from passerelle.ledger.position import Position
from passerelle.trial.judging import digest, first_block, judge, set_aside
from passerelle.trial.verdict import Block

GOOD = (-0.004, -0.002, -0.003, -0.001)
BAD = (0.034, 0.030, 0.031, 0.036)


def block(day: int, difference: float | None, **changes: Any) -> Block:
    fields: dict[str, Any] = {
        "start": START + day * DAY,
        "rows": 0 if difference is None else 100,
        "difference": difference,
        "champion_loss": None if difference is None else 0.2,
        "challenger_loss": None if difference is None else 0.2 + difference,
        "unlabelled": 0,
        "challenger_failed": 0,
        "champion_failed": 0,
        "position": Position(),
    }
    return Block(**(fields | changes))


def table(*differences: float | None) -> list[Block]:
    return [block(day, difference) for day, difference in enumerate(differences)]


def test_promotion_says_how_much_less_it_lost() -> None:
    plan = plan_of(challenger=4, champion=3, min_days=4, max_days=60, margin=0.005)
    verdict = judge(plan, table(*GOOD * 3))
    assert verdict.kind == "PROMOTE"
    assert verdict.decided_by == START + 5 * DAY
    assert (verdict.blocks, verdict.rows) == (6, 600)
    assert verdict.promote_evidence >= 20
    assert verdict.sentence == (
        "PROMOTE: version 4 lost 0.0027 less per event than version 3 (Brier; 90 % sequence -0.0056 to +0.0002, margin "
        "+0.0050) over 6 days and 600 mature events; a challenger worse than the margin would be promoted with "
        "probability 5 % at most."
    )


def test_a_worse_challenger_is_rolled_back() -> None:
    verdict = judge(plan_of(), table(*BAD * 2))
    assert verdict.kind == "ROLL_BACK"
    assert verdict.sentence.startswith(
        "ROLL BACK: version 2 lost 0.033 more per event than version 1 (Brier; 90 % sequ"
    )
    assert verdict.sentence.endswith("no worse than the margin would be rolled back with probability 5 % at most.")
    split = judge(plan_of(mode="split", rollback_above=0.0), [block(day, bad) for day, bad in enumerate(BAD * 2)])
    assert split.sentence.endswith("no worse than the champion would be rolled back with probability 5 % at most.")


def test_a_challenger_that_failed_is_said_to_have_failed() -> None:
    plan = plan_of()
    failing = [block(day, bad, challenger_failed=100) for day, bad in enumerate(BAD)]
    assert " over 4 days and 400 mature events; it failed on 400 of 400 events; " in judge(plan, failing).sentence
    seldom = [block(day, bad, challenger_failed=1) for day, bad in enumerate(BAD)]
    assert "failed" not in judge(plan, seldom).sentence


def test_answers_that_are_missing_are_said() -> None:
    few = [block(day, bad, unpaired=1) for day, bad in enumerate(BAD)]
    assert "no pair" not in judge(plan_of(), few).sentence
    many = [block(day, bad, unpaired=1, champion_late=1) for day, bad in enumerate(BAD)]
    assert "400 mature events; 8 more events have no pair of answers" in judge(plan_of(), many).sentence


def test_promotion_comes_before_roll_back() -> None:
    """Slightly worse, and proven to be within the margin: rule 1 before rule 2."""
    near = (0.0041, 0.0040, 0.0039, 0.0040, 0.0041, 0.0040)
    verdict = judge(plan_of(mode="split", rollback_above=0.0, margin=0.02), table(*near))
    assert verdict.rollback_evidence >= 20
    assert verdict.kind == "PROMOTE"
    assert verdict.sentence.endswith("at most. It is proven slightly worse, within the margin.")


def test_it_goes_on_until_there_are_enough_days() -> None:
    plan = plan_of(min_days=14, max_days=60)
    verdict = judge(plan, table(*GOOD * 3, None))
    assert (verdict.kind, verdict.decided_by, verdict.lower, verdict.upper) == ("KEEP_GOING", None, None, None)
    assert verdict.blocks == 12
    assert verdict.estimate == pytest.approx(-0.0025)
    assert "2 more of the 14 days that a verdict needs are missing" in verdict.sentence
    # 13 days have closed; two more, and the horizon of the second.
    assert verdict.sentence.endswith("around 17 Feb 2013.")
    assert judge(plan, table(*GOOD * 3, None, *GOOD)).decided_by == START + 14 * DAY


def test_it_says_what_evidence_is_missing() -> None:
    verdict = judge(plan_of(), table(0.03, -0.03, 0.02, -0.02, 0.01))
    assert verdict.kind == "KEEP_GOING"
    assert verdict.sentence.endswith("of 20; at this pace none comes within the trial's 10 days.")
    assert "the evidence to promote is " in verdict.sentence


def test_nothing_to_compare_is_said() -> None:
    verdict = judge(plan_of(), [])
    assert verdict.sentence.startswith(
        "KEEP GOING: version 2 and version 1 have no mature event to compare yet; 4 more"
    )
    assert (verdict.estimate, verdict.blocks, verdict.promote_evidence) == (None, 0, 1.0)


def test_a_trial_that_cannot_be_decided_ends() -> None:
    undecided = [0.03, -0.03] * 10
    assert judge(plan_of(), table(*undecided[:9])).kind == "KEEP_GOING"
    verdict = judge(plan_of(), table(*undecided[:10]))
    assert (verdict.kind, verdict.decided_by) == ("INCONCLUSIVE", START + 9 * DAY)
    assert verdict.sentence.startswith(
        "INCONCLUSIVE: 10 days have passed without a proof in either direction; version 2"
    )
    assert verdict.sentence.endswith("; version 1 stays.")
    assert judge(plan_of(), table(*undecided)) == verdict, "what comes after the last day changes nothing"
    assert judge(plan_of(), table(*[None] * 10)).kind == "INCONCLUSIVE"


def test_a_trial_whose_days_cannot_be_closed_ends_by_the_clock() -> None:
    over = START + 14 * DAY + timedelta(hours=36)
    assert judge(plan_of(), table(*GOOD[:2]), now=over - timedelta(seconds=1)).kind == "KEEP_GOING"
    assert judge(plan_of(), table(*GOOD[:2]), now=over).kind == "INCONCLUSIVE"


def test_evidence_begins_with_the_first_whole_day() -> None:
    assert first_block(plan_of()) == START
    assert first_block(plan_of(started_at=START + timedelta(hours=12))) == START + DAY


def test_a_split_whose_units_go_astray_is_invalid() -> None:
    plan = plan_of(mode="split", rollback_above=0.0, min_days=4, max_days=60)
    units = [(450, 550)] * 10
    blocks = [block(day, GOOD[day % 4], units=pair) for day, pair in enumerate(units)]
    verdict = judge(plan, blocks)
    assert verdict.kind == "INVALID"
    assert verdict.decided_by is not None
    assert verdict.decided_by < START + 9 * DAY
    assert "INVALID: version 2 got 55.0 % of " in verdict.sentence
    assert judge(plan, [block(day, GOOD[day % 4], units=(500, 500)) for day in range(10)]).kind == "PROMOTE"
    assert judge(plan_of(), blocks).kind == "PROMOTE", "a shadow has no units to count"


def test_a_split_of_which_one_arm_lacks_outcomes_is_invalid() -> None:
    plan = plan_of(mode="split", rollback_above=0.0, min_days=4, max_days=60)
    counts: dict[str, Any] = {"units": (500, 500), "unlabelled_arms": (0, 100)}
    blocks = [block(day, GOOD[day % 4], labelled_units=(500, 400), **counts) for day in range(10)]
    verdict = judge(plan, blocks)
    assert verdict.kind == "INVALID"
    assert verdict.sentence == (
        "INVALID: version 2 got 44.4 % of 2,700 units whose outcomes came in time instead of 50 %, which chance does "
        "not do: nothing is concluded and version 1 stays. Look for why one version's outcomes come late."
    )
    even = [block(day, GOOD[day % 4], labelled_units=(450, 450), **counts) for day in range(10)]
    assert judge(plan, even).kind == "PROMOTE"


def test_rows_are_judged_at_the_end_of_a_day() -> None:
    rng = np.random.default_rng(1)
    values = np.clip(rng.normal(-0.05, 0.2, 2000), -1, 1)
    days = [tuple(values[start : start + 200].tolist()) for start in range(0, 2000, 200)]
    blocks = [block(day, float(np.mean(part)), values=part, rows=len(part)) for day, part in enumerate(days[:3])] + [
        block(3, None)
    ]
    plan = plan_of(unit="row", min_days=4)
    assert judge(plan, blocks).kind == "KEEP_GOING"
    blocks += [block(day + 1, float(np.mean(days[day])), values=days[day], rows=200) for day in range(3, 9)]
    verdict = judge(plan, blocks)
    assert (verdict.kind, verdict.decided_by, verdict.blocks, verdict.rows) == ("PROMOTE", START + 4 * DAY, 4, 800)
    assert verdict.estimate == pytest.approx(values[:800].mean())
    assert verdict.upper is not None
    assert verdict.upper < plan.margin


def test_days_that_resemble_the_days_before_are_said() -> None:
    slow = [0.02 * np.sin(day / 3) for day in range(30)]
    verdict = judge(plan_of(max_days=60, margin=0.0001, rollback_above=0.05), table(*slow))
    assert verdict.autocorrelation is not None
    assert verdict.autocorrelation > 0.8
    assert "autocorrelation 0.9" in verdict.sentence
    assert judge(plan_of(min_days=20, max_days=60), table(*GOOD)).autocorrelation is None


def test_units_that_come_back_are_said() -> None:
    plan = plan_of(mode="split", unit="row", rollback_above=0.0)
    blocks = [block(day, 0.0, values=(0.0,) * 100, unlabelled=20, units=(25, 25)) for day in range(4)]
    assert (
        " (a unit brought 2.4 events, which are not independent; 2.4 events say as much as one: "
        in judge(plan, blocks).sentence
    )
    fresh = [block(day, 0.0, values=(0.0,) * 100, unlabelled=20, units=(50, 50)) for day in range(4)]
    assert "a unit brought" not in judge(plan, fresh).sentence


def test_a_trial_can_be_set_aside() -> None:
    blocks = table(*GOOD[:3])
    verdict = set_aside(plan_of(), blocks, reason="version 5 takes its place")
    assert verdict.kind == "INCONCLUSIVE"
    assert verdict.sentence.startswith("INCONCLUSIVE: version 5 takes its place; version 2 lost 0.003 less per event")
    assert verdict.decided_by == START + 2 * DAY


def test_the_digest_is_of_the_plan_and_the_blocks() -> None:
    blocks = table(*GOOD)
    assert digest(plan_of(), blocks) == digest(plan_of(), list(blocks))
    assert digest(plan_of(), blocks) != digest(plan_of(margin=0.02), blocks)
    assert digest(plan_of(), blocks) != digest(plan_of(), blocks[:-1])
    assert digest(plan_of(), blocks) != digest(plan_of(), [*blocks[:-1], block(3, GOOD[3], unpaired=1)])


def test_a_digest_from_before_blocks_had_more_fields_still_holds() -> None:
    """What a release wrote when these fields were all that a block had."""
    old = (
        '"start":"2013-02-01T00:00:00Z","rows":100,"difference":-0.004,"champion_loss":0.2,"challenger_loss":0.196,'
        '"unlabelled":0,"challenger_failed":0,"champion_failed":0,"units":[0,0],"position":{"writers":{}},"values":[]'
    )
    fields = (
        "id environment champion challenger mode share task classes loss cap margin reference reference_source alpha "
        "unit min_days max_days horizon_hours rollback_above planned_n started_at"
    )
    said = msgspec.to_builtins(plan_of())
    text = msgspec.json.encode({name: said[name] for name in fields.split()}).decode()
    expected = hashlib.sha256(f"[{text},[{{{old}}}]]".encode()).hexdigest()
    assert digest(plan_of(), [block(0, -0.004)]) == expected


@given(st.lists(st.none() | st.floats(-0.5, 0.5).map(lambda value: round(value, 4)), max_size=14))
def test_a_verdict_is_of_the_first_block_that_decides(differences: list[float | None]) -> None:
    blocks = table(*differences)
    final = judge(plan_of(), blocks)
    by_day = [judge(plan_of(), blocks[:count]) for count in range(len(blocks) + 1)]
    decided = [verdict for verdict in by_day if verdict.kind != "KEEP_GOING"]
    assert final == (decided[0] if decided else by_day[-1])
