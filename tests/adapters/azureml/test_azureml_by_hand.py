"""What somebody does by hand, and what Azure refuses: it is told with the next step, nothing is lost or left over."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure_case import ENDPOINT, GROUP, Azure, blobs, deployment, target, two
from azure_place import SECRET_HEADER

from passerelle.adapters.azureml_rest import ADDRESS, explain
from passerelle.adapters.objectstore import open_store
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.target import DriftError, Job, TargetError
from passerelle.project.targets import Scaling

pytest_plugins = ["azure_fixtures"]

INSIGHTS = f"{GROUP}/providers/Microsoft.Insights"
ALERT = f"{INSIGHTS}/metricAlerts/trips-production-errors"
ONE = {"scaling": Scaling(minimum=1, maximum=1)}


def named(azure: Azure, part: str) -> tuple[str, dict[str, Any]]:
    return next((path, one) for path, one in azure.made().items() if part in path)


def disabled(azure: Azure) -> None:
    one = azure.made()[ALERT.lower()]
    one["properties"]["enabled"] = False
    azure.put(ALERT, one)


def dynamic(azure: Azure) -> None:
    one = azure.made()[ALERT.lower()]
    (criterion,) = one["properties"]["criteria"]["allOf"]
    del criterion["threshold"]
    criterion |= {"criterionType": "DynamicThresholdCriterion", "alertSensitivity": "High",
                  "failingPeriods": {"numberOfEvaluationPeriods": 4, "minFailingPeriodsToAlert": 4}}  # fmt: skip
    one["properties"]["criteria"]["odata.type"] = "Microsoft.Azure.Monitor.MultipleResourceMultipleMetricCriteria"
    azure.put(ALERT, one)


def unscaled(azure: Azure) -> None:
    path, one = named(azure, "/autoscalesettings/trips-production-r2-")
    one["properties"]["enabled"] = False
    azure.put(path, one)


def ruleless(azure: Azure) -> None:
    path, one = named(azure, "/autoscalesettings/trips-production-r2-")
    one["properties"]["profiles"][0]["rules"] = []
    azure.put(path, one)


def more_machines(azure: Azure) -> None:
    path, one = named(azure, "/deployments/r2-")
    one["sku"]["capacity"] = 5
    azure.put(path, one)


def other_traffic(azure: Azure) -> None:
    old = named(azure, "/deployments/r1-")[1]["name"]
    one = azure.made()[ENDPOINT.lower()]
    one["properties"]["traffic"] = {old: 100}
    azure.put(ENDPOINT, one)


def no_authentication(azure: Azure) -> None:
    one = azure.made()[ENDPOINT.lower()]
    one["properties"]["authMode"] = "AADToken"
    azure.put(ENDPOINT, one)


@pytest.mark.parametrize(
    ("meddle", "settings", "answers"),
    [
        (disabled, {}, 2),
        (dynamic, {}, 2),
        (unscaled, {}, 2),
        (ruleless, {}, 2),
        (more_machines, ONE, 2),
        (other_traffic, {}, 1),
        (no_authentication, {}, 2),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_each_change_by_hand_is_refused_or_put_back(
    meddle: Callable[[Azure], None], settings: dict[str, Any], answers: int, azure: Azure, tmp_path: Path
) -> None:
    for revision in (1, 2):
        apply_deployment(target(tmp_path, **settings), deployment(revision), "production")
    due = azure.made()
    meddle(azure)
    changed = azure.made()
    assert changed != due
    assert target(tmp_path, **settings).observe("production").revision == answers
    for revision in (2, 3):
        with pytest.raises(DriftError, match="changed by hand"):
            apply_deployment(target(tmp_path, **settings), deployment(revision), "production")
    assert azure.made() == changed
    apply_deployment(target(tmp_path, **settings, drift="restore"), deployment(2), "production")
    assert azure.made() == due


def test_settings_that_change_are_no_drift(azure: Azure, tmp_path: Path) -> None:
    apply_deployment(target(tmp_path), deployment(1), "production")
    apply_deployment(target(tmp_path, **ONE), deployment(1), "production")
    assert not [path for path in azure.made() if "/autoscalesettings/" in path]
    apply_deployment(target(tmp_path), deployment(1), "production")
    assert target(tmp_path).plan(deployment(1), target(tmp_path).observe("production")).steps == ()


def test_a_deployment_made_by_hand_on_our_endpoint(azure: Azure, tmp_path: Path) -> None:
    apply_deployment(target(tmp_path), deployment(1), "production")
    due = azure.made()
    path, one = named(azure, "/deployments/r1-")
    mine = path.rpartition("/")[0] + "/blue"
    azure.put(mine, one | {"id": mine, "name": "blue", "tags": {}})
    with pytest.raises(DriftError, match="deployments blue on our endpoint were made by hand: delete them, or"):
        apply_deployment(target(tmp_path), deployment(1), "production")
    assert mine in azure.made()
    apply_deployment(target(tmp_path, drift="restore"), deployment(1), "production")
    assert azure.made() == due


def test_platform_weights_and_mirror_reach_azure(azure: Azure, tmp_path: Path) -> None:
    """A canary from 10 to 50 % changes the traffic alone: no machine is started or waited for."""
    platform = {"strategy": "platform"}
    apply_deployment(target(tmp_path, **platform), two(1, (0.9, 0.1), shadow=0.2), "production")
    properties = azure.made()[ENDPOINT.lower()]["properties"]
    versions = {name.partition("-")[0]: share for name, share in properties["traffic"].items()}
    mirrored = {name.partition("-")[0]: share for name, share in properties["mirrorTraffic"].items()}
    assert (versions, mirrored) == ({"v1": 90, "v2": 10}, {"v9": 20})
    plan = apply_deployment(target(tmp_path, **platform), two(2, (0.5, 0.5), shadow=0.2), "production").plan
    assert [(step.act, step.resource.kind.rpartition("/")[2]) for step in plan.steps] == [
        ("change", "traffic"),
        ("wait", "traffic"),
    ]
    assert sorted(azure.made()[ENDPOINT.lower()]["properties"]["traffic"].values()) == [50, 50]
    apply_deployment(target(tmp_path, **platform), None, "production")
    assert (azure.made(), blobs()) == ({}, [])


def test_alarms_say_what_is_watched_and_who_is_told(azure: Azure, tmp_path: Path) -> None:
    apply_deployment(target(tmp_path), deployment(1), "production")
    rules = {path.rpartition("-")[2]: one["properties"] for path, one in azure.made().items() if "metricalerts" in path}
    criteria = {name: one["criteria"]["allOf"][0] for name, one in rules.items()}
    # 1 % of 600 requests a minute on one machine; the 99th percentile.
    assert (criteria["errors"]["metricName"], criteria["errors"]["threshold"]) == ("RequestsPerMinute", 6.0)
    assert criteria["errors"]["dimensions"][0]["values"] == ["424", "500", "502", "503", "504"]
    assert (criteria["latency"]["metricName"], criteria["latency"]["threshold"]) == ("RequestLatency_P99", 1000.0)
    oncall = f"{GROUP}/providers/microsoft.insights/actionGroups/oncall"
    assert [one["actions"] for one in rules.values()] == [[{"actionGroupId": oncall}]] * 2
    assert [one["scopes"] for one in rules.values()] == [[ENDPOINT]] * 2


@pytest.mark.parametrize(
    ("code", "message", "advice"),
    [
        ("OutOfQuota", "Not enough quota for Standard_DS2_v2", "ask for more of this machine in this region"),
        ("SkuNotAvailable", "Standard_DS2_v2 is not offered", "that Azure ML's online endpoints offer in this region"),
        ("LocationNotAvailableForResourceType", "not available in mars", "take a region that has Azure ML"),
        ("OutOfCapacity", "no capacity", "try later, or take another one"),
        ("Conflict", "The endpoint name is already in use in westeurope", "the name is taken in this region"),
        ("ImagePullFailure", "the registry refused", "has the role AcrPull there"),
    ],
)
def test_a_refusal_says_what_to_do(code: str, message: str, advice: str) -> None:
    said = explain({"code": code, "message": message})
    assert said.startswith(f"{code}: {message}. What to do: ")
    assert advice in said


def test_a_half_made_endpoint_is_taken_up_or_removed(azure: Azure, tmp_path: Path) -> None:
    body = {"error": {"code": "OutOfQuota", "message": "Not enough quota for Standard_DS2_v2"}}
    refusal = {"verb": "PUT", "path": "/deployments/", "status": 400, "times": 1, "body": body}
    for revision in (1, 2):
        azure.order(refusals=[refusal])
        with pytest.raises(TargetError, match=r"OutOfQuota: .* ask for more of this machine"):
            apply_deployment(target(tmp_path), deployment(revision), "production")
        assert ENDPOINT.lower() in azure.made()
        if revision == 1:
            assert apply_deployment(target(tmp_path), deployment(1), "production").observed.revision == 1
    apply_deployment(target(tmp_path), None, "production")
    assert (azure.made(), blobs()) == ({}, [])


def test_a_name_that_is_taken_elsewhere_in_the_region(azure: Azure, tmp_path: Path) -> None:
    """An endpoint's name is one of its region, not of its workspace: nothing is found here, and the PUT is refused."""
    body = {"error": {"code": "Conflict", "message": "The name trips-production is already taken in westeurope"}}
    azure.order(refusals=[{"verb": "PUT", "path": "/onlineEndpoints/[^/]+$", "status": 409, "times": 1, "body": body}])
    with pytest.raises(TargetError, match=r"or the name is taken in this region: .*rename the project"):
        apply_deployment(target(tmp_path), deployment(1), "production")


