"""Microsoft's own client as a second witness, and what is said in prose only: each rule of the server can refuse."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.mgmt.machinelearningservices import MachineLearningServicesMgmtClient
from azure_case import ENDPOINT, GROUP, SETTINGS, WORKSPACE, Azure, deployment, target
from azure_place import TOKEN

from passerelle.adapters.azureml_rest import AUTOSCALE_VERSION, Arm
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.target import DriftError, Job, TargetError
from passerelle.project.targets import Scaling

pytest_plugins = ["azure_fixtures"]
AT = ("models", "main", "trips-production")
ONE = {"scaling": Scaling(minimum=1, maximum=1)}


class Credential:
    def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(TOKEN, 2**31)


@pytest.fixture
def witness(azure: Azure, azure_server: Any) -> Iterator[Any]:
    with MachineLearningServicesMgmtClient(
        Credential(), SETTINGS.subscription, base_url=azure.https,
        connection_verify=str(azure_server[1] / "cert.pem"), polling_interval=0,
        credential_scopes=["https://management.azure.com/.default"],
    ) as client:  # fmt: skip
        yield client


def test_microsofts_client_sees_what_was_asked_for(witness: Any, tmp_path: Path) -> None:
    apply_deployment(target(tmp_path), deployment(1), "production")
    target(tmp_path).start(Job(name="train-1", input="a/in", output="a/out", timeout_s=600))
    endpoint = witness.online_endpoints.get(*AT)
    (made,) = witness.online_deployments.list(*AT)
    assert endpoint.properties.traffic == {made.name: 100}
    assert (endpoint.properties.auth_mode, endpoint.identity.type) == ("Key", "SystemAssigned")
    assert endpoint.tags["passerelle-revision"] == "1"
    asked = made.properties
    assert (asked.instance_type, made.sku.capacity) == ("Standard_DS2_v2", 1)
    assert asked.request_settings.request_timeout.total_seconds() == 30
    assert asked.request_settings.max_concurrent_requests_per_instance == 64
    assert asked.readiness_probe.period.total_seconds() == 10
    assert asked.environment_variables["PASSERELLE_REVISION"] == "1"
    (model,) = witness.model_versions.list(*AT)
    assert (model.id, model.properties.model_type) == (asked.model, "custom_model")
    assert "/datastores/workspaceblobstore/paths/models/packages/trips/production/000001-" in model.properties.model_uri
    (image,) = witness.environment_versions.list(*AT)
    assert (image.id, image.properties.image) == (asked.environment_id, SETTINGS.image)
    assert (image.properties.inference_config.scoring_route.path, image.properties.os_type) == ("/score", "Linux")
    job = witness.jobs.get("models", "main", "train-1").properties
    assert job.limits.timeout.total_seconds() == 600
    assert job.environment_id == asked.environment_id
    assert job.inputs["input"].uri.endswith("/paths/models/a/in")


def test_what_microsofts_client_changes_is_a_change_by_hand(witness: Any, azure: Azure, tmp_path: Path) -> None:
    """It waits for the operations of our server to their ends, so these are as Azure's."""
    apply_deployment(target(tmp_path, **ONE), deployment(1), "production")
    due = azure.made()
    (made,) = witness.online_deployments.list(*AT)
    made.sku.capacity = 5
    assert witness.online_deployments.begin_create_or_update(*AT, made.name, made).result().sku.capacity == 5
    with pytest.raises(DriftError, match="machines is 5, not 1"):
        apply_deployment(target(tmp_path, **ONE), deployment(1), "production")
    apply_deployment(target(tmp_path, **ONE, drift="restore"), deployment(1), "production")
    assert azure.made() == due
    with pytest.raises(HttpResponseError, match="has traffic"):
        witness.online_deployments.begin_delete(*AT, made.name).result()
    endpoint = witness.online_endpoints.get(*AT)
    endpoint.properties.traffic = {}
    witness.online_endpoints.begin_create_or_update(*AT, endpoint).result()
    witness.online_deployments.begin_delete(*AT, made.name).result()
    witness.online_endpoints.begin_delete(*AT).result()
    assert target(tmp_path, **ONE).observe("production").state == "absent"
    apply_deployment(target(tmp_path, **ONE), None, "production")
    assert azure.made() == {}


