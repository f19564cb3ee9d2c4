"""What a day will lose is estimated when it closes: a harder day is seen, a changed world is not; it calls nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from watched import DAY, FEBRUARY, live, make_project

from passerelle.metrics import row_losses
from passerelle.monitoring.alerts import find_alerts
from passerelle.monitoring.estimating import estimate, judge
from passerelle.monitoring.measuring import expected_loss
from passerelle.monitoring.parts import Bin, binned
from passerelle.monitoring.watching import watch
from passerelle.monitoring.windows import keep_window, read_windows
from passerelle.project.settings import Project, load_project
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.timeline import events


def _estimates(project: Project) -> list[dict[str, Any]]:
    return [one.value for one in read_windows(open_state(project.state), "production", "estimated")]


def _losses(project: Project) -> list[float]:
    windows = read_windows(open_state(project.state), "production", "performance")
    return [one.value["loss"] for one in windows if one.value["loss"] is not None]


def test_a_harder_day_is_seen_before_its_outcomes_and_said_once(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 12, events=100, said=(0.05, 0.15))
    live(project, FEBRUARY + 12 * DAY, [0.0] * 4, events=100, said=(0.4, 0.6))
    watch(project, "production", now=FEBRUARY + 14 * DAY)  # two of them have closed, and none is mature
    found = _estimates(project)
    losses = _losses(project)
    assert len(losses) == 12
    assert [one["warning"] for one in found] == [False] * 12 + [True] * 2
    assert found[13]["rows"] == 100
    assert found[13]["loss"] == pytest.approx(0.25, abs=0.01)
    off = [abs(one["loss"] - loss) for one, loss in zip(found, losses, strict=False)]
    assert found[13]["past_days"] == 12
    assert found[13]["past_error"] == pytest.approx(np.mean(off))
    engine = open_state(project.state)
    [told] = events(engine, kind="warning")
    assert told.sentence.startswith("the answers of 2013-02-13 are expected to lose 0.247, and 0.0804 is usual")
    assert [alert.watch for alert in find_alerts(engine, "production") if alert.level == "page"] == []
    watch(project, "production", now=FEBRUARY + 16 * DAY)
    assert _estimates(project)[:14] == found, "an estimate is not made again"
    assert len(events(engine, kind="warning")) == 1


def test_a_world_that_has_changed_is_not_seen(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0] * 10 + [0.4] * 2)
    watch(project, "production", now=FEBRUARY + 12 * DAY + DAY / 2)
    changed = _estimates(project)[10]
    assert (changed["past_days"], changed["warning"]) == (9, False)
    assert _losses(project)[10] > 1.5 * changed["loss"]


def test_looked_at_late_or_after_an_older_version_it_says_what_was_known_then(tmp_path: Path) -> None:
    daily, late = make_project(tmp_path / "daily"), make_project(tmp_path / "late")
    for project in (daily, late):
        live(project, FEBRUARY, [0.2] * 10, events=60)
    for day in (2, 7, 9):
        watch(daily, "production", now=FEBRUARY + day * DAY)
    watch(late, "production", now=FEBRUARY + 9 * DAY)
    found = _estimates(late)
    assert _estimates(daily) == found
    assert [one["past_error"] is None for one in found] == [True] * 6 + [False] * 3
    # Days measured by a version that kept neither calibration nor estimates: answers are taken as they are.
    engine = open_state(late.state)
    windows = read_windows(engine, "production", "performance")
    with writing(engine) as connection:
        connection.execute(tables.windows.delete().where(tables.windows.c.watch == "estimated"))
        for one in windows:
            value = {name: one.value[name] for name in one.value if name not in ("bins", "cost", "slices")}
            keep_window(connection, "production", msgspec.structs.replace(one, value=value))
    watch(late, "production", now=FEBRUARY + 9 * DAY)
    plain = [one["loss"] for one in _estimates(late)]
    assert plain[:7] == pytest.approx([one.value["expected"] for one in windows[:7]])
    assert plain[:6] == [one["loss"] for one in found[:6]]
    assert found[7]["loss"] > plain[7] + 0.01, "more came true than was said"


def test_of_numbers_nothing_is_estimated(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    settings = project.root / "passerelle.toml"
    settings.write_text(settings.read_text().replace('"binary"', '"regression"'))
    project = load_project(settings)
    live(project, FEBRUARY, [0.0] * 4, events=20)
    watch(project, "production", now=FEBRUARY + 4 * DAY)
    assert len(_losses(project)) == 2
    assert _estimates(project) == []


def test_what_came_true_of_such_answers_sets_them_right() -> None:
    random = np.random.default_rng(5)
    said = random.uniform(0.1, 0.5, (4000, 1))
    happened = random.random(4000) < said[:, 0] + 0.25  # a model that is too sure of a no
    kept = binned(said[:, 0], happened)
    truth = row_losses("brier", said, happened).mean()
    naive = estimate(said, (), task="binary", loss="brier", cap=None)
    mended = estimate(said, kept, task="binary", loss="brier", cap=None)
    assert naive is not None
    assert mended is not None
    assert abs(mended - truth) < 0.01
    assert abs(naive - truth) > 0.05


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=30), st.sampled_from(["brier", "zero_one", "log_loss"]))
def test_without_mature_days_it_is_what_the_model_expects_of_itself(said: list[float], loss: Any) -> None:
    both = np.array(said)[:, None]
    several = np.column_stack([both * 0.5, both * 0.5, 1 - both])
    for outputs, task in ((both, "binary"), (several, "multiclass")):
        own = expected_loss(loss, outputs, task)  # type: ignore[arg-type]
        assert own is not None
        found = estimate(outputs, (), task=task, loss=loss, cap=None)  # type: ignore[arg-type]
        assert found == pytest.approx(own.mean(), abs=1e-9)


def test_numbers_expect_nothing_and_few_past_days_warn_of_nothing() -> None:
    assert estimate(np.array([[3.0]]), (), task="regression", loss="squared", cap=None) is None
    assert (
        estimate(np.zeros((0, 1)), (Bin(rows=1, score=0.1, positives=1),), task="binary", loss="brier", cap=None)
        is None
    )
    four = judge(900, 0.9, [(0.1, 0.1)] * 4, reference=0.1)
    assert (four.past_error, four.past_days, four.warning) == (None, 4, False)
    rough = judge(900, 0.2, [(0.1, 0.2)] * 10, reference=0.1)
    assert (rough.past_error, rough.warning) == (pytest.approx(0.1), False)
    assert judge(900, 0.31, [(0.1, 0.2)] * 10, reference=0.1).warning
