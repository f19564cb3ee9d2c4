"""A challenger that fails is taken away at the next tick, whatever its losses say; and the count can be made again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from living import A_DAY, FIRST, answer_day, current, make_project
from splitting import NOON, answer, split_project
from test_trying import begun, last, registry, told, variants

from passerelle.ledger.storage import ledger_folder
from passerelle.loop import trying
from passerelle.loop.rollout import PRODUCTION, revisions, roll_back
from passerelle.loop.trying import advance
from passerelle.project.settings import Alerts
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.trial import breaker
from passerelle.trial.replaying import replay

EVENING = NOON + A_DAY / 4


def test_a_challenger_that_fails_is_taken_away_and_a_person_is_called_once(tmp_path: Path) -> None:
    project, versions = split_project(tmp_path / "orders")
    project = msgspec.structs.replace(project, alerts=Alerts(channels=("DUTY",)))
    answer(project, NOON, failing=0.5, slots=3)
    record = advance(project, versions, now=EVENING)
    assert record is not None
    assert record.verdict is not None
    assert record.verdict.breaker is not None
    assert (record.verdict.kind, record.status, record.revision) == ("BROKEN", "ended", 3)
    assert record.verdict.breaker.answers == 100
    assert 35 <= record.verdict.breaker.failed <= 65
    assert record.verdict.sentence.startswith(
        f"BROKEN: version 2 failed on {record.verdict.breaker.failed} of its last"
    )
    assert variants(project) == [(1, "live", 1.0)]
    assert current(project).reason == "trial production-2-2: BROKEN, version 1 answers alone"
    assert [one[:5] for one in told(project, "breaker")] == ["page:"]
    with open_state(project.state).connect() as connection:
        (message,) = connection.execute(sa.select(tables.outbox)).all()
    assert (message.id, message.title) == ("production-2-2-breaker-DUTY", "production: circuit breaker")
    assert "passerelle trial status production-2-2" in message.body
    assert advance(project, versions, now=EVENING + A_DAY) is None
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3]


def test_what_came_too_late_may_be_the_machines_fault_and_breaks_nothing(tmp_path: Path) -> None:
    project, versions = split_project(tmp_path / "orders")
    answer(project, NOON, failing=0.5, late=True, slots=3)
    record = advance(project, versions, now=EVENING)
    assert record is not None
    assert (record.status, record.verdict) == ("running", None)


def test_a_trial_that_broke_calls_a_person_whoever_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut between the verdict and its execution, and then another version is tried before the next tick."""
    project, versions = split_project(tmp_path / "orders")
    project = msgspec.structs.replace(project, alerts=Alerts(channels=("DUTY",)))
    answer(project, NOON, failing=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(trying, "execute", lambda _project, _registry, record, **_: record)
        record = advance(project, versions, now=EVENING)
    assert record is not None
    assert record.status == "decided"
    assert told(project, "breaker") == []
    trying.begin(project, versions, 1, now=EVENING)
    assert [one[:5] for one in told(project, "breaker")] == ["page:"]


def test_a_challenger_that_fails_less_goes_on_and_nineteen_answers_say_nothing(tmp_path: Path) -> None:
    project, versions = split_project(tmp_path / "orders")
    answer(project, NOON, rows=19, share=1.0, failing=1.0)
    record = advance(project, versions, now=EVENING)
    assert record is not None
    assert record.status == "running"
    answer(project, NOON + A_DAY, rows=300, failing=0.1)
    record = advance(project, versions, now=EVENING + A_DAY)
    assert record is not None
    assert record.status == "running", "its last hundred answers were good: what was before is over"
    answer(project, NOON + 2 * A_DAY, rows=1, share=1.0, failing=1.0)
    assert record.plan.breaker_percent == 20


def test_one_unit_that_asks_again_and_again_breaks_nothing(tmp_path: Path) -> None:
    project, versions = split_project(tmp_path / "orders")
    answer(project, NOON, rows=30, share=1.0)
    answer(project, NOON + A_DAY / 8, rows=150, share=1.0, failing=1.0, unit="poisoned")
    record = advance(project, versions, now=EVENING + A_DAY)
    assert record is not None
    assert (record.status, record.verdict) == ("running", None)
    answers = breaker.last_answers(
        ledger_folder(project.state, PRODUCTION), record.plan, since=breaker.look_since(EVENING)
    )
    assert (len(answers.failed), sum(answers.failed)) == (31, 1)


def test_exactly_the_share_is_borne_and_one_more_is_not(tmp_path: Path) -> None:
    project, versions = split_project(tmp_path / "orders", breaker_percent=50)
    answer(project, NOON, rows=10, share=1.0, failing=1.0)
    answer(project, NOON + A_DAY / 2, rows=10, share=1.0)
    record = advance(project, versions, now=NOON + A_DAY)
    assert record is not None
    assert record.status == "running", "ten of twenty are no more than 50 %"
    answer(project, NOON + A_DAY, rows=1, share=1.0, failing=1.0)
    record = advance(project, versions, now=NOON + 2 * A_DAY)
    assert record is not None
    assert record.verdict is not None
    assert record.verdict.kind == "BROKEN"


def test_a_shadow_harms_nobody_and_waits_for_its_verdict(tmp_path: Path) -> None:
    from shelf import Shelf

    project = make_project(tmp_path / "orders")
    shelf = Shelf(project)
    begun(project, shelf)
    answer_day(project, FIRST + A_DAY, challenger=float("nan"))
    record = advance(project, registry(shelf), now=FIRST + 2 * A_DAY)
    assert record is not None
    assert (record.status, record.verdict) == ("running", None)


def test_a_person_who_rolled_back_wins(tmp_path: Path) -> None:
    project, versions = split_project(tmp_path / "orders")
    answer(project, NOON, failing=1.0)
    roll_back(project, now=EVENING, reason="it smells")
    record = advance(project, versions, now=EVENING)
    assert record is not None
    assert record.verdict is not None
    assert (record.verdict.kind, record.revision) == ("INCONCLUSIVE", None)
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3]
    assert told(project, "breaker") == []


