"""Trains by a job, and kills itself at a call of Jobs: before start, at the status of a job that runs, or about stop.

For the two of stop a job's time is over at once.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from passerelle.deployment.target import Job, JobStatus
from passerelle.loop import jobs
from passerelle.loop.jobs import run_as_job
from passerelle.loop.train import train
from passerelle.project.settings import FILE, Project, load_project
from passerelle.testing.jobs import ProcessJobs

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Trainer:
    """A project whose notebook runs by a job of this machine, beside it."""

    def __init__(self, project: Project, kind: type[ProcessJobs] = ProcessJobs) -> None:
        self.store = project.root.parent / "store"
        self.jobs = kind(project.root.parent / "jobs")
        self.runner = run_as_job(self.jobs, str(self.store), poll_s=0.1)


class KillsAtStart(ProcessJobs):
    def start(self, _: Job) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class KillsWhileItRuns(ProcessJobs):
    def status(self, name: str) -> JobStatus:
        status = super().status(name)
        if status.state == "running":
            os.kill(os.getpid(), signal.SIGKILL)
        return status


class KillsBeforeStop(ProcessJobs):
    def stop(self, _: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class KillsAfterStop(ProcessJobs):
    def stop(self, name: str) -> None:
        super().stop(name)
        os.kill(os.getpid(), signal.SIGKILL)


POINTS: dict[str, type[ProcessJobs]] = {
    "start": KillsAtStart,
    "status": KillsWhileItRuns,
    "before stop": KillsBeforeStop,
    "after stop": KillsAfterStop,
}

if __name__ == "__main__":
    kind = POINTS[sys.argv[2]]
    if sys.argv[2].endswith("stop"):
        jobs.MACHINE_S, jobs._timeout_s = 0, lambda _: 0
    owner = load_project(Path(sys.argv[1]) / FILE)
    train(owner, now=NOW, runner=Trainer(owner, kind).runner)
