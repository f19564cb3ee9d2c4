"""The verbs of targets on this machine: what they say, what they end with, and that a plan changes nothing."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from shelf import Shelf

from passerelle.adapters import local
from passerelle.cli import main
from passerelle.loop import train
from passerelle.loop.rollout import revisions
from passerelle.project.settings import Project, load_project
from passerelle.serving.observation import Observation, observe

SETTINGS = """
[project]
name = "orders"

[task]
kind = "binary"
target = "late"
key = ["order"]

[targets.here]
kind = "local"

[targets.stage]
kind = "local"
environment = "staging"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "passerelle.toml").write_text(SETTINGS)
    found = load_project(tmp_path / "passerelle.toml")
    shelf = Shelf(found)
    monkeypatch.setattr(train, "registry_of", lambda _: shelf)
    monkeypatch.setattr(local.LocalTarget.__init__, "__kwdefaults__", {"wait_s": 0.2})
    monkeypatch.chdir(tmp_path)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def work(project: Project, revision: int | None, **said: Any) -> None:
    """A worker of production says what it has applied."""
    folder = project.state / "deployments" / "production"
    observe(folder, "w0", Observation(pid=os.getpid(), revision=revision, at=datetime.now(UTC), **said))


def test_plan_changes_nothing(project: Project) -> None:
    answer = run("deploy", "1", "--plan")
    assert answer.exit_code == 0, answer.output
    assert answer.output.splitlines() == [
        "production would be at revision 1: version 1. Nothing was changed.",
        "here, production: 1 step to revision 1",
        "  + worker production/w0",
        "      revision: 1",
        "  note: no endpoint runs here: start passerelle serve --to production.",
    ]
    assert revisions(project, "production").numbers() == []
    made = json.loads(run("deploy", "1", "--plan", "--json").stdout)
    assert (made["revision"], made["plans"][0]["steps"][0]["act"]) == (1, "create")
    assert revisions(project, "production").numbers() == []


def test_deploy_tells_the_revision_and_what_failed(project: Project) -> None:
    answer = run("deploy", "1")
    assert answer.exit_code == 1
    assert "production is at revision 1: version 1." in answer.output
    assert "here: after 0.2 s revision 1 is not applied by w0: is passerelle serve running" in answer.output
    assert revisions(project, "production").numbers() == [1]
    work(project, 1)
    answer = run("deploy", "--json")
    assert answer.exit_code == 0
    made = json.loads(answer.stdout)
    assert (made["revision"], made["targets"][0]["applied"]["observed"]["state"]) == (1, "serving")


@pytest.mark.usefixtures("project")
def test_a_roll_back_says_who_answers_again() -> None:
    for version in ("1", "2"):
        run("deploy", version)
    said = "roll back from revision 2 to what revision 1 said.\nAnswering again: version 1.\n"
    assert f"production is at revision 3: {said}" in run("rollback").output


def test_change_is_planned_like_a_diff(project: Project) -> None:
    work(project, None)
    run("deploy", "1")
    work(project, 1)
    assert run("deploy", "2", "--plan").output.splitlines()[1:] == [
        "here, production: 1 step to revision 2",
        "  ~ worker production/w0",
        "      revision: 1 -> 2",
    ]


def test_status_says_what_answers_and_what_should(project: Project) -> None:
    assert run("target", "status").exit_code == 0  # nothing is deployed, nothing answers
    work(project, None)
    run("deploy", "1")
    work(project, 1)
    answer = run("target", "status", "here")
    assert answer.exit_code == 0
    assert answer.output.splitlines() == [
        "here, production: serving; revision 1 answers, which is the current one",
        "  worker production/w0",
    ]
    work(project, 1, refused=2, problem="no such bundle")
    answer = run("target", "status")
    assert answer.exit_code == 1
    assert "problem: w0 refused revision 2: no such bundle" in answer.output


def test_removal_is_refused_while_the_endpoint_runs(project: Project) -> None:
    work(project, 1)
    answer = run("target", "remove", "here", "--yes")
    assert answer.exit_code == 3
    assert "end passerelle serve, or up, first. (rule endpoint-runs)" in answer.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("deploy", "1", "--target", "there"), 2, "there is no target 'there': the targets are here, stage"),
        (
            ("deploy", "1", "--to", "production", "--target", "stage"),
            2,
            "target 'stage' is for staging, not for production",
        ),
        (("target", "status", "there"), 2, "there is no target 'there'"),
        (("target", "logs", "here"), 1, "here: the log of a target of kind local is not read from here: look where"),
        (("target", "logs", "there"), 2, "there is no target 'there'"),
        (("target", "remove", "there", "--yes"), 2, "there is no target 'there'"),
        (("deploy",), 1, "nothing is deployed in production: passerelle deploy VERSION"),
        (("deploy", "--share", "0.5"), 2, "are about a VERSION: name it"),
    ],
)
def test_what_cannot_be_done_says_what_can(project: Project, arguments: tuple[str, ...], code: int, words: str) -> None:
    answer = run(*arguments)
    assert (answer.exit_code, words in answer.output) == (code, True), answer.output
    assert revisions(project, "production").numbers() == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("deploy", "--plan", "--json"), 1, "nothing is deployed in production: passerelle deploy VERSION"),
        (("target", "status", "there", "--json"), 2, "there is no target 'there'"),
        (("deploy", "--shadow", "--json"), 2, "--share, --shadow and --reason are about a VERSION: name it."),
        (("deploy", "one", "--json"), 2, "'one' is not a valid integer"),
        (
            ("target", "remove", "stage", "--json"),
            1,
            "it was not confirmed, so nothing was done: the same with --yes does it unasked.",
        ),
    ],
)
def test_failure_is_an_object_for_a_program(
    project: Project, arguments: tuple[str, ...], code: int, words: str
) -> None:
    answer = run(*arguments)
    found = json.loads(answer.stdout)
    assert (answer.exit_code, found["exit_code"], set(found)) == (code, code, {"error", "exit_code"})
    assert words in found["error"]
    assert answer.stderr
    assert run(*(one for one in arguments if one != "--json")).stdout == ""
    assert revisions(project, "production").numbers() == []


def test_first_target_is_not_to_be_chosen_among_none(project: Project) -> None:
    path = project.root / "passerelle.toml"
    path.write_text(path.read_text().partition("[targets.here]")[0])
    for verb in (("deploy", "1"), ("target", "logs")):
        arguments = (*verb, "--target", "sea") if verb[0] == "deploy" else (*verb, "sea")
        answer = run(*arguments)
        words = "there is no target 'sea', and no other yet: add [targets.sea] to passerelle.toml.\n"
        assert (answer.exit_code, answer.stderr) == (2, f"passerelle: {words}")
