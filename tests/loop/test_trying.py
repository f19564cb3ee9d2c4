"""A challenger is begun, and its verdict is executed: the order, what is found again, and that a person wins."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import sqlalchemy as sa
from living import A_DAY, FIRST, answer_day, current, make_project
from shelf import Shelf

from passerelle.deployment.spec import environment_folder
from passerelle.errors import DeploymentError, StateError
from passerelle.loop import trying
from passerelle.loop.rollout import PRODUCTION, deploy, revisions, roll_back
from passerelle.loop.trying import advance, approve, begin, execute, refuse, stop
from passerelle.project.settings import Alerts, Project
from passerelle.registry.versions import Registry
from passerelle.serving.observation import Observation, observe
from passerelle.state import tables
from passerelle.state.database import open_state
from passerelle.state.timeline import events
from passerelle.trial import trials
from passerelle.trial.verdict import Record

NOON = FIRST + timedelta(hours=12)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "orders")


@pytest.fixture
def shelf(project: Project) -> Shelf:
    return Shelf(project)


def registry(shelf: Shelf) -> Registry:
    return cast("Registry", shelf)


def begun(project: Project, shelf: Shelf, version: int = 2, *, now: datetime = NOON) -> Record:
    """Version 1 answers, and another is tried."""
    if revisions(project, PRODUCTION).current() is None:
        assert begin(project, registry(shelf), 1, salt="s", now=NOON) is None
    record = begin(project, registry(shelf), version, now=now)
    assert record is not None
    return record


def live_days(project: Project, shelf: Shelf, *, challenger: float, days: int = 9) -> datetime:
    """Days of production, a tick at noon after each, until the trial is over; the last tick's moment."""
    now = NOON
    for number in range(1, days + 1):
        answer_day(project, FIRST + number * A_DAY, challenger=challenger)
        now = FIRST + (number + 1) * A_DAY + timedelta(hours=13)
        record = advance(project, registry(shelf), now=now)
        if record is None or record.status != "running":
            break
    return now


def last(project: Project) -> Record:
    return trials.history(open_state(project.state), PRODUCTION)[-1]


def told(project: Project, kind: str) -> list[str]:
    return [event.sentence for event in events(open_state(project.state), kind=kind)]


def variants(project: Project) -> list[tuple[int, str, float]]:
    return [(one.version, one.mode, one.weight) for one in current(project).variants]


def test_the_first_version_answers_at_once_and_the_champion_is_not_tried(project: Project, shelf: Shelf) -> None:
    assert begin(project, registry(shelf), 1, salt="mine", now=NOON) is None
    assert variants(project) == [(1, "live", 1.0)]
    assert current(project).salt == "mine"
    assert "there is no champion to try it against" in current(project).reason
    assert begin(project, registry(shelf), 1, now=NOON) is None
    assert revisions(project, PRODUCTION).numbers() == [1]


def test_a_challenger_is_put_beside_the_champion_once(project: Project, shelf: Shelf) -> None:
    record = begun(project, shelf)
    assert record.plan.id == current(project).trial == "production-2-2"
    assert (record.plan.reference, record.plan.reference_source) == (0.1, "its holdout")
    assert variants(project) == [(1, "live", 1.0), (2, "shadow", 0.0)]
    assert shelf.aliases == {"champion": 1, "challenger": 2}
    assert begin(project, registry(shelf), 2, now=NOON) == record, "found, not begun again"
    assert revisions(project, PRODUCTION).numbers() == [1, 2]


def test_a_trial_has_begun_whether_or_not_its_workers_are_there_yet(
    project: Project, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "_OBSERVED_S", 0.1)
    folder = environment_folder(project.state, PRODUCTION)
    with subprocess.Popen(["true"]) as dead:
        pass
    observe(folder, "w0", Observation(pid=dead.pid, revision=1, at=NOON))
    observe(folder, "w1", Observation(pid=os.getpid(), revision=1, at=NOON))
    assert begun(project, shelf).status == "running"
    assert "not every worker takes part in the trial yet" in told(project, "trial")[-1]
    assert "not applied by w1: is" in told(project, "trial")[-1]
    observe(folder, "w1", Observation(pid=os.getpid(), revision=3, at=NOON))
    stop(project, registry(shelf), now=NOON)
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3], "w0, which is dead, is not waited for"


