"""The funnel of a trial: closed days from blocks, the days after them from the ledger."""

from datetime import timedelta
from pathlib import Path

import pytest
from test_trial_judging import block
from trial_days import DAY, START, days, outcome, plan_of, prediction, project_in, write

from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.evidence import close_blocks
from passerelle.trial.funnel import FunnelArm, funnel

HOUR = timedelta(hours=1)


def test_a_shadows_funnel_goes_from_requests_to_mature_outcomes(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    record = trials.start(open_state(project.state), plan_of())
    first, second = days(2)
    lost = prediction("lost", START + DAY + HOUR, [0.4])  # its shadow score was dropped
    silent = [
        prediction("silent", START + HOUR, [0.4]),
        prediction("silent", START + HOUR, [0.4], role="shadow", version=2),
    ]
    write(project, [*first, *silent, *second, lost])
    now = START + DAY + 36 * HOUR + 10 * HOUR  # the second day: all happened, some due
    assert len(close_blocks(project, record, now=now)) == 1
    found = funnel(project, record, now)
    due = 41 + sum(1 for row in range(40) if 10 + row * 35 <= 600)
    labelled = 40 + 40
    assert found.requests == 41 + 40 + 1
    assert found.champion == FunnelArm(
        version=1,
        assigned=82,
        scored=81,
        due=due,
        labelled=labelled,
        mature=due - 1,
        known_after=pytest.approx((0.0, *[(due - 1) / due] * 9)),  # each came after 6 of 36 hours
    )
    assert found.challenger.coverage == pytest.approx((due - 1) / due)
    early = funnel(project, record, START + DAY + 5 * HOUR)
    assert (early.champion.due, early.champion.labelled) == (41, 40), "what happens later is not known"


def test_a_splits_funnel_is_by_arm(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    plan = plan_of(mode="split", share=0.25, rollback_above=0.0)
    record = trials.start(open_state(project.state), plan)
    records = days(1, plan=plan)[0]
    records.append(prediction("mute", START + HOUR, [0.5], version=2, probability=0.25))
    write(project, [*records, outcome("mute", value=True, at=START + 40 * HOUR)])
    close_blocks(project, record, now=START + DAY + 36 * HOUR)
    found = funnel(project, record, START + DAY + 36 * HOUR)
    answered = sum(1 for one in records if getattr(one, "version", None) == 2)
    assert (found.requests, found.challenger.assigned, found.champion.assigned) == (41, answered, 41 - answered)
    assert (found.challenger.due, found.challenger.mature) == (answered, answered - 1)
    assert found.champion.coverage == 1.0


def test_before_the_first_event_there_is_nothing(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    record = trials.start(open_state(project.state), plan_of(started_at=START - HOUR))
    write(project, [])
    found = funnel(project, record, START - HOUR)
    assert (found.requests, found.champion.coverage, found.champion.known_after[-1]) == (0, None, 0.0)


def test_delays_that_an_old_block_did_not_count_are_not_taken_for_none(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    plan = plan_of()
    record = trials.start(open_state(project.state), plan)
    trials.keep(open_state(project.state), plan.id, block(0, 0.0, arms=None))
    found = funnel(project, record, START)
    assert found.champion.mature > 0
    assert found.champion.known_after == ()