def test_throttled_for_good_waits_are_bounded_and_differ(
    azure: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("passerelle.adapters.azureml_rest.time.sleep", slept.append)
    busy = {"error": {"code": "TooManyRequests", "message": "slow down"}}
    some = {"verb": "GET", "path": "onlineEndpoints", "status": 429, "body": busy, "times": 99}
    for headers in ({}, {"Retry-After": "soon"}, {"Retry-After": "86400"}):
        azure.order(refusals=[some | {"headers": headers}])
        with pytest.raises(TargetError, match="It was tried 6 times: wait some minutes"):
            target(tmp_path).observe("production")
    assert len(slept) == 15
    assert all(120.0 < one < 136.0 for one in slept[10:])  # no more, whatever is asked, but a random share
    for waits in (slept[:5], slept[5:10]):
        assert all(0 < wait_s <= 0.5 * 2**number for number, wait_s in enumerate(waits))
    assert slept[:5] != slept[5:10]


@pytest.mark.usefixtures("azure")
def test_nobody_at_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passerelle.adapters.azureml_rest.time.sleep", lambda _: None)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv(ADDRESS, f"http://127.0.0.1:{held.getsockname()[1]}")
        with pytest.raises(TargetError, match=f"cannot be reached .* look at the network and at {ADDRESS}"):
            target(tmp_path).observe("production")


def test_an_answer_that_is_no_json(azure: Azure, tmp_path: Path) -> None:
    page = "<html>please log in</html>"
    azure.order(refusals=[{"verb": "GET", "path": "onlineEndpoints", "status": 200, "times": 1, "body": page}])
    with pytest.raises(TargetError, match=r"is no JSON \('<html>please log in</html>'\): a proxy .* then try again"):
        target(tmp_path).observe("production")


@pytest.mark.usefixtures("azure")
def test_a_store_that_cannot_be_read(tmp_path: Path) -> None:
    apply_deployment(target(tmp_path), deployment(1), "production")
    with pytest.raises(TargetError, match=r"nowhere.*cannot be listed: .*try again"):
        target(tmp_path, store="az://nowhere/models").observe("production")


@pytest.mark.usefixtures("azure")
def test_credentials_cannot_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", SECRET_HEADER)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(TargetError, match="az login"):
        target(tmp_path).observe("production")


def test_a_failed_job_says_why(azure: Azure, tmp_path: Path) -> None:
    client = target(tmp_path)
    client.start(Job(name="train-1", input="jobs/train-1/in", output="jobs/train-1/out", timeout_s=600))
    path, one = named(azure, "/jobs/train-1")
    assert one["properties"]["resources"]["instanceType"] == "Standard_DS3_v2"
    studio = {"endpoint": "https://ml.azure.com/runs/train-1", "errorMessage": "the image cannot be pulled"}
    one["properties"] |= {"status": "Failed", "services": {"Studio": studio}}
    azure.put(path, one)
    found = client.status("train-1")
    assert (found.state, found.problem) == (
        "failed",
        "the job is Failed; the image cannot be pulled: see https://ml.azure.com/runs/train-1.",
    )
    store = azure.artifacts()
    log = "".join(f"line {number}\n" for number in range(30)) + "MemoryError\n"
    open_store(store).put("ExperimentRun/dcid.train-1/user_logs/std_log.txt", log.encode())
    problem = client.status("train-1").problem or ""
    assert problem.endswith("line 29\nMemoryError")
    assert len(problem.splitlines()) == 21