def test_each_rule_in_prose_refuses(azure: Azure, tmp_path: Path) -> None:
    """One negative control for each of the server's RULES; what they let pass are the requests of all other tests."""
    apply_deployment(target(tmp_path), deployment(1), "production")
    target(tmp_path).start(Job(name="train-1", input="a/in", output="a/out", timeout_s=600))
    arm, due = Arm(SETTINGS), azure.made()
    found = {path: copy.deepcopy(one) for path, one in due.items()}
    path = next(path for path in found if "/deployments/" in path)
    model = next(path for path in found if "/main/models/" in path and "/versions/" in path)
    job = next(path for path in found if "/jobs/" in path)
    read_only = ("provisioningState", "scoringUri", "status")
    name = found[path]["name"]

    def refused(path: str, like: str, words: str, version: str = "2023-04-01", **changes: Any) -> None:
        body = {key: one for key, one in found[like.lower()].items() if key not in ("id", "name", "type")}
        kept = {key: one for key, one in body["properties"].items() if key not in read_only}
        with pytest.raises(TargetError, match=words):
            arm.put(path, body | {"properties": kept | changes}, version)

    refused(ENDPOINT, ENDPOINT, "sums to 90, not 100", traffic={name: 90})
    refused(ENDPOINT, ENDPOINT, "deployment blue of the traffic is not ready", traffic={"blue": 100})
    refused(ENDPOINT, ENDPOINT, "50 % at most", mirrorTraffic={"blue": 51})
    refused(ENDPOINT, ENDPOINT, "one deployment", mirrorTraffic={"blue": 10, "green": 10})
    refused(ENDPOINT, ENDPOINT, "not live", mirrorTraffic={name: 10})
    refused(f"{WORKSPACE}/onlineEndpoints/{'a' * 33}", ENDPOINT, "an endpoint's name has 3-32", traffic={})
    refused(f"{WORKSPACE}/onlineEndpoints/other/deployments/{name}", path, "was not found or is not ready")
    refused(f"{ENDPOINT}/deployments/ab", path, "is no name of a deployment")
    refused(f"{ENDPOINT}/deployments/blue", path, "model .* is not there", model=f"{WORKSPACE}/models/a/versions/1")
    refused(f"{ENDPOINT}/deployments/blue", path, "environmentId .* is not there",
            environmentId=f"{WORKSPACE}/environments/a/versions/1")  # fmt: skip
    refused(path, path, "instanceType cannot be changed", instanceType="Standard_DS3_v2")
    refused(model, model, "of a version cannot be changed", modelUri=found[model]["properties"]["modelUri"] + "x")
    refused(f"{WORKSPACE}/models/a/versions/1", model, "is no datastore's", modelUri="https://example.com/a")
    refused(job, job, "a job of this name is there")
    scaling = next(path for path in found if "/autoscalesettings/" in path)
    refused(f"{GROUP}/providers/Microsoft.Insights/autoscalesettings/a", scaling, "is not there", AUTOSCALE_VERSION,
            targetResourceUri=f"{ENDPOINT}/deployments/blue")  # fmt: skip
    for there, words in (
        (path, "has traffic"),
        (model, "is used by"),
        (model.rpartition("/versions/")[0], "has versi"),
    ):
        with pytest.raises(TargetError, match=words):
            arm.delete(there)
    assert azure.made() == due
    azure.order(polls=3)
    arm.put(path, {key: found[path][key] for key in ("location", "tags", "sku")} | {"properties": {
        key: one for key, one in found[path]["properties"].items() if key not in read_only}})  # fmt: skip
    refused(path, path, "another operation is going on")
    with pytest.raises(TargetError, match="another operation is going on"):
        arm.delete(path)
