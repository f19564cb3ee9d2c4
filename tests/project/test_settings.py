"""passerelle.toml: what is wrong is named, with the near key, and nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from passerelle.errors import SettingsError
from passerelle.project.settings import Costs, Project, find_project, load_project

GOOD = """
[project]
name = "trips"
[task]
kind = "binary"
target = "late"
key = ["id"]
"""


def load(folder: Path, text: str) -> object:
    path = folder / "passerelle.toml"
    path.write_text(text, encoding="utf-8")
    return load_project(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("target", "targt"), "unknown key 'task.targt': did you mean 'target'?"),
        (GOOD + "[costs]\nmised = 1\n", "unknown key 'costs.mised': did you mean 'missed'?"),
        (GOOD + "[costs]\naction = 0\n", "(at costs.action)"),
        (GOOD + "[loop]\nretrain_cost = 9.0\n", "loop.retrain_cost is 9, in the unit of [costs], which is not there"),
        (
            GOOD + '[monitoring]\nslices = ["name"]\n[privacy]\nname = "hash"\n',
            "monitoring.slices names 'name', which privacy says to hash: a slice would show its values",
        ),
        (GOOD + '[monitoring]\nslices = ["a", "b", "c", "d", "e", "f"]\n', "(at monitoring.slices)"),
        ('root = "/"\n' + GOOD, "unknown key 'root': the keys here are project, task"),
        (GOOD + "[serv]\nport = 1\n", "unknown key 'serv': did you mean 'serving'?"),
        (GOOD + "[serving]\nzzz = 1\n", "unknown key 'serving.zzz': the keys here are host, port"),
        (GOOD + '[gate]\nmargin = "3 %"\n', "expected `float`, got `str` (at gate.margin)"),
        (GOOD + "[gate]\nmargin = -1\n", "(at gate.margin)"),
        (GOOD + "[gate]\nmargin = inf\n", "gate.margin is inf: give a number that is finite"),
        (GOOD + "[loop]\ncooldown_hours = nan\n", "loop.cooldown_hours is nan: give a number that is finite"),
        (GOOD + "[trial]\ncap = 1e999\n", "trial.cap is inf: give"),
        (GOOD + '[[rules]]\nwatch = "volume"\nthreshold = inf\n', "rules.threshold is inf: give"),
        (
            GOOD + '[[rules]]\nwatch = "volume"\nthreshold = 0.5\n',
            "'volume' in [[rules]] is 0.5; it is how many times fewer or more events a day may have than usual: say a",
        ),
        (GOOD + '[[rules]]\nwatch = "performance"\nthreshold = 1\n', "say a number above 1."),
        (GOOD + '[[rules]]\nwatch = "errors"\nthreshold = 100\n', "which nothing exceeds: say less than 100."),
        (GOOD + '[[rules]]\nwatch = "loop"\nthreshold = 5\n', "that rule has none: leave the threshold out."),
        (GOOD + '[[acceptance]]\nname = "a"\nfigure = "auc"\nat_least = -inf\n', "acceptance.at_least is -inf: give"),
        (GOOD.replace('"binary"', '"yes"'), "invalid enum value 'yes' (at task.kind): name one of binary, multiclass"),
        (GOOD.replace('"binary"', '"binry"'), "(at task.kind): did you mean 'binary'?"),
        (GOOD + '[serving]\nledger = "durabel"\n', "(at serving.ledger): did you mean 'durable'?"),
        (GOOD + '[privacy]\ncarrier = "hsh"\n', "did you mean 'hash'?"),
        (GOOD + '[gate]\nmetric = "aucc"\n', "(at gate.metric): did you mean 'auc'?"),
        (GOOD.replace('key = ["id"]', ""), "missing required field `key` (at task)"),
        (GOOD + "[[milestones]]\nname = 'x'\nstrat = 1\n", "unknown key 'milestones.strat': did you mean 'start'?"),
        (GOOD + "[gate\n", "is not TOML"),
        (
            GOOD + '[gate]\nmetric = "rmse"\n',
            "gate.metric is 'rmse', which a binary task has not: name one of log_loss",
        ),
        (GOOD + '[privacy]\nid = "hash"\n', "privacy.id is 'hash', and id is part of task.key"),
        (
            GOOD + '[[acceptance]]\nname = "error"\nfigure = "mae"\nat_most = 3\n',
            "the acceptance figure 'mae' of 'error' is never measured in a binary task",
        ),
        (GOOD.replace('"trips"', '"Trips!"'), "(at project.name)"),
        (
            GOOD + "[trial]\nmin_days = 80\n",
            "trial.min_days is 80 and trial.max_days 60: every trial would end before its first verdict",
        ),
        (
            GOOD + "[trial]\nindependent_rows = true\n",
            "'trial.independent_rows' is no key any more: say trial.evidence = \"rows\" for true",
        ),
        (GOOD + '[trial]\nevidence = "row"\n', "(at trial.evidence): did you mean 'rows'?"),
        (GOOD + '[trial]\nevidence = "units"\n', "trial.evidence is 'units', and task.unit does not say who they are"),
        (GOOD + '[trial]\nloss = "log_loss"\nevidence = "rows"\n', "trial.evidence = 'rows' needs a bounded loss"),
        (GOOD + "[trial]\nsteps = [0.1, 0.5]\n", "trial.steps are shares of a split, and trial.mode is 'shadow'"),
        (GOOD + '[trial]\nmode = "split"\nsteps = [0.5, 0.1]\n', "let each share be larger than the one before"),
        (GOOD + '[trial]\nevidence = "weeks"\nmax_days = 41\n', "no verdict on weeks comes before 6 of them: say 42"),
        (
            GOOD.replace("[task]\n", '[task]\nunit = "who"\n')
            + '[trial]\nmode = "split"\nevidence = "units"\nsteps = [0.1, 0.5]\n',
            "trial.steps move units to the challenger: those that move are observed for a shorter time",
        ),
        (
            GOOD.replace("[task]\n", '[task]\nunit = "who"\n') + '[trial]\nevidence = "units"\nunit_days = 60\n',
            "trial.unit_days is 60 and trial.max_days 60: no unit would be complete",
        ),
        (
            GOOD + '[[trial.guardrails]]\nwatch = "errors"\n[[trial.guardrails]]\nwatch = "errors"\n',
            "[[trial.guardrails]] says 'errors' twice",
        ),
        (
            GOOD + '[trial]\nmode = "split"\n[[trial.guardrails]]\nwatch = "latency"\n',
            "the guardrail on latency in [[trial.guardrails]] says no limit_ms: name the milliseconds",
        ),
        (
            GOOD + '[[trial.guardrails]]\nwatch = "errors"\nlimit_ms = 50\n',
            "limit_ms belongs to a guardrail on latency, and this one of [[trial.guardrails]] watches 'errors'",
        ),
        (
            GOOD + '[[trial.guardrails]]\nwatch = "latency"\nlimit_ms = 50\n',
            "watches the latency, and trial.mode is 'shadow': a shadow is scored beside the serving path",
        ),
        (
            GOOD + '[trial]\nmode = "split"\n[[trial.guardrails]]\nwatch = "latency"\nlimit_ms = 0\n',
            "limit_ms",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert str(tmp_path / "passerelle.toml") in str(caught.value)


def test_defaults_and_the_metric_of_the_task(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    load(tmp_path, GOOD)
    project = find_project(tmp_path / "below")
    assert project.root == tmp_path.resolve()
    assert (project.metric, project.serving.port, project.state) == (
        "log_loss",
        8700,
        tmp_path.resolve() / ".passerelle",
    )
    load(tmp_path, GOOD.replace('"binary"', '"regression"'))
    assert find_project(tmp_path).metric == "rmse"


@pytest.mark.parametrize(
    "address", ["https://a.b/c?key=hunter2", "mailto://me:hunter2@a.b", "hunter2\\n", "2hunter2", ""]
)
def test_an_address_in_place_of_a_variable_is_refused_and_not_repeated(tmp_path: Path, address: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, GOOD + f'[alerts]\nchannels = ["OPERATIONS_CHANNEL", "{address}"]\n')
    assert "alerts.channels[1] is not the name of an environment variable (letters, digits, _)" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "a.b" not in str(caught.value)


def test_a_first_verdict_on_the_last_day_is_allowed(tmp_path: Path) -> None:
    load(tmp_path, GOOD + "[trial]\nmin_days = 60\n")


def test_costs_that_are_not_declared_are_told_from_those_that_are(tmp_path: Path) -> None:
    project = load(tmp_path, GOOD)
    assert isinstance(project, Project)
    assert (project.costs, project.assumed_costs) == (None, Costs())
    declared = load(tmp_path, GOOD + "[costs]\n[loop]\nretrain_cost = 9.0\n")
    assert isinstance(declared, Project)
    assert (declared.costs, declared.assumed_costs) == (Costs(), Costs())


def test_no_project_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="passerelle new NAME"):
        find_project(tmp_path)
