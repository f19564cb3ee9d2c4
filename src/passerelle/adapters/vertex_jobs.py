"""Training on Vertex AI: a CustomJob that runs the image's ``train``."""

from __future__ import annotations

import re
from typing import Any

from passerelle.adapters.vertex_rest import Rest
from passerelle.adapters.vertex_rules import PREFIX, digest
from passerelle.deployment.target import Job, JobStatus, TargetError
from passerelle.project.targets import Vertex

_STATES = {
    "JOB_STATE_SUCCEEDED": "succeeded",
    "JOB_STATE_FAILED": "failed",
    "JOB_STATE_EXPIRED": "failed",
    "JOB_STATE_PARTIALLY_SUCCEEDED": "failed",
    "JOB_STATE_CANCELLED": "stopped",
    "JOB_STATE_CANCELLING": "stopped",
}
_LONGEST_LABEL = 63


class VertexJobs:
    """The jobs of one project and region; a job is found by its label, so that two of one name are one."""

    def __init__(self, settings: Vertex, rest: Rest, project: str) -> None:
        self._settings, self._rest, self._project = settings, rest, project

    def start(self, job: Job) -> None:
        """Start the job, unless one of this name is there. Raises TargetError."""
        settings = self._settings
        body = {
            "displayName": f"{self._project} {job.name}"[:128],
            "labels": settings.tags | {f"{PREFIX}project": self._project, f"{PREFIX}job": _label(job.name)},
            "jobSpec": {
                "workerPoolSpecs": [
                    {
                        "machineSpec": {"machineType": settings.training_instance},
                        "replicaCount": "1",
                        "containerSpec": {
                            "imageUri": settings.image,
                            "args": ["train"],
                            "env": [
                                {"name": name, "value": value}
                                for name, value in sorted(
                                    (
                                        settings.variables
                                        | {"PASSERELLE_INPUT": job.input, "PASSERELLE_OUTPUT": job.output}
                                    ).items()
                                )
                            ],
                        },
                    }
                ],
                "scheduling": {"timeout": f"{job.timeout_s}s", "disableRetries": True},
                "serviceAccount": settings.training_service_account or settings.service_account,
                "baseOutputDirectory": {"outputUriPrefix": job.output},
            },
        }
        self._rest.make(
            lambda: self._find(job.name), lambda: self._rest.call("customJobs.create", self._rest.location, body)
        )

    def status(self, name: str) -> JobStatus:
        """How far it has come. Raises TargetError."""
        found = self._find(name)
        if found is None:
            return JobStatus(state="absent")
        state: Any = _STATES.get(found.get("state", ""), "running")
        problem = found.get("error", {}).get("message")
        if state == "failed" and not problem:
            problem = f"{found['state']}: look at the job's log in the console."
        return JobStatus(state=state, problem=problem)

    def stop(self, name: str) -> None:
        """End it; nothing happens if it has ended."""
        found = self._find(name)
        if found is not None and self.status(name).state == "running":
            try:
                self._rest.call("customJobs.cancel", found["name"], {})
            except TargetError:
                if self.status(name).state == "running":  # else it ended meanwhile
                    raise

    def _find(self, name: str) -> dict[str, Any] | None:
        wanted = f"labels.{PREFIX}job={_label(name)}"
        found = [
            one
            for one in self._rest.pages("customJobs.list", self._rest.location, "customJobs", filter=wanted)
            if one.get("labels", {}).get(f"{PREFIX}project") == self._project
        ]
        return min(found, key=lambda one: str(one.get("createTime", ""))) if found else None


def _label(name: str) -> str:
    """A job's name as a label's value: as it is if it is legal, else what is legal of it and a mark.

    >>> _label("run-12"), _label("Run 12")
    ('run-12', 'run-12-28ff')
    """
    legal = re.sub(r"[^a-z0-9_-]", "-", name.lower())[: _LONGEST_LABEL - 5]
    return name if re.fullmatch(r"[a-z0-9_-]{1,63}", name) else f"{legal}-{digest(name)[:4]}"
