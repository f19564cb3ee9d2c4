"""What the state keeps of trials: each step once."""

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from trial_days import DAY, START, plan_of, project_in, write

from passerelle.errors import StateError
from passerelle.state.database import open_state, writing
from passerelle.state.timeline import events
from passerelle.trial import trials
from passerelle.trial.evidence import read_block
from passerelle.trial.judging import set_aside
from passerelle.trial.verdict import Record

LATER = START + 20 * DAY


def test_a_trial_lives_once(tmp_path: Path) -> None:
    engine, plan = open_state(tmp_path), plan_of()
    assert trials.find(engine, plan.id) is None
    assert trials.current(engine, "production") is None
    assert trials.start(engine, plan) == Record(plan=plan, status="running")
    assert trials.start(engine, plan_of(margin=0.5)).plan == plan, "a plan holds to its end"
    assert trials.current(engine, "production") == trials.find(engine, plan.id)
    assert trials.current(engine, "staging") is None

    verdict = set_aside(plan, [], reason="version 3 takes its place")
    decided = trials.decide(engine, plan.id, verdict, at=LATER, delta={"outcomes": 3}, digest="d")
    assert (decided.status, decided.verdict, decided.decided_at) == ("decided", verdict, LATER)
    assert (decided.delta, decided.digest) == ({"outcomes": 3}, "d")
    other = set_aside(plan, [], reason="another reason")
    assert trials.decide(engine, plan.id, other, at=LATER + DAY, delta={}, digest="e") == decided
    assert trials.current(engine, "production") == decided

    ended = trials.end(engine, plan.id, at=LATER + DAY, revision=None, execution="version 1 stays")
    assert (ended.status, ended.ended_at, ended.execution) == ("ended", LATER + DAY, "version 1 stays")
    assert trials.end(engine, plan.id, at=LATER + 2 * DAY, revision=7, execution="again") == ended
    assert trials.current(engine, "production") is None
    assert trials.history(engine, "production") == [ended]
    assert [(event.kind, event.at) for event in events(engine)] == [
        ("trial", START),
        ("verdict", LATER),
        ("trial", LATER + DAY),
    ]
    [told] = events(engine, kind="verdict")
    assert told.sentence == verdict.sentence
    assert told.details["trial"] == plan.id
    assert told.details["kind"] == "INCONCLUSIVE"


def test_there_is_one_trial_at_a_time_in_an_environment(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    trials.start(engine, plan_of())
    other = plan_of(id="production-3-3", challenger=3, started_at=LATER)
    with pytest.raises(StateError, match="production-2-2 of production has not ended"):
        trials.start(engine, other)
    trials.start(engine, plan_of(id="staging-3-3", environment="staging", challenger=3))
    trials.end(engine, "production-2-2", at=LATER, revision=None, execution="stopped")
    trials.start(engine, other)
    assert [record.plan.id for record in trials.history(engine, "production")] == ["production-2-2", "production-3-3"]
    assert trials.identifiers(engine) == ["production-2-2", "staging-3-3", "production-3-3"]


def test_a_trial_begins_in_its_callers_transaction(tmp_path: Path) -> None:
    engine = open_state(tmp_path)

    def fail() -> None:
        with writing(engine) as connection:
            trials.start(connection, plan_of())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert trials.history(engine, "production") == []
    assert events(engine) == []


def test_a_block_is_kept_once(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    trials.start(engine, plan_of())
    block = read_block(write(project_in(tmp_path / "of"), []), plan_of(), START)
    trials.keep(engine, "production-2-2", block)
    trials.keep(engine, "production-2-2", msgspec.structs.replace(block, unlabelled=3))
    assert trials.blocks(engine, "production-2-2") == [block]


def test_the_timeline_says_what_is_tried(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    trials.start(engine, plan_of())
    [event] = events(engine, kind="trial")
    assert event.sentence == (
        "version 2 is tried against version 1 in shadow: it may be worse by 0.01 (Brier) at most, 5.0% of 0.2 "
        "(its holdout)"
    )


def test_a_trial_that_is_not_there_is_named(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    verdict = set_aside(plan_of(), [], reason="no")
    with pytest.raises(StateError, match="no trial 'x'"):
        trials.decide(engine, "x", verdict, at=START, delta={}, digest="d")
    with pytest.raises(StateError, match="no trial 'x'"):
        trials.end(engine, "x", at=START + timedelta(hours=1), revision=None, execution="no")
