"""LocalTarget: the endpoint of this machine, and the smallest example of a target.

An endpoint of this machine follows the revisions by itself, so there is little to do: each worker is waited for until
it says that it has applied the revision. Who starts and ends the endpoint is a person, or ``passerelle up``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from passerelle.deployment.plan import steps
from passerelle.deployment.spec import Deployment, Revisions, environment_folder
from passerelle.deployment.target import Observed, Plan, PlanError, Resource, Step, TargetError
from passerelle.errors import DeploymentError
from passerelle.project.settings import Project
from passerelle.project.targets import Local
from passerelle.serving.observation import FOLDER, Observation, is_alive, observed, wait_observed

_WORKER, _GONE = "worker", "ended worker"
#: Seconds that a worker is waited for.
WAIT_S = 20.0


class LocalTarget:
    """See Target. Its resources are workers, by what they say of themselves; see serving.observation."""

    def __init__(
        self,
        name: str,
        settings: Local,  # noqa: ARG002  (every target is made alike)
        project: Project,
        *,
        pack: Callable[[Deployment], Any],  # noqa: ARG002  (the bundles are on this machine)
        wait_s: float = WAIT_S,
    ) -> None:
        self._name = name
        self._project = project
        self._wait_s = wait_s

    def refuse(self, deployment: Deployment) -> None:
        """See Target. This machine takes every revision."""

    def observe(self, environment: str) -> Observed:
        """See Target. Workers that have ended are found too, by what they left."""
        seen = observed(self._folder(environment))
        living = {slot: one for slot, one in seen.items() if is_alive(one.pid)}
        found = [
            _worker(environment, slot, one.revision, kind=_WORKER if slot in living else _GONE)
            for slot, one in seen.items()
        ]
        said = {one.revision for one in living.values()}
        refusals = [_refusal(slot, one) for slot, one in living.items() if one.refused is not None]
        return Observed(
            state=_state(said, refused=bool(refusals)),
            revision=min((number for number in said if number is not None), default=None),
            resources=tuple(found),
            problem="; ".join(refusals) or None,
        )

    def plan(self, deployment: Deployment | None, observed: Observed) -> Plan:
        """See Target. Raises PlanError (rule endpoint-runs) for a removal while it runs: who started it ends it."""
        living = [one for one in observed.resources if one.kind == _WORKER]
        wanted: list[Resource] = []
        notes: tuple[str, ...] = ()
        if deployment is None and living:
            raise PlanError(
                "endpoint-runs",
                f"the endpoint runs on this machine, in {len(living)} workers: end passerelle serve, or up, first.",
            )
        if deployment is not None:
            names = [one.name for one in living] or [f"{deployment.environment}/w0"]
            wanted = [_worker(deployment.environment, name.partition("/")[2], deployment.revision) for name in names]
            if not living:
                notes = (f"no endpoint runs here: start passerelle serve --to {deployment.environment}.",)
        return Plan(
            target=self._name,
            environment=deployment.environment if deployment else self._project.targets[self._name].environment,
            revision=deployment.revision if deployment else None,
            steps=steps(wanted, observed.resources),
            notes=notes,
        )

    def apply(self, step: Step) -> None:
        """See Target. Waits for the worker, or removes what one that has ended left."""
        environment, slot = step.resource.name.split("/")
        folder = self._folder(environment)
        if step.act == "delete":
            left = observed(folder).get(slot)
            if left is not None and not is_alive(left.pid):
                (folder / FOLDER / f"{slot}.json").unlink(missing_ok=True)
            return
        revision = step.resource.settings["revision"]
        newest = (Revisions(folder).numbers() or [0])[-1]
        if newest != revision:
            raise TargetError(
                f"revision {revision} of {environment} is wanted, and {newest} is the newest, which the "
                "endpoint follows: apply that one."
            )
        try:
            wait_observed(folder, revision, [slot], self._wait_s)
        except DeploymentError as error:
            raise TargetError(str(error)) from error

    def _folder(self, environment: str) -> Path:
        return environment_folder(self._project.state, environment)


def _worker(environment: str, slot: str, revision: int | None, *, kind: str = _WORKER) -> Resource:
    return Resource(kind=kind, name=f"{environment}/{slot}", settings={"revision": revision}, lasting=True)


def _state(said: set[int | None], *, refused: bool) -> Literal["absent", "changing", "serving", "failed"]:
    """Of workers that say they have applied these revisions."""
    if refused:
        return "failed"
    if not said - {None}:
        return "absent"
    return "serving" if len(said) == 1 else "changing"


def _refusal(slot: str, one: Observation) -> str:
    return f"{slot} refused revision {one.refused}: {one.problem}"
