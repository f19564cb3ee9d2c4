"""The server of aws_server as a process, a target on it, and everything that is there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import msgspec

from passerelle.adapters.sagemaker import SageMakerTarget
from passerelle.deployment.package import Package
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import Job
from passerelle.project.settings import FILE, load_project
from passerelle.project.targets import Alarms, SageMaker, Scaling
from passerelle.testing.targets import sample_deployment

REGION, BUCKET, PROJECT = "eu-west-3", "models", "trips"
TOPIC = f"arn:aws:sns:{REGION}:123456789012:oncall"
SETTINGS = SageMaker(
    image=f"123456789012.dkr.ecr.{REGION}.amazonaws.com/passerelle@sha256:{'a' * 64}",
    store=f"s3://{BUCKET}/passerelle",
    instance="ml.m5.large",
    region=REGION,
    role="arn:aws:iam::123456789012:role/passerelle-serving",
    training_role="arn:aws:iam::123456789012:role/passerelle-training",
    scaling=Scaling(minimum=2, maximum=4),
    alarms=Alarms(notify=TOPIC),
    canary_percent=50,
    tags={"team": "data"},
)
#: The key of whoever looks on: what it asks for is in no policy.
ONLOOKER = "onlooker"
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "",
}


@contextmanager
def server() -> Iterator[str]:
    """Start the server; its address."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    script = Path(__file__).with_name("aws_server.py")
    command = [sys.executable, "-W", "ignore", script, str(port)]
    process = subprocess.Popen(command, env=os.environ | VARIABLES, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                control(address, "_log")
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def control(address: str, path: str, order: Any = None) -> Any:
    request = urllib.request.Request(f"{address}/{path}", json.dumps(order).encode(), method="POST")  # noqa: S310  (127.0.0.1)
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  (the same)
        return json.loads(answer.read())


def revision(number: int, **changes: Any) -> Deployment:
    """Revision n, as the loop makes it for a cloud."""
    return sample_deployment(number, **{"auth": "platform", "ledger_at": f"s3://{BUCKET}/ledger"} | changes)


def job(name: str, project: str = PROJECT) -> Job:
    """A run's job, as loop.jobs sends it."""
    at = f"{SETTINGS.store}/runs/{project}/{name}"
    return Job(name=name, input=f"{at}/input", output=f"{at}/output", timeout_s=3600)


def sent(folder: Path) -> Path:
    """A job's input: its least."""
    made = folder / "sent"
    (made / "project").mkdir(parents=True)
    (made / "project" / FILE).write_text("")
    return made


def write_log(endpoint: str, *lines: str, stream: str = "live/i-0", at_s: float = 0) -> None:
    """Have an endpoint's container write lines."""
    logs, group = client("logs"), f"/aws/sagemaker/Endpoints/{endpoint}"
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=group)
    with suppress(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
    now_ms = int((time.time() + at_s) * 1000)
    events = [{"timestamp": now_ms + number, "message": line} for number, line in enumerate(lines)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def set_weight(endpoint: str, variant: str, weight: float) -> None:
    """As somebody's hand does."""
    changed = [{"VariantName": variant, "DesiredWeight": weight}]
    client("sagemaker").update_endpoint_weights_and_capacities(
        EndpointName=endpoint, DesiredWeightsAndCapacities=changed
    )


def pack(folder: Path, deployment: Deployment) -> Package:
    """A package, as the adapter needs one: a folder and its digest. What is in it is deployment.package's."""
    content = msgspec.json.encode(deployment, order="deterministic")
    digest = sha256(content).hexdigest()
    made = folder / f"{deployment.revision:06d}-{digest[:12]}"
    made.mkdir(parents=True, exist_ok=True)
    (made / "deployment.json").write_bytes(content)
    return Package(folder=made, digest=digest, revision=deployment.revision)


def target(folder: Path, settings: SageMaker = SETTINGS, name: str = PROJECT, *, serving: str = "") -> SageMakerTarget:
    """A new client, of a project of this name. ``serving``: lines of its [serving]."""
    task = 'kind = "binary"\ntarget = "late"\nkey = ["id"]'
    (folder / FILE).write_text(f'[project]\nname = "{name}"\n[task]\n{task}\n[serving]\n{serving}\n')
    project = load_project(folder / FILE)
    return SageMakerTarget("cloud", settings, project, pack=lambda one: pack(folder / "packages", one), every_s=0.0)


def client(service: str) -> Any:
    """Of whoever looks on: neither the adapter nor the container."""
    return _client(service, os.environ["AWS_ENDPOINT_URL"])


@cache
def _client(service: str, address: str) -> Any:
    return boto3.client(  # type: ignore[call-overload]
        service, region_name=REGION, endpoint_url=address, aws_access_key_id=ONLOOKER, aws_secret_access_key=ONLOOKER
    )


def there() -> list[str]:
    """All that there is in the account, asked by boto3, with what matters of its settings."""
    sagemaker = client("sagemaker")
    found = [f"object {one['Key']}" for one in client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    found += [f"model {one['ModelName']}" for one in sagemaker.list_models()["Models"]]
    found += [f"config {one['EndpointConfigName']}" for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]]
    for one in sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]:
        name = one["ModelPackageGroupName"]
        packages = sagemaker.list_model_packages(ModelPackageGroupName=name)["ModelPackageSummaryList"]
        found += [f"group {name}", *(f"package of {name}" for _ in packages)]
    for one in sagemaker.list_endpoints()["Endpoints"]:
        endpoint = sagemaker.describe_endpoint(EndpointName=one["EndpointName"])
        found.append(f"endpoint {one['EndpointName']} {endpoint['EndpointConfigName']} {endpoint['EndpointStatus']}")
    for one in client("cloudwatch").describe_alarms()["MetricAlarms"]:
        found.append(f"alarm {one['AlarmName']} {one['Threshold']} {one['AlarmActions']}")
    scaling = client("application-autoscaling")
    for one in scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]:
        found.append(f"scaling {one['ResourceId']} {one['MinCapacity']} {one['MaxCapacity']}")
    for one in scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]:
        found.append(f"policy {one['PolicyName']} {one['ResourceId']}")
    return found
