"""What the tests of the Kubernetes target share: a target on the server of kubernetes_place, and what is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes_place import KINDS as PLACES
from kubernetes_place import Place

from passerelle.adapters.kubernetes import KubernetesTarget
from passerelle.deployment.package import Package
from passerelle.deployment.spec import Deployment
from passerelle.project.settings import Project
from passerelle.project.targets import Kubernetes
from passerelle.testing.targets import TargetCase, sample_deployment

IMAGE = "registry.example/trips@sha256:" + "0" * 64
SETTINGS: dict[str, Any] = {"image": IMAGE, "store": "s3://bucket/trips", "instance": ""}
#: One for all: making a client takes longer than what it asks.
CLIENT = httpx.Client(trust_env=False, timeout=60)
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl: sudo make test-system")


class QuickTarget(KubernetesTarget):
    """Asks the server itself, as kubectl does, without a process for each question: for the checks with deaths."""

    def _kubectl(self, *arguments: str, given: dict[str, Any] | None = None) -> str:
        if given is not None:
            plural = next(key for key, (_, _, kind) in PLACES.items() if kind == given["kind"])
            headers = {"Content-Type": "application/apply-patch+yaml"}
            where = f"{address(plural)}/{given['metadata']['name']}?fieldManager=passerelle"
            CLIENT.patch(self._command[2] + where, content=json.dumps(given), headers=headers).raise_for_status()
            return ""
        if arguments[0] == "config":
            return json.dumps({"clusters": [{"cluster": {"server": self._command[2]}}], "current-context": "here"})
        plurals = [one.partition(".")[0] for one in arguments[1].split(",")]
        if arguments[0] == "delete":
            CLIENT.delete(f"{self._command[2]}{address(plurals[0])}/{arguments[2]}")
            return ""
        if arguments[2] == "-l":
            found = [
                CLIENT.get(self._command[2] + address(one), params={"labelSelector": arguments[3]}).json()
                for one in plurals
            ]
            return json.dumps({"items": [item for one in found for item in one["items"]]})
        answer = CLIENT.get(f"{self._command[2]}{address(plurals[0])}/{arguments[2]}")
        return answer.text if answer.is_success else ""


def deployment(revision: int, **changes: Any) -> Deployment:
    """A revision that keeps its ledger where pods may."""
    return sample_deployment(revision, **{"ledger_at": "s3://bucket/trips/ledger", **changes})


def address(plural: str) -> str:
    group, version, _ = PLACES[plural]
    return f"/{f'apis/{group}' if group else 'api'}/{version}/namespaces/default/{plural}"


def target(
    project: Project,
    place: Place,
    tmp_path: Path,
    *,
    made: type[KubernetesTarget] = KubernetesTarget,
    command: tuple[str, ...] = (),
    **changes: Any,
) -> KubernetesTarget:
    settings = Kubernetes(**{**SETTINGS, "store": str(tmp_path / "store"), **changes})

    def packed(one: Deployment) -> Package:
        digest = f"{one.revision:012x}"
        folder = project.state / "packages/production" / f"{one.revision:06d}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("deployment.json", "deployment.sig", "passerelle.toml"):
            (folder / name).write_text(digest)
        return Package(folder=folder, digest=digest, revision=one.revision)

    command = command or ("kubectl", "--server", place.url, f"--cache-dir={tmp_path}/cache")
    return made("cluster", settings, project, pack=packed, wait_s=30.0, command=command)


def case(
    project: Project,
    place: Place,
    tmp_path: Path,
    form: str,
    *,
    made: type[KubernetesTarget] = KubernetesTarget,
    **changes: Any,
) -> TargetCase:
    kind = "Deployment" if form == "deployment" else "InferenceService"

    def there() -> list[str]:
        store = tmp_path / "store"
        packages = [f"{path.relative_to(store)} {path.read_text()}" for path in store.rglob("*") if path.is_file()]
        spec = [f"{key} {json.dumps(one['spec'], sort_keys=True)}" for key, one in place.objects.items()]
        return [*spec, *sorted(packages)]

    def meddle() -> None:
        one = place.objects[kind, "trips-production"]["spec"]
        (one if form == "deployment" else one["predictor"])["replicas" if form == "deployment" else "minReplicas"] = 7

    def clash() -> None:
        place.objects[kind, "trips-production"] = {
            "apiVersion": "apps/v1" if form == "deployment" else "serving.kserve.io/v1beta1",
            "kind": kind,
            "metadata": {"name": "trips-production", "labels": {}, "generation": 1, "resourceVersion": "1"},
            "spec": {},
        }

    return TargetCase(
        open=lambda: target(project, place, tmp_path, made=made, form=form, **changes),
        restoring=lambda: target(project, place, tmp_path, made=made, form=form, drift="restore", **changes),
        deployment=deployment,
        there=there,
        meddle=meddle,
        fail=lambda: setattr(place, "fails", True),
        clash=clash,
        move=lambda: setattr(place, "host", "localhost"),
    )
