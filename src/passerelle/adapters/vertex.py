"""VertexTarget: a revision as a version of a Vertex AI model, deployed on a dedicated endpoint; and training jobs.

Vertex AI's v1 by REST, not the AI Platform's interface that Google ended. What is wanted is said in vertex_plan, what
cannot be expressed in vertex_rules; here is what asks and what does. See docs/howto/vertex.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from passerelle.adapters import vertex_rules as rules
from passerelle.adapters.packages import PACKAGE, Packages
from passerelle.adapters.vertex_alarms import VertexAlarms
from passerelle.adapters.vertex_jobs import VertexJobs
from passerelle.adapters.vertex_logs import last_lines
from passerelle.adapters.vertex_models import DEFAULT, ENVIRONMENT, PROJECT, REVISION, VertexModels, owned
from passerelle.adapters.vertex_plan import (
    ALARM,
    DEPLOYED,
    ENDPOINT,
    TRAFFIC,
    VERSION,
    to_deployment,
    to_nothing,
    want,
)
from passerelle.adapters.vertex_rest import ROLE_FILE, MissingError, Rest
from passerelle.deployment.package import Package
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import Job, JobStatus, Observed, Plan, Resource, Step
from passerelle.project.settings import Project
from passerelle.project.targets import Vertex

#: Marks of what was asked for; see vertex_plan.marked.
_TAGS = f"{rules.PREFIX}tags"
_SET, _SPLIT, _CAPACITY = f"{rules.PREFIX}set", f"{rules.PREFIX}split", f"{rules.PREFIX}capacity"
_REQUESTS = "aiplatform.googleapis.com/prediction/online/request_count"


class VertexTarget:
    """See Target, Jobs and Logs. One endpoint and one model for each environment, of the same name."""

    def __init__(self, name: str, settings: Vertex, project: Project, *, pack: Callable[[Deployment], Package]) -> None:
        self._name, self._settings, self._project, self._pack = name, settings, project.name, pack
        self._of = project
        self._rest = Rest(settings.project, settings.region)
        self._alarms = VertexAlarms(self._rest, settings, project.name)
        self._jobs = VertexJobs(settings, self._rest, project.name)
        self._models = VertexModels(self._rest, settings, project.name)
        self._packages = Packages(settings.store, project, ("gs://",), role=ROLE_FILE)

    def refuse(self, deployment: Deployment) -> None:
        """See Target."""
        rules.check(deployment, self._settings, self._of)

    def observe(self, environment: str) -> Observed:
        """See Target."""
        place = rules.endpoint_id(self._project, environment)
        endpoint = self._owned(place, environment)
        versions = self._models.observe(place, environment)
        found = [*self._packages.there(environment), *versions]
        problem = None
        revision = None
        state: Literal["absent", "changing", "serving", "failed"] = "absent"
        if endpoint is not None:
            found += self._of_endpoint(place, endpoint, versions)
            split = _split(endpoint)
            state, problem = "failed", "no deployed model has traffic."
            if split:
                state, problem, revision = "serving", None, _answering(endpoint, split)
            if self._rest.pending("endpoints", self._path(place)):
                state, problem = "changing", None
        found += self._alarms.observe(environment)
        return Observed(state=state, revision=revision, resources=tuple(found), problem=problem)

    def plan(self, deployment: Deployment | None, observed: Observed) -> Plan:
        """See Target. Packs the revision, on this machine."""
        if deployment is None:
            return to_nothing(observed, self._name, self._settings.environment)
        self.refuse(deployment)
        wanted = want(deployment, self._settings, observed, self._pack)
        return to_deployment(deployment, self._settings, observed, wanted, self._name)

    def apply(self, step: Step) -> None:
        """See Target."""
        one, delete = step.resource, step.act == "delete"
        if step.act == "wait":
            self._rest.settle("endpoints", self._path(one.name))
        elif one.kind == PACKAGE:
            self._packages.apply(step)
        elif one.kind == VERSION:
            (self._models.delete if delete else self._models.upload)(one)
        elif one.kind == ENDPOINT:
            (self._delete_endpoint if delete else self._set_endpoint)(one)
        elif one.kind == DEPLOYED:
            (self._undeploy if delete else self._deploy)(one)
        elif one.kind == TRAFFIC:
            self._set_traffic(one, delete=delete)
        elif one.kind == ALARM:
            (self._alarms.delete if delete else self._alarms.set)(one)

    def logs(self, environment: str, lines: int = 20) -> tuple[str, ...]:
        """See Logs."""
        return last_lines(self._rest, rules.endpoint_id(self._project, environment), lines)

    def start(self, job: Job) -> None:
        """See Jobs."""
        self._jobs.start(job)

    def status(self, name: str) -> JobStatus:
        """See Jobs."""
        return self._jobs.status(name)

    def stop(self, name: str) -> None:
        """See Jobs."""
        self._jobs.stop(name)

    def _owned(self, place: str, environment: str) -> dict[str, Any] | None:
        return owned(self._rest, "endpoints.get", self._path(place), self._project, environment)

    def _path(self, place: str) -> str:
        return f"{self._rest.location}/endpoints/{place}"

    def _of_endpoint(self, place: str, endpoint: dict[str, Any], versions: list[Resource]) -> list[Resource]:
        labels = endpoint.get("labels", {})
        owner = {"project": labels.get(PROJECT), "environment": labels.get(ENVIRONMENT)}
        timeout = endpoint.get("clientConnectionConfig", {}).get("inferenceTimeout", "")
        settings: dict[str, Any] = {
            "timeout": timeout,
            "tags": labels.get(f"{rules.PREFIX}tags", ""),
            "set": labels.get(_SET, ""),
        }
        found = [Resource(kind=ENDPOINT, name=place, settings=settings | {"owner": owner}, lasting=True)]
        found += [_deployed(place, one) for one in endpoint.get("deployedModels", [])]
        split = _split(endpoint)
        if split or _SPLIT in labels:
            default = next(
                (
                    alias
                    for one in self._models.all(place)
                    if DEFAULT in one.get("versionAliases", [])
                    for alias in one["versionAliases"]
                    if alias != DEFAULT
                ),
                "",
            )
            number = labels.get(REVISION, "")
            settings = {
                "split": split,
                "set": labels.get(_SPLIT, ""),
                "revision": int(number) if number.isdigit() else 0,
                "default": default if versions else "",
                "capacity": labels.get(_CAPACITY, ""),
            }
            found.append(Resource(kind=TRAFFIC, name=place, settings=settings, lasting=True))
        return found

    def _set_endpoint(self, one: Resource) -> None:
        path, owner, settings = self._path(one.name), one.settings["owner"], one.settings
        ours = {
            PROJECT: owner["project"],
            ENVIRONMENT: owner["environment"],
            _TAGS: settings["tags"],
            _SET: settings["set"],
        }
        connection = {"inferenceTimeout": settings["timeout"]}

        def find() -> dict[str, Any] | None:
            self._rest.settle("endpoints", path)
            return self._owned(one.name, owner["environment"])

        def create() -> None:
            body = {
                "displayName": one.name,
                "labels": self._settings.tags | ours,
                "dedicatedEndpointEnabled": True,
                "clientConnectionConfig": connection,
            }
            call = self._rest.call("endpoints.create", self._rest.location, body, {"endpointId": one.name})
            self._rest.finish(call, "endpoints.create")

        def is_set() -> bool:
            return (find() or {}).get("clientConnectionConfig") == connection

        def update() -> None:
            body = {"endpoint": {"name": path, "clientConnectionConfig": connection}}
            self._rest.finish(self._rest.call("endpoints.update", path, body), "endpoints.update")

        self._rest.make(find, create)
        self._rest.make(is_set, update)

        def labels(place: dict[str, Any]) -> dict[str, Any]:
            there = place.get("labels", {})
            kept = {key: value for key, value in there.items() if key.startswith(rules.PREFIX)}
            return {"labels": self._settings.tags | kept | ours}

        self._patch(one.name, labels)

    def _patch(self, place: str, changes: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Change fields of the endpoint, as ``changes`` says from what is there.

        Its etag stands between two who change it at the same time: the later one looks again.
        """
        path = self._path(place)

        def done() -> bool:
            there = self._rest.call("endpoints.get", path)
            return all((there.get(field) or {}) == value for field, value in changes(there).items())

        def change() -> None:
            there = self._rest.call("endpoints.get", path)
            body = changes(there)
            mask = {"updateMask": ",".join(sorted(body))}
            etag = {"etag": there["etag"]} if there.get("etag") else {}
            self._rest.call("endpoints.patch", path, body | etag, mask)

        self._rest.make(done, change)

    def _delete_endpoint(self, one: Resource) -> None:
        path = self._path(one.name)

        def gone() -> bool:
            self._rest.settle("endpoints", path)
            try:
                self._rest.call("endpoints.get", path)
            except MissingError:
                return True
            return False

        self._rest.make(gone, lambda: self._rest.finish(self._rest.call("endpoints.delete", path), "endpoints.delete"))

    def _there(self, one: Resource) -> dict[str, Any] | None:
        """A DeployedModel, when what has begun on its endpoint is done."""
        place, _, number = one.name.partition("/")
        self._rest.settle("endpoints", self._path(place))
        try:
            endpoint = self._rest.call("endpoints.get", self._path(place))
        except MissingError:
            return None
        return next((found for found in endpoint.get("deployedModels", []) if found["id"] == number), None)

    def _deploy(self, one: Resource) -> None:
        place, _, number = one.name.partition("/")
        path, settings = self._path(place), one.settings
        resources, alias = _resources(settings), settings["model"]

        def deploy() -> None:
            machines = {"machineSpec": {"machineType": settings["machine"]}} | resources
            body = {
                "deployedModel": {
                    "id": number,
                    "displayName": alias,
                    "model": f"{self._models.path(place)}@{alias}",
                    "serviceAccount": settings["service_account"],
                    "dedicatedResources": machines,
                }
            }
            self._rest.finish(self._rest.call("endpoints.deployModel", path, body), "endpoints.deployModel")

        def has_its_machines() -> bool:
            there = self._there(one)
            return there is not None and _deployed(place, there).settings == settings

        def mutate() -> None:
            fields = ("minReplicaCount", "maxReplicaCount", "autoscalingMetricSpecs")
            body = {
                "deployedModel": {"id": number, "dedicatedResources": resources},
                "updateMask": ",".join(f"dedicatedResources.{field}" for field in fields),
            }
            call = self._rest.call("endpoints.mutateDeployedModel", path, body)
            self._rest.finish(call, "endpoints.mutateDeployedModel")

        self._rest.make(lambda: self._there(one), deploy)
        self._rest.make(has_its_machines, mutate)

    def _undeploy(self, one: Resource) -> None:
        place, _, number = one.name.partition("/")

        def undeploy() -> None:
            call = self._rest.call("endpoints.undeployModel", self._path(place), {"deployedModelId": number})
            self._rest.finish(call, "endpoints.undeployModel")

        self._rest.make(lambda: self._there(one) is None, undeploy)

    def _set_traffic(self, one: Resource, *, delete: bool) -> None:
        """The shares and the revision that they stand for, in one request: nobody sees one without the other."""
        ours = (REVISION, _SPLIT, _CAPACITY)
        values = ("", "", "")
        if not delete:
            values = (str(one.settings["revision"]), one.settings["set"], one.settings["capacity"])

        def shares(place: dict[str, Any]) -> dict[str, Any]:
            labels = {key: value for key, value in place.get("labels", {}).items() if key not in ours}
            labels |= {} if delete else dict(zip(ours, values, strict=True))
            return {"trafficSplit": {} if delete else one.settings["split"], "labels": labels}

        try:
            self._patch(one.name, shares)
        except MissingError:
            return
        alias = one.settings.get("default")
        if not delete and alias:
            found = self._models.find(msgspec.structs.replace(one, name=f"{one.name}/{alias}"))
            if found is not None and DEFAULT not in found.get("versionAliases", []):
                self._models.make_default(one.name, found["versionId"])


