"""The CI files that a new project has: valid by their services' schemas and by actionlint, and their jobs work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml
from ci_azure import run_azure
from ci_runner import Runner, extended, run_github, run_gitlab

from passerelle.loop.chain import JOBS
from passerelle.project.scaffold import create

ROOT = Path(__file__).parents[2]
GITHUB = ".github/workflows/passerelle.yml"
GITLAB = ".gitlab-ci.yml"
AZURE = "azure-pipelines.yml"
#: Schema and file, what check-jsonschema needs besides, and an edit that must be found.
FILES = [
    ("vendor.github-workflows", GITHUB, [], ("timeout-minutes: 20", "timeout-minutes: soon")),
    ("vendor.gitlab-ci", GITLAB, ["--data-transform", "gitlab-ci"], ("interruptible: true", "interruptible: 3")),
    (
        "vendor.azure-pipelines",
        AZURE,
        ["--data-transform", "azure-pipelines", "--regex-variant", "nonunicode"],
        ("vmImage: ubuntu-24.04", "vmImage: [ubuntu-24.04]"),
    ),
]

pytestmark = pytest.mark.timeout(600)  # each trains once: about twenty seconds on a quiet machine


def commit(folder: Path, message: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, "add", "-A"], check=True)
    subprocess.run(["git", "-C", folder, *identity, "commit", "-qm", message], check=True)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project, committed; it is made once."""
    folder = tmp_path_factory.mktemp("new") / "parcels"
    create(folder, "parcels", task="binary", language="en", time=True, today=date(2026, 3, 2))
    subprocess.run(["git", "init", "-q", "-b", "main", folder], check=True)
    commit(folder, "A new project")
    return folder


