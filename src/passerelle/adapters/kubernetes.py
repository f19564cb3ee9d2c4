"""Kubernetes: a deployment as manifests, applied by kubectl on the server's side, or written for whoever applies them.

The package lies in the store; pods fetch it. One Deployment (or InferenceService) is changed in place: a roll-out
replaces pods one by one, and old ones answer until new ones are ready.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from passerelle.adapters.kubernetes_kubectl import NoSuchKindError, decoded, kubectl
from passerelle.adapters.kubernetes_manifests import (
    ANSWERS,
    ASKED,
    FORMS,
    KINDS,
    RETRY,
    REVISION,
    manifests,
    project_onto,
    resource,
    selector,
    tokens_secret,
)
from passerelle.adapters.kubernetes_rules import check, endpoint_name
from passerelle.adapters.packages import PACKAGE, Packages, package_resource
from passerelle.deployment.package import Package
from passerelle.deployment.plan import changed, mark, refuse_drift, steps
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import Observed, Plan, Resource, Step, TargetError
from passerelle.project.settings import Project
from passerelle.project.targets import Kubernetes

MANAGER = "passerelle"
_WORKLOADS = ("Deployment", "InferenceService")
State = Literal["changing", "serving", "failed"]


class KubernetesTarget:
    """See Target, Logs and Placed. Who this machine is, kubectl's own settings say (KUBECONFIG)."""

    def __init__(
        self,
        name: str,
        settings: Kubernetes,
        project: Project,
        *,
        pack: Callable[[Deployment], Package],
        wait_s: float = 900.0,
        command: tuple[str, ...] = ("kubectl",),
    ) -> None:
        self._name, self._settings, self._project, self._pack = name, settings, project, pack
        self._wait_s = wait_s
        self._command = (*command, "--context", settings.context) if settings.context else command
        self._packages = Packages(settings.store, project)
        #: The kind of what makes pods.
        self._workload = FORMS[settings.form][0]

    def refuse(self, deployment: Deployment) -> None:
        """See Target."""
        check(deployment, self._settings)

    def place(self) -> dict[str, str]:
        """See Placed: the cluster's address, as kubectl's own settings have it; the cluster is not asked.

        From then on this target stays with that context, whichever becomes the current one while it works. Without
        settings, as in a pod, there is none: what else is wrong with them the next question tells.
        """
        try:
            view = self._json("config", "view", "--minify")
        except TargetError:
            return {}
        if not self._settings.context:
            self._command = (*self._command, "--context", view["current-context"])
        servers = [one["cluster"].get("server") for one in view["clusters"] or ()]
        return {"cluster": servers[0]} if servers and servers[0] else {}

    def observe(self, environment: str) -> Observed:
        """See Target. Everything is found by its labels, and packages by where they lie."""
        found = self._packages.there(environment)
        states: dict[str, State] = {}
        answers: dict[str, int | None] = {}
        problem = None
        for one in self._listed(environment):
            if one["metadata"].get("ownerReferences"):
                continue  # KServe's own, made from ours
            kind = one["kind"]
            found.append(_found(one))
            if kind in _WORKLOADS:
                states[kind], why = _state(one)
                before = _number(one["metadata"].get("annotations", {}).get(ANSWERS))
                answers[kind] = _revision(one) if states[kind] == "serving" else before
                problem = why if kind == self._workload else problem
        # After a change of form both may be there: the new one counts, and what answers until it does is the old one's.
        others = [kind for kind in states if kind != self._workload]
        first = next((states[kind] for kind in [self._workload, *others] if kind in states), None)
        revision = answers.get(self._workload) or next((answers[kind] for kind in others), None)
        return Observed(
            state=first or "absent", revision=revision, resources=tuple(sorted(found, key=_order)), problem=problem
        )

    def _listed(self, environment: str) -> list[dict[str, Any]]:
        """All that is there by its labels, in whichever form; a cluster without KServe has nothing of its kind."""
        kinds = list(KINDS.values())
        try:
            return self._of_kinds(kinds, environment)
        except NoSuchKindError:
            if self._settings.form == "kserve":
                raise
            return self._of_kinds([KINDS[kind] for kind in FORMS["deployment"]], environment)

    def _of_kinds(self, kinds: list[str], environment: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._json("get", ",".join(kinds), "-l", self._labelled(environment))["items"]
        return items

    def _labelled(self, environment: str) -> str:
        return ",".join(f"{key}={value}" for key, value in selector(self._project.name, environment).items())

    def plan(self, deployment: Deployment | None, observed: Observed) -> Plan:
        """See Target."""
        if deployment is None:
            environment = self._settings.environment
            return Plan(target=self._name, environment=environment, revision=None, steps=steps((), observed.resources))
        self.refuse(deployment)
        stored = self._packed(deployment)
        wanted = [
            stored,
            *map(resource, manifests(deployment, self._settings, stored.settings["uri"])),
        ]
        there = [one for one in observed.resources if not (observed.state == "failed" and one.kind == self._workload)]
        refuse_drift(wanted, there, drift=self._settings.drift, by_hand=lambda now, _: now.settings.get("by_hand", ()))
        before = max((one.name for one in there if one.kind == PACKAGE and one.name < stored.name), default="")
        made = steps(
            wanted,
            there,
            keep=lambda one: one.kind == PACKAGE and one.name == before,
            waits=(self._workload,),
            changing=observed.state == "changing",
        )
        notes = ["the container routes and shadows by the deployment: pods are told nothing of weights."]
        if deployment.auth == "tokens":
            secret = tokens_secret(endpoint_name(deployment.project, deployment.environment))
            notes.append(f"callers need tokens of ours: the Secret {secret} must hold tokens.json, or no pod starts.")
        else:
            notes.append("requests are not checked for tokens: the gateway that you said is in front decides.")
        if self._settings.scaling.maximum > self._settings.scaling.minimum:
            notes.append("pods are added by processor, which needs metrics-server; requests_per_minute is not used.")
        alarms = self._settings.alarms
        if alarms.error_share is not None or alarms.latency_ms is not None:
            notes.append(
                "no alarms are made, Kubernetes has none: Passerelle's own watch, and /metrics is Prometheus'."
            )
        if self._settings.form == "deployment":
            notes.append(f"nothing keeps timeout_ms ({self._settings.timeout_ms}): a Service has none, an ingress may.")
        if self._settings.store.startswith("/"):
            notes.append(f"{self._settings.store} must be a folder of each node: it is mounted into the pods.")
        return Plan(
            target=self._name,
            environment=deployment.environment,
            revision=deployment.revision,
            steps=made,
            notes=tuple(notes),
        )

    def apply(self, step: Step) -> None:
        """See Target."""
        one = step.resource
        if one.kind == PACKAGE:
            self._packages.apply(step)
        elif step.act == "wait":
            self._wait(one)
        elif step.act == "delete":
            self._kubectl("delete", KINDS[one.kind], one.name, "--ignore-not-found", "--wait=true")
        else:
            self._put(one)

    def logs(self, environment: str, lines: int = 20) -> tuple[str, ...]:
        """See Logs: of each pod, each line with the pod's name in front."""
        said = self._kubectl("logs", "-l", self._labelled(environment), f"--tail={lines}", "--prefix")
        if not said.strip():
            raise TargetError(
                f"{self._name}: no pod of {environment} has written anything: kubectl -n {self._settings.namespace} "
                "get pods says whether there are some; without any, deploy first."
            )
        return tuple(sorted(said.splitlines(), key=lambda line: line.partition(" ")[0]))  # kubectl asks all at once

    def render(self, deployment: Deployment, folder: Path) -> list[Path]:
        """Put the package into the store and write the manifests into a folder, for what applies them from git."""
        self.refuse(deployment)
        stored = self._packed(deployment)
        self._packages.apply(Step(act="create", resource=stored))
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for one in manifests(deployment, self._settings, stored.settings["uri"]):
            path = folder / f"{one['kind'].lower()}.json"
            path.write_bytes(msgspec.json.format(msgspec.json.encode(one), indent=2) + b"\n")
            written.append(path)
        return written

    def _packed(self, deployment: Deployment) -> Resource:
        """Packs the revision; its package, as it is to lie in the store."""
        return package_resource(
            self._settings.store, self._project.name, deployment.environment, self._pack(deployment)
        )

    def _put(self, one: Resource) -> None:
        manifest = json.loads(json.dumps(one.settings["manifest"]))
        live = self._live(one)
        annotations = manifest["metadata"].setdefault("annotations", {})
        annotations[ASKED] = json.dumps(one.settings["manifest"], sort_keys=True)
        if live is not None and not self._labels().items() <= live["metadata"].get("labels", {}).items():
            raise TargetError(
                f"{self._name}: there is a {one.kind} {one.name} that Passerelle did not make: rename the project, or "
                "remove it."
            )
        if one.kind in _WORKLOADS and live is not None:
            state, _ = _state(live)
            old = live["metadata"].get("annotations", {}).get(ANSWERS)
            answers = str(_revision(live)) if state == "serving" else old
            if answers:
                annotations[ANSWERS] = answers
            if state == "failed":  # a new roll-out, though the same is asked for
                inner = manifest["spec"]["template"] if one.kind == "Deployment" else manifest
                inner["metadata"].setdefault("annotations", {})[RETRY] = live["metadata"]["resourceVersion"]
        # Server-side apply refuses unknown fields by itself: kubectl need not fetch the schemas to do so.
        flags = ("--server-side", f"--field-manager={MANAGER}", "--force-conflicts", "--validate=false")
        self._kubectl("apply", *flags, "-f", "-", given=manifest)

    def _labels(self) -> dict[str, str]:
        return selector(self._project.name, self._settings.environment)

    def _wait(self, one: Resource) -> None:
        until = time.monotonic() + self._wait_s
        while True:
            live = self._live(one)
            if live is None:
                raise TargetError(
                    f"{self._name}: {one.kind} {one.name} went away while it was waited for: deploy again."
                )
            state, problem = _state(live)
            if state == "serving":
                return
            if state == "failed":
                raise TargetError(f"{self._name}: {one.kind} {one.name} does not become ready: {problem}.")
            if time.monotonic() > until:
                raise TargetError(f"{self._name}: {one.kind} {one.name} was not ready after {self._wait_s:.0f} s.")
            time.sleep(min(2.0, self._wait_s / 400))

    def _live(self, one: Resource) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._json("get", KINDS[one.kind], one.name, "--ignore-not-found")
        return found

    def _json(self, *arguments: str) -> Any:
        """What kubectl says of something, decoded; None if there is nothing."""
        text = self._kubectl(*arguments, "-o", "json")
        return decoded(text, f"{self._name}: kubectl {' '.join(arguments[:3])}") if text.strip() else None

    def _kubectl(self, *arguments: str, given: dict[str, Any] | None = None) -> str:
        return kubectl(self._command, self._name, self._settings.namespace, arguments, given)


def _order(one: Resource) -> tuple[int, str]:
    return ((PACKAGE, *KINDS).index(one.kind), one.name)


def _found(one: dict[str, Any]) -> Resource:
    """What is found, of what we asked for."""
    text = one["metadata"].get("annotations", {}).get(ASKED)
    asked = _asked(text)
    settings: dict[str, Any] = {"asked": mark(asked), "manifest": project_onto(one, asked)}
    changes = list(changed(asked, settings["manifest"]))
    if text and not asked:
        changes = [f"its annotation {ASKED} is {text[:50]!r}, which is not ours"]
    if changes:
        settings["by_hand"] = changes
    return Resource(kind=one["kind"], name=one["metadata"]["name"], settings=settings, lasting=True)


def _asked(text: str | None) -> dict[str, Any]:
    """What was asked for, of its annotation; nothing, if somebody wrote something else there."""
    try:
        asked = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return asked if isinstance(asked, dict) else {}


def _revision(one: dict[str, Any]) -> int | None:
    inner = one["spec"]["template"]["metadata"] if one["kind"] == "Deployment" else one["metadata"]
    return _number(inner.get("labels", {}).get(REVISION))


def _number(text: str | None) -> int | None:
    """A revision, of a label or an annotation; None if somebody wrote there what is none."""
    return int(text) if text and text.isdecimal() else None


def _state(one: dict[str, Any]) -> tuple[State, str | None]:
    """How far a roll-out is, and why it failed."""
    status = one.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    if status.get("observedGeneration", 0) < one["metadata"].get("generation", 1):
        return "changing", None
    if one["kind"] == "InferenceService":
        ready = conditions.get("Ready", {})
        if ready.get("status") == "True":
            return "serving", None
        failed = status.get("modelStatus", {}).get("lastFailureInfo", {})
        return ("failed", str(failed.get("message", ""))) if failed else ("changing", None)
    progress = conditions.get("Progressing", {})
    if progress.get("reason") == "ProgressDeadlineExceeded":
        return "failed", str(progress.get("message", ""))
    wanted = one["spec"].get("replicas", 1)
    counts = [status.get(name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas")]
    return ("serving", None) if counts == [wanted] * 3 else ("changing", None)
