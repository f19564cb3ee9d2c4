"""What the tests of the Vertex AI target share: the server from outside, projects, packages, deployments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import requests

from passerelle.adapters.vertex import VertexTarget
from passerelle.deployment.package import Package
from passerelle.deployment.spec import Deployment, Variant
from passerelle.project.settings import Project, ProjectSection, Serving, Task
from passerelle.project.targets import Scaling, Vertex
from passerelle.testing.targets import sample_deployment

IMAGE = "europe-west1-docker.pkg.dev/acme/images/trips@sha256:" + "a" * 64
PLACE = "trips-production"


class Google:
    """The server, and a folder for what targets pack."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address, self.folder = address, folder

    def order(self, **orders: Any) -> None:
        assert requests.post(f"{self.address}/_orders", json=orders, timeout=10).ok

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{self.address}/_state", timeout=10).json()
        return found

    def there(self) -> list[str]:
        """All that is there, with what matters of it."""
        state = self.state()
        found = [f"object {key} {size}" for key, size in state["objects"].items()]
        for place, versions in state["models"].items():
            for one in versions:
                beside = {key: one[key] for key in ("versionAliases", "artifactUri", "labels", "containerSpec")}
                found.append(f"version {place} {_text(beside)}")
        for place, one in state["endpoints"].items():
            aliases = {version["versionId"]: version["versionAliases"][0] for version in state["models"].get(place, [])}
            deployed = [
                {key: model[key] for key in ("id", "displayName", "dedicatedResources")}
                | {"version": aliases[model["modelVersionId"]]}
                for model in one["deployedModels"]
            ]
            found += [f"deployed {_text(model)}" for model in deployed]
            keys = ("labels", "trafficSplit", "clientConnectionConfig")
            found.append(f"endpoint {place} {_text({key: one.get(key) for key in keys})}")
        found += [
            f"policy {_text({key: value for key, value in one.items() if key != 'name'})}"
            for one in state["policies"].values()
        ]
        return sorted(found)

    def open(self, **changes: Any) -> VertexTarget:
        return VertexTarget("google", settings(**changes), project(self.folder), pack=self.pack)

    def pack(self, deployment: Deployment) -> Package:
        """Files of a package's form: what is in the bundles matters to nobody here."""
        encoded = msgspec.json.encode(deployment)
        import hashlib

        digest = hashlib.sha256(encoded).hexdigest()
        folder = (
            project(self.folder).state
            / "packages"
            / deployment.environment
            / f"{deployment.revision:06d}-{digest[:12]}"
        )
        for variant in deployment.variants:
            (folder / "bundles" / variant.digest).mkdir(parents=True, exist_ok=True)
            (folder / "bundles" / variant.digest / "model.bin").write_bytes(variant.digest.encode())
        (folder / "deployment.json").write_bytes(encoded)
        return Package(folder=folder, digest=digest, revision=deployment.revision)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def settings(**changes: Any) -> Vertex:
    made = Vertex(
        image=IMAGE,
        store="gs://acme-models/passerelle",
        instance="n1-standard-2",
        project="acme",
        region="europe-west1",
        service_account="serving@acme.iam.gserviceaccount.com",
        scaling=Scaling(minimum=1, maximum=3, requests_per_minute=600),
        tags={"team": "rides"},
        variables={"OMP_NUM_THREADS": "1"},
    )
    return msgspec.structs.replace(made, **changes)


def project(root: Path, max_body_bytes: int = 2_000_000) -> Project:
    serving = Serving(max_body_bytes=max_body_bytes)
    task = Task(kind="binary", target="late", key=("id",))
    return Project(
        project=ProjectSection(name="trips"), task=task, root=root, targets={"google": settings()}, serving=serving
    )


def deployment(number: int, **changes: Any) -> Deployment:
    made = {"auth": "platform", "ledger_at": "gs://acme-models/passerelle/ledger"} | changes
    return msgspec.structs.replace(sample_deployment(number), **made)


def variants(*shares: tuple[int, float, str]) -> tuple[Variant, ...]:
    """Variants of version, weight and mode."""
    return tuple(
        Variant(version=version, bundle=f"bundles/{version}", digest=f"{version:064x}", weight=weight, mode=mode)  # type: ignore[arg-type]
        for version, weight, mode in shares
    )
