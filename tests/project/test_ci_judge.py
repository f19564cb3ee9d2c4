"""The job judge, and verbs typed by hand, from fresh clones on a shared state: a trial comes to its verdict there."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest
from ci_runner import Runner, run_gitlab
from living import A_DAY, FIRST, SETTINGS, answer_day
from postgresql_server import running_server
from shelf import KEY, Shelf
from test_ci_jobs import commit

from passerelle.bundle.keys import public_hex, trust
from passerelle.bundle.manifest import read_manifest
from passerelle.bundle.seal import Bundle
from passerelle.loop.shared import at_work
from passerelle.loop.train import registry_of
from passerelle.loop.trying import begin
from passerelle.project.scaffold import create
from passerelle.project.settings import load_project

pytest.importorskip("obstore")
pytestmark = pytest.mark.timeout(600)

UNIT = "0107-3"


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    """A project that shares all: version 2 is tried against version 1, and a week was answered and turned out."""
    folder = tmp_path / "orders"
    create(folder, "orders", task="binary", language="en", time=True, today=date(2026, 3, 2))
    (folder / "passerelle.toml").write_text(SETTINGS)
    trust(folder / ".passerelle", public_hex(KEY))
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    commit(folder, "A new project")
    with running_server() as database:
        made = Runner(folder, tmp_path / "runs")
        made.given = {
            "PASSERELLE_STATE_URL": database,
            "PASSERELLE_REGISTRY_URI": database,
            "PASSERELLE_STORE": str(tmp_path / "store"),
        }
        with monkeypatch.context() as patch:
            for name, value in made.given.items():
                patch.setenv(name, value)
            clone, _ = made.machine("before")
            project = load_project(clone / "passerelle.toml")
            with at_work(project):
                registry = registry_of(project)
                for version in Shelf(project).versions()[:2]:
                    manifest, digest = read_manifest(version.path)
                    bundle = Bundle(path=version.path, digest=digest, manifest=manifest)
                    registry.register(bundle, key=f"{version.number}", metrics=version.metrics)
                noon = FIRST + timedelta(hours=12)
                assert begin(project, registry, 1, now=noon) is None
                assert begin(project, registry, 2, now=noon) is not None
                for day in range(1, 8):
                    answer_day(project, FIRST + day * A_DAY, challenger=0.2)
        yield made


def ask(runner: Runner, question: str) -> list[tuple[object, ...]]:
    with psycopg.connect(runner.given["PASSERELLE_STATE_URL"].replace("+psycopg", "")) as connection:
        return connection.execute(question).fetchall()  # type: ignore[call-overload, no-any-return]


def newest(store: Path) -> dict[str, object]:
    files: dict[str, object] = json.loads(max((store / "heads").iterdir()).read_bytes())["files"]
    return files


def holding(store: Path, unit: str) -> int:
    """How many contents in the store hold a unit."""
    found = 0
    for path in (store / "objects").iterdir():
        content = path.read_bytes()
        if content.startswith(b"PAR1"):
            content = str(pq.read_table(io.BytesIO(content)).to_pylist()).encode()
        found += unit.encode() in content
    return found


def by_hand(runner: Runner, machine: str, *words: str, given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    clone, environment = runner.machine(machine)
    command = [Path(sys.executable).with_name("passerelle"), *words]
    return subprocess.run(command, cwd=clone, env=environment | given, capture_output=True, text=True, check=False)


def test_a_trial_comes_to_its_verdict_and_a_unit_is_forgotten(runner: Runner, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert ask(runner, "SELECT status FROM orders.trials") == [("running",)]
    runner.given["PASSERELLE_JOB"] = "judge"
    run_gitlab(runner, source="schedule")
    printed = runner.printed["judge"]
    assert {name for name, result in runner.results.items() if result == "success"} == {"judge"}, printed
    assert "production is at revision 3" in printed
    ((status, verdict),) = ask(runner, "SELECT status, value FROM orders.trials")
    assert (status, "PROMOTE" in str(verdict)) == ("ended", True)
    files = newest(store)
    assert "deployments/production/000003.json" in files
    assert any(name.startswith("ledger/production/predictions/") for name in files), "gathered into the tables"

    # By hand, from another machine: the unit goes from the shared ledger, and from all that the store ever kept.
    assert holding(store, UNIT) > 0
    done = by_hand(runner, "hand", "forget", UNIT, "--yes", given=runner.given)
    assert (done.returncode, "2 predictions and 1 outcomes erased" in done.stdout) == (0, True), (
        done.stdout + done.stderr
    )
    assert "Shared: orders, begun at head" in done.stderr
    assert (holding(store, UNIT), holding(store, "0107-4") > 0) == (0, True)
    assert all(not json.loads(path.read_bytes())["files"] for path in sorted((store / "heads").iterdir())[:-1])

    # The roll-back is started by a person, in a pipeline that is begun by hand.
    back = Runner(runner.repository, tmp_path / "back")
    back.given = {name: value for name, value in runner.given.items() if name != "PASSERELLE_JOB"}
    run_gitlab(back, source="web", started="rollback")
    assert {name for name, result in back.results.items() if result == "success"} == {"rollback"}, back.printed
    assert "Rolled back. production is at revision 4" in back.printed["rollback"]
    assert "deployments/production/000004.json" in newest(store)
