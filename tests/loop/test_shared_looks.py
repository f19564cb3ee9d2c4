"""Verbs that only look, where machines share a state: they show what the others have written since."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from sea import PLACES, SEA, Sea
from shelf import Shelf

from passerelle.cli import main
from passerelle.loop.rollout import deploy
from passerelle.loop.shared import NEEDED
from passerelle.loop.targets import bring
from passerelle.project.scaffold import create
from passerelle.project.settings import Project, load_project
from passerelle.state.lease import lease
from passerelle.state.sharing import shared
from passerelle.testing.targets import MemoryPlace

pytest.importorskip("obstore")

NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Another machine, that shares a folder and whose target answers by revision 1."""
    monkeypatch.setattr("passerelle.deployment.applying.load", lambda _: Sea)
    PLACES.update(sea=MemoryPlace())
    create(tmp_path / "other", "orders", task="binary", language="en", time=False, today=NOW.date())
    found = load_project(tmp_path / "other" / "passerelle.toml")
    other = msgspec.structs.replace(found, targets={"sea": SEA})
    (tmp_path / "store").mkdir()
    put(other, 1)
    return other


def put(other: Project, version: int) -> None:
    with shared(other.state, "orders", str(other.root.parent / "store"), wait_s=30):
        deploy(other, Shelf(other), version, now=NOW)  # type: ignore[arg-type]
        bring(other, "production", now=NOW)


@pytest.fixture
def here(tmp_path: Path, other: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A clone on this machine, that was in step with revision 1; the other has made revision 2 since."""
    shutil.copytree(other.root, tmp_path / "here", ignore=shutil.ignore_patterns(".passerelle"))
    here = msgspec.structs.replace(load_project(tmp_path / "here" / "passerelle.toml"), targets=other.targets)
    with shared(here.state, "orders", str(tmp_path / "store"), wait_s=None, keep=False):
        pass
    put(other, 2)
    for variable, value in zip(
        NEEDED,
        ("postgresql+psycopg://127.0.0.1:1/nobody", f"sqlite:///{tmp_path}/versions.db", str(tmp_path / "store")),
        strict=True,
    ):
        monkeypatch.setenv(variable, value)
    for variable in ("GITHUB_EVENT_NAME", "CI_PIPELINE_SOURCE", "BUILD_REASON"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("passerelle.cli.group.project_of", lambda _: here)
    monkeypatch.chdir(here.root)
    return here


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_status_of_a_target_is_told_by_the_newest_revision(here: Project) -> None:
    seen = run("target", "status", "--json")
    found = json.loads(seen.stdout)["sea"]
    assert (seen.exit_code, found["wanted"], found["observed"]["revision"], found["due"]) == (0, 2, 2, [])
    assert "Shared: orders, begun at head 2 of the store." in seen.stderr
    assert sorted(path.name for path in (here.state / "deployments" / "production").glob("0*.json")) == [
        "000001.json",
        "000002.json",
    ]


def test_look_beside_who_works_in_the_folder_says_as_of_when_it_is(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("passerelle.state.sharing._LOOK_S", 0.0)
    with monkeypatch.context() as patch:
        for variable in NEEDED:
            patch.delenv(variable)
        held = lease(here.state, "share")
        held.__enter__()  # until the variables are set again
    seen = run("target", "status", "--json")
    held.__exit__(None, None, None)
    assert (seen.exit_code, json.loads(seen.stdout)["sea"]["wanted"]) == (1, 1)
    assert "Shared: orders, as of head 1 of the store, and not newer: this folder is being worked in (" in seen.stderr
    assert "holds the lease 'share'" in seen.stderr


@pytest.mark.parametrize(
    "verb",
    [
        ("alerts",),
        ("trial", "status"),
        ("trial", "replay", "t-1"),
        ("versions",),
        ("note",),
        ("report", "out"),
        ("deploy", "--plan"),
        ("target", "remove", "sea", "--plan"),
    ],
    ids=" ".join,
)
def test_look_brings_down_what_the_others_have_written(here: Project, verb: tuple[str, ...]) -> None:
    seen = run(*verb)  # nobody answers for the database, which some ask afterwards
    assert "Shared: orders, begun at head 2 of the store." in seen.stderr
    assert (here.state / "deployments" / "production" / "000002.json").exists()
