"""Shares of the platform, the way to a next revision and back, and what the package and the version hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vertexing import IMAGE, PLACE, Google, deployment, settings, variants

from passerelle.adapters.vertex_rules import deployed_id, revision_of
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.plan import percentages
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import Job, JobStatus, TargetError

NOW = datetime(2013, 2, 1, tzinfo=UTC)


@given(st.lists(st.floats(min_value=1e-6, max_value=1e6), min_size=1, max_size=20))
def test_percentages_sum_to_100_and_are_next_to_the_weights(weights: list[float]) -> None:
    found = percentages(weights)
    assert sum(found) == 100
    total = sum(weights)
    assert all(abs(percent - weight / total * 100) < 1 for percent, weight in zip(found, weights, strict=True))


@given(st.lists(st.integers(min_value=1, max_value=99), min_size=1, max_size=20))
def test_whole_percents_stay_as_they_are(shares: list[int]) -> None:
    total = sum(shares)
    rest = [*shares, 100 - total] if total < 100 else [100]
    assert percentages([one / 100 for one in rest]) == rest


@given(st.integers(min_value=1, max_value=99_999), st.text(max_size=40))
def test_a_deployed_models_id_is_ten_digits_at_most_and_says_its_revision(revision: int, part: str) -> None:
    number = deployed_id(revision, part, {"machine": "n1-standard-2"})
    assert number.isascii()
    assert number.isdigit()
    assert len(number) <= 10
    assert number[0] != "0"
    assert revision_of(number) == revision


def shares(google: Google) -> dict[str, int]:
    """Alias, without its mark → share."""
    endpoint = google.state()["endpoints"][PLACE]
    names = {one["id"]: one["displayName"].rpartition("-")[0] for one in endpoint["deployedModels"]}
    return {name: endpoint["trafficSplit"].get(number, 0) for number, name in names.items()}


def versions(google: Google) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = google.state()["models"][PLACE]
    return found


def apply(google: Google, one: Deployment | None, strategy: str = "container") -> tuple[str, ...]:
    return apply_deployment(google.open(strategy=strategy), one, "production").plan.notes


def test_the_next_revision_answers_when_it_is_ready_and_the_one_before_stays(google: Google) -> None:
    apply(google, deployment(1))
    assert shares(google) == {"revision-1": 100}
    start = len(google.state()["calls"])
    notes = apply(google, deployment(2))
    assert shares(google) == {"revision-1": 0, "revision-2": 100}
    assert "1 more n1-standard-2 to pay" in notes[0]
    calls = [name for name in google.state()["calls"][start:] if not name.endswith((".get", ".list", "listVersions"))]
    assert calls == ["models.upload", "endpoints.deployModel", "endpoints.patch", "models.mergeVersionAliases"]
    apply(google, deployment(3))
    assert shares(google) == {"revision-2": 0, "revision-3": 100}
    aliases = [one["versionAliases"] for one in google.state()["models"][PLACE]]
    assert [len(one) for one in aliases] == [1, 2]
    assert aliases[1][1] == "default"


def test_a_roll_back_takes_effect_before_its_revision_is_made(google: Google) -> None:
    apply(google, deployment(1))
    apply(google, deployment(2))
    back = deployment(3, variants=deployment(1).variants, rolls_back_to=1)
    seen: list[tuple[str, dict[str, int]]] = []
    apply_deployment(
        google.open(), back, "production", lambda _, __, step: seen.append((step.resource.kind, shares(google)))
    )
    assert seen[0] == ("endpoints/trafficSplit", {"revision-1": 0, "revision-2": 100})
    assert seen[1] == ("packages", {"revision-1": 100, "revision-2": 0})
    assert shares(google) == {"revision-3": 100}


def test_a_canary_of_the_platform_changes_shares_only(google: Google) -> None:
    for revision, (old, new) in enumerate([(0.9, 0.1), (1 / 3, 2 / 3)], 1):
        both = variants((1, old, "live"), (2, new, "live"))
        notes = apply(google, deployment(revision, variants=both), "platform")
        assert "no verdict" in notes[0]
    assert shares(google) == {"version-1": 33, "version-2": 67}
    told = [{one["name"]: one["value"] for one in version["containerSpec"]["env"]} for version in versions(google)]
    assert [one["PASSERELLE_REVISION"] for one in told] == ["1", "1"], "the revision that brought it, as its package"
    calls = google.state()["calls"]
    assert (calls.count("models.upload"), calls.count("endpoints.deployModel")) == (2, 2)
    assert google.open().observe("production").revision == 2
    apply(google, deployment(3, variants=variants((2, 1.0, "live"))), "platform")
    assert shares(google) == {"version-1": 0, "version-2": 100}
    apply(google, None)
    assert google.there() == []


def test_the_version_is_the_package_and_the_image(google: Google) -> None:
    apply(google, deployment(12))
    state = google.state()
    version = state["models"][PLACE][0]
    folder = version["artifactUri"].removeprefix("gs://acme-models/")
    assert folder.startswith("passerelle/packages/trips/production/000012-")
    digest = f"{12:064x}"
    assert state["objects"][f"{folder}/bundles/{digest}/model.bin"] == 64
    assert set(state["objects"]) == {f"{folder}/bundles/{digest}/model.bin", f"{folder}/deployment.json"}
    assert version["containerSpec"] == {
        "imageUri": IMAGE,
        "args": ["serve"],
        "ports": [{"containerPort": 8080}],
        "predictRoute": "/predict",
        "healthRoute": "/health",
        "env": [
            {"name": "OMP_NUM_THREADS", "value": "1"},
            {"name": "PASSERELLE_ENVIRONMENT", "value": "production"},
            {"name": "PASSERELLE_PROJECT", "value": "trips"},
            {"name": "PASSERELLE_REVISION", "value": "12"},
        ],
    }
    assert version["labels"]["passerelle-revision"] == "12"
    assert version["labels"]["team"] == "rides"
    endpoint = state["endpoints"][PLACE]
    assert endpoint["dedicatedEndpointEnabled"] is True
    assert endpoint["labels"]["passerelle-environment"] == "production"
    deployed = endpoint["deployedModels"][0]
    assert "disableContainerLogging" not in deployed, "what the container says is kept: v1's default"
    assert deployed["serviceAccount"] == "serving@acme.iam.gserviceaccount.com"
    assert deployed["dedicatedResources"] == {
        "machineSpec": {"machineType": "n1-standard-2"},
        "minReplicaCount": 1,
        "maxReplicaCount": 3,
        "autoscalingMetricSpecs": [
            {"metricName": "aiplatform.googleapis.com/prediction/online/request_count", "target": 600}
        ],
    }
    conditions = {one["displayName"]: one["conditions"][0] for one in state["policies"].values()}
    errors = conditions[f"Passerelle: {PLACE}-errors"]["conditionThreshold"]
    assert (errors["thresholdValue"], errors["duration"]) == (0.01, "300s")
    assert f'endpoint_id = "{PLACE}"' in errors["filter"]
    assert conditions[f"Passerelle: {PLACE}-latency"]["conditionThreshold"]["thresholdValue"] == 1000


def test_a_job_is_started_once_watched_and_stopped(google: Google) -> None:
    target = google.open()
    job = Job(name="run-7", input="gs://acme-models/in", output="gs://acme-models/out", timeout_s=900)
    assert target.status("run-7") == JobStatus(state="absent")
    google.order(lose=["customJobs.create"])
    target.start(job)
    google.open().start(job)
    (found,) = google.state()["jobs"].values()
    spec = found["jobSpec"]
    pool = spec["workerPoolSpecs"][0]
    assert pool["machineSpec"] == {"machineType": "n1-standard-4"}
    assert (pool["containerSpec"]["imageUri"], pool["containerSpec"]["args"]) == (IMAGE, ["train"])
    variables = {one["name"]: one["value"] for one in pool["containerSpec"]["env"]}
    assert variables["PASSERELLE_INPUT"] == "gs://acme-models/in"
    assert (spec["scheduling"]["timeout"], spec["serviceAccount"]) == ("900s", settings().service_account)
    apart = google.open(training_service_account="trains@acme.iam.gserviceaccount.com")
    apart.start(Job(name="run-8", input="gs://acme-models/in", output="gs://acme-models/out", timeout_s=900))
    accounts = {one["jobSpec"]["serviceAccount"] for one in google.state()["jobs"].values()}
    assert accounts == {settings().service_account, "trains@acme.iam.gserviceaccount.com"}
    assert target.status("run-7") == JobStatus(state="running")
    number = found["name"].rpartition("/")[2]
    failed = found | {"state": "JOB_STATE_FAILED", "error": {"code": 3, "message": "exit code 3"}}
    google.order(set=[[["jobs", number], failed]])
    assert target.status("run-7") == JobStatus(state="failed", problem="exit code 3")
    for state in ("JOB_STATE_EXPIRED", "JOB_STATE_FAILED"):  # without a reason
        google.order(set=[[["jobs", number], found | {"state": state}]])
        assert target.status("run-7") == JobStatus(
            state="failed", problem=f"{state}: look at the job's log in the console."
        )
    target.stop("run-7")
    assert google.state()["jobs"][number]["state"] == "JOB_STATE_FAILED"
    google.order(set=[[["jobs", number], found | {"state": "JOB_STATE_RUNNING"}]])
    target.stop("run-7")
    assert target.status("run-7") == JobStatus(state="stopped")
    google.order(refuse={"customJobs.list": {"status": 403}})
    with pytest.raises(TargetError, match=r"aiplatform\.customJobs\.list"):
        target.status("run-7")
