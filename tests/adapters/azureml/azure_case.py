"""A project with an Azure ML target, on the server of azure_place.py and Azurite; also the process that is killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from azure_place import SECRET_HEADER

from passerelle.adapters.azureml import AzureMLTarget
from passerelle.adapters.azureml_rest import ADDRESS
from passerelle.adapters.objectstore import open_store
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.package import Package
from passerelle.deployment.spec import Deployment, Variant
from passerelle.project.settings import Project, ProjectSection, Task
from passerelle.project.targets import Alarms, AzureML, Scaling
from passerelle.testing.targets import dying, sample_deployment

ACCOUNT, CONTAINER = "devstoreaccount1", "passerelle-tests"
GROUP = "/subscriptions/34adfa4f-cedf-4dc0-ba29-b6d1a69ab345/resourceGroups/models"
WORKSPACE = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/main"
ENDPOINT = f"{WORKSPACE}/onlineEndpoints/trips-production"
SETTINGS = AzureML(
    subscription="34adfa4f-cedf-4dc0-ba29-b6d1a69ab345",
    resource_group="models",
    workspace="main",
    location="westeurope",
    image=f"models.azurecr.io/trips@sha256:{'a' * 64}",
    store=f"az://{CONTAINER}/models",
    instance="Standard_DS2_v2",
    scaling=Scaling(minimum=1, maximum=3),
    alarms=Alarms(notify=f"{GROUP}/providers/microsoft.insights/actionGroups/oncall"),
    tags={"team": "dispatch"},
    variables={"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT},
)
DATASTORE = {
    "id": f"{WORKSPACE}/datastores/workspaceblobstore",
    "name": "workspaceblobstore",
    "type": "Microsoft.MachineLearningServices/workspaces/datastores",
    "properties": {
        "datastoreType": "AzureBlob",
        "credentials": {"credentialsType": "None"},
        "accountName": ACCOUNT,
        "containerName": CONTAINER,
    },
}


class Azure:
    """The server, from outside."""

    def __init__(self, addresses: dict[str, str]) -> None:
        self.http, self.https = addresses["http"], addresses.get("https", "")
        self.clear()

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self.http + path, data) as answer:  # noqa: S310  (127.0.0.1)
            return json.loads(answer.read())

    def order(self, **orders: Any) -> None:
        self.ask("/_order", orders)

    def put(self, path: str, one: dict[str, Any]) -> None:
        """What somebody's hand does."""
        self.ask("/_put", {path: one})

    def artifacts(self) -> str:
        """Have the datastore of what jobs print; the address of its container."""
        made = DATASTORE | {"id": f"{WORKSPACE}/datastores/workspaceartifactstore", "name": "workspaceartifactstore"}
        self.put(str(made["id"]), made)
        return f"az://{CONTAINER}"

    def made(self) -> dict[str, Any]:
        """All that is there but the datastore, which was there before us."""
        found: dict[str, Any] = self.ask("/_there")["made"]
        return {path: one for path, one in found.items() if "/datastores/" not in path}

    def actions(self) -> set[str]:
        """What somebody had to be allowed to do who sent the requests."""
        return set(self.ask("/_there")["actions"])

    def log(self) -> list[str]:
        return list(self.ask("/_there")["log"])

    def clear(self) -> None:
        self.ask("/_clear", {})
        self.put(DATASTORE["id"], DATASTORE)  # type: ignore[arg-type]
        self.order(polls=1)


def blobs() -> list[str]:
    return [f"blob {one.key} {one.size_bytes}" for one in open_store(SETTINGS.store).list()]


@contextmanager
def azure_running(folder: Path) -> Iterator[Azure]:
    server = subprocess.Popen([sys.executable, Path(__file__).with_name("azure_place.py"), folder])
    try:
        addresses = folder / "addresses.json"
        until = time.monotonic() + 30
        while not addresses.exists():
            assert server.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        yield Azure(json.loads(addresses.read_text()))
    finally:
        server.kill()
        server.wait()


def variables(azure: Azure) -> dict[str, str]:
    """By which a process finds the server, and who it is there: a managed identity, as on Azure's own machines."""
    return {
        ADDRESS: azure.http,
        "IDENTITY_ENDPOINT": f"{azure.http}/msi/token",
        "IDENTITY_HEADER": SECRET_HEADER,
        "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
    }


def deployment(revision: int, **changes: Any) -> Deployment:
    return sample_deployment(revision, auth="platform", ledger_at="az://passerelle-tests/ledger", **changes)


def two(revision: int, shares: tuple[float, ...] = (0.9, 0.1), shadow: float | None = None) -> Deployment:
    """A revision of two versions, or one and a shadow."""
    made = [Variant(version=n, bundle=f"b{n}", digest=f"{n:064x}", weight=s) for n, s in enumerate(shares, 1)]
    if shadow is not None:
        made.append(Variant(version=9, bundle="b9", digest="9" * 64, weight=shadow, mode="shadow"))
    return deployment(revision, variants=tuple(made))


def target(root: Path, **changes: Any) -> AzureMLTarget:
    settings = msgspec.structs.replace(SETTINGS, **changes)
    project = Project(
        project=ProjectSection(name="trips"),
        task=Task(kind="regression", target="minutes", key="id"),
        targets={"azure": settings},
        root=root,
    )

    def pack(one: Deployment) -> Package:
        """As deployment.package does, of files that are no model: an adapter looks into none of them."""
        content = msgspec.json.encode(one, order="deterministic")
        digest = hashlib.sha256(content).hexdigest()
        folder = project.state / "packages" / one.environment / f"{one.revision:06d}-{digest[:12]}"
        for name, data in (("deployment.json", content), ("bundles/a/model.bin", b"model")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return Package(folder=folder, digest=digest, revision=one.revision)

    return AzureMLTarget("azure", settings, project, pack=pack, poll_s=0.001)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Apply, in a process that stays for the next: forked for each, which kills itself where it is told to."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            wanted = None if order["revision"] is None else deployment(order["revision"])
            client = target(Path(order["root"]))
            if order["at"]:
                client = dying(client, order["at"], after=order["after"], die=_die)  # type: ignore[assignment]
            try:
                apply_deployment(client, wanted, "production")
            except BaseException as error:  # noqa: BLE001  (told by the exit code)
                sys.stderr.write(f"{error!r}\n")
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    tempfile.tempdir = None
    main()
