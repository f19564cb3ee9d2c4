"""MemoryTarget: the in-memory twin of a cloud's target, with failures to order; see target_checks for the checks.

``MemoryPlace`` is the cloud, ``MemoryTarget`` whoever talks to it: a new one on the same place is the next process.
With a file the place outlives processes that are killed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from passerelle.decoding import prepared
from passerelle.deployment.plan import mark, refuse_drift, refuse_trial, steps
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import Observed, Plan, PlanError, Resource, Step, TargetError
from passerelle.testing.target_checks import TargetCase, dying, sample_deployment, target_checks

__all__ = ["MemoryPlace", "MemoryTarget", "TargetCase", "dying", "sample_deployment", "target_checks"]

#: What a revision needs, in the order in which it is made; of the last two there is one for all revisions.
KINDS = ("artefact", "config", "endpoint", "alarm")
_ENDPOINT = "endpoint"
#: The most variants that a MemoryTarget takes.
MOST_VARIANTS = 3


class There(msgspec.Struct, kw_only=True):
    """What a MemoryPlace holds."""

    #: "kind name" → settings.
    resources: dict[str, dict[str, Any]] = {}
    #: Names of endpoints that somebody else made.
    strangers: list[str] = []
    state: Literal["absent", "changing", "serving", "failed"] = "absent"
    #: The endpoint's settings before the change that is going on, or None.
    before: dict[str, Any] | None = None
    problem: str | None = None
    #: The account that whoever asks is signed in to.
    account: str = "1"
    #: Orders, each for the next time: "act kind" → the refusal's words ...
    refusals: dict[str, str] = {}
    #: ... how the next change ends if not well ...
    ends: Literal["failed", "rolled back"] | None = None
    #: ... and, until taken back, the kinds whose changes are ignored.
    ignored: list[str] = []


class MemoryPlace:
    """A cloud of one project: in memory, or in a file that survives whoever is killed.

    >>> place = MemoryPlace()
    >>> place.order(ends="rolled back", ignored=["alarm"], refusals={"create config": "no quota is left"})
    >>> place.read().ends
    'rolled back'
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._there = There()

    def read(self) -> There:
        """What is there, whoever made it."""
        if self._path is not None and self._path.exists():
            return msgspec.json.decode(self._path.read_bytes(), type=prepared(There))
        return msgspec.convert(msgspec.to_builtins(self._there), prepared(There))

    def write(self, there: There) -> None:
        """Replace all that is there."""
        self._there = there
        if self._path is not None:
            draft = self._path.with_suffix(".draft")
            draft.write_bytes(msgspec.json.encode(there))
            draft.replace(self._path)

    def order(self, **changes: Any) -> None:
        """Order failures, or put something there by hand: fields of There."""
        there = self.read()
        for name, value in changes.items():
            setattr(there, name, value)
        self.write(there)

    def names(self) -> list[str]:
        """All that is there, "kind name" each."""
        there = self.read()
        return sorted([*there.resources, *(f"stranger {name}" for name in there.strangers)])