def test_in_a_split_the_champion_stays_champion_even_if_it_is_the_newer(project: Project, shelf: Shelf) -> None:
    split = msgspec.structs.replace(
        project, trial=msgspec.structs.replace(project.trial, mode="split", share=0.6), loop=project.loop
    )
    deploy(split, registry(shelf), 3, now=NOON)
    begun(split, shelf, 2)
    assert variants(split) == [(3, "live", 0.4), (2, "live", 0.6)]
    assert shelf.aliases == {"champion": 3, "challenger": 2}
    begun(split, shelf, 1, now=NOON + A_DAY)
    assert variants(split) == [(3, "live", 0.4), (1, "live", 0.6)]


def test_a_newer_candidate_takes_the_place_by_one_revision(project: Project, shelf: Shelf) -> None:
    begun(project, shelf)
    newer = begun(project, shelf, 3, now=NOON + A_DAY)
    older = trials.find(open_state(project.state), "production-2-2")
    assert older is not None
    assert older.verdict is not None
    assert (older.status, older.verdict.kind, older.revision) == ("ended", "INCONCLUSIVE", None)
    assert older.execution == "version 3 takes its place"
    assert newer.plan.id == "production-3-3"
    assert variants(project) == [(1, "live", 1.0), (3, "shadow", 0.0)]


@pytest.mark.parametrize(
    ("challenger", "kind", "answers"), [(0.2, "PROMOTE", 2), (0.6, "ROLL_BACK", 1), (0.332, "INCONCLUSIVE", 1)]
)
def test_a_verdict_becomes_a_revision(
    project: Project, shelf: Shelf, challenger: float, kind: str, answers: int
) -> None:
    begun(project, shelf)
    live_days(project, shelf, challenger=challenger)
    record = last(project)
    assert record.verdict is not None
    assert (record.status, record.verdict.kind, record.revision) == ("ended", kind, 3)
    assert variants(project) == [(answers, "live", 1.0)]
    assert current(project).trial is None
    assert shelf.aliases == {"champion": answers}
    assert len(told(project, "verdict")) == 1
    assert execute(project, registry(shelf), record, now=NOON) == record, "executed once"
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3]


def test_a_roll_back_by_a_person_ends_the_trial_and_stands(project: Project, shelf: Shelf) -> None:
    begun(project, shelf)
    roll_back(project, now=NOON + A_DAY, reason="it smells")
    live_days(project, shelf, challenger=0.2, days=1)
    record = last(project)
    assert (record.status, record.revision) == ("ended", None)
    assert record.execution is not None
    assert "a person made revision 3 meanwhile (it smells): it stands" in record.execution
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3]


