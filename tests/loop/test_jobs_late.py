"""A job whose time is over: it is stopped and told once, whoever died between, and is not started again."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from fruit import fruit_project, write
from waiting_trainer import NOW, Trainer

from passerelle.deployment.target import Job, JobStatus
from passerelle.errors import NotebookError, StoreError
from passerelle.loop import jobs
from passerelle.loop.train import registry_of, train
from passerelle.project.settings import Project
from passerelle.state import runs
from passerelle.state.database import open_state
from passerelle.testing.jobs import ProcessJobs

TOLD = r"^job \S+ did not end in 0 s, and was stopped: raise notebook.timeout_s in passerelle.toml"
HANGS = ["import passerelle", "import time\ntime.sleep(600)"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return fruit_project(tmp_path / "fruit")


def killed(project: Project, point: str) -> str:
    """The job of a waiter that gave it up, and was killed there."""
    script = Path(__file__).with_name("waiting_trainer.py")
    done = subprocess.run(
        [sys.executable, str(script), str(project.root), point], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    (name,) = started(Trainer(project))
    return name


def started(trainer: Trainer) -> list[str]:
    return (trainer.jobs.folder / "started").read_text().split()


def wait(trainer: Trainer, name: str) -> JobStatus:
    """Until it has ended: what was killed is not gone at once."""
    while (status := trainer.jobs.status(name)).state == "running":
        time.sleep(0.05)
    return status


class Once(ProcessJobs):
    """A platform that has had its job."""

    def start(self, job: Job) -> None:
        pytest.fail(f"job {job.name} was started")


@pytest.mark.parametrize("point", ["before stop", "after stop"])
def test_a_waiter_killed_about_its_stop_leaves_a_job_that_is_told_and_not_started_again(
    project: Project, point: str
) -> None:
    write(project, HANGS)
    name = killed(project, point)
    trainer = Trainer(project, Once)
    if point == "after stop":
        assert wait(trainer, name).state == "stopped"
    for _ in range(2):  # whoever tries it once more hears the same
        with pytest.raises(NotebookError, match=TOLD) as caught:
            train(project, now=NOW, runner=trainer.runner)
        assert wait(trainer, name).state == "stopped"
        run = runs.get(open_state(project.state), name)
        assert run is not None
        assert (run.status, run.details["lasting"], run.details["reason"]) == ("failed", True, str(caught.value))
    assert started(trainer) == [name]
    assert not any(path.is_file() for path in (trainer.store / "runs" / "fruit" / name / "input").rglob("*"))

    (trainer.jobs.folder / name).rename(trainer.jobs.folder / "forgotten")  # the platform's record is gone
    with pytest.raises(NotebookError, match=TOLD):
        train(project, now=NOW, runner=trainer.runner)
    assert started(trainer) == [name]


class Ends(ProcessJobs):
    """A platform whose jobs end by themselves just before they are stopped."""

    def stop(self, name: str) -> None:
        while self.status(name).state == "running":
            time.sleep(0.05)
        super().stop(name)


@pytest.mark.parametrize("waiter", ["lives", "died"])
def test_what_ended_well_before_it_was_stopped_counts(
    project: Project, waiter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if waiter == "died":
        trainer = Trainer(project)
        assert wait(trainer, killed(project, "before stop")).state == "succeeded"
    else:
        trainer = Trainer(project, Ends)
        monkeypatch.setattr(jobs, "MACHINE_S", 0)
        monkeypatch.setattr(jobs, "_timeout_s", lambda _: 0)
    made = train(project, now=NOW, runner=trainer.runner)
    assert (made.version, made.made) == (1, True)
    assert started(trainer) == [made.run]
    assert (trainer.store / "runs" / "fruit" / made.run / "output" / jobs.TIMED_OUT).exists()
    assert [one.number for one in registry_of(project).versions()] == [1]


def test_a_store_that_is_away_does_not_keep_a_job_that_hangs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Outage(ProcessJobs):
        """The store goes away once the job runs."""

        def status(self, name: str) -> JobStatus:
            status = super().status(name)
            if status.state == "running" and trainer.store.is_dir():
                trainer.store.rename(trainer.store.with_name("away"))
                trainer.store.write_text("no folder")
            return status

    write(project, HANGS)
    monkeypatch.setattr(jobs, "MACHINE_S", 0)
    monkeypatch.setattr(jobs, "_timeout_s", lambda _: 0)
    trainer = Trainer(project, Outage)
    said: list[str] = []
    with pytest.raises(NotebookError, match=TOLD):
        train(project, now=NOW, runner=trainer.runner, on_step=lambda _n, _of, line: said.append(line))
    (name,) = started(trainer)
    assert wait(trainer, name).state == "stopped"
    assert any("cannot be noted" in line for line in said), said
    with pytest.raises(StoreError):
        train(project, now=NOW, runner=trainer.runner)


class Known(ProcessJobs):
    """A platform that knows one job, in a state."""

    def __init__(self, folder: Path, known: JobStatus) -> None:
        super().__init__(folder)
        self.known = known

    def status(self, name: str) -> JobStatus:
        return self.known if name == "run" else JobStatus(state="absent")


@pytest.mark.parametrize(
    ("known", "noted", "expected"),
    [
        (JobStatus(state="absent"), False, ("run", "absent", None)),
        (JobStatus(state="absent"), True, ("run", "absent", "late")),
        (JobStatus(state="running"), False, ("run", "running", None)),
        (JobStatus(state="running"), True, ("run", "running", "late")),
        (JobStatus(state="stopped"), False, ("run-2", "absent", None)),
        (JobStatus(state="stopped"), True, ("run", "stopped", "late")),
        (JobStatus(state="succeeded"), True, ("run-2", "absent", None)),  # and left nothing
        (JobStatus(state="failed", problem="no machine"), True, ("run-2", "absent", None)),
        (JobStatus(state="failed", problem="NotebookError: cell 2"), True, ("run", "failed", None)),
    ],
)
def test_which_job_is_awaited_and_of_which_it_is_told_that_its_time_was_over(
    known: JobStatus, *, noted: bool, expected: tuple[str, str, str | None], tmp_path: Path
) -> None:
    if noted:
        (tmp_path / "output").mkdir()
        (tmp_path / "output" / jobs.TIMED_OUT).write_text("late")
    job, state, late = jobs._newest(Known(tmp_path / "jobs", known), str(tmp_path), "run", 9)
    assert (job.name, state, late) == expected
