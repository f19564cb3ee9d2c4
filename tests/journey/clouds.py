"""Clouds that are played on this machine: what a project is told of each, and how each would start its container.

Each is the server of that cloud's own tests (tests/adapters), which judges every request by the vendor's description of
its interface, and a real server of that kind of object store. What starts here as the container is asked of the server:
the variables, the package and the revision are those of what is in service there, not those that we think of.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aws_place
import aws_policy
import kubernetes_place
import pytest
import requests
import stores
from azure_case import Azure, azure_running
from azure_case import variables as azure_variables
from azure_openapi import ABSENT

from passerelle.adapters.objectstore import get_folder, open_store
from passerelle.bundle.keys import own_key, public_hex
from passerelle.deployment.package import unpack

HERE = Path(__file__).parent
START_S = 30.0
#: The container, with the platform's folder for the model elsewhere than at the root of this machine.
ENTRY = (
    "import sys; from pathlib import Path; from passerelle.serving import container;"
    "container.main(['serve'], places=[Path(place) for place in sys.argv[1:]])"
)


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A cloud, from a project's side."""

    #: Below [targets.cloud].
    settings: str
    #: By which every process finds the servers.
    variables: dict[str, str]
    #: Where the container is asked, and how it is probed.
    ask: str
    probe: str
    #: A free port → the container's variables, and the folders where the platform has put the package; of the revision
    #: that is in service, into a folder.
    container: Callable[[int, Path], tuple[dict[str, str], list[Path]]]
    #: All that is there, whoever made it, but what was there before us.
    left: Callable[[], list[str]] = field(default=list)


@contextmanager
def running(cloud: Cloud, folder: Path) -> Iterator[str]:
    """The container of what is in service, as the platform starts it, until the block ends; its address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    variables, places = cloud.container(port, folder)
    said = (folder / "said.txt").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY, *map(str, places)],
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PASSERELLE_HOST": "127.0.0.1"}
        | {"PASSERELLE_TRUSTED_KEYS": public_hex(own_key())}
        | cloud.variables
        | variables,
        stdout=said,
        stderr=subprocess.STDOUT,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + START_S
        while not _healthy(f"{url}{cloud.probe}"):
            assert process.poll() is None, (folder / "said.txt").read_text()
            assert time.monotonic() < until, (folder / "said.txt").read_text()
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        said.close()


def _healthy(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == requests.codes.ok
    except requests.ConnectionError:
        return False


@contextmanager
def sagemaker() -> Iterator[Cloud]:
    """Moto's AWS, judged by AWS's own service model."""
    with aws_place.server() as address, pytest.MonkeyPatch.context() as patch:
        variables = {name: value for name, value in aws_place.VARIABLES.items() if value}
        variables |= {"AWS_ENDPOINT_URL": address, "AWS_REGION": aws_place.REGION}
        for name, value in variables.items():
            patch.setenv(name, value)
        aws_place.client("s3").create_bucket(
            Bucket=aws_place.BUCKET, CreateBucketConfiguration={"LocationConstraint": aws_place.REGION}
        )

        def container(port: int, folder: Path) -> tuple[dict[str, str], list[Path]]:
            client = aws_place.client("sagemaker")
            (endpoint,) = client.list_endpoints()["Endpoints"]
            config = client.describe_endpoint(EndpointName=endpoint["EndpointName"])["EndpointConfigName"]
            (variant,) = client.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
            told = client.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]
            bucket, _, key = told["ModelDataUrl"].removeprefix("s3://").partition("/")
            archive = folder / "model.tar.gz"
            archive.write_bytes(aws_place.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
            role = {"AWS_ACCESS_KEY_ID": "serving", "SAGEMAKER_BIND_TO_PORT": str(port)}
            return {**told["Environment"], **role}, [unpack(archive, folder / "model")]

        yield Cloud(
            settings=f"""
kind = "sagemaker"
region = "{aws_place.REGION}"
role = "arn:aws:iam::123456789012:role/passerelle-serving"
image = "123456789012.dkr.ecr.{aws_place.REGION}.amazonaws.com/orders@sha256:{"a" * 64}"
store = "s3://{aws_place.BUCKET}/passerelle"
instance = "ml.m5.large"
""",
            variables=variables,
            ask="/invocations",
            probe="/ping",
            container=container,
            left=lambda: [one for one in aws_place.there() if "ledger" not in one],
        )
        # The policies of the how-to grant all that deployer and container asked for.
        seen = aws_place.control(address, "_seen")
        assert {"test", "serving"} <= {one["who"] for one in seen}
        assert aws_policy.outside(seen, "orders") == []


@contextmanager
def vertex() -> Iterator[Cloud]:
    """Google's interfaces, judged by Google's discovery documents; objects in a server of their own interface."""
    script = HERE.parent / "adapters" / "vertex" / "googling.py"
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = f"http://127.0.0.1:{server.stdout.readline().strip()}"

            def state() -> dict[str, Any]:
                found: dict[str, Any] = requests.get(f"{address}/_state", timeout=10).json()
                return found

            def container(port: int, folder: Path) -> tuple[dict[str, str], list[Path]]:
                del folder  # the container fetches its package itself
                (endpoint,) = state()["endpoints"].values()
                (chosen,) = [id_ for id_, share in endpoint["trafficSplit"].items() if share == 100]
                deployed = next(one for one in endpoint["deployedModels"] if one["id"] == chosen)
                versions = [one for place in state()["models"].values() for one in place]
                told = next(one for one in versions if one["versionId"] == deployed["modelVersionId"])
                spec = told["containerSpec"]
                routes = {"AIP_HEALTH_ROUTE": spec["healthRoute"], "AIP_PREDICT_ROUTE": spec["predictRoute"]}
                own = {one["name"]: one["value"] for one in spec.get("env", [])}
                mode = {"AIP_MODE": "PREDICTION", "AIP_HTTP_PORT": str(port), "AIP_STORAGE_URI": told["artifactUri"]}
                return own | routes | mode, []

            def left() -> list[str]:
                found = state()
                kept = [key for key in found["objects"] if "/ledger/" not in key]
                return [*kept, *found["models"], *found["endpoints"], *found["policies"]]

            yield Cloud(
                settings=f"""
