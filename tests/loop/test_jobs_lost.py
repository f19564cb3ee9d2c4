"""What a job left is missing, damaged or another run's; a store is away; a job never ends: nothing is made of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fruit import fruit_project, write
from waiting_trainer import NOW, Trainer

from passerelle.deployment.target import Job, JobStatus, TargetError
from passerelle.errors import NotebookError, PasserelleError, SettingsError, StoreError
from passerelle.loop import jobs
from passerelle.loop.train import registry_of, train
from passerelle.project.settings import Project, load_project
from passerelle.testing.jobs import ProcessJobs


class Shelf(ProcessJobs):
    """A platform whose jobs end at once, by leaving what a real one has left on ``shelf``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.shelf = folder.parent / "shelf"
        self.started: list[str] = []

    def start(self, job: Job) -> None:
        self.started.append(job.name)
        if self.shelf.exists():
            shutil.copytree(self.shelf, job.output, dirs_exist_ok=True)

    def status(self, name: str) -> JobStatus:
        return JobStatus(state="succeeded" if name in self.started else "absent")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return fruit_project(tmp_path / "fruit")


def attempt(project: Project, trainer: Trainer) -> str:
    """A training that comes to nothing: how."""
    with pytest.raises(PasserelleError) as caught:
        train(project, now=NOW, runner=trainer.runner)
    assert registry_of(project).versions() == []
    return f"{type(caught.value).__name__}: {caught.value}"


def spoil(output: Path, name: str, change: Callable[[bytes], bytes | None]) -> None:
    """Have a file of what was left be another, or (None) gone."""
    content = change((output / name).read_bytes())
    (output / name).unlink()
    if content is not None:
        (output / name).write_bytes(content)


def renamed(content: bytes) -> bytes:
    return json.dumps(json.loads(content) | {"run": "fruit-other"}).encode()


FAULTS: dict[str, tuple[str, Callable[[bytes], bytes | None], str]] = {
    "a lost file": ("submission/holdout.msgpack", lambda _: None, "submission/holdout.msgpack, which job {0} made, is"),
    "a cut file": (
        "submission/model.pkl",
        lambda old: old[:-1],
        "submission/model.pkl, which job {0} made, is damaged",
    ),
    "no end": ("job.json", lambda _: None, "job {0} left {1} without job.json"),
    "half an end": ("job.json", lambda old: old[:20], "what job {0} left at {1} is damaged"),
    "another run's": ("job.json", renamed, "what lies at {1} is of the run fruit-other, not of"),
}


def test_what_is_not_this_jobs_whole_work_is_not_taken_and_another_job_is_started(project: Project) -> None:
    trainer = Trainer(project, Shelf)
    assert isinstance(trainer.jobs, Shelf)
    assert "ended and left nothing at" in attempt(project, trainer)
    first = trainer.jobs.started[0]
    run_folder = trainer.store / "runs" / "fruit" / first

    real = ProcessJobs(project.root.parent / "real")
    real.start(
        Job(name="real", input=str(run_folder / "input"), output=str(project.root.parent / "whole"), timeout_s=9)
    )
    jobs._await(real, Job(name="real", input="", output="", timeout_s=6000), lambda *_: None, 0.1)
    assert real.status("real").state == "succeeded"

    for number, (name, change, expected) in enumerate(FAULTS.values(), 2):
        shutil.rmtree(trainer.jobs.shelf, ignore_errors=True)
        shutil.copytree(project.root.parent / "whole", trainer.jobs.shelf)
        spoil(trainer.jobs.shelf, name, change)
        said = attempt(project, trainer)
        job, output = f"{first}-{number}", run_folder / f"output-{number}"
        assert said.startswith(f"TargetError: {expected.format(job, output)}"), said
        assert said.endswith("passerelle train starts another.")
    assert trainer.jobs.started == [first, *(f"{first}-{number}" for number in range(2, 2 + len(FAULTS)))]

    # And what somebody put beside it is not taken with the rest.
    shutil.rmtree(trainer.jobs.shelf)
    shutil.copytree(project.root.parent / "whole", trainer.jobs.shelf)
    (trainer.jobs.shelf / "submission" / "more.pkl").write_bytes(b"x")
    made = train(project, now=NOW, runner=trainer.runner)
    assert made.made
    assert not list((project.state / "runs" / made.run).rglob("more.pkl"))


def test_a_store_that_is_away_keeps_the_job(project: Project) -> None:
    trainer = Trainer(project)
    trainer.store.write_text("no folder")
    assert attempt(project, trainer).startswith("StoreError: ")  # nothing was sent
    assert not (trainer.jobs.folder / "started").exists()
    trainer.store.unlink()

    class Outage(ProcessJobs):
        """The store goes away while the job runs."""

        def start(self, job: Job) -> None:
            super().start(job)
            while self.status(job.name).state == "running":
                time.sleep(0.05)
            trainer.store.rename(trainer.store.with_name("away"))
            trainer.store.write_text("no folder")

    outage = Trainer(project, Outage)
    with pytest.raises(StoreError):
        train(project, now=NOW, runner=outage.runner)
    trainer.store.unlink()
    trainer.store.with_name("away").rename(trainer.store)
    assert train(project, now=NOW, runner=trainer.runner).made
    assert len((trainer.jobs.folder / "started").read_text().split()) == 1


def test_a_job_that_never_ends_is_stopped_and_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, ["import passerelle", "import time\ntime.sleep(600)"])
    monkeypatch.setattr(jobs, "MACHINE_S", 0)
    monkeypatch.setattr(jobs, "_timeout_s", lambda _: 1)
    trainer = Trainer(project)
    with pytest.raises(NotebookError, match=r"did not end in \d+ s, and was stopped: raise notebook.timeout_s"):
        train(project, now=NOW, runner=trainer.runner)
    (name,) = (trainer.jobs.folder / "started").read_text().split()
    while trainer.jobs.status(name).state == "running":
        time.sleep(0.05)  # it was killed, and is not gone yet
    assert trainer.jobs.status(name).state == "stopped"


def test_a_job_that_the_platform_stopped_is_followed_by_another(project: Project) -> None:
    class Stops(ProcessJobs):
        def start(self, job: Job) -> None:
            super().start(job)
            self.stop(job.name)

            while self.status(job.name).state == "running":
                time.sleep(0.05)

    trainer = Trainer(project, Stops)
    for _ in range(2):
        with pytest.raises(TargetError, match="was stopped before its end: passerelle train starts another"):
            train(project, now=NOW, runner=trainer.runner)
    first, second = (trainer.jobs.folder / "started").read_text().split()
    assert second == f"{first}-2"


def test_where_the_notebook_runs_is_a_setting(project: Project) -> None:
    path = project.root / "passerelle.toml"
    path.write_text(path.read_text() + '\n[loop]\ntrains_at = "cloud"\n[targets.near]\nkind = "local"\n')
    changed = load_project(path)
    with pytest.raises(SettingsError, match="there is no target 'cloud': the targets are near"):
        jobs.runner_of(changed)
    with pytest.raises(SettingsError, match="target 'near' runs no training jobs"):
        jobs.runner_of(changed, "near")
    assert jobs.runner_of(project) is None