def test_a_person_who_is_quicker_than_the_verdict_wins(
    project: Project, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(project, shelf)
    put = trying.deploy

    def overtaken(*arguments: Any, **named: Any) -> Any:
        roll_back(project, now=NOON, reason="just now")
        return put(*arguments, **named)

    monkeypatch.setattr(trying, "deploy", overtaken)
    live_days(project, shelf, challenger=0.2)
    record = last(project)
    assert record.verdict is not None
    assert (record.verdict.kind, record.status, record.revision) == ("PROMOTE", "ended", None)
    assert variants(project) == [(1, "live", 1.0)]
    assert current(project).reason == "just now"


@pytest.mark.parametrize("cut", ["deploy", "_wait_observed", "reconcile"])
def test_cut_before_a_step_and_done_again_makes_one_revision(
    project: Project, shelf: Shelf, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(project, shelf)

    def fail(*_: object, **__: object) -> None:
        raise DeploymentError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(trying, cut, fail)
        with pytest.raises(DeploymentError, match="cut"):
            live_days(project, shelf, challenger=0.2)
    assert last(project).status == "decided"
    advance(project, registry(shelf), now=NOON + 20 * A_DAY)
    assert last(project).revision == 3
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3]
    assert told(project, "trial")[-1].endswith("PROMOTE, version 2 answers alone from revision 3")
    assert len([one for one in told(project, "trial") if "has ended" in one]) == 1


def asking(project: Project) -> Project:
    return msgspec.structs.replace(
        project, loop=msgspec.structs.replace(project.loop, approval="human"), alerts=Alerts(channels=("DUTY",))
    )


def cut_at_its_end(project: Project, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The challenger was promoted, and the loop died before it said so."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    begun(project, shelf)
    with monkeypatch.context() as patch:
        patch.setattr(trials, "end", die)
        with pytest.raises(KeyboardInterrupt):
            live_days(project, shelf, challenger=0.2)
    assert (last(project).status, variants(project)) == ("decided", [(2, "live", 1.0)])


@pytest.mark.parametrize("answer", [stop, refuse])
def test_a_person_who_comes_after_a_promotion_is_told_and_the_record_says_what_was(
    project: Project, shelf: Shelf, answer: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_at_its_end(project, shelf, monkeypatch)
    with pytest.raises(StateError, match="already: revision 3 let version 2 answer alone"):
        answer(project, registry(shelf), now=NOON)
    assert last(project).execution == "PROMOTE, version 2 answers alone from revision 3"
    assert variants(project) == [(2, "live", 1.0)]


@pytest.mark.parametrize(("answer", "answers", "said"), [(approve, 2, "PROMOTE"), (refuse, 1, "a person refused")])
def test_a_person_is_asked_once_and_answers(
    project: Project, shelf: Shelf, answer: Callable[..., Record], answers: int, said: str
) -> None:
    project = asking(project)
    begun(project, shelf)
    with pytest.raises(StateError, match="no verdict waits"):
        answer(project, registry(shelf), now=NOON)
    now = live_days(project, shelf, challenger=0.2)
    advance(project, registry(shelf), now=now + A_DAY)
    assert last(project).status == "decided"
    assert revisions(project, PRODUCTION).numbers() == [1, 2], "nothing is done before the answer"
    assert len(told(project, "approval")) == 1
    assert "passerelle trial approve" in told(project, "approval")[0]
    with open_state(project.state).connect() as connection:
        (message,) = connection.execute(sa.select(tables.outbox)).all()
    assert (message.id, message.channel) == ("production-2-2-approval-DUTY", "DUTY")
    assert "passerelle trial approve" in message.body
    record = answer(project, registry(shelf), now=now + A_DAY)
    assert (record.status, record.revision) == ("ended", 3)
    assert record.execution is not None
    assert said in record.execution
    assert variants(project) == [(answers, "live", 1.0)]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (approve, "PROMOTE, version 2 answers alone from revision 3"),
        (refuse, "a person refused the verdict, version 1 answers alone from revision 3"),
        (roll_back, "a person made revision 3 meanwhile"),
    ],
)
def test_what_a_person_decided_is_concluded_even_if_it_was_cut(
    project: Project, shelf: Shelf, answer: Callable[..., Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = asking(project)
    begun(project, shelf)
    now = live_days(project, shelf, challenger=0.2)
    with monkeypatch.context() as patch:
        patch.setattr(trying, "reconcile", lambda *_: 1 / 0)
        if answer is roll_back:
            roll_back(project, now=now)
        else:
            with pytest.raises(ZeroDivisionError):
                answer(project, registry(shelf), now=now)
    assert last(project).status == "decided"
    advance(project, registry(shelf), now=now + A_DAY)
    assert last(project).status == "ended"
    assert (last(project).execution or "").startswith(said)
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3]


def test_a_person_stops_a_trial_and_a_verdict_that_waited_is_set_aside_by_a_newer(
    project: Project, shelf: Shelf
) -> None:
    with pytest.raises(StateError, match="no trial is going on"):
        stop(project, registry(shelf), now=NOON)
    begun(project, shelf)
    ended = stop(project, registry(shelf), now=NOON + A_DAY)
    assert ended.verdict is not None
    assert (ended.verdict.kind, ended.revision) == ("INCONCLUSIVE", 3)
    assert variants(project) == [(1, "live", 1.0)]


def test_the_loop_tries_no_version_again_whose_trial_a_person_has_ended(
    project: Project, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert begin(project, registry(shelf), 1, salt="s", now=NOON) is None
    with monkeypatch.context() as patch:
        patch.setattr(trying, "reconcile", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            begin(project, registry(shelf), 2, again=False, now=NOON)
    roll_back(project, now=NOON, reason="it smells")
    with pytest.raises(DeploymentError, match=r"revision 3 was made \(it smells\) when its trial .* had begun"):
        begin(project, registry(shelf), 2, again=False, now=NOON)
    assert revisions(project, PRODUCTION).numbers() == [1, 2, 3]
    record = begin(project, registry(shelf), 2, now=NOON)
    assert record is not None
    assert record.plan.id == "production-2-4", "a person may"


def test_without_any_known_loss_no_margin_can_be_set(
    project: Project, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(project, registry(shelf), 1, now=NOON)
    get = shelf.get
    monkeypatch.setattr(shelf, "get", lambda which: msgspec.structs.replace(get(which), metrics={}))
    with pytest.raises(DeploymentError, match="nothing is known of the loss"):
        begin(project, registry(shelf), 2, now=NOON)
    assert revisions(project, PRODUCTION).numbers() == [1]
