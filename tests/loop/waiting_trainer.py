"""Trains by a job, and kills itself before a call of Jobs: start, or the status of a job that runs."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from passerelle.deployment.target import Job, JobStatus
from passerelle.loop.jobs import run_as_job
from passerelle.loop.train import train
from passerelle.project.settings import FILE, Project, load_project
from passerelle.testing.jobs import ProcessJobs

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Trainer:
    """A project whose notebook runs by a job of this machine, beside it."""

    def __init__(self, project: Project, jobs: type[ProcessJobs] = ProcessJobs) -> None:
        self.store = project.root.parent / "store"
        self.jobs = jobs(project.root.parent / "jobs")
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


if __name__ == "__main__":
    kind = {"start": KillsAtStart, "status": KillsWhileItRuns}[sys.argv[2]]
    owner = load_project(Path(sys.argv[1]) / FILE)
    train(owner, now=NOW, runner=Trainer(owner, kind).runner)