def _split(endpoint: dict[str, Any]) -> dict[str, int]:
    return {key: share for key, share in endpoint.get("trafficSplit", {}).items() if share}


def _answering(endpoint: dict[str, Any], split: dict[str, int]) -> int | None:
    """The revision that answers: the one that the shares were set for, or whose model somebody gave all of them."""
    labels = endpoint.get("labels", {})
    if labels.get(_SPLIT) == rules.digest({"split": split}):
        return int(labels[REVISION])
    return rules.revision_of(next(iter(split))) if len(split) == 1 else None


def _resources(settings: dict[str, Any]) -> dict[str, Any]:
    per_minute = settings["requests_per_minute"]
    return {
        "minReplicaCount": settings["minimum"],
        "maxReplicaCount": settings["maximum"],
        "autoscalingMetricSpecs": [{"metricName": _REQUESTS, "target": per_minute}] if per_minute else [],
    }


def _deployed(place: str, one: dict[str, Any]) -> Resource:
    machines = one.get("dedicatedResources", {})
    specs = machines.get("autoscalingMetricSpecs", [])
    minimum = machines.get("minReplicaCount", 1)
    settings = {
        "model": one.get("displayName", ""),
        "machine": machines.get("machineSpec", {}).get("machineType", ""),
        "service_account": one.get("serviceAccount", ""),
        "minimum": minimum,
        "maximum": machines.get("maxReplicaCount", minimum),
        "requests_per_minute": next((spec["target"] for spec in specs if spec["metricName"] == _REQUESTS), None),
    }
    return Resource(kind=DEPLOYED, name=f"{place}/{one['id']}", settings=settings)
