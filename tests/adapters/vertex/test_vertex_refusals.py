"""What the target refuses before anything is asked, by the rule's name, and what it says when Google refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vertexing import IMAGE, PLACE, Google, deployment, project, settings, variants

from passerelle.adapters import vertex_rest
from passerelle.adapters.vertex_rules import check
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.target import DriftError, PlanError, TargetError
from passerelle.project.targets import Alarms, Scaling

Changes = dict[str, Any]
#: Rule, what breaks it in the settings and in the deployment, and what is just allowed.
PLATFORM = {"strategy": "platform"}
BROKEN: list[tuple[str, Changes, Changes, Changes, Changes]] = [
    ("project", {"project": "Acme Corp"}, {}, {"project": "acme-2"}, {}),
    ("region", {"region": "eu"}, {}, {}, {}),
    ("image", {"image": IMAGE.replace("europe-west1-", "us-")}, {}, {}, {}),
    ("store", {"store": "s3://acme/models"}, {}, {}, {}),
    ("architecture", {"architecture": "arm64"}, {}, {}, {}),
    ("scale-to-zero", {"scaling": Scaling(minimum=0)}, {}, {"scaling": Scaling(minimum=1)}, {}),
    ("scaling", {"scaling": Scaling(minimum=3, maximum=2)}, {}, {"scaling": Scaling(minimum=3, maximum=3)}, {}),
    ("timeout", {"timeout_ms": 3_600_001}, {}, {"timeout_ms": 3_600_000}, {}),
    ("instance", {"instance": "ml.m5.large"}, {}, {"instance": "a2-highgpu-1g"}, {}),
    ("instance", {"training_instance": "Standard_DS3_v2"}, {}, {"training_instance": "c4-standard-8-lssd"}, {}),
    ("service-account", {"service_account": "me@example.com"}, {}, {}, {}),
    ("tags", {"tags": {"Team": "Rides"}}, {}, {"tags": {"team": "r" * 63}}, {}),
    ("tags", {"tags": {f"t{n}": "" for n in range(51)}}, {}, {"tags": {f"t{n}": "" for n in range(50)}}, {}),
    ("variables", {"variables": {"AIP_HTTP_PORT": "80"}}, {}, {"variables": {"AIPORT": "80"}}, {}),
    ("variables", {"variables": {"a b": "x"}}, {}, {"variables": {"a_b": "x"}}, {}),
    ("variables", {"variables": {"PASSERELLE_TRUSTED_KEYS": "x"}}, {}, {}, {}),
    ("name", {}, {"environment": "p" * 58}, {}, {"environment": "p" * 57}),
    ("revision", {}, {"revision": 100_000}, {}, {"revision": 99_999}),
    ("shadow", PLATFORM, {"variants": variants((1, 1.0, "live"), (2, 0.0, "shadow"))}, {}, {}),
    (
        "weight",
        PLATFORM,
        {"variants": variants((1, 0.9901, "live"), (2, 0.0099, "live"))},
        PLATFORM,
        {"variants": variants((1, 0.99, "live"), (2, 0.01, "live"))},
    ),
    ("trial-needs-container", PLATFORM, {"trial": "production-2-1"}, {}, {"trial": "production-2-1"}),
    ("auth", {}, {"auth": "tokens"}, {}, {}),
    ("ledger", {}, {"ledger_at": "/var/ledger"}, {}, {"ledger": "off", "ledger_at": None}),
    ("ledger", {}, {"ledger_at": "s3://acme/ledger"}, {}, {}),
    ("ledger", {}, {"ledger_at": None}, {}, {}),
]


def judge(of_settings: Changes, of_deployment: Changes, max_body_bytes: int = 10_000_000) -> None:
    check(deployment(1, **of_deployment), settings(**of_settings), project(Path(), max_body_bytes))


@pytest.mark.parametrize(("rule", "of_settings", "of_deployment", "beside", "next_to"), BROKEN)
def test_each_rule_refuses_by_its_name_and_not_what_is_beside_it(
    rule: str, of_settings: Changes, of_deployment: Changes, beside: Changes, next_to: Changes
) -> None:
    judge(beside, next_to)
    with pytest.raises(PlanError) as caught:
        judge(of_settings, of_deployment)
    assert caught.value.rule == rule
    assert f"(rule {rule})" in str(caught.value)


def test_larger_bodies_than_an_endpoint_takes_are_refused() -> None:
    with pytest.raises(PlanError, match=r"10000001.*\(rule payload\)"):
        judge({}, {}, max_body_bytes=10_000_001)


def test_a_shadow_and_a_small_weight_are_the_containers_own_affair() -> None:
    judge({}, {"variants": variants((1, 0.995, "live"), (2, 0.005, "live"), (3, 0.0, "shadow"))})


def apply(google: Google, revision: int = 1, **changes: Any) -> None:
    apply_deployment(google.open(**changes), deployment(revision), "production")


def refusal(google: Google, method: str, **what: Any) -> str:
    google.order(refuse={method: what})
    with pytest.raises(TargetError) as caught:
        apply(google)
    return str(caught.value)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vertex_rest, "_FIRST_WAIT_S", 0.001)


def test_a_missing_permission_is_named_with_what_grants_it(google: Google) -> None:
    said = refusal(google, "endpoints.create", status=403, message="Permission denied on resource '//x'")
    assert "permission aiplatform.endpoints.create is missing" in said
    assert "projects/acme/locations/europe-west1" in said
    assert "`- aiplatform.endpoints.create`" in said
    assert "vertex-deployer.yaml (passerelle target policies writes it)" in said
    named = {"reason": "IAM_PERMISSION_DENIED", "permission": "iam.serviceAccounts.actAs"}
    said = refusal(google, "endpoints.deployModel", status=403, **named)
    assert "permission iam.serviceAccounts.actAs is missing" in said
    disabled = {"reason": "SERVICE_DISABLED", "service": "monitoring.googleapis.com"}
    said = refusal(google, "alertPolicies.list", status=403, **disabled)
    assert "gcloud services enable monitoring.googleapis.com --project acme" in said


def test_a_quota_is_waited_for_six_times_then_named(google: Google) -> None:
    google.order(refuse={"endpoints.create": {"status": 429, "times": 5}})
    apply(google)
    google.order(clear=True)
    quota = {"reason": "RATE_LIMIT_EXCEEDED", "quota_metric": "aiplatform.googleapis.com/custom_model_serving_cpus"}
    said = refusal(google, "endpoints.create", status=429, times=6, **quota)
    assert "over the quota of aiplatform.googleapis.com/custom_model_serving_cpus (RESOURCE_EXHAUSTED)" in said
    assert google.state()["calls"].count("endpoints.create") == 6


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (404, "Location europe-west1 is not found.", r"europe-west1: Location .* Is the region right\?"),
        (
            400,
            "Machine type n1-standard-2 is not supported in europe-west1.",
            r"400: Machine type.* Correct what is named",
        ),
    ],
    ids=["no such region", "not in the region"],
)
def test_a_region_that_has_it_not_is_told(status: int, message: str, said: str, google: Google) -> None:
    method = "endpoints.create" if status == 404 else "endpoints.deployModel"
    google.order(refuse={method: {"status": status, "message": message}})
    with pytest.raises(TargetError, match=said):
        apply(google)
    apply(google)
    assert google.open().observe("production").revision == 1


def test_a_model_of_our_name_that_is_somebody_elses_is_refused(google: Google) -> None:
    theirs = {"name": PLACE, "displayName": "theirs", "versionId": "1", "versionAliases": ["default"]}
    google.order(set=[[["models", PLACE], [theirs]]])
    with pytest.raises(TargetError, match=rf"models/{PLACE} is there, and is not of project 'trips'.*rename"):
        apply(google)
    assert google.state()["models"] == {PLACE: [theirs]}
    assert google.state()["objects"] == {}, "refused before anything was made"


def test_a_quota_that_an_operation_meets_is_named(google: Google) -> None:
    google.order(fail={"endpoints.deployModel": {"code": 8, "message": "CPUs in europe-west1"}})
    with pytest.raises(TargetError, match=r"over the quota.*CPUs in europe-west1"):
        apply(google)
    apply(google)
    assert len(google.state()["models"][PLACE]) == 1, "the version of the first attempt is adopted"


def test_who_asks_must_be_known(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(google, "models.get", status=401)
    assert "gcloud auth application-default login" in said
    monkeypatch.delenv(vertex_rest.ADDRESS)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(google.folder / "nothing.json"))
    with pytest.raises(TargetError, match="gcloud auth application-default login"):
        google.open().observe("production")


def test_an_address_for_tests_is_this_machine_or_none(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vertex_rest.ADDRESS, "https://elsewhere.example")
    with pytest.raises(TargetError, match="this machine only"):
        google.open().observe("production")


def test_what_cannot_be_reached_is_said_with_the_region(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vertex_rest.ADDRESS, "http://127.0.0.1:9")
    with pytest.raises(TargetError, match=r"cannot be reached .*europe-west1"):
        google.open().observe("production")


@pytest.mark.parametrize(
    "method",
    ["models.upload", "endpoints.create", "endpoints.deployModel", "endpoints.patch", "alertPolicies.create"],
)
def test_a_lost_answer_makes_nothing_twice(method: str, google: Google) -> None:
    apply(google)
    due = google.there()
    google.order(clear=True)
    google.order(lose=[method])
    apply(google)
    assert google.there() == due
    assert google.state()["operations"] == []


@pytest.mark.parametrize(
    "method",
    ["endpoints.undeployModel", "endpoints.delete", "models.deleteVersion", "models.delete", "alertPolicies.delete"],
)
def test_a_lost_answer_leaves_nothing(method: str, google: Google) -> None:
    apply(google, 1)
    apply(google, 2)
    google.order(lose=[method])
    apply_deployment(google.open(), None, "production")
    assert google.there() == []


def test_a_broken_server_is_asked_again(google: Google) -> None:
    google.order(refuse={name: {"status": 503, "times": 2} for name in ("endpoints.get", "alertPolicies.create")})
    apply(google)
    assert len(google.state()["policies"]) == 2


@pytest.mark.parametrize("what", ["split", "machines", "timeout", "alarm"])
def test_each_change_by_hand_is_refused_or_put_back(what: str, google: Google) -> None:
    apply(google, 1)
    apply(google, 2)
    due = google.there()
    state = google.state()
    endpoint = state["endpoints"][PLACE]
    number, policy = next(iter(state["policies"].items()))
    if what == "split":
        other = next(one["id"] for one in endpoint["deployedModels"] if one["id"] not in endpoint["trafficSplit"])
        endpoint["trafficSplit"] = {other: 100}
    elif what == "machines":
        answering = [one for one in endpoint["deployedModels"] if one["id"] in endpoint["trafficSplit"]]
        answering[0]["dedicatedResources"]["maxReplicaCount"] = 9
    elif what == "timeout":
        endpoint["clientConnectionConfig"] = {"inferenceTimeout": "1s"}
    else:
        policy["conditions"][0]["conditionThreshold"]["thresholdValue"] = 0.5
    google.order(set=[[["endpoints", PLACE], endpoint], [["policies", number], policy]])
    changed = google.there()
    assert changed != due
    observed = google.open().observe("production").revision
    assert observed == (1 if what == "split" else 2)
    for revision in (2, 3):
        with pytest.raises(DriftError, match="changed by hand"):
            apply(google, revision)
    assert google.there() == changed
    apply(google, 2, drift="restore")
    assert google.there() == due


def test_settings_that_change_are_no_drift(google: Google) -> None:
    """The same revision with other settings: changed in place where Vertex AI can, made anew where it cannot."""
    apply(google)
    apply(google, scaling=Scaling(minimum=2, maximum=2), timeout_ms=1500, alarms=Alarms(latency_ms=None))
    state = google.state()
    endpoint = state["endpoints"][PLACE]
    assert [one["dedicatedResources"] for one in endpoint["deployedModels"]] == [
        {
            "machineSpec": {"machineType": "n1-standard-2"},
            "minReplicaCount": 2,
            "maxReplicaCount": 2,
            "autoscalingMetricSpecs": [],
        }
    ]
    assert endpoint["clientConnectionConfig"] == {"inferenceTimeout": "1.5s"}
    assert [one["displayName"] for one in state["policies"].values()] == [f"Passerelle: {PLACE}-errors"]
    assert state["calls"].count("endpoints.deployModel") == 1
    apply(google, image=IMAGE.replace("a" * 64, "b" * 64))
    images = [one["containerSpec"]["imageUri"][-1] for one in google.state()["models"][PLACE]]
    assert images == ["a", "b"]
    answering = next(iter(google.state()["endpoints"][PLACE]["trafficSplit"]))
    by_id = {one["id"]: one["modelVersionId"] for one in google.state()["endpoints"][PLACE]["deployedModels"]}
    assert by_id[answering] == "2"
