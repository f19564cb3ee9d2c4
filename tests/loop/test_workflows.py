"""Ticks of the loop: what goes wrong is told once and stops nothing; what failed is not tried again for nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from dbos import DBOS
from living import A_DAY, CELLS, FIRST, Take, current, deliver, make_project, write

from passerelle.adapters.local import LocalTarget
from passerelle.bundle.keys import own_key
from passerelle.errors import StateError
from passerelle.loop import tick, train, workflows
from passerelle.loop.rollout import PRODUCTION
from passerelle.loop.train import registry_of
from passerelle.loop.workflows import Ticked, open_loop
from passerelle.project.settings import Project
from passerelle.state import runs, tables
from passerelle.state.database import open_state, writing
from passerelle.state.lease import LeaseError, lease
from passerelle.state.timeline import events
from passerelle.trial import trials

pytestmark = pytest.mark.timeout(300)


def told(project: Project, kind: str) -> list[str]:
    return [event.sentence for event in events(open_state(project.state), kind=kind)]


def test_without_data_a_tick_does_nothing_and_is_quick(tmp_path: Path) -> None:
    project = make_project(tmp_path / "orders")
    with open_loop(project) as loop:
        first = loop.tick(FIRST)
        assert first == Ticked(now=FIRST, decision=first.decision)
        assert first.decision.reason == "nothing to learn from has been delivered yet"
        started = time.perf_counter()
        loop.tick(FIRST + A_DAY)
        assert time.perf_counter() - started < 30, "0.1 s on a quiet machine"
        with pytest.raises(LeaseError, match="'loop'"), open_loop(project):
            pass
    assert events(open_state(project.state)) == []


def test_a_step_that_fails_is_told_once_and_stops_no_other(tmp_path: Path) -> None:
    project = make_project(tmp_path / "orders")
    deliver(project, 0)
    (project.root / "deliveries" / "9.csv").write_text("a\n1\n")
    with open_loop(project) as loop:
        ticked = [loop.tick(FIRST + number * timedelta(hours=1)) for number in range(2)]
        assert [len(one.deliveries) for one in ticked] == [2, 0], "the others land"
        assert all("the table of 9.csv cannot be told" in one.problems[0] for one in ticked)
        (project.root / "deliveries" / "9.csv").unlink()
        assert loop.tick(FIRST + timedelta(hours=3)).problems == ()
        settings = project.root / "passerelle.toml"
        text = settings.read_text()
        settings.write_text(text + "nonsense")
        assert loop.tick(FIRST + timedelta(hours=4)).problems[0].startswith("settings: ")
        settings.write_text(text)
        assert loop.tick(FIRST + timedelta(hours=5)).problems == ()
    said = told(project, "loop")
    assert len(said) == 4
    assert said[0].startswith("the step ingest failed: the table of 9.csv cannot be told")
    assert said[1] == "the step ingest works again"
    assert said[2].startswith("the step settings failed: ")
    assert said[3] == "the step settings works again"


def test_a_tick_is_found_and_old_ones_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows, "_KEPT", 3)
    project = make_project(tmp_path / "orders")
    with open_loop(project) as loop:
        first = loop.tick(FIRST)
        (project.root / "deliveries" / "orders-1.csv").write_text("nothing\n")
        assert loop.tick(FIRST) == first, "as it was"
        assert loop.tick(FIRST + timedelta(milliseconds=1)).deliveries, "another moment"
        for number in range(1, 7):
            loop.tick(FIRST + number * A_DAY)
        left = [one.workflow_id for one in DBOS.list_workflows(name="tick")]
        assert len(left) <= 6
        assert "tick-production-20260105T000000.000000" not in left


def test_messages_go_out_even_if_watching_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StateError("no look today")

    monkeypatch.setattr(tick, "watch", fail)
    project = make_project(tmp_path / "orders")
    engine = open_state(project.state)
    with writing(engine) as connection:
        values = {"id": "one", "at": FIRST, "channel": "NO_SUCH_CHANNEL", "title": "", "body": "", "tries": 0}
        connection.execute(tables.outbox.insert().values(**values))
    with open_loop(project) as loop:
        assert loop.tick(FIRST).problems == ("watch: no look today",)
    with engine.connect() as connection:
        assert connection.execute(sa.select(tables.outbox.c.tries)).scalar_one() == 1


def test_a_failed_training_is_told_once_and_tried_again_when_the_notebook_has_changed(
    take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object, **__: object) -> None:
        raise StateError("locked")

    project, now = take("delivered")
    write(project.root, [*CELLS[:2], "raise ValueError('so it goes')"])
    with open_loop(project, key=own_key()) as loop:
        failed = loop.tick(now)
        assert failed.decision.retrain
        assert failed.trained is not None
        assert failed.trained.version is None
        assert "so it goes" in (failed.trained.problem or "")
        again = loop.tick(now + A_DAY)
        assert not again.decision.retrain
        assert "came to nothing" in again.decision.reason
        assert [run.status for run in runs.all(open_state(project.state))] == ["sealed", "failed"]
        write(project.root, CELLS)
        with lease(project.state, "train"):
            busy = loop.tick(now + 2 * A_DAY - timedelta(hours=1))
        assert busy.trained is None
        assert busy.decision.reason.endswith("another process trains")
        with monkeypatch.context() as patch:
            patch.setattr(train, "snapshot", locked)
            for _ in range(2):
                unlucky = loop.tick(now + 2 * A_DAY - timedelta(minutes=2))
                assert unlucky.problems == ("train: locked",)
        with monkeypatch.context() as patch:
            patch.setattr(tick, "begin", locked)
            made = loop.tick(now + 2 * A_DAY - timedelta(minutes=1))
            assert made.problems == ("train: locked",)
        assert trials.current(open_state(project.state), PRODUCTION) is None
        loop.tick(now + 2 * A_DAY)
        trial = trials.current(open_state(project.state), PRODUCTION)
        assert trial is not None
        assert trial.plan.id == "production-2-2"
        assert len(DBOS.list_workflows(name="training")) == 3, "what is begun anew is no other"
    assert told(project, "loop")[-1] == "the step train works again"
    assert len([one for one in told(project, "run") if "so it goes" in one]) == 1


@pytest.mark.parametrize(("stage", "revision"), [("delivered", 2), ("tried", 3)])
def test_what_a_tick_decides_reaches_targets_in_the_same_tick(
    stage: str, revision: int, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that begins, and a verdict: no endpoint runs here, so the target says which revision it lacks."""
    monkeypatch.setattr(LocalTarget.__init__, "__kwdefaults__", {"wait_s": 0.1})
    project, now = take(stage)
    settings = project.root / "passerelle.toml"
    settings.write_text(settings.read_text() + '\n[targets.here]\nkind = "local"\n')
    with open_loop(project, key=own_key()) as loop:
        loop.tick(now)
    assert current(project).revision == revision
    assert told(project, "target")[-1].startswith(f"target here does not have revision {revision}: ")


