"""AzureMLTarget: an environment as a managed online endpoint of Azure ML, one deployment for each revision.

A revision is made beside the one that answers and given the traffic when it is ready; the one before stays, without
traffic, to go back to. See docs/howto/azureml.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

from passerelle.adapters import azureml_bodies as bodies
from passerelle.adapters.azureml_bodies import (
    ALERT,
    AUTOSCALE,
    DEPLOYMENT,
    ENDPOINT,
    ENVIRONMENT,
    ENVIRONMENTS,
    KINDS,
    MODEL,
    MODELS,
    TRAFFIC,
    Where,
)
from passerelle.adapters.azureml_jobs import AzureMLJobs, datastore_path
from passerelle.adapters.azureml_plan import in_use, kept, notes, number, wanted
from passerelle.adapters.azureml_rest import ALERT_VERSION, API_VERSION, AUTOSCALE_VERSION, Arm
from passerelle.adapters.azureml_rules import STORES, check, endpoint_name
from passerelle.adapters.packages import PACKAGE, Packages
from passerelle.deployment.package import Package
from passerelle.deployment.plan import mark, refuse_drift, steps
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import DriftError, Observed, Plan, Resource, Step, TargetError
from passerelle.project.settings import Project
from passerelle.project.targets import AzureML

#: Seconds between two questions how far a change has come, and after which it is given up: machines may take 30 min.
FIRST_POLL_S, POLL_S, PATIENCE_S = 0.25, 5.0, 3600.0
_WAITED = (ENDPOINT, DEPLOYMENT, TRAFFIC)
_VERSIONS = {AUTOSCALE: AUTOSCALE_VERSION, ALERT: ALERT_VERSION}
_GOING = ("Creating", "Updating", "Scaling", "Deleting", "Accepted", "InProgress")
_LOG_LINES = 20


class AzureMLTarget(AzureMLJobs):
    """See Target, Jobs and Logs. Azure's resource manager is asked by REST, the blob store through obstore."""

    def __init__(
        self,
        name: str,
        settings: AzureML,
        project: Project,
        *,
        pack: Callable[[Deployment], Package],
        poll_s: float = POLL_S,
    ) -> None:
        super().__init__(name, Arm(settings), settings, project)
        self._pack = pack
        self._packages = Packages(settings.store, project, STORES)
        self._poll_s = poll_s
        #: "kind name" → where Azure says how far our change of it has come.
        self._operations: dict[str, str | None] = {}

    def refuse(self, deployment: Deployment) -> None:
        """See Target."""
        check(deployment, self._settings)

    def observe(self, environment: str) -> Observed:
        """See Target. Raises TargetError for what bears our names and is somebody else's."""
        where = self._where(environment)
        found: list[Resource] = []
        endpoint = self._ours(where, environment, ENDPOINT)
        states = {f"{ENDPOINT} {where.endpoint}": _state(endpoint)} if endpoint else {}
        if endpoint:
            found.append(_resource(ENDPOINT, where.endpoint, endpoint))
            for one in self._arm.list(f"{where.path(ENDPOINT, where.endpoint)}/deployments"):
                made = _resource(DEPLOYMENT, one["name"], one)
                if self._settings.scaling.maximum > self._settings.scaling.minimum:
                    made.settings.pop("machines")  # it is Azure's to choose
                found.append(made)
                states[f"{DEPLOYMENT} {one['name']}"] = _state(one)
            traffic = _resource(TRAFFIC, where.endpoint, endpoint)
            if traffic.settings["traffic"] or traffic.settings["mirror"]:
                found.append(traffic)
        for containers, versions in ((ENVIRONMENTS, ENVIRONMENT), (MODELS, MODEL)):
            container = self._ours(where, environment, containers)
            if container:
                found.append(_resource(containers, where.endpoint, container))
                path = f"{where.path(containers, where.endpoint)}/versions"
                found += [_resource(versions, f"{where.endpoint}/{one['name']}", one) for one in self._arm.list(path)]
        for kind, version in _VERSIONS.items():
            path = where.path(kind, "").rstrip("/")
            found += [
                _resource(kind, one["name"], one)
                for one in self._arm.list(path, version)
                if self._is_ours(one.get("tags"), environment)
            ]
        found += self._packages.there(environment)
        revision = next((_answering(one) for one in found if one.kind == TRAFFIC), None)
        failed = sorted(key for key, state in states.items() if state in ("Failed", "Canceled"))
        return Observed(
            state=_overall(states, serves=revision is not None),
            revision=revision,
            resources=tuple(sorted(found, key=lambda one: (KINDS.index(one.kind), one.name))),
            problem=f"{', '.join(failed)} failed" if failed else None,
        )

    def plan(self, deployment: Deployment | None, observed: Observed) -> Plan:
        """See Target. A deployment that failed before it had any traffic is deleted first, and made anew."""
        settings = self._settings
        due: list[Resource] = []
        if deployment is not None:
            self.refuse(deployment)
            due = wanted(deployment, settings, self._pack)
            refuse_drift(due, in_use(observed.resources, due), drift=settings.drift)
            self._refuse_strangers(observed)
        there = list(observed.resources)
        traffic: dict[str, int] = next((one.settings["traffic"] for one in there if one.kind == TRAFFIC), {})
        broken = [
            one for one in there if one.kind == DEPLOYMENT and one.settings.get("failed") and one.name not in traffic
        ]
        going = observed.state == "changing"
        first = tuple(Step(act="delete", resource=one, before=one.settings, why="it failed") for one in broken)
        rest = [one for one in there if one not in broken]
        keep = kept(rest, due)
        made = steps(due, rest, keep=lambda one: deployment is not None and keep(one), waits=_WAITED, changing=going)
        return Plan(
            target=self._name,
            environment=deployment.environment if deployment else settings.environment,
            revision=deployment.revision if deployment else None,
            steps=(*first, *made),
            notes=notes(deployment, settings) if deployment else (),
        )

    def _refuse_strangers(self, observed: Observed) -> None:
        """Raise DriftError for a deployment that somebody made by hand on our endpoint, unless it is to be put back."""
        strangers = [
            one.name
            for one in observed.resources
            if one.kind == DEPLOYMENT and bodies.PROJECT_TAG not in one.settings["tags"]
        ]
        if strangers and self._settings.drift == "refuse":
            raise DriftError(
                f"{self._name}: deployments {', '.join(strangers)} on our endpoint were made by hand: delete them, or "
                'say drift = "restore" for this target to have it done.'
            )

    def apply(self, step: Step) -> None:
        """See Target. Traffic is changed only from what the plan saw: nobody's change in between is undone."""
        environment = self._settings.environment
        where, one = self._where(environment), step.resource
        if one.kind == PACKAGE:
            self._packages.apply(step)
        elif step.act == "wait":
            self._wait(where, one)
        elif one.kind == TRAFFIC:
            self._apply_traffic(where, step)
        elif step.act == "delete":
            path, version = where.path(one.kind, one.name), _VERSIONS.get(one.kind, API_VERSION)
            self._until_gone(one, self._arm.delete(path, version), lambda: self._arm.get(path, version))
        else:
            self._make(where, one)

    def _make(self, where: Where, one: Resource) -> None:
        """Create or replace a resource, unless it is there and just so."""
        path, version = where.path(one.kind, one.name), _VERSIONS.get(one.kind, API_VERSION)
        now = self._arm.get(path, version)
        if now is not None and _comparable(one, bodies.seen(one.kind, now)) == one.settings:
            return
        if one.kind == ENDPOINT:
            body = bodies.endpoint_body(one.settings, now, where.location)
        elif one.kind == DEPLOYMENT:
            machines = ((now or {}).get("sku") or {}).get("capacity") or self._settings.scaling.minimum
            body = bodies.deployment_body(one.settings, where, one.settings.get("machines", machines))
        elif one.kind == AUTOSCALE:
            body = bodies.autoscale_body(one.settings, where, one.name)
        elif one.kind == ALERT:
            body = bodies.alert_body(one.settings, where)
        elif one.kind == MODEL:
            body = bodies.asset_body(
                one.settings, datastore_path(self._arm, self._settings.store, one.settings["path"])
            )
        else:
            body = bodies.asset_body(one.settings)
        self._operations[f"{one.kind} {one.name}"] = self._arm.put(path, body, version)

    def _apply_traffic(self, where: Where, step: Step) -> None:
        one, path = step.resource, where.path(ENDPOINT, where.endpoint)
        found = self._arm.get(path)
        if found is None:
            if step.act == "delete":
                return
            raise TargetError(f"{self._name}: the endpoint {where.endpoint} is gone: deploy again.")
        now = bodies.seen(TRAFFIC, found)
        due = None if step.act == "delete" else one.settings
        nothing: dict[str, Any] = {"traffic": {}, "mirror": {}}
        if all(now[key] == (due or nothing)[key] for key in (due or nothing)):
            return
        before = step.before or nothing
        changed = [key for key in ("traffic", "mirror") if now[key] != before[key]]
        if changed:
            raise DriftError(
                f"the traffic of {where.endpoint} is {now['traffic']}, mirrored {now['mirror']}, and was "
                f"{before['traffic']}, {before['mirror']} when the plan was made: somebody changed it meanwhile, and "
                "it was left as it is. Look at it, then deploy again."
            )
        key = f"{TRAFFIC} {where.endpoint}"
        self._operations[key] = self._arm.put(path, bodies.traffic_body(due, found))
        if due is None:
            self._wait(where, one)

    def _wait(self, where: Where, one: Resource) -> None:
        """Until Azure has made, changed or deleted it. Raises TargetError, with its log's last lines, if it failed."""
        path = where.path(one.kind, one.name)
        operation = self._operations.pop(f"{one.kind} {one.name}", None)
        for _ in self._patiently(one):
            found = self._arm.get(path)
            state = _state(found) if found else "gone"
            if state not in _GOING:
                break
        if state in ("Succeeded", "gone"):
            return
        problem = self._arm.problem(operation) or "Azure does not say why; look at it in the Azure portal."
        raise TargetError(f"{self._name}: {one.kind} {one.name} is {state}: {problem}{self._log(path, one)}")

    def logs(self, environment: str, lines: int = 20) -> tuple[str, ...]:
        """See Logs: of the deployments that have traffic, or of all, if none has."""
        where = self._where(environment)
        found = self._ours(where, environment, ENDPOINT)
        if found is None:
            raise TargetError(f"{self._name}: there is no endpoint {where.endpoint}: deploy first.")
        names = list(bodies.seen(TRAFFIC, found)["traffic"]) or [
            one["name"] for one in self._arm.list(f"{where.path(ENDPOINT, where.endpoint)}/deployments")
        ]
        said = [self._last(where.path(DEPLOYMENT, name), lines) for name in names]
        return tuple(line for one in said for line in one[-lines:])

    def _last(self, path: str, lines: int) -> list[str]:
        said = self._arm.post(f"{path}/getLogs", {"containerType": "InferenceServer", "tail": lines})
        return str((said or {}).get("content") or "").strip().splitlines()

    def _log(self, path: str, one: Resource) -> str:
        if one.kind != DEPLOYMENT:
            return ""
        try:
            said = "\n".join(self._last(path, _LOG_LINES))
        except TargetError as error:  # the log is beside the point
            return f" Its log cannot be read: {error}"
        return f" Its log ends:\n{said}" if said else " Its log is empty."

    def _until_gone(self, one: Resource, operation: str | None, get: Callable[[], Any]) -> None:
        for _ in self._patiently(one):
            if self._arm.ended(operation) and get() is None:
                return
            problem = self._arm.problem(operation)
            if problem is not None:
                raise TargetError(f"{self._name}: {one.kind} {one.name} was not deleted: {problem}")

    def _patiently(self, one: Resource) -> Iterator[None]:
        until, wait_s = time.monotonic() + PATIENCE_S, min(FIRST_POLL_S, self._poll_s)
        while time.monotonic() < until:
            yield
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, self._poll_s)
        raise TargetError(
            f"{self._name}: {one.kind} {one.name} still changes after {PATIENCE_S / 60:g} min: look at it in the Azure "
            "portal; to go on waiting, deploy again."
        )

    def _ours(self, where: Where, environment: str, kind: str) -> dict[str, Any] | None:
        """What bears the endpoint's name, if it is ours; None if there is nothing."""
        found = self._arm.get(where.path(kind, where.endpoint))
        if found is None:
            return None
        every = found.get("tags") if kind == ENDPOINT else found["properties"].get("tags")
        if self._is_ours(every, environment):
            return found
        owner = (every or {}).get(bodies.PROJECT_TAG)
        said = f"project {owner!r} made" if owner else "Passerelle did not make"
        raise TargetError(
            f"{self._name}: there is {kind} {where.endpoint} that {said}, and {self._project.name} ({environment}) "
            "needs the name: rename the project or the environment, or remove it."
        )

    def _is_ours(self, every: dict[str, str] | None, environment: str) -> bool:
        said = every or {}
        return said.get(bodies.PROJECT_TAG) == self._project.name and said.get(bodies.ENVIRONMENT_TAG) == environment

    def _where(self, environment: str) -> Where:
        return Where(
            workspace=self._arm.workspace,
            group=self._arm.group,
            location=self._settings.location,
            endpoint=endpoint_name(self._project.name, environment),
        )


