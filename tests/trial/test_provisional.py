"""What outcomes that came early say: shown, and never part of a block."""

from datetime import timedelta
from pathlib import Path

import pytest
from trial_days import DAY, START, outcome, plan_of, prediction, project_in, write

from passerelle.ledger.records import Record
from passerelle.project.settings import Guardrail
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.evidence import close_blocks
from passerelle.trial.provisional import guardrails_now, provisional

HOUR = timedelta(hours=1)


def event(id: str, hours: float, known: float | None) -> list[Record]:  # noqa: A002  (the record's own word)
    at = START + hours * HOUR
    found: list[Record] = [
        prediction(id, at, [0.1]),
        prediction(id, at, [0.3], role="shadow", version=2),
    ]
    return found if known is None else [*found, outcome(id, value=known > 10, at=at + known * HOUR)]


def test_days_after_the_closed_ones_are_shown_as_far_as_they_are_known(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    record = trials.start(open_state(project.state), plan_of())
    write(
        project,
        [
            *event("closed", 1, 2),
            *event("early", 25, 2),
            *event("late", 26, 30),
            *event("silent", 27, None),
            *event("future", 62, 1),
        ],
    )
    now = START + DAY + 36 * HOUR
    [block] = close_blocks(project, record, now=now)
    assert block.difference == pytest.approx(0.08)
    first, second = provisional(project, record, now)
    assert (first.start, first.events, first.rows) == (START + DAY, 3, 2)
    assert first.difference == pytest.approx((0.08 + 0.49 - 0.81) / 2)
    assert first.estimate == pytest.approx((0.08 + (0.08 - 0.32) / 2) / 2)
    assert (second.events, second.rows, second.difference) == (0, 0, None), "it is noon: one event is to come"
    assert second.estimate == first.estimate
    [before, _] = provisional(project, record, now - 6 * HOUR)
    assert (before.rows, before.difference) == (1, pytest.approx(0.08)), "the late outcome was not known then"
    assert trials.blocks(open_state(project.state), record.plan.id) == [block]


def test_of_rows_each_row_counts_the_same_as_in_the_verdict(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    record = trials.start(open_state(project.state), plan_of(unit="row"))
    write(project, [*event("closed", 1, 2), *event("early", 25, 2), *event("late", 26, 30)])
    now = START + DAY + 36 * HOUR
    assert len(close_blocks(project, record, now=now)) == 1
    [first, _] = provisional(project, record, now)
    assert first.estimate == pytest.approx((0.08 + 0.08 - 0.32) / 3)


def test_a_trial_that_is_over_has_nothing_provisional(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    engine = open_state(project.state)
    trials.start(engine, plan_of())
    record = trials.end(engine, "production-2-2", at=START, revision=None, execution="set aside")
    assert provisional(project, record, START + DAY) == []


def test_guardrails_are_seen_before_the_outcomes(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    plan = plan_of(mode="split", rollback_above=0.0, guardrails=(Guardrail(watch="errors", margin=0.02),))
    record = trials.start(open_state(project.state), plan)
    write(
        project,
        [
            prediction(
                f"{number}",
                START + number * HOUR / 4,
                None if number % 2 and number % 3 else [0.1],
                version=1 + number % 2,
                probability=0.5,
            )
            for number in range(160)
        ],
    )
    now = START + 36 * HOUR
    assert close_blocks(project, record, now=now) == []
    [says] = guardrails_now(project, record, now)
    assert (says.events, says.state) == (145, "fail"), "the last ones are still to come"
    assert says.lower > 0
    assert says.estimate == pytest.approx(2 * sum(1 for n in range(145) if n % 2 and n % 3) / 145)
