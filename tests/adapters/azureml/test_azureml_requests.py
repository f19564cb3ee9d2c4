"""What goes wrong between Azure and us, a second client as witness, jobs, and deaths by SIGKILL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azure_case import ENDPOINT, Azure, blobs, deployment, target, two, variables

from passerelle.adapters.azureml_rest import ADDRESS
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.target import DriftError, Job, Logs, TargetError

pytest_plugins = ["azure_fixtures"]
BUSY = {"error": {"code": "TooManyRequests", "message": "slow down"}}


def test_missing_permission_names_the_line_of_the_role(azure: Azure, tmp_path: Path) -> None:
    action = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/write"
    message = f"The client 'me' with object id '1' does not have authorization to perform action '{action}' over scope "
    body = {"error": {"code": "AuthorizationFailed", "message": f"{message}'{ENDPOINT}' or the scope is invalid."}}
    azure.order(refusals=[{"verb": "PUT", "path": "onlineEndpoints/[^/]+$", "status": 403, "times": 1, "body": body}])
    with pytest.raises(
        TargetError, match=f'permission {action} is missing on {ENDPOINT}.*azureml-deployer.json.*"{action}"'
    ):
        apply_deployment(target(tmp_path), deployment(1), "production")
    assert apply_deployment(target(tmp_path), deployment(1), "production").observed.revision == 1


def test_throttling_is_waited_for_and_given_up(azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("passerelle.adapters.azureml_rest.time.sleep", slept.append)
    some = {"verb": "GET", "path": "onlineEndpoints", "status": 429, "body": BUSY, "headers": {"Retry-After": "7"}}
    azure.order(refusals=[some | {"times": 2}])
    assert target(tmp_path).observe("production").state == "absent"
    assert all(7.0 < one < 8.0 for one in slept)
    assert len({*slept}) == 2, "as long as Azure asks, and a random share more: not all come back at once"
    azure.order(refusals=[some | {"times": 99}])
    with pytest.raises(TargetError, match=r"429 TooManyRequests: slow down\. It was tried 6 times"):
        target(tmp_path).observe("production")


def test_quota_says_what_to_do(azure: Azure, tmp_path: Path) -> None:
    body = {"error": {"code": "OutOfQuota", "message": "Not enough quota for Standard_DS2_v2"}}
    azure.order(refusals=[{"verb": "PUT", "path": "/deployments/", "status": 400, "times": 1, "body": body}])
    with pytest.raises(TargetError, match=r"OutOfQuota.*ask for more of this machine"):
        apply_deployment(target(tmp_path), deployment(1), "production")


def test_failed_container_shows_its_log(azure: Azure, tmp_path: Path) -> None:
    azure.order(ends="failed")
    with pytest.raises(
        TargetError, match=r"(?s)ContainerCrashed: the container ended.*no package at the model's folder"
    ):
        apply_deployment(target(tmp_path), deployment(1), "production")


def test_the_log_of_what_answers(azure: Azure, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="there is no endpoint trips-production: deploy first"):
        target(tmp_path).logs("production")
    for revision in (1, 2):
        apply_deployment(target(tmp_path), deployment(revision), "production")
    client = target(tmp_path)
    assert isinstance(client, Logs)
    assert client.logs("production") == ("Traceback", "no package at the model's folder")
    assert client.logs("production", 1) == ("no package at the model's folder",)
    assert sum("OnlineDeployments_GetLogs" in line for line in azure.log()) == 2  # of the one that has traffic


@pytest.mark.usefixtures("azure")
def test_nobody_is_sent_elsewhere_with_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = target(tmp_path)
    with pytest.raises(TargetError, match=r"example\.com, which is not"):
        client._arm._send("GET", "https://example.com/next", None)
    monkeypatch.setenv(ADDRESS, "http://example.com")
    with pytest.raises(TargetError, match="begins with https"):
        target(tmp_path)


def test_no_credentials_is_one_sentence(azure: Azure, tmp_path: Path) -> None:
    """Without a word of the SDK's beside it, in a process that set no log up, as the command line."""
    code = f"""
from pathlib import Path
from azure_case import target
try:
    target(Path({str(tmp_path)!r})).observe("production")
except Exception as error:
    print(type(error).__name__)
"""
    env = os.environ | variables(azure) | {"IDENTITY_HEADER": "wrong", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("TargetError\n", "")


@pytest.mark.usefixtures("azure")
def test_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with pytest.raises(TargetError, match="az login"):
        target(tmp_path).observe("production")


def test_traffic_changed_after_the_plan_is_left(azure: Azure, tmp_path: Path) -> None:
    first = target(tmp_path)
    apply_deployment(first, two(1, (1.0,)), "production")
    plan = first.plan(two(2, (1.0,)), first.observe("production"))
    *steps, traffic = [step for step in plan.steps if step.resource.kind != "metricAlerts" and step.act != "delete"][
        :-1
    ]
    for step in steps:
        first.apply(step)
    one = azure.made()[ENDPOINT.lower()]
    one["properties"]["mirrorTraffic"] = {"x": 10}
    azure.put(ENDPOINT, one)
    with pytest.raises(DriftError, match="somebody changed it meanwhile"):
        first.apply(traffic)


def test_pages_are_read_to_the_end(azure: Azure, tmp_path: Path) -> None:
    apply_deployment(target(tmp_path), deployment(1), "production")
    apply_deployment(target(tmp_path), deployment(2), "production")
    all_at_once = target(tmp_path).observe("production")
    azure.order(page=1)
    assert target(tmp_path).observe("production") == all_at_once


def test_jobs(azure: Azure, tmp_path: Path) -> None:
    client = target(tmp_path)
    job = Job(name="train-1", input="jobs/train-1/in", output="jobs/train-1/out", timeout_s=600)
    assert client.status("train-1").state == "absent"
    client.start(job)
    target(tmp_path).start(job)
    assert sum("Jobs_CreateOrUpdate" in line for line in azure.log()) == 1
    assert client.status("train-1").state == "running"
    client.stop("train-1")
    assert client.status("train-1").state == "stopped"
    identity = (
        "/subscriptions/34/resourceGroups/models/providers/Microsoft.ManagedIdentity/userAssignedIdentities/trains"
    )
    apart = Job(name="train-2", input="jobs/train-2/in", output="jobs/train-2/out", timeout_s=600)
    target(tmp_path, training_identity=identity).start(apart)
    made = {path.rpartition("/")[2]: one["properties"] for path, one in azure.made().items() if "/jobs/" in path}
    assert "identity" not in made["train-1"]
    assert made["train-2"]["identity"] == {"identityType": "Managed", "resourceId": identity}


@pytest.fixture(scope="module")
def apply_apart() -> Iterator[Callable[..., int]]:
    """An apply in a process of its own, which may kill itself at a step; answers its exit code."""
    process: subprocess.Popen[str] | None = None

    def run(root: Path, revision: int | None, at: int = 0, *, after: bool = False) -> int:
        nonlocal process
        if process is None:
            script = Path(__file__).with_name("azure_case.py")
            process = subprocess.Popen(
                [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps({"root": str(root), "revision": revision, "at": at, "after": after}) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield run
    if process is not None and process.stdin and process.stdout:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def state(azure: Azure) -> list[str]:
    return sorted([f"{path} {json.dumps(one, sort_keys=True)}" for path, one in azure.made().items()] + blobs())


def test_killed_at_each_step_and_applied_again(azure: Azure, tmp_path: Path, apply_apart: Callable[..., int]) -> None:
    def walk(revision: int | None) -> None:
        client = target(tmp_path)
        steps = client.plan(None if revision is None else deployment(revision), client.observe("production")).steps
        for number in range(2 * len(steps)):
            # What is left to do gets less with each death, so the first, second ... step of what is left is struck.
            if apply_apart(tmp_path, revision, 1 + number % 2, after=number % 2 == 1) == 0:
                break
        assert apply_apart(tmp_path, revision) == 0

    for revision in (1, 2):
        assert apply_apart(tmp_path, revision) == 0
    due = state(azure)
    assert apply_apart(tmp_path, None) == 0
    assert state(azure) == []
    for revision in (1, 2):
        walk(revision)
    assert state(azure) == due
    walk(None)
    assert state(azure) == []
