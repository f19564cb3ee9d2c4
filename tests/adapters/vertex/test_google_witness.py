"""Google's own clients on the same server: what they send is taken, and they read what our target made.

google-cloud-aiplatform's generated client by REST, and google-cloud-storage by storage.v1. They were written by others:
if the server took our requests by a mistake of ours, they would trip over it.
"""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from vertexing import IMAGE, PLACE, Google, deployment

from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.target import TargetError

LOCATION = "projects/acme/locations/europe-west1"
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:google", "ignore::DeprecationWarning")


def client(google: Google, kind: str) -> Any:
    from google.cloud import aiplatform_v1

    made = getattr(aiplatform_v1, kind)
    options = ClientOptions(api_endpoint=google.address)
    return made(credentials=AnonymousCredentials(), transport="rest", client_options=options)  # type: ignore[no-untyped-call]


def test_googles_client_reads_what_we_made(google: Google) -> None:
    for revision in (1, 2):
        apply_deployment(google.open(), deployment(revision), "production")
    endpoint = client(google, "EndpointServiceClient").get_endpoint(name=f"{LOCATION}/endpoints/{PLACE}")
    assert endpoint.dedicated_endpoint_enabled
    assert endpoint.client_connection_config.inference_timeout.total_seconds() == 30
    names = {one.id: one.display_name.rpartition("-")[0] for one in endpoint.deployed_models}
    assert {names[number]: share for number, share in endpoint.traffic_split.items()} == {"revision-2": 100}
    machines = {one.dedicated_resources.max_replica_count for one in endpoint.deployed_models}
    assert machines == {3}
    versions = list(client(google, "ModelServiceClient").list_model_versions(name=f"{LOCATION}/models/{PLACE}"))
    assert [one.container_spec.predict_route for one in versions] == ["/predict", "/predict"]
    assert ["default" in one.version_aliases for one in versions] == [False, True]


def test_googles_client_makes_what_ours_makes(google: Google) -> None:
    """Its requests pass the same judge, and our target refuses what it made under our name."""
    target = google.open()
    package, version, *_ = target.plan(deployment(1), target.observe("production")).steps
    target.apply(package)
    uri = version.resource.settings["artifactUri"]
    models, endpoints = client(google, "ModelServiceClient"), client(google, "EndpointServiceClient")
    container = {"image_uri": IMAGE, "predict_route": "/predict", "health_route": "/health", "args": ["serve"]}
    model = {"display_name": "theirs", "artifact_uri": uri, "container_spec": container, "version_aliases": ["one-1"]}
    models.upload_model(parent=LOCATION, model=model).result(timeout=10)
    made = {"display_name": PLACE, "dedicated_endpoint_enabled": True}
    endpoints.create_endpoint(parent=LOCATION, endpoint=made, endpoint_id=PLACE).result(timeout=10)
    name = f"{LOCATION}/endpoints/{PLACE}"
    number = next(iter(google.state()["models"]))
    resources = {"machine_spec": {"machine_type": "n1-standard-2"}, "min_replica_count": 1}
    deployed = {"model": f"{LOCATION}/models/{number}@one-1", "display_name": "x", "dedicated_resources": resources}
    endpoints.deploy_model(endpoint=name, deployed_model=deployed, traffic_split={"0": 100}).result(timeout=10)
    identity = google.state()["endpoints"][PLACE]["deployedModels"][0]["id"]
    patched = endpoints.update_endpoint(
        endpoint={"name": name, "traffic_split": {identity: 100}}, update_mask={"paths": ["traffic_split"]}
    )
    assert patched.traffic_split == {identity: 100}
    with pytest.raises(GoogleAPICallError, match="must add up to 100"):
        endpoints.update_endpoint(
            endpoint={"name": name, "traffic_split": {identity: 90}}, update_mask={"paths": ["traffic_split"]}
        )
    with pytest.raises(TargetError, match=f"{PLACE} is there, and is not of project 'trips'"):
        target.observe("production")


def test_googles_client_of_the_store_reads_the_package(google: Google) -> None:
    from google.cloud import storage

    apply_deployment(google.open(), deployment(1), "production")
    store = storage.Client("acme", AnonymousCredentials(), client_options={"api_endpoint": google.address})
    blobs = {one.name.rpartition("/")[2]: one for one in store.list_blobs("acme-models", prefix="passerelle/packages/")}
    assert set(blobs) == {"model.bin", "deployment.json"}
    assert blobs["model.bin"].download_as_bytes() == f"{1:064x}".encode()
