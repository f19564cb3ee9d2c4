"""A training job as SageMaker runs it, in a container of buildah's: /opt/ml, ``train``, a packed folder, a reason."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from passerelle.adapters.sagemaker_rules import own_reason
from passerelle.deployment.package import Package, tarball
from passerelle.deployment.target import Job, JobStatus


class ImageJobs:
    """See Jobs; ``start`` returns when the job has ended."""

    def __init__(self, folder: Path, container: str, entry: Sequence[str]) -> None:
        self.folder, self._container, self._entry = folder, container, entry
        self._ended: dict[str, JobStatus] = {}
        #: What it wrote on its way.
        self.said = ""

    def start(self, job: Job) -> None:
        ml = self.folder / job.name
        (ml / "model").mkdir(parents=True)
        shutil.copytree(job.input, ml / "input" / "data" / "input")
        command = ["buildah", "run", "--user", "0:0", "--volume", f"{ml}:/opt/ml", self._container, "--", *self._entry]
        done = subprocess.run([*command, "train"], capture_output=True, text=True, check=False, timeout=300)
        self.said = done.stdout + done.stderr
        tarball(
            Package(folder=ml / "model", digest="", revision=0), Path(job.output) / job.name / "output" / "model.tar.gz"
        )
        failure = ml / "output" / "failure"
        told = f"AlgorithmError: {failure.read_text() if failure.exists() else ''}, exit code: {done.returncode}"
        self._ended[job.name] = (
            JobStatus(state="succeeded")
            if done.returncode == 0
            else JobStatus(state="failed", problem=own_reason(told))
        )

    def status(self, name: str) -> JobStatus:
        return self._ended.get(name, JobStatus(state="absent"))

    def stop(self, name: str) -> None:
        """It has ended."""
