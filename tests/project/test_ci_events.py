"""Which jobs an event starts in each of the three chains, and what they are handed: read from the definitions."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from ci_azure import run_azure, value_of
from ci_runner import Runner, run_github, run_gitlab

from passerelle.loop.chain import JOBS
from passerelle.loop.shared import NEEDED, shared_at
from passerelle.project.scaffold import create

GIVEN = {name: f"given for {name}" for name in (*NEEDED, "PASSERELLE_KEY")}
CHECKS = ["check", "test", "train", "report"]
DEPLOYS = ["deploy-staging", "smoke", "load", "deploy-production"]
Chain = Callable[["Reading"], None]


class Reading(Runner):
    """Machines that run nothing: each job that is begun is noted, with its environment, and ends as it is told to."""

    def __init__(self, repository: Path, work: Path, given: dict[str, str], failing: str = "") -> None:
        super().__init__(repository, work)
        self.given = dict(given)
        self.failing = failing
        self.begun: dict[str, dict[str, str]] = {}

    def _environment(self) -> Path:
        return self.work

    def machine(self, job: str) -> tuple[Path, dict[str, str]]:
        clone = self.work / job / "clone"
        (clone / "report").mkdir(parents=True)
        (clone / "report/page.html").touch()
        return clone, {}

    def shell(self, name: str, script: str, clone: Path, environment: dict[str, str]) -> bool:
        assert clone.is_dir(), name
        found = re.findall(r"passerelle ci run (\S+)", script)
        self.begun |= dict.fromkeys(found, environment)
        return self.failing not in found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("events") / "parcels"
    create(folder, "parcels", task="binary", language="en", time=True, today=date(2026, 3, 2))
    return folder


def gitlab(runner: Reading, source: str, job: str = "", started: str = "", branch: str = "main") -> None:
    runner.given |= {"PASSERELLE_JOB": job} if job else {}
    run_gitlab(runner, source=source, started=started, branch=branch)


#: Event → how each service begins it.
EVENTS: dict[str, list[Chain]] = {
    "push": [run_github, lambda one: gitlab(one, "push"), lambda one: run_azure(one, reason="BatchedCI")],
    "proposal": [
        lambda one: run_github(one, event="pull_request", ref="refs/pull/1/merge"),
        lambda one: gitlab(one, "merge_request_event", branch=""),
        lambda one: run_azure(one, reason="PullRequest", branch="refs/pull/1/merge"),
    ],
    "retrain": [
        lambda one: run_github(one, event="schedule", schedule="17 4 * * *"),
        lambda one: gitlab(one, "schedule"),
        lambda one: run_azure(one, reason="Schedule", schedule="Retrain"),
    ],
    "judge": [
        lambda one: run_github(one, event="schedule", schedule="47 * * * *"),
        lambda one: gitlab(one, "schedule", job="judge"),
        lambda one: run_azure(one, reason="Schedule", schedule="Judge"),
    ],
    "rollback": [
        lambda one: run_github(one, event="workflow_dispatch", job="rollback"),
        lambda one: gitlab(one, "web", started="rollback"),
        lambda one: run_azure(one, reason="Manual", parameter="rollback"),
    ],
    "retrain by hand": [
        lambda one: run_github(one, event="workflow_dispatch", job="retrain"),
        lambda one: gitlab(one, "schedule"),
        lambda one: run_azure(one, reason="Manual"),
    ],
    "judge by hand": [
        lambda one: run_github(one, event="workflow_dispatch", job="judge"),
        lambda one: gitlab(one, "schedule", job="judge"),
        lambda one: run_azure(one, reason="Manual", parameter="judge"),
    ],
}


@pytest.mark.parametrize("service", [0, 1, 2], ids=["github", "gitlab", "azure"])
@pytest.mark.parametrize(
    ("event", "shares", "failing", "begun"),
    [
        ("push", True, "", [*CHECKS, *DEPLOYS]),
        ("push", False, "", CHECKS),
        ("push", True, "test", CHECKS[:2]),
        ("push", True, "train", CHECKS),
        ("push", True, "smoke", [*CHECKS, *DEPLOYS[:2]]),
        ("proposal", True, "", CHECKS),
        ("retrain", True, "", ["retrain", *DEPLOYS]),
        ("retrain", False, "", ["retrain"]),
        ("retrain", True, "retrain", ["retrain"]),
        ("retrain by hand", True, "", ["retrain", *DEPLOYS]),
        ("judge", True, "", ["judge"]),
        ("judge", False, "", []),
        ("judge by hand", True, "", ["judge"]),
        ("rollback", True, "", ["rollback"]),
    ],
)
def test_an_event_begins_its_jobs_and_hands_them_what_they_read(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    service: int,
    event: str,
    *,
    shares: bool,
    failing: str,
    begun: list[str],
) -> None:
    runner = Reading(repository, tmp_path, GIVEN if shares else {}, failing)
    EVENTS[event][service](runner)
    if (service, failing) == (1, "test"):
        begun = [*begun, "report"]  # GitLab's "always" is that: it says that the pages are missing
    assert list(runner.begun) == begun
    for name, environment in runner.begun.items():
        with monkeypatch.context() as patch:
            for variable in GIVEN:
                patch.delenv(variable, raising=False)
            for variable, value in environment.items():
                patch.setenv(variable, value)
            if event == "proposal":
                assert shared_at() is None
            elif shares and JOBS[name].shares != "never":
                assert shared_at() == GIVEN["PASSERELLE_STORE"]
                read = {variable for variable in JOBS[name].reads if variable in GIVEN}
                assert {variable: environment[variable] for variable in read} == {one: GIVEN[one] for one in read}


def test_azures_words_are_read_as_azure_does() -> None:
    """As https://learn.microsoft.com/azure/devops/pipelines/process/expressions says."""
    names = {"variables['shared']": "True", "dependencies.train.result": "Skipped"}
    assert value_of("and(eq(variables['shared'], 'true'), ne(variables['absent'], 'x'))", names, ())
    assert value_of("in(dependencies.train.result, 'Failed', 'skipped')", names, ())
    assert not value_of("or(succeeded(), succeededOrFailed())", names, ["Skipped"])
    with pytest.raises(AssertionError, match="not understood"):
        value_of("contains(variables['shared'], 'T')", names, ())