def test_what_the_gate_refuses_is_made_by_a_switch_of_tests_and_says_so(take: Take) -> None:
    project, now = take("delivered")
    write(project.root, [*CELLS[:2], "model = LogisticRegression().fit(X, ~raw['late'])", CELLS[3]])
    with open_loop(project, key=own_key()) as loop:
        ticked = loop.tick(now, force_gate=True)
        assert ticked.trained is not None
        assert ticked.trained.version == 2
    version = registry_of(project).get(2)
    assert version.tags["gate"] == "forced"
    (said,) = told(project, "gate")
    assert "beyond the bound" in said
    assert "all the same" in said
    assert "made all the same" in (project.state / "runs" / version.tags["run"] / "report.html").read_text()


@pytest.mark.parametrize("how", ["SIGTERM", "input"])
def test_the_process_ticks_until_it_is_ended(tmp_path: Path, how: str) -> None:
    project = make_project(tmp_path / "orders")
    command = [sys.executable, "-m", "passerelle.loop.process", "--root", str(project.root), "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "loop: looks every 0.3 s\n"
        (project.root / "deliveries" / "orders-x.csv").write_text("order,at\n1,2026-01-05T00:00:00Z\n")
        assert "orders-x.csv: 1 rows of orders" in process.stdout.readline()
        if how == "SIGTERM":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        assert process.wait(20) == 0
