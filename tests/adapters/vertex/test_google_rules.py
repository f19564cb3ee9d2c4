"""Each rule of the server can refuse: one wrong request for each, beside the right ones that the target sends."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
from discovering import Documents
from vertexing import IMAGE, PLACE, Google, deployment

from passerelle.adapters.vertex_rest import METHODS
from passerelle.deployment.applying import apply_deployment

P = "/v1/projects/acme/locations/europe-west1"
E = f"{P}/endpoints/{PLACE}"
THRESHOLD = {"filter": 'metric.type = "x"', "comparison": "COMPARISON_GT", "duration": "60s"}


def policy(**changes: Any) -> dict[str, Any]:
    return {
        "displayName": "x",
        "combiner": "OR",
        "conditions": [{"displayName": "x", "conditionThreshold": THRESHOLD | changes}],
    }


def model(**changes: Any) -> dict[str, Any]:
    container = {"imageUri": IMAGE} | changes.pop("container", {})
    uri = "gs://acme-models/passerelle/packages/trips/production"
    return {"modelId": "other", "model": {"displayName": "x", "artifactUri": uri, "containerSpec": container} | changes}


def deployed(machines: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    least = {"machineSpec": {"machineType": "n1-standard-2"}, "minReplicaCount": 1} | (machines or {})
    return {"deployedModel": {"id": "7", "model": f"{P[4:]}/models/{PLACE}@1", "dedicatedResources": least} | changes}


#: What is wrong → verb, path, body, words of the refusal.
WRONG: dict[str, tuple[str, str, Any, str]] = {
    "no method": ("POST", f"{E}:deploy", {}, "no method"),
    "unknown query": ("POST", f"{P}/endpoints?endpoint=x", {"displayName": "x"}, "query endpoint is unknown"),
    "a query's type": ("GET", f"{P}/customJobs?pageSize=many", None, "query pageSize"),
    "a mask's form": ("PATCH", f"{E}?updateMask=traffic split", {}, "query updateMask"),
    "a body where none is": ("DELETE", E, {"force": True}, "a body where none"),
    "unknown field": ("POST", f"{P}/endpoints", {"displayName": "x", "colour": "red"}, "body.colour is unknown"),
    "a list": ("POST", f"{P}/models:upload", model(versionAliases="live"), "versionAliases is no list"),
    "an object": ("PATCH", f"{E}?updateMask=labels", {"labels": "x"}, "labels is no object"),
    "boolean": ("POST", f"{P}/endpoints", {"displayName": "x", "dedicatedEndpointEnabled": "yes"}, "boolean"),
    "integer": ("PATCH", f"{E}?updateMask=trafficSplit", {"trafficSplit": {"1": 99.5}}, "integer"),
    "int32": ("POST", f"{E}:deployModel", deployed({"maxReplicaCount": 2**31}), "maxReplicaCount is 2147483648"),
    "int64 as text": ("POST", f"{P}/customJobs", {"jobSpec": {"workerPoolSpecs": [{"replicaCount": 1}]}}, "int64"),
    "duration": (
        "POST",
        f"{P}/endpoints",
        {"displayName": "x", "clientConnectionConfig": {"inferenceTimeout": "30"}},
        "google-duration",
    ),
    "enumeration": ("POST", "/v3/projects/acme/alertPolicies", policy(comparison=">"), "comparison is '>'"),
    "output only": ("PATCH", f"{E}?updateMask=labels", {"deployedModels": []}, "deployedModels is output only"),
    "required name": ("POST", f"{P}/endpoints", {}, "displayName is required"),
    "endpoint's id": ("POST", f"{P}/endpoints?endpointId=Trips_1", {"displayName": "x"}, "endpointId 'Trips_1'"),
    "endpoint twice": ("POST", f"{P}/endpoints?endpointId={PLACE}", {"displayName": "x"}, "exists already"),
    "label": ("POST", f"{P}/endpoints", {"displayName": "x", "labels": {"Team": "x"}}, "label Team=x"),
    "sum of the split": ("PATCH", f"{E}?updateMask=trafficSplit", {"trafficSplit": {"ID": 90}}, "add up to 100"),
    "split of nobody": ("PATCH", f"{E}?updateMask=trafficSplit", {"trafficSplit": {"5": 100}}, "not deployed"),
    "mask": ("PATCH", f"{E}?updateMask=deployedModels", {}, "endpoints.patch changes"),
    "no mask": ("PATCH", E, {"labels": {}}, "updateMask is required"),
    "etag": ("PATCH", f"{E}?updateMask=labels", {"labels": {}, "etag": "old"}, "etag"),
    "update": ("POST", f"{E}:update", {"endpoint": {"displayName": "x"}}, "clientConnectionConfig only"),
    "region of the image": (
        "POST",
        f"{P}/models:upload",
        model(container={"imageUri": "us-docker.pkg.dev/a/b/c"}),
        "not of the region",
    ),
    "reserved variable": (
        "POST",
        f"{P}/models:upload",
        model(container={"env": [{"name": "AIP_MODE", "value": "x"}]}),
        "AIP_MODE is Vertex AI's",
    ),
    "alias": ("POST", f"{P}/models:upload", model(versionAliases=["1"]), "alias '1'"),
    "artefact": ("POST", f"{P}/models:upload", model(artifactUri="gs://acme-models/nothing"), "nothing is at"),
    "model twice": ("POST", f"{P}/models:upload", model() | {"modelId": PLACE}, "exists already"),
    "deployed id": ("POST", f"{E}:deployModel", deployed(id="revision-1"), "1 to 10 digits"),
    "no machine": ("POST", f"{E}:deployModel", deployed({"minReplicaCount": 0}), "minReplicaCount must be 1"),
    "machines": ("POST", f"{E}:deployModel", deployed({"minReplicaCount": 3, "maxReplicaCount": 2}), "below min"),
    "version": ("POST", f"{E}:deployModel", deployed(model=f"{P[4:]}/models/{PLACE}@9"), "is not found"),
    "mutation": (
        "POST",
        f"{E}:mutateDeployedModel",
        {"deployedModel": {"id": "ID"}, "updateMask": "dedicatedResources.machineSpec"},
        "these can be changed",
    ),
    "undeploy what answers": ("POST", f"{E}:undeployModel", {"deployedModelId": "ID"}, "has traffic"),
    "delete what is deployed": ("DELETE", f"{P}/models/{PLACE}@2:deleteVersion", None, "is deployed"),
    "delete an endpoint in use": ("DELETE", E, None, "models are deployed"),
    "delete a model in use": ("DELETE", f"{P}/models/{PLACE}", None, "the model is deployed"),
    "minutes": ("POST", "/v3/projects/acme/alertPolicies", policy(duration="61s"), "multiple of a minute"),
    "comparison": ("POST", "/v3/projects/acme/alertPolicies", policy(comparison="COMPARISON_EQ"), "only GT and LT"),
}


@pytest.fixture
def two(google: Google) -> Google:
    for revision in (1, 2):
        apply_deployment(google.open(), deployment(revision), "production")
    return google


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused(name: str, two: Google) -> None:
    verb, path, body, words = WRONG[name]
    endpoint = two.state()["endpoints"][PLACE]
    answering = next(iter(endpoint["trafficSplit"]))
    text = requests.models.complexjson.dumps(body).replace('"ID"', f'"{answering}"') if body is not None else None
    before = two.there()
    answer = requests.request(verb, two.address + path, data=text, timeout=10)
    assert answer.status_code >= 400
    assert words in answer.json()["error"]["message"]
    assert two.there() == before


def test_the_right_beside_the_wrong(two: Google) -> None:
    """What the wrong ones were made from is taken."""
    for path, body in (
        (f"{P}/models:upload", model()),
        (f"{E}:deployModel", deployed()),
        ("/v3/projects/acme/alertPolicies", policy()),
    ):
        assert requests.post(two.address + path, json=body, timeout=10).ok, path


@pytest.mark.parametrize("name", METHODS)
def test_each_method_that_is_called_stands_in_googles_documents(name: str) -> None:
    found = [one for one in Documents().methods if one.id == name]
    assert found, name
    method = METHODS[name]
    assert (method.verb, method.path) == (found[0].found["httpMethod"], found[0].template)
    assert re.fullmatch(r"(aiplatform|monitoring|logging)\.[a-zA-Z]+\.[a-zA-Z]+", method.permission)
