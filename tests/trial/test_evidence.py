"""Closing days from a real ledger: which events count, and for what."""

import math
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from trial_days import DAY, START, days, outcome, plan_of, prediction, project_in, write

from passerelle.ledger.records import Prediction, Record
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.evidence import close_blocks, read_block
from passerelle.trial.verdict import Block, Plan

HOUR = timedelta(hours=1)


def block_of(project: Project, plan: Plan, records: list[Record]) -> Block:
    return read_block(write(project, records), plan, START)


def pair(id: str, hours: float, champion: float | None, challenger: float | None) -> list[Record]:  # noqa: A002  (the record's own word)
    """An event that both versions of a shadow trial answered, or failed on."""
    at = START + hours * HOUR
    return [
        prediction(id, at, None if champion is None else [champion]),
        prediction(id, at, None if challenger is None else [challenger], role="shadow", version=2),
    ]


def test_a_shadow_compares_the_two_answers_to_each_event(tmp_path: Path) -> None:
    records = [
        *pair("a", 1, 0.1, 0.3),
        *pair("b", 2, 0.6, 0.9),
        outcome("a", value=False, at=START + 5 * HOUR),
        outcome("b", value=True, at=START + 5 * HOUR),
    ]
    block = block_of(project_in(tmp_path), plan_of(unit="row"), records)
    assert block.rows == 2
    assert block.values == pytest.approx((0.09 - 0.01, 0.01 - 0.16))
    assert block.difference == pytest.approx((0.08 - 0.15) / 2)
    assert (block.champion_loss, block.challenger_loss) == (pytest.approx(0.085), pytest.approx(0.05))
    assert (block.unlabelled, block.champion_failed, block.challenger_failed, block.units) == (0, 0, 0, (0, 0))


def test_a_failure_counts_as_the_largest_loss_and_an_outcome_that_is_missing_as_nothing(tmp_path: Path) -> None:
    records = [
        *pair("a", 1, 0.1, None),
        *pair("b", 2, None, 0.5),
        *pair("unlabelled", 3, 0.5, None),
        *pair("late", 4, 0.5, 0.5),
        outcome("a", value=False, at=START + 5 * HOUR),
        outcome("b", value=True, at=START + 5 * HOUR),
        outcome("late", value=True, at=START + 40.1 * HOUR),
    ]
    block = block_of(project_in(tmp_path), plan_of(unit="row"), records)
    assert block.values == pytest.approx((1 - 0.01, 0.25 - 1))
    assert (block.rows, block.unlabelled, block.challenger_failed, block.champion_failed) == (2, 2, 1, 1)


def test_only_the_events_of_this_trial_count(tmp_path: Path) -> None:
    at = START + HOUR
    records = [
        *pair("mine", 1, 0.1, 0.3),
        prediction("alone", at, [0.5]),
        prediction("before", at, [0.5], trial=None),
        prediction("before", at, [0.5], trial=None, role="shadow", version=2),
        prediction("other", at, [0.5], trial="production-9-9"),
        prediction("other", at, [0.5], trial="production-9-9", role="shadow", version=2),
        prediction("third", at, [0.5], version=3),
        prediction("third", at, [0.5], role="shadow", version=2),
        prediction("mine", at, [0.9], role="shadow", version=3),
        *(outcome(id_, value=False, at=at + HOUR) for id_ in ("mine", "alone", "before", "other", "third")),
    ]
    block = block_of(project_in(tmp_path), plan_of(), records)
    assert (block.rows, block.difference, block.values) == (1, pytest.approx(0.08), ())


def test_a_champion_that_was_late_is_not_compared(tmp_path: Path) -> None:
    """The shadow was scored in calm, and would win."""
    late, shadow = pair("late", 1, None, 0.5)
    assert isinstance(late, Prediction)
    records = [
        msgspec.structs.replace(late, status="timed_out"),
        shadow,
        *pair("failed", 2, None, 0.5),
        *(outcome(id_, value=False, at=START + 5 * HOUR) for id_ in ("late", "failed")),
    ]
    block = block_of(project_in(tmp_path), plan_of(unit="row"), records)
    assert block.values == pytest.approx((0.25 - 1,))
    assert (block.champion_late, block.champion_failed, block.unpaired) == (1, 1, 0)