kind = "vertex"
project = "acme"
region = "europe-west1"
service_account = "serving@acme.iam.gserviceaccount.com"
image = "europe-west1-docker.pkg.dev/acme/images/orders@sha256:{"a" * 64}"
store = "gs://acme-models/passerelle"
instance = "n1-standard-2"
""",
                variables={"PASSERELLE_VERTEX_ADDRESS": address, "STORAGE_EMULATOR_HOST": address},
                ask="/predict",
                probe="/health",
                container=container,
                left=left,
            )
        finally:
            server.kill()


@contextmanager
def azureml(folder: Path) -> Iterator[Cloud]:
    """An Azure of one workspace, judged by Microsoft's OpenAPI; blobs in Azurite."""
    if ABSENT:
        pytest.skip(ABSENT)
    with ExitStack() as stack:
        store = stack.enter_context(stores.running("az"))
        azure: Azure = stack.enter_context(azure_running(folder))
        variables = {**azure_variables(azure), **store}
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in variables.items():
            patch.setenv(name, value)

        def container(port: int, folder: Path) -> tuple[dict[str, str], list[Path]]:
            made = azure.made()
            (endpoint,) = [one for one in made.values() if one["type"].endswith("/onlineEndpoints")]
            (chosen,) = [name for name, share in endpoint["properties"]["traffic"].items() if share == 100]
            told = made[f"{endpoint['id']}/deployments/{chosen}".lower()]["properties"]
            path = made[told["model"].lower()]["properties"]["modelUri"].partition("/paths/")[2]
            get_folder(f"az://{stores.BUCKET}/{path}".rstrip("/"), folder / "mounted" / "package")
            return {**told["environmentVariables"], "AZUREML_MODEL_DIR": str(folder / "mounted"), "PORT": str(port)}, []

        def left() -> list[str]:
            objects = [one.key for one in open_store(f"az://{stores.BUCKET}").list() if "/ledger/" not in one.key]
            return [*azure.made(), *objects]

        yield Cloud(
            settings=f"""
kind = "azureml"
subscription = "34adfa4f-cedf-4dc0-ba29-b6d1a69ab345"
resource_group = "models"
workspace = "main"
location = "westeurope"
image = "models.azurecr.io/orders@sha256:{"a" * 64}"
store = "az://{stores.BUCKET}/models"
instance = "Standard_DS2_v2"
[targets.cloud.variables]
AZURE_STORAGE_ACCOUNT_NAME = "devstoreaccount1"
""",
            variables=variables,
            ask="/score",
            probe="/v2/health/ready",
            container=container,
            left=left,
        )


@contextmanager
def kubernetes(folder: Path, form: str = "deployment") -> Iterator[Cloud]:
    """A server for the real kubectl, judged by Kubernetes' and KServe's schemas and our Role; objects in moto's S3."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not there: run make test-system")
    with stores.running("s3") as store, kubernetes_place.running() as place, pytest.MonkeyPatch.context() as patch:
        (folder / "config").write_text(json.dumps(place.kubeconfig()))
        variables = {**store, "KUBECONFIG": str(folder / "config"), "KUBECACHEDIR": str(folder / "cache")}
        for name, value in variables.items():
            patch.setenv(name, value)

        def container(port: int, folder: Path) -> tuple[dict[str, str], list[Path]]:
            del folder  # the pod fetches its package itself
            pod = place.pod()
            (told,) = pod["containers"]
            own = {one["name"]: one["value"] for one in told["env"]}
            assert told["args"] == ["serve"]
            assert own["PORT"] == str(told["ports"][0]["containerPort"])
            assert {told[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness")} == {
                "/v2/health/ready"
            }
            return own | {"PORT": str(port)}, []

        def left() -> list[str]:
            objects = [one.key for one in open_store(f"s3://{stores.BUCKET}").list() if "/ledger/" not in one.key]
            return [*(" ".join(key) for key in place.objects), *objects]

        yield Cloud(
            settings=f"""
kind = "kubernetes"
image = "registry.example/orders@sha256:{"a" * 64}"
store = "s3://{stores.BUCKET}/models"
instance = ""
form = "{form}"
gateway = true
""",
            variables=variables,
            ask="/invocations",
            probe="/v2/health/ready",
            container=container,
            left=left,
        )


def asked(url: str, cloud: Cloud, instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to many events, in the form that all clouds' clients send."""
    answer = requests.post(f"{url}{cloud.ask}", json={"instances": instances}, timeout=30)
    assert answer.ok, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    assert len(found) == len(instances)
    return found
