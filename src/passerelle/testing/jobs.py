"""Jobs on this machine: the container's ``train`` as a process, which outlives whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from passerelle.deployment.target import Job, JobStatus
from passerelle.serving.observation import is_alive

_COMMAND = (sys.executable, "-m", "passerelle.serving.container", "train")
#: Starts a job that nobody waits for; it notes the code that it ends with, whoever has died meanwhile.
_STARTING = """
( "$@" 2>"$0/said"; echo $? >"$0/draft" && mv "$0/draft" "$0/code" ) &
echo $! >"$0/new" && mv "$0/new" "$0/pid"
"""


class ProcessJobs:
    """Jobs as processes of this machine; what is known of them is in ``folder``, a folder for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, job: Job) -> None:
        """Start it, unless one of this name is there."""
        if self.status(job.name).state != "absent":
            return
        own = self.folder / job.name
        own.mkdir(parents=True, exist_ok=True)
        (own / "job.json").write_bytes(msgspec.json.encode(job))
        subprocess.run(  # noqa: S603  (our own)
            ["/bin/sh", "-c", _STARTING, str(own), *_COMMAND],
            env=os.environ | {"PASSERELLE_INPUT": job.input, "PASSERELLE_OUTPUT": job.output},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )
        with (self.folder / "started").open("a") as started:
            started.write(f"{job.name}\n")

    def status(self, name: str) -> JobStatus:
        """How far it has come."""
        own = self.folder / name
        if (own / "code").exists():
            code, said = int((own / "code").read_text()), (own / "said").read_text().strip()
            if code == 0:
                return JobStatus(state="succeeded")
            return JobStatus(state="failed", problem=said.splitlines()[-1] if said else None)
        if not (own / "pid").exists():
            return JobStatus(state="absent")
        alive = is_alive(int((own / "pid").read_text()))
        return JobStatus(state="running" if alive or (own / "code").exists() else "stopped")

    def stop(self, name: str) -> None:
        """End it; nothing happens if it has ended."""
        if self.status(name).state == "running":
            os.killpg(os.getpgid(int((self.folder / name / "pid").read_text())), signal.SIGKILL)