def test_a_verdict_that_waits_for_a_person_does_not_keep_a_broken_challenger(tmp_path: Path) -> None:
    project, versions = split_project(tmp_path / "orders")
    project = msgspec.structs.replace(project, loop=msgspec.structs.replace(project.loop, approval="human"))
    for day in range(1, 12):
        answer(project, FIRST + day * A_DAY, challenger=0.1)
        now = FIRST + (day + 1) * A_DAY + NOON.hour * A_DAY / 24 + A_DAY / 24
        record = advance(project, versions, now=now)
        assert record is not None
        if record.status == "decided":
            break
    assert last(project).status == "decided"
    answer(project, FIRST + 12 * A_DAY, failing=1.0)
    record = advance(project, versions, now=FIRST + 13 * A_DAY)
    assert record is not None
    assert record.verdict is not None
    assert (record.status, record.verdict.kind, variants(project)) == ("ended", "PROMOTE", [(1, "live", 1.0)])
    assert (record.execution or "").startswith("the circuit breaker set the verdict aside, for version 2 failed on ")
    assert len(told(project, "breaker")) == 1


def test_replay_counts_again_and_says_where_the_ledger_says_otherwise(tmp_path: Path) -> None:
    project, versions = split_project(tmp_path / "orders")
    answer(project, NOON, failing=0.5)
    advance(project, versions, now=EVENING)
    answer(project, NOON + A_DAY, rows=300)
    again = replay(project, "production-2-2")
    assert (again.same, again.recomputed.kind) == (True, "BROKEN")
    for changed, said in (
        ({"failed": 1}, "the verdict's breaker differs"),
        ({"since": f"{NOON + A_DAY:%Y-%m-%dT%H:%M:%SZ}"}, "does not say what the circuit breaker ended the trial for"),
    ):
        with writing(open_state(project.state)) as connection:
            value = connection.execute(sa.select(tables.trials.c.value)).scalar_one()
            value["verdict"]["breaker"] |= changed
            connection.execute(tables.trials.update().values(value=value))
        again = replay(project, "production-2-2")
        assert not again.same
        assert said in again.differences[0]


@pytest.mark.parametrize("cut", ["deploy", "_wait_observed", "reconcile", "page"])
def test_cut_anywhere_the_challenger_is_taken_away_once(
    tmp_path: Path, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, versions = split_project(tmp_path / "orders")
    answer(project, NOON, failing=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(trying, cut, lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            advance(project, versions, now=EVENING)
    advance(project, versions, now=EVENING)
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3]
    assert (len(told(project, "breaker")), len(told(project, "verdict"))) == (1, 1)
    assert last(project).revision == 3


def test_what_counts_as_a_failure() -> None:
    assert breaker.is_failure("failed", None)
    assert breaker.is_failure("scored", [0.1, float("inf")])
    assert not breaker.is_failure("scored", [0.1, 0.9])