def _overall(states: dict[str, str], *, serves: bool) -> Literal["absent", "changing", "serving", "failed"]:
    """How an endpoint and its deployments are together, by the state of each."""
    if not states:
        return "absent"
    if any(one in _GOING for one in states.values()):
        return "changing"
    if any(one in ("Failed", "Canceled") for one in states.values()):
        return "failed"
    return "serving" if serves else "changing"


def _answering(traffic: Resource) -> int | None:
    """The revision that answers: the one that the traffic was set for, or to which somebody gave all of it."""
    settings = {key: value for key, value in traffic.settings.items() if key != "asked"}
    shares = settings["traffic"]
    if not shares:
        return None
    if mark(settings) == traffic.settings["asked"]:
        return int(settings["revision"])
    return number(next(iter(shares))) or None if len(shares) == 1 else None


def _state(found: dict[str, Any]) -> str:
    """How far Azure has come with a resource; what has no such state is there at once."""
    return str(found["properties"].get("provisioningState") or "Succeeded")


def _resource(kind: str, name: str, found: dict[str, Any]) -> Resource:
    lasting = kind in (ENVIRONMENTS, MODELS, ENDPOINT, TRAFFIC, ALERT)
    return Resource(kind=kind, name=name, settings=bodies.seen(kind, found), lasting=lasting)


def _comparable(one: Resource, now: dict[str, Any]) -> dict[str, Any]:
    """What is there, of what is asked for: how many machines is asked for only if Azure does not choose it."""
    return {key: value for key, value in now.items() if key in one.settings or key != "machines"}