def test_a_day_that_lacks_shadow_scores_waits_for_them(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    record = trials.start(open_state(project.state), plan_of())
    *paired, last = days(1)[0][:-1]
    lost = prediction("lost", START + 5 * HOUR, [0.1])
    write(project, [*paired, last, lost, prediction("too", START + 5 * HOUR, [0.1])])
    ripe = START + DAY + 36 * HOUR
    assert close_blocks(project, record, now=ripe) == [], "what is missing is what was hard for the challenger"
    found = prediction("lost", START + 5 * HOUR, [0.9], role="shadow", version=2)
    write(project, [found], slot="gaps")
    assert close_blocks(project, record, now=ripe) == []
    block, *_ = close_blocks(project, record, now=ripe + 3 * DAY)
    assert (block.unpaired, block.rows, block.unlabelled) == (1, 39, 2)


def test_a_split_compares_by_the_chance_of_each_arm(tmp_path: Path) -> None:
    records: list[Record] = [
        prediction("a", START + HOUR, [0.1], version=1, probability=0.75),
        prediction("b", START + 2 * HOUR, [0.3], version=2, probability=0.25, unit="u"),
        prediction("c", START + 3 * HOUR, None, version=2, probability=0.25, unit="u"),
        *(outcome(id_, value=False, at=START + 5 * HOUR) for id_ in "abc"),
    ]
    plan = plan_of(mode="split", unit="row", share=0.25, rollback_above=0.0)
    block = block_of(project_in(tmp_path), plan, records)
    # Subtracted: the reference 0.2, then with the losses before: (0.2 + 0.01) / 2, (0.2 + 0.01 + 0.09) / 3.
    assert block.values == pytest.approx((-(0.01 - 0.2) / 0.75, (0.09 - 0.105) / 0.25, (1 - 0.1) / 0.25))
    assert (block.rows, block.champion_loss, block.challenger_loss) == (3, pytest.approx(0.01), pytest.approx(0.545))
    assert (block.units, block.challenger_failed) == ((1, 1), 1)
    assert (block.unlabelled_arms, block.labelled_units) == ((0, 0), (1, 1))


def test_a_split_counts_which_arm_lacks_outcomes(tmp_path: Path) -> None:
    records: list[Record] = [
        prediction("a", START + HOUR, [0.1], version=1, probability=0.75),
        prediction("b", START + HOUR, [0.3], version=2, probability=0.25),
        prediction("c", START + HOUR, [0.3], version=2, probability=0.25),
        outcome("a", value=False, at=START + 5 * HOUR),
        outcome("b", value=False, at=START + 40 * HOUR),
    ]
    plan = plan_of(mode="split", share=0.25, rollback_above=0.0)
    block = block_of(project_in(tmp_path), plan, records)
    assert (block.units, block.unlabelled) == ((1, 2), 2)
    assert (block.unlabelled_arms, block.labelled_units) == ((0, 2), (1, 0))


def test_many_classes(tmp_path: Path) -> None:
    classes = ("red", "green", "blue")
    plan = plan_of(task="multiclass", classes=classes, unit="row")
    at = START + HOUR
    records: list[Record] = []
    for id_, truth, champion, challenger in [
        ("a", "green", (0.2, 0.5, 0.3), (0.0, 1.0, 0.0)),
        ("b", "mauve", (0.2, 0.5, 0.3), (0.0, 1.0, 0.0)),
        ("c", "red", (0.2, 0.5, 0.3), (0.5, 0.5)),  # another shape than the champion's: a failure
    ]:
        records += [
            prediction(id_, at, champion),
            prediction(id_, at, challenger, role="shadow", version=2),
            outcome(id_, truth, at + HOUR),
        ]
    block = block_of(project_in(tmp_path, kind="multiclass"), plan, records)
    squares = 0.04 + 0.25 + 0.09
    expected = (0 - (0.04 + 0.25 + 0.09), 2 - (squares + 1), 2 - (0.64 + 0.25 + 0.09))
    assert block.values == pytest.approx(expected)


@pytest.mark.parametrize(("cap", "largest"), [(None, 9.0), (4.0, 4.0)])
def test_numbers_and_a_loss_without_a_bound(tmp_path: Path, cap: float | None, largest: float) -> None:
    """A failure counts as the cap; without one, as the largest loss of the day."""
    plan = plan_of(task="regression", classes=(), loss="squared", cap=cap)
    records = [
        *pair("a", 1, 5.0, 4.0),
        *pair("b", 2, 1.0, None),
        outcome("a", 2, START + 5 * HOUR),
        outcome("b", 2.0, START + 5 * HOUR),
    ]
    block = block_of(project_in(tmp_path, kind="regression"), plan, records)
    first = min(4.0, cap or 4.0) - min(9.0, cap or 9.0)
    assert block.difference == pytest.approx((first + largest - 1.0) / 2)
    assert block.challenger_failed == 1


def test_a_day_on_which_nobody_answered_has_nothing_to_compare(tmp_path: Path) -> None:
    plan = plan_of(task="regression", classes=(), loss="squared")
    records = [*pair("a", 1, None, None), outcome("a", 2, START + 5 * HOUR)]
    block = block_of(project_in(tmp_path, kind="regression"), plan, records)
    assert (block.rows, block.difference, block.champion_loss) == (0, None, None)


def test_days_close_in_order_when_they_are_mature_and_never_change(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    plan = plan_of(started_at=START - 6 * HOUR)
    record = trials.start(open_state(project.state), plan)
    told = days(3)
    write(project, told[0])
    write(project, told[2])  # nothing happened on the second day
    ripe = START + DAY + 36 * HOUR
    assert close_blocks(project, record, now=ripe - timedelta(seconds=1)) == []
    [first] = close_blocks(project, record, now=ripe)
    assert (first.start, first.rows) == (START, 40)
    write(project, [*pair("later", 5, 0.0, 1.0), outcome("later", value=False, at=START + 6 * HOUR)])
    blocks = close_blocks(project, record, now=ripe + 2 * DAY)
    assert blocks[0] == first, "what came late changed a closed day"
    assert [(block.start, block.rows) for block in blocks] == [
        (START + day * DAY, [40, 0, 40][day]) for day in range(3)
    ]
    assert blocks[1].difference is None
    assert trials.blocks(open_state(project.state), plan.id) == blocks
    assert close_blocks(project, record, now=ripe + 2 * DAY) == blocks
    assert len(close_blocks(project, record, now=ripe + 90 * DAY)) == plan.max_days
    assert math.isfinite(blocks[2].difference or math.nan)
