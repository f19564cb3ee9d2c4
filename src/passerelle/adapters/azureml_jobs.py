"""AzureMLJobs: the notebook as a command job of an Azure ML workspace, in the image that serves, too."""

from __future__ import annotations

import re
from typing import Any, Literal

from passerelle.adapters.azureml_bodies import ENVIRONMENT_TAG, PROJECT_TAG, Where, asset_body
from passerelle.adapters.azureml_plan import image_version, tags
from passerelle.adapters.azureml_rest import Arm
from passerelle.adapters.azureml_rules import digest, endpoint_name
from passerelle.adapters.objectstore import open_store
from passerelle.deployment.target import Job, JobStatus, TargetError
from passerelle.errors import PasserelleError
from passerelle.project.settings import Project
from passerelle.project.targets import AzureML

#: What the job runs; the folders are where Azure mounts them.
COMMAND = (
    "PASSERELLE_INPUT=${{inputs.input}} PASSERELLE_OUTPUT=${{outputs.output}} "
    "python -m passerelle.serving.container train"
)
_LONGEST_NAME = 255
#: Where a workspace keeps what its jobs print, and how much of that is told.
_LOGS_STORE, _LOG = "workspaceartifactstore", "ExperimentRun/dcid.{job}/user_logs/std_log.txt"
_LOG_LINES = 20
_STATES: dict[str, Literal["succeeded", "failed", "stopped"]] = {
    "Completed": "succeeded",
    "Failed": "failed",
    "Canceled": "stopped",
    "NotResponding": "failed",
}


class AzureMLJobs:
    """See Jobs. A job of a name is there once, whoever starts it; its record stays with the workspace's history."""

    def __init__(self, name: str, arm: Arm, settings: AzureML, project: Project) -> None:
        self._name = name
        self._arm = arm
        self._settings = settings
        self._project = project

    def start(self, job: Job) -> None:
        """See Jobs. The environment that it runs in is the endpoint's own, made here if it is not there yet."""
        path = self._job_path(job.name)
        if self._arm.get(path) is not None:
            return
        settings = self._settings
        ours = tags(self._project.name, settings.environment, settings)
        where = Where(
            workspace=self._arm.workspace,
            group=self._arm.group,
            location=settings.location,
            endpoint=endpoint_name(self._project.name, settings.environment),
        )
        image = f"{where.endpoint}/{image_version(settings)}"
        for kind, name, body in (
            ("environments", where.endpoint, asset_body({"tags": ours})),
            ("environments/versions", image, asset_body({"tags": ours, "image": settings.image})),
        ):
            if self._arm.get(where.path(kind, name)) is None:
                self._arm.put(where.path(kind, name), body)
        folder = {"jobInputType": "uri_folder", "mode": "ReadOnlyMount", "uri": self._uri(job.input)}
        properties: dict[str, Any] = {
            "jobType": "Command",
            "displayName": job.name,
            "experimentName": self._project.name,
            "command": COMMAND,
            "environmentId": where.path("environments/versions", image),
            "environmentVariables": settings.variables,
            "inputs": {"input": folder},
            "outputs": {
                "output": {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": self._uri(job.output)}
            },
            "limits": {"jobLimitsType": "Command", "timeout": f"PT{job.timeout_s}S"},
            "tags": ours,
        }
        if settings.training_compute:
            properties["computeId"] = f"{self._arm.workspace}/computes/{settings.training_compute}"
        else:
            properties["resources"] = {"instanceType": settings.training_instance, "instanceCount": 1}
        if settings.training_identity:
            properties["identity"] = {"identityType": "Managed", "resourceId": settings.training_identity}
        self._arm.put(path, {"properties": properties})

    def status(self, name: str) -> JobStatus:
        """See Jobs. Raises TargetError for a job of this name that is somebody else's."""
        found = self._arm.get(self._job_path(name))
        if found is None:
            return JobStatus(state="absent")
        properties = found["properties"]
        theirs = properties.get("tags") or {}
        if theirs.get(PROJECT_TAG) != self._project.name or ENVIRONMENT_TAG not in theirs:
            raise TargetError(
                f"{self._name}: there is a job {name} that is not {self._project.name}'s: rename the run."
            )
        status = str(properties.get("status", "Unknown"))
        state: Literal["running", "succeeded", "failed", "stopped"] = _STATES.get(status, "running")
        problem = None
        if state == "failed":
            problem = self._why(found["name"], status, properties.get("services") or {})
        return JobStatus(state=state, problem=problem)

    def stop(self, name: str) -> None:
        """See Jobs."""
        if self.status(name).state == "running":
            self._arm.post(f"{self._job_path(name)}/cancel")

    def _why(self, job: str, status: str, services: dict[str, Any]) -> str:
        """What Azure says of a job that failed; its interface gives neither reason nor log, but says where both are."""
        errors = [str(one["errorMessage"]) for one in services.values() if (one or {}).get("errorMessage")]
        studio = (services.get("Studio") or {}).get("endpoint") or "Azure ML studio, Jobs"
        said = f"the job is {status}{''.join(f'; {one}' for one in errors)}: see {studio}."
        try:
            for one in self._arm.list(f"{self._arm.workspace}/datastores"):
                if one["name"] == _LOGS_STORE:
                    at = f"{one['properties']['containerName']}@{one['properties']['accountName']}.dfs.core.windows.net"
                    log = open_store(f"abfss://{at}").get(_LOG.format(job=job))
                    lines = (log or b"").decode(errors="replace").strip().splitlines()[-_LOG_LINES:]
                    said += f" Its log ends:\n{chr(10).join(lines)}" if lines else ""
        except (PasserelleError, KeyError) as error:  # the log is beside the point
            said += f" Its log cannot be read: {error}"
        return said

    def _job_path(self, name: str) -> str:
        legal = re.sub(r"[^a-zA-Z0-9_-]+", "-", name).lstrip("-_")
        if legal != name or len(legal) > _LONGEST_NAME:
            legal = f"{legal[: _LONGEST_NAME - 9]}-{digest(name)}"
        return f"{self._arm.workspace}/jobs/{legal}"

    def _uri(self, address: str) -> str:
        """A folder of the store, given by its address or from the store's root, as a datastore's."""
        store = self._settings.store
        below = address.removeprefix(store).strip("/")
        if "://" in below:
            raise TargetError(f"{self._name}: {address} is not in the store {store}, and a job reaches only that.")
        folder = store.partition("://")[2].partition("/")[2].strip("/")
        return datastore_path(self._arm, store, "/".join(part for part in (folder, below) if part))


def datastore_path(arm: Arm, store: str, path: str) -> str:
    """A path within the store's container as Azure ML names it: by the workspace's datastore of this container.

    Raises TargetError if no datastore is: Azure ML reads blobs only through one.
    """
    container, _, host = store.partition("://")[2].partition("/")[0].partition("@")
    account = host.partition(".")[0]
    names = []
    for one in arm.list(f"{arm.workspace}/datastores"):
        properties = one["properties"]
        there = properties.get("containerName") or properties.get("filesystem")
        if there == container and (not account or properties.get("accountName") == account):
            return f"azureml:/{arm.workspace_uri}/datastores/{one['name']}/paths/{path}"
        if there:
            names.append(f"{one['name']} ({properties.get('accountName')}/{there})")
    raise TargetError(
        f"no datastore of the workspace is the container of {store}: there are {', '.join(names) or 'none'}. Name one "
        "of these as the store, or add one: az ml datastore create --type azure_blob ..."
    )