class MemoryTarget:
    """A client of a MemoryPlace.

    >>> from passerelle.deployment.applying import apply_deployment
    >>> target = MemoryTarget(MemoryPlace())
    >>> applied = apply_deployment(target, sample_deployment(1), "production")
    >>> applied.observed.state, applied.observed.revision
    ('serving', 1)
    """

    def __init__(
        self,
        place: MemoryPlace,
        *,
        project: str = "trips",
        drift: Literal["refuse", "restore"] = "refuse",
        strategy: Literal["container", "platform"] = "container",
        error_share: float = 0.01,
    ) -> None:
        self._place = place
        self._project = project
        self._drift: Literal["refuse", "restore"] = drift
        self._strategy: Literal["container", "platform"] = strategy
        self._error_share = error_share

    def refuse(self, deployment: Deployment) -> None:
        """See Target."""
        refuse_trial(deployment, self._strategy)
        if len(deployment.variants) > MOST_VARIANTS:
            raise PlanError(
                "three-variants",
                f"revision {deployment.revision} has {len(deployment.variants)} variants, and a MemoryPlace takes "
                f"{MOST_VARIANTS}: deploy fewer.",
            )

    def place(self) -> dict[str, str]:
        """See Placed."""
        return {"account": self._place.read().account}

    def observe(self, environment: str) -> Observed:
        """See Target."""
        there = self._place.read()
        ours = f"{self._project}-{environment}"
        found = [
            _resource(key, settings)
            for key, settings in there.resources.items()
            if key.split()[1] == ours or key.split()[1].startswith(f"{ours}-")
        ]
        answers = there.before if there.state == "changing" else there.resources.get(f"{_ENDPOINT} {ours}")
        return Observed(
            state=there.state,
            revision=answers["revision"] if answers and (there.state != "failed" or there.before) else None,
            resources=tuple(sorted(found, key=lambda one: (KINDS.index(one.kind), one.name))),
            problem=there.problem,
        )

    def plan(self, deployment: Deployment | None, observed: Observed) -> Plan:
        """See Target."""
        environment = deployment.environment if deployment else ""
        wanted: list[Resource] = []
        if deployment is not None:
            self.refuse(deployment)
            wanted = self._wanted(deployment)
            refuse_drift(wanted, observed.resources, drift=self._drift)
        there = list(observed.resources)
        first: tuple[Step, ...] = ()
        if (
            observed.state == "failed" and observed.revision is None
        ):  # it never answered: nothing of it is worth keeping
            failed = [one for one in there if one.kind == _ENDPOINT]
            there = [one for one in there if one.kind != _ENDPOINT]
            first = tuple(Step(act="delete", resource=one, before=one.settings, why="it failed") for one in failed)
        previous = _previous(deployment, observed)
        made = steps(
            wanted,
            there,
            keep=lambda one: not one.lasting and deployment is not None and one.name.endswith(f"-{previous:06d}"),
            waits=(_ENDPOINT,),
            changing=observed.state == "changing",
        )
        return Plan(
            target="memory",
            environment=environment,
            revision=None if deployment is None else deployment.revision,
            steps=(*first, *made),
        )

    def apply(self, step: Step) -> None:
        """See Target."""
        place, one = self._place, step.resource
        there = place.read()
        refusal = there.refusals.pop(f"{step.act} {one.kind}", None)
        if refusal is not None:
            place.write(there)
            raise TargetError(f"{step.act} {one.kind} {one.name}: {refusal}.")
        if step.act == "wait":
            _settle(there, f"{one.kind} {one.name}")
        elif step.act == "delete":
            there.resources.pop(f"{one.kind} {one.name}", None)
            if one.kind == _ENDPOINT:
                there.state, there.before, there.problem = "absent", None, None
        elif one.kind not in there.ignored:
            _make(there, one)
        place.write(there)
        if there.state == "failed" and step.act == "wait":
            raise TargetError(f"{one.kind} {one.name} failed: {there.problem}.")

    def _wanted(self, deployment: Deployment) -> list[Resource]:
        ours = f"{self._project}-{deployment.environment}"
        name = f"{ours}-{deployment.revision:06d}"
        variants = [f"{one.version} {one.mode} {one.weight:g}" for one in deployment.variants]
        endpoint = {"config": name, "revision": deployment.revision, "machines": 1}
        alarm = {"error_share": self._error_share}
        return [
            Resource(kind="artefact", name=name, settings={"bundles": [one.digest for one in deployment.variants]}),
            Resource(kind="config", name=name, settings={"variants": variants}),
            Resource(kind=_ENDPOINT, name=ours, settings=endpoint | {"asked": mark(endpoint)}, lasting=True),
            Resource(kind="alarm", name=f"{ours}-errors", settings=alarm | {"asked": mark(alarm)}, lasting=True),
        ]


def _resource(key: str, settings: dict[str, Any]) -> Resource:
    kind, name = key.split()
    return Resource(kind=kind, name=name, settings=settings, lasting=kind in KINDS[2:])


def _previous(deployment: Deployment | None, observed: Observed) -> int:
    """The revision to roll back to: the one that answers, or the newest before the wanted one; 0: none."""
    if deployment is None:
        return 0
    if observed.revision not in (None, deployment.revision):
        return observed.revision or 0
    numbers = [int(one.name.rpartition("-")[2]) for one in observed.resources if not one.lasting]
    return max((number for number in numbers if number < deployment.revision), default=0)


def _make(there: There, one: Resource) -> None:
    """Create or change; the endpoint is not ready at once."""
    key = f"{one.kind} {one.name}"
    if one.kind == _ENDPOINT:
        if one.name in there.strangers:
            raise TargetError(
                f"there is an endpoint {one.name} that Passerelle did not make: rename the project, or remove it."
            )
        if there.resources.get(key) == one.settings and there.state in ("changing", "serving"):
            return
        if there.state != "changing":
            there.before = there.resources.get(key)
        there.state, there.problem = "changing", None
    there.resources[key] = one.settings


def _settle(there: There, key: str) -> None:
    """End the change that is going on: well, or as was ordered."""
    if there.state != "changing":
        return
    ends, there.ends = there.ends, None
    there.state = "serving"
    if ends is not None and there.before is not None:
        there.resources[key] = there.before
    if ends == "failed":
        there.state, there.problem = "failed", "the container did not start, as you ordered"
    else:
        there.before = None