@pytest.fixture
def repository(new: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    folder = tmp_path / "parcels"
    shutil.copytree(new, folder)
    return folder


@pytest.fixture
def actionlint() -> str:
    found = shutil.which("actionlint", path=f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("actionlint is not installed: make test-system")
    return found


@pytest.mark.parametrize(("schema", "path", "options", "edit"), FILES)
def test_the_files_fit_their_services_schemas(
    repository: Path, schema: str, path: str, options: list[str], edit: tuple[str, str]
) -> None:
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", schema, *options]
    done = subprocess.run([*command, repository / path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    text = (repository / path).read_text(encoding="utf-8")
    assert edit[0] in text
    (repository / path).write_text(text.replace(*edit), encoding="utf-8")
    assert subprocess.run([*command, repository / path], capture_output=True, check=False).returncode == 1


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
    assert len(used) == text.count("uses:")
    assert all(re.fullmatch(r"actions/[a-z/-]+@[0-9a-f]{40}", action) and version for action, version in used)
    assert workflow["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job} == {
        name: {"contents": "read", "id-token": "write"} for name in workflow["jobs"].keys() - {"check"}
    }
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())
    checkouts = [
        step for job in workflow["jobs"].values() for step in job["steps"] if "checkout" in step.get("uses", "")
    ]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    # Secrets are asked for by the jobs that use them; a proposed change is given none that lead to what is shared.
    asked = {name: set(re.findall(r"secrets\.(\w+)", str(job))) for name, job in workflow["jobs"].items()}
    assert asked.pop("check") == set()
    signing = {name for name, secrets in asked.items() if "PASSERELLE_KEY" in secrets}
    assert signing == {name for name, job in JOBS.items() if "PASSERELLE_KEY" in job.reads}
    for line in re.findall(r".*(?:secrets\.PASSERELLE_(?:STATE|REGISTRY)|PASSERELLE_STORE: ).*", text):
        assert "github.ref == 'refs/heads/main' && " in line
        assert line.endswith("|| '' }}")


def test_the_three_chains_run_the_same_jobs_and_store_no_credential(repository: Path) -> None:
    pipeline = yaml.safe_load((repository / GITLAB).read_text(encoding="utf-8"))
    gitlab = {name: extended(pipeline, job) for name, job in pipeline.items() if "script" in job}
    azure = yaml.safe_load((repository / AZURE).read_text(encoding="utf-8"))["jobs"]
    github = yaml.safe_load((repository / GITHUB).read_text(encoding="utf-8"))["jobs"]
    scripts = [
        [step["run"] for job in github.values() for step in job["steps"] if "run" in step],
        [line for job in gitlab.values() for line in [*job.get("before_script", ()), *job["script"]]],
        [step["script"] for job in azure for step in job["steps"] if "script" in step],
    ]
    for lines in scripts:
        found = [line.removeprefix("passerelle ci run ") for line in lines if line.startswith("passerelle")]
        assert sorted(found) == sorted(JOBS)
        left = {line for line in lines if not line.startswith("passerelle ci run ")}
        assert left <= {"python -m pip install -r requirements.txt", 'cp -R "$(Pipeline.Workspace)/pages" report'}
    assert all(job["id_tokens"] for name, job in gitlab.items() if name != "check")
    for path in (GITHUB, GITLAB, AZURE):
        text = (repository / path).read_text(encoding="utf-8")
        assert not re.search(r"SECRET_ACCESS_KEY|CLIENT_SECRET|ACCOUNT_KEY|service-account-key|actions/cache", text)


def test_azures_jobs_work_from_a_fresh_clone_that_shares_nothing(repository: Path, tmp_path: Path) -> None:
    runner = Runner(repository, tmp_path / "runs")
    run_azure(runner)
    printed = "\n".join(f"== {name}\n{text}" for name, text in runner.printed.items())
    made = {name for name, result in runner.results.items() if result == "success"}
    assert (made, set(runner.results.values())) == ({"check", "train", "report"}, {"success", "skipped"}), printed
    assert "3 passed" in runner.printed["check: test"]
    assert "Requirement already satisfied: passerelle" in "".join(runner.printed.values())
    told = runner.printed["train: train"]
    assert "Nothing is shared: without PASSERELLE_STATE_URL, PASSERELLE_REGISTRY_URI and PASSERELLE_STORE" in told
    report = {path.name for path in (runner.artefacts / "report").iterdir()}
    assert {"executed.html", "note.html"} <= report
    assert "Where the project stands" in (runner.artefacts / "report/note.html").read_text(encoding="utf-8")
    assert not [path for path in runner.artefacts.rglob("*") if path.suffix in (".pkl", ".parquet", ".msgpack", ".csv")]


def test_a_notebook_that_is_refused_ends_the_chain_with_a_report(repository: Path, tmp_path: Path) -> None:
    path = repository / "notebooks/model.ipynb"
    text = path.read_text(encoding="utf-8")
    skewed = text.replace("passerelle.submit(model, X=X,", "passerelle.submit(model, X=X.assign(express=0),")
    assert skewed != text
    path.write_text(skewed, encoding="utf-8")
    commit(repository, "A skewed feature")
    runner = Runner(repository, tmp_path / "runs")
    run_gitlab(runner)
    assert {name: result for name, result in runner.results.items() if result != "skipped"} == {
        "check": "success",
        "train": "failure",
        "report": "success",
    }
    assert "express" in runner.printed["train"]
    assert {"executed.html", "note.html"} <= {path.name for path in (runner.artefacts / "report/report").iterdir()}


def test_a_failing_check_stops_the_chain(repository: Path, tmp_path: Path) -> None:
    path = repository / "passerelle.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("missed = 4.0", "mised = 4.0"), encoding="utf-8")
    commit(repository, "A typing error")
    runner = Runner(repository, tmp_path / "runs")
    run_github(runner)
    assert runner.results.pop("check") == "failure"
    assert set(runner.results.values()) == {"skipped"}
    assert "did you mean 'missed'?" in runner.printed["check: passerelle ci run check"]


def test_the_jobs_are_listed(repository: Path) -> None:
    command = [sys.executable, "-m", "passerelle", "ci", "list", "--json"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert list(json.loads(done.stdout)) == list(JOBS)
