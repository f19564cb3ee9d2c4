"""passerelle trial plan: what the planner is told of a project that was just trained, and of one that has lived."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from living import FIRST, Take, make_project

from passerelle.cli import main
from passerelle.errors import DeploymentError
from passerelle.loop.forecasting import forecast_trial
from passerelle.loop.train import registry_of
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.trial import trials


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The verb goes to the project's folder; the test comes back."""
    monkeypatch.chdir(tmp_path)


def asked(project: Project, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["-C", str(project.root), "trial", "plan", *arguments])


def test_after_one_training_it_plans_from_the_rows_that_were_held_out(take: Take) -> None:
    project, _ = take("delivered")
    version = registry_of(project).get(1)
    result = asked(project, "--json", "--margin", "0.5")
    found = json.loads(result.stdout)
    assert found["champion"] == 1
    assert found["reference"] == pytest.approx(version.metrics["brier"])
    assert "held out when it was trained" in found["source"]
    forecast = found["forecast"]
    assert forecast["margin"] == pytest.approx(0.5 * version.metrics["brier"])
    assert (forecast["unit"], forecast["mode"], forecast["max_days"]) == ("day", "shadow", 9)
    assert forecast["horizon_days"] == 0.5
    assert result.exit_code == (3 if forecast["refused"] else 0)
    assert forecast["split"]["deviation"] > forecast["shadow"]["deviation"]


def test_a_person_reads_what_is_refused_and_what_would_do(take: Take) -> None:
    project, _ = take("delivered")
    result = asked(project, "--margin", "0.0001", "--mode", "split")
    assert result.exit_code == 3
    lines = result.output.splitlines()
    assert lines[0].startswith("A trial against version 1 in production, in split: margin 0.0001 of its loss, ")
    (refused,) = [line for line in lines if line.startswith("REFUSED: ")]
    assert "cannot be resolved in 9 days" in refused
    (share,) = [line for line in lines if "[trial] margin = " in line]
    wider = share.split("[trial] margin = ")[1].rstrip(".")
    again = asked(project, "--margin", wider, "--mode", "split")
    assert again.exit_code == 0, again.output
    assert "half of all trials have their verdict by" in again.output
    absurd = asked(project, "--margin", "1000")
    assert absurd.exit_code == 1
    assert "every challenger would keep to it. Say a smaller one" in absurd.output
    poor = asked(project, "--margin", wider, "--mode", "split", "--per-day", "1")
    assert poor.exit_code == 3
    granted = "Taken for granted: days differ by as much at that traffic; of fewer events, by more."
    assert (granted in poor.output, granted in again.output) == (True, False)


def test_of_what_has_lived_it_reads_the_ledger_and_the_trials_before(take: Take) -> None:
    project, now = take("tried")
    registry = registry_of(project)
    found = forecast_trial(project, registry, environment="production", now=now)
    assert found.source.startswith("version 1 on ")
    assert "mature events, " in found.source
    assert found.forecast.assumed != ()
    # Days of a trial that is long enough say how days vary.
    engine = open_state(project.state)
    (record,) = trials.history(engine, "production")
    blocks = trials.blocks(engine, record.plan.id)
    days = np.array([0.01, -0.02, 0.03, 0.0, 0.01, -0.01, 0.02, -0.03])
    for number, difference in enumerate(days.tolist()):
        start = FIRST.replace(month=3, day=1 + number)
        trials.keep(engine, record.plan.id, msgspec.structs.replace(blocks[0], start=start, difference=difference))
    known = forecast_trial(project, registry, environment="production", now=now)
    every = [one.difference for one in blocks] + days.tolist()
    assert known.forecast.shadow.deviation == pytest.approx(np.std(every, ddof=1))
    assert f"days as in trial {record.plan.id}" in known.source
    assert known.forecast.assumed == ()


def test_without_a_version_it_says_what_comes_first(tmp_path: Path) -> None:
    project = make_project(tmp_path / "orders")
    with pytest.raises(DeploymentError, match="passerelle train makes the first"):
        forecast_trial(project, registry_of(project), environment="production", now=FIRST)
    result = asked(project)
    assert result.exit_code == 1
    assert "there is no version yet" in result.output
