"""Steps of a tick on small states: what of a failed run is remembered, and what is only bad luck."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from living import A_DAY, deliver, make_project

from passerelle.bundle.keys import throwaway_key
from passerelle.errors import GateError, KernelKilledError, PasserelleError, ScorerKilledError, StateError
from passerelle.loop import judging, tick, train
from passerelle.loop.rollout import PRODUCTION
from passerelle.project.settings import Project
from passerelle.state import runs
from passerelle.state.database import open_state

Delivered = tuple[Project, datetime]


@pytest.fixture
def delivered(tmp_path: Path) -> Delivered:
    """A week of data has been ingested, and nothing was trained."""
    project = make_project(tmp_path / "orders")
    now = deliver(project, 0)
    tick.land(project, now=now)
    return project, now


def fail(project: Project, monkeypatch: pytest.MonkeyPatch, error: BaseException, *, now: datetime) -> None:
    """A run that fails by this error; nothing is executed."""

    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(train, "run_notebook", broken)
    with pytest.raises(type(error)):
        train.train(project, now=now, key=throwaway_key())


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (GateError("worse"), False),
        (KeyboardInterrupt(), True),
        (MemoryError(), True),
        (OSError("no space left"), True),
        (StateError("locked"), True),
        (KernelKilledError(), True),
        (ScorerKilledError(), True),
    ],
)
def test_only_what_would_fail_again_is_remembered_as_the_notebooks_failure(
    delivered: Delivered, error: BaseException, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> None:
    project, now = delivered
    fail(project, monkeypatch, error, now=now)
    (run,) = runs.all(open_state(project.state))
    assert run.details["lasting"] is not again
    assert run.status == ("failed" if again else "refused")
    assert not tick.decide(project, PRODUCTION, now=now).retrain, "too fresh, or for good"
    decided = tick.decide(project, PRODUCTION, now=now + A_DAY)
    assert decided.retrain is again
    assert again or "came to nothing: worse" in decided.reason


def test_rows_are_counted_once_a_day_and_snapshot(delivered: Delivered, monkeypatch: pytest.MonkeyPatch) -> None:
    project, now = delivered
    counts: list[datetime] = []
    count = tick.count_mature

    def counted(*arguments: Any, now: datetime) -> int:
        counts.append(now)
        return count(*arguments, now=now)

    monkeypatch.setattr(tick, "count_mature", counted)
    first = tick.decide(project, PRODUCTION, now=now)
    assert tick.decide(project, PRODUCTION, now=now + A_DAY / 1440) == first
    assert counts == [now]
    tick.decide(project, PRODUCTION, now=now + A_DAY)
    deliver(project, 1)
    tick.land(project, now=now + A_DAY)
    tick.decide(project, PRODUCTION, now=now + A_DAY)
    assert counts == [now, now + A_DAY, now + A_DAY]


def make(project: Project, now: datetime, *, of: str | None = None) -> tick.Trained:
    id_ = of or f"train-production-{tick.training_key(project)}"
    return tick.make(project, id_, reason="why not", now=now, force_gate=False, key=throwaway_key(), on_step=None)


@pytest.mark.parametrize("killed", [KernelKilledError, ScorerKilledError])
def test_a_run_that_is_killed_is_taken_again_and_not_for_ever(
    delivered: Delivered, killed: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, now = delivered
    starts: list[int] = []

    def broken(*_: object, **__: object) -> None:
        starts.append(1)
        raise killed()

    monkeypatch.setattr(train, "run_notebook", broken)
    with pytest.raises(PasserelleError):
        make(project, now)
    assert len(starts) == 3
    (run,) = runs.all(open_state(project.state))
    assert run.details["kills"] == 3
    for _ in range(4):  # deaths of our own process count as attempts, and not as kills
        runs.begin(open_state(project.state), run.key, at=now)
    starts.clear()
    with pytest.raises(PasserelleError):
        make(project, now)
    assert len(starts) == 3


def test_a_training_whose_data_or_code_has_changed_is_not_made(delivered: Delivered) -> None:
    project, now = delivered
    with pytest.raises(StateError, match="has changed since this training was decided"):
        make(project, now, of="train-production-0123456789abcdef0123")
    assert runs.all(open_state(project.state)) == []


def test_a_champion_that_is_killed_within_the_gate_does_not_weaken_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "orders")
    labels = np.array([True, False])
    champion = SimpleNamespace(number=1, path=tmp_path, digest="d")

    def killed(*_: object) -> dict[str, float]:
        raise ScorerKilledError

    monkeypatch.setattr(judging, "measure_bundle", killed)
    tables = cast("Any", {project.data.main: (None, {project.task.target: labels})})
    registry = cast("Any", SimpleNamespace(alias=lambda _: champion))
    with pytest.raises(ScorerKilledError):
        judging.pass_gate(project, registry, {"brier": 0.1}, tables, learnt=labels, classes=(False, True))
