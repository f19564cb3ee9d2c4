"""passerelle trial status: how a trial stands, for a manager, and whether a person is waited for."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest
from click.testing import CliRunner
from living import A_DAY, FIRST, answer_day, make_project
from shelf import Shelf

from passerelle.cli import main
from passerelle.loop import trying
from passerelle.loop.rollout import roll_back
from passerelle.loop.trying import advance, begin
from passerelle.project.settings import Project, load_project
from passerelle.registry.versions import Registry
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.judging import judge

NOON = FIRST + timedelta(hours=12)


def begun(root: Path, more: str = "", *, environment: str = "production") -> tuple[Project, Registry]:
    """A project in which version 2 is tried against version 1."""
    project = make_project(root, more)
    registry = cast("Registry", Shelf(project))
    for version in (1, 2):
        begin(project, registry, version, environment=environment, salt="s", now=NOON)
    return project, registry


def lived(project: Project, registry: Registry, *, days: int, challenger: float) -> None:
    """Days of production, a tick at noon after each."""
    for number in range(1, days + 1):
        answer_day(project, FIRST + number * A_DAY, challenger=challenger)
        advance(project, registry, now=FIRST + (number + 1) * A_DAY + timedelta(hours=13))


def status(project: Project, *arguments: str) -> list[str]:
    result = CliRunner().invoke(main, ["-C", str(project.root), "trial", "status", *arguments])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The verb goes to the project's folder; the test comes back."""
    monkeypatch.chdir(tmp_path)


def test_of_a_trial_that_goes_on_it_says_what_was_found_and_what_is_missing(tmp_path: Path) -> None:
    project, registry = begun(tmp_path / "orders")
    missing = "3 more of the 3 days that a verdict needs are missing; at this pace a verdict comes around 09 Jan 2026"
    head = "production-2-2  running  version 2 against version 1 in shadow, since 2026-01-05 12:00 UTC"
    assert status(project) == [
        head,
        "  0 days of evidence and 0 mature events so far; a verdict needs 3 days, and comes within 9.",
        f"  KEEP GOING: version 2 and version 1 have no mature event to compare yet; {missing}.",
    ]
    lived(project, registry, days=2, challenger=0.2)
    now = status(project)
    assert now[:2] == [
        head,
        "  2 days of evidence and 40 mature events so far; a verdict needs 3 days, and comes within 9.",
    ]
    assert now[2].startswith("  KEEP GOING: version 2 lost 0.0")
    assert "1 more of the 3 days that a verdict needs are missing" in now[2]
    assert len(now) == 3
    assert status(project, "production-2-2")[:3] == now
    assert json.loads("\n".join(status(project, "--json")))[0]["status"] == "running"


def test_of_a_split_it_says_whom_the_challenger_answers(tmp_path: Path) -> None:
    project, _ = begun(tmp_path / "orders", 'mode = "split"\nshare = 0.25\n')
    assert "  running  version 2 against version 1 on 25% of the units, since 2026" in status(project)[0]


@pytest.mark.parametrize(
    ("approval", "said"),
    [
        ("human", "  It waits for you: passerelle trial approve | passerelle trial refuse"),
        ("automatic", "  The loop executes it at its next look (passerelle up)."),
    ],
)
def test_a_verdict_that_is_not_executed_says_who_is_to_act(
    tmp_path: Path, approval: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, registry = begun(tmp_path / "orders")
    settings = project.root / "passerelle.toml"
    settings.write_text(settings.read_text().replace("[loop]", f'[loop]\napproval = "{approval}"'))
    with monkeypatch.context() as cut:  # the loop ends between the verdict and what it says
        cut.setattr(trying, "execute", lambda _project, _registry, record, **_: record)
        lived(load_project(settings), registry, days=9, challenger=0.2)
    head, sentence, last = status(project)
    assert head.startswith("production-2-2  decided  version 2 against version 1 in shadow")
    assert sentence.startswith("  PROMOTE: version 2 lost ")
    assert last == said
    assert said in status(project, "production-2-2")
    roll_back(project, now=NOON + 9 * A_DAY)
    assert status(project) == [head, sentence], "a person's revision has answered"


def test_of_a_trial_that_is_over_it_says_what_was_done(tmp_path: Path) -> None:
    project, registry = begun(tmp_path / "orders")
    lived(project, registry, days=9, challenger=0.2)
    head, sentence, done = status(project)
    assert head.startswith("production-2-2  ended  ")
    assert sentence.startswith("  PROMOTE: ")
    assert done == "  PROMOTE, version 2 answers alone from revision 3"


def test_a_staging_trial_is_answered_in_staging(tmp_path: Path) -> None:
    project, _ = begun(tmp_path / "orders", environment="staging")
    settings = project.root / "passerelle.toml"
    settings.write_text(settings.read_text().replace("[loop]", '[loop]\napproval = "human"'))
    engine = open_state(project.state)
    verdict = judge(trials.history(engine, "staging")[0].plan, [], now=FIRST + 99 * A_DAY)
    trials.decide(engine, "staging-2-2", verdict, at=NOON, delta={}, digest="")
    assert status(project, "--to", "staging")[-1] == (
        "  It waits for you: passerelle trial approve --to staging | passerelle trial refuse --to staging"
    )
