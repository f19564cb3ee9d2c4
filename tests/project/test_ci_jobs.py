"""The CI files that a new project has: valid by their services' schemas and by actionlint, and they work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml
from ci_runner import Runner, run_github, run_gitlab

from passerelle.project.scaffold import create

ROOT = Path(__file__).parents[2]
GITHUB = ".github/workflows/passerelle.yml"
GITLAB = ".gitlab-ci.yml"

pytestmark = pytest.mark.timeout(600)  # each trains once: about twenty seconds on a quiet machine


def commit(folder: Path, message: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, "add", "-A"], check=True)
    subprocess.run(["git", "-C", folder, *identity, "commit", "-qm", message], check=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "parcels"
    create(folder, "parcels", task="binary", language="en", time=True, today=date(2026, 3, 2))
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    commit(folder, "A new project")
    return folder


@pytest.fixture
def actionlint() -> str:
    found = shutil.which("actionlint", path=f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("actionlint is not installed: make test-system")
    return found


def schema_check(schema: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("check-jsonschema")
    return subprocess.run([command, "--builtin-schema", schema, path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("schema", "path"), [("vendor.github-workflows", GITHUB), ("vendor.gitlab-ci", GITLAB)])
def test_the_files_fit_their_services_schemas(repository: Path, schema: str, path: str) -> None:
    done = schema_check(schema, repository / path)
    assert done.returncode == 0, done.stdout
    text = (repository / path).read_text(encoding="utf-8")
    wrong = text.replace("timeout-minutes: 20", "timeout-minutes: soon").replace(
        "interruptible: true", "interruptible: 3"
    )
    (repository / path).write_text(wrong, encoding="utf-8")
    assert schema_check(schema, repository / path).returncode == 1


@pytest.mark.system
def test_actionlint_finds_nothing(repository: Path, actionlint: str) -> None:
    done = subprocess.run([actionlint, "-no-color", repository / GITHUB], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    text = (repository / GITHUB).read_text(encoding="utf-8")
    (repository / GITHUB).write_text(text.replace("needs: train", "needs: trane"), encoding="utf-8")
    bad = subprocess.run([actionlint, "-no-color", repository / GITHUB], capture_output=True, text=True, check=False)
    assert 'job "report" needs job "trane" which does not exist' in bad.stdout


def test_actions_are_pinned_and_rights_are_least(repository: Path) -> None:
    text = (repository / GITHUB).read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    used = re.findall(r"uses: (\S+)( # v\d+\.\d+\.\d+)?$", text, flags=re.MULTILINE)
    assert len(used) == text.count("uses:") == 9
    assert all(re.fullmatch(r"actions/[a-z/-]+@[0-9a-f]{40}", action) and version for action, version in used)
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    assert workflow["concurrency"]["group"] == "passerelle-${{ github.ref }}"
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())
    checkouts = [
        step for job in workflow["jobs"].values() for step in job["steps"] if "checkout" in step.get("uses", "")
    ]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False, False]
    # The key is seen by the one job that signs, and by no other.
    assert [name for name, job in workflow["jobs"].items() if "PASSERELLE_KEY" in str(job)] == ["train"]


def test_the_github_jobs_work_from_a_fresh_clone(repository: Path, tmp_path: Path) -> None:
    runner = Runner(repository, tmp_path / "runs")
    run_github(runner)
    printed = "\n".join(f"== {name}\n{text}" for name, text in runner.printed.items())
    assert runner.results == {"check": "success", "train": "success", "report": "success"}, printed
    assert "3 passed" in runner.printed["check: Tests"]
    assert "Requirement already satisfied: passerelle" in runner.printed["check: Install"]
    assert not (tmp_path / "cache").exists(), "without the secret no state is kept"
    report = {path.name for path in (runner.artefacts / "report").iterdir()}
    assert {"executed.html", "note.html"} <= report
    assert "Where the project stands" in (runner.artefacts / "report/note.html").read_text(encoding="utf-8")
    assert not [path for path in runner.artefacts.rglob("*") if path.suffix in (".pkl", ".parquet", ".msgpack", ".csv")]


def test_the_gitlab_jobs_work_from_a_fresh_clone(repository: Path, tmp_path: Path) -> None:
    runner = Runner(repository, tmp_path / "runs")
    run_gitlab(runner)
    printed = "\n".join(f"== {name}\n{text}" for name, text in runner.printed.items())
    assert runner.results == {"check": "success", "train": "success", "report": "success"}, printed
    assert {"executed.html", "note.html"} <= {path.name for path in (runner.artefacts / "report/report").iterdir()}


def test_a_notebook_that_is_refused_ends_the_chain_with_a_report(repository: Path, tmp_path: Path) -> None:
    path = repository / "notebooks/model.ipynb"
    text = path.read_text(encoding="utf-8")
    skewed = text.replace("passerelle.submit(model, X=X,", "passerelle.submit(model, X=X.assign(express=0),")
    assert skewed != text
    path.write_text(skewed, encoding="utf-8")
    commit(repository, "A skewed feature")
    runner = Runner(repository, tmp_path / "runs")
    run_github(runner)
    assert (runner.results["check"], runner.results["train"]) == ("success", "failure")
    assert (
        "express" in runner.printed["train: Train, with parity and the gate (ends with 3 if the candidate is refused)"]
    )


def test_a_failing_check_stops_the_chain(repository: Path, tmp_path: Path) -> None:
    path = repository / "passerelle.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("missed = 4.0", "mised = 4.0"), encoding="utf-8")
    commit(repository, "A typing error")
    runner = Runner(repository, tmp_path / "runs")
    run_github(runner)
    assert runner.results == {"check": "failure", "train": "skipped", "report": "skipped"}
    assert "did you mean 'missed'?" in runner.printed["check: Settings, contract and notebook"]
