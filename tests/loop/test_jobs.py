"""The notebook as a job: the container's own process makes the version that a run here makes; who waits may die."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from fruit import CELLS, fruit_project, write
from waiting_trainer import NOW, Trainer

from passerelle.bundle.manifest import GOLDEN, read_manifest
from passerelle.deployment.package import Package, tarball
from passerelle.deployment.target import Job
from passerelle.errors import NotebookError, SettingsError, SubmissionError
from passerelle.loop.jobrun import run_job
from passerelle.loop.jobs import ENDED, Ended, run_as_job
from passerelle.loop.train import registry_of, train
from passerelle.notebook.submission import read_answers
from passerelle.project.settings import Project
from passerelle.schema import decode_columns
from passerelle.testing.jobs import ProcessJobs


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return fruit_project(tmp_path / "fruit")


def test_a_waiter_killed_twice_finds_its_job_and_the_version_is_that_of_a_run_here(
    project: Project,
) -> None:
    for point in ("start", "status"):
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("waiting_trainer.py")), str(project.root), point],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -9, done.stderr
    trainer = Trainer(project)
    run = (trainer.jobs.folder / "started").read_text().strip()
    asked = decode_columns((trainer.store / "runs" / "fruit" / run / "input" / "asked.msgpack").read_bytes())
    assert "name" not in asked
    assert len(asked["id"]) > 40
    sent = {path.name for path in (trainer.store / "runs" / "fruit" / run).rglob("*") if path.is_file()}
    assert not {name for name in sent if name.endswith((".pem", ".csv", ".db"))}

    steps: list[str] = []
    made = train(project, now=NOW, runner=trainer.runner, on_step=lambda _n, _of, line: steps.append(line))
    assert made.parity is not None
    assert (made.version, made.made, made.parity.max_abs_diff, made.parity.flips) == (1, True, 0.0, 0)
    assert (trainer.jobs.folder / "started").read_text() == f"{made.run}\n"
    assert [line.split(" ")[0] for line in (steps[0], steps[-1])] == ["job", "what"]  # found, not sent again

    assert not any((trainer.store / "runs" / "fruit" / made.run / "input").rglob("*.*"))

    here = train(project, now=NOW, again=True)
    assert (here.metrics, here.parity) == (made.metrics, made.parity)
    bundles = [project.state / "bundles" / one.digest for one in (made, here)]
    golden = [read_answers(one / GOLDEN) for one in bundles]
    assert (golden[0].outputs == golden[1].outputs).all()
    manifests = [read_manifest(one)[0] for one in bundles]
    assert manifests[0].schema == manifests[1].schema
    assert manifests[0].environment == manifests[1].environment
    assert manifests[0].files[GOLDEN] == manifests[1].files[GOLDEN]
    assert [one.number for one in registry_of(project).versions()] == [1, 2]


class Packed(ProcessJobs):
    """A platform that packs what the job left, as SageMaker does."""

    def start(self, job: Job) -> None:
        made = self.folder / "made"
        super().start(msgspec.structs.replace(job, output=str(made)))
        while self.status(job.name).state == "running":
            time.sleep(0.05)
        into = Path(job.output) / job.name / "output" / "model.tar.gz"
        tarball(Package(folder=made, digest="", revision=0), into)


def test_what_fails_in_the_job_fails_here_in_its_own_words_though_it_was_packed(project: Project) -> None:
    write(project, [*CELLS[:2], "1 / 0"])
    trainer = Trainer(project, Packed)
    with pytest.raises(NotebookError, match=r"cell 3 of 3 \(1 / 0\) raised ZeroDivisionError: division by zero"):
        train(project, now=NOW, runner=trainer.runner)
    with pytest.raises(NotebookError, match="division by zero"):  # it has failed: it is not started again
        train(project, now=NOW, runner=trainer.runner)
    assert len((trainer.jobs.folder / "started").read_text().split()) == 1
    assert registry_of(project).versions() == []


def given(project: Project, folder: Path, cells: list[str]) -> Path:
    """A job's input, as it is sent; what starts it is not there."""

    class Kept(ProcessJobs):
        def start(self, job: Job) -> None:
            raise KeyError(job.input)

    write(project, cells)
    with pytest.raises(KeyError):
        train(project, now=NOW, runner=run_as_job(Kept(folder / "jobs"), str(folder)))
    return next((folder / "runs").rglob("input"))


def test_sagemakers_layout_and_its_reason_of_a_failure(project: Project, tmp_path: Path) -> None:
    ml = tmp_path / "ml"
    sent = given(project, tmp_path / "store", [*CELLS[:3], "print('nothing submitted')"])
    (ml / "input" / "data").mkdir(parents=True)
    sent.rename(ml / "input" / "data" / "input")
    with pytest.raises(SubmissionError):
        run_job({}, sagemaker=ml)
    reason = (ml / "output" / "failure").read_text()
    assert reason.startswith("SubmissionError: notebooks/model.ipynb submitted no model")
    assert msgspec.json.decode((ml / "model" / ENDED).read_bytes(), type=Ended).kind == "SubmissionError"
    with pytest.raises(SettingsError, match="is no input of a job"):
        run_job({"PASSERELLE_INPUT": str(tmp_path)}, sagemaker=ml)
