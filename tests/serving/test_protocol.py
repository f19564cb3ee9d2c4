"""The Open Inference Protocol, by its own description; and clients that are not ours, on the one path."""

from __future__ import annotations

import http.server
import json
import os
import threading
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from contracted import BOTH, DL, MODEL, UA, tensors
from doorway import CLIENT, Served

from passerelle.schema import Column, Schema

SPECS = Path(os.environ.get("PASSERELLE_SPECS") or Path(__file__).parents[3] / "shared" / "reference" / "specs")


@pytest.fixture(scope="module")
def protocol() -> dict[str, Any]:
    path = SPECS / "oip" / "open_inference_rest.json"
    if not path.exists():
        pytest.skip(f"{path} is not there: the protocol's own description is not committed (PASSERELLE_SPECS)")
    return dict(json.loads(path.read_text()))


def test_v2_answers_are_what_the_protocols_own_description_says(ready: Served, protocol: dict[str, Any]) -> None:
    def check(name: str, said: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": protocol["components"]}
        jsonschema.Draft202012Validator(schema).validate(said)

    check("metadata_server_response", CLIENT.get(ready.url + "/v2").json())
    check("metadata_server_response", CLIENT.get(ready.url + "/v2/").json())
    described = CLIENT.get(ready.url + MODEL).json()
    check("metadata_model_response", described)
    assert described == CLIENT.get(f"{ready.url}{MODEL}/versions/1").json()
    assert described["versions"] == ["1"]
    assert described["inputs"][1] == {"name": "carrier", "datatype": "BYTES", "shape": [-1]}
    assert {one["name"]: one["datatype"] for one in described["outputs"]} == {
        "prediction": "BOOL",
        "probability": "FP64",
        "id": "BYTES",
        "version": "INT64",
    }
    asked = {"id": "42", "inputs": [one | {"data": [x or "" for x in one["data"]]} for one in BOTH]}
    check("inference_request", asked)
    answered = ready.post(f"{MODEL}/versions/1/infer", asked).json()
    check("inference_response", answered)
    assert (answered["model_name"], answered["model_version"], answered["id"]) == ("flights", "1", "42")
    assert {one["name"]: (one["shape"], one["data"]) for one in answered["outputs"]} == {
        "prediction": ([2], [False, True]),
        "probability": ([2], [0.25, 0.6]),
        "id": ([2], ["42-0", "42-1"]),
        "version": ([2], [1, 1]),
    }
    check("inference_error_response", ready.post(f"{MODEL}/infer", {"inputs": []}).json())


def test_v2_of_several_classes(starting: Served) -> None:
    house = starting.house
    house.prepare = lambda _version, scorer: setattr(
        scorer, "function", lambda columns: np.array([[0.2, 0.5, 0.3]] * len(columns["distance"]))
    )
    variant = house.variant(1, task="multiclass", classes=("early", "on time", "late"))
    starting.apply(house.deployment(1, variant))
    outputs = starting.post(
        f"{MODEL}/infer", {"inputs": BOTH, "outputs": [{"name": "probability"}, {"name": "prediction"}]}
    )
    assert outputs.json()["outputs"] == [
        {
            "name": "probability",
            "shape": [2, 3],
            "datatype": "FP64",
            "parameters": {"classes": ["early", "on time", "late"]},
            "data": [0.2, 0.5, 0.3] * 2,
        },
        {"name": "prediction", "shape": [2], "datatype": "BYTES", "data": ["on time", "on time"]},
    ]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (tensors(distance=("FP64", [1.0, 2.0]), carrier=("BYTES", ["UA"])), "has 1 rows, and 'distance' has 2"),
        ([{"name": "distance", "shape": [2], "datatype": "FP64", "data": [1.0]}], "has 1 values, and its shape is [2]"),
        ([{"name": "distance", "shape": [-1], "datatype": "FP64", "data": [1.0]}], "no size is negative"),
        ([{"name": "distance", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}], "a field has the shape [n]"),
        ([{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}], "has 2 columns, and the fields are 3"),
        ([{"name": "distance", "shape": [1], "datatype": "FLOAT", "data": [1]}], "inputs[0].datatype"),
        ([{"name": "distance", "shape": [1], "datatype": "FP64", "data": ["far"]}], "'far' is no FP64"),
        ([{"name": "distance", "shape": [1], "datatype": "UINT8", "data": [256]}], "256 is no UINT8"),
        ([{"name": "distance", "shape": [1], "datatype": "INT64", "data": [True]}], "True is no INT64"),
        (BOTH + BOTH[:1], "stands twice"),
        ([{"name": "distance", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": 8}}], "binary"),
        (tensors(nowhere=("FP64", [1.0])), "'nowhere'"),
    ],
)  # fmt: skip
def test_wrong_tensors_are_refused_by_name(ready: Served, inputs: Any, words: str) -> None:
    reply = ready.post(f"{MODEL}/infer", {"inputs": inputs})
    assert (reply.status_code, words in reply.json()["error"]) == (422, True), reply.text
    assert ready.house.memory.records == []


def test_v2_without_tensors_or_of_an_unknown_version_or_output(ready: Served) -> None:
    for path, body, status, words in (
        (f"{MODEL}/infer", {"instances": [UA]}, 400, "not of the V2 form"),
        (f"{MODEL}/versions/9/infer", {"inputs": BOTH}, 404, "version '9' does not answer here; 1 does"),
        (f"{MODEL}/infer", {"inputs": BOTH, "outputs": [{"name": "x"}]}, 422, "'x': is not an output"),
    ):
        reply = ready.post(path, body)
        assert (reply.status_code, words in reply.json()["error"]) == (status, True), reply.text


def test_a_matrix_and_nested_data_are_rows_in_the_metadatas_order(starting: Served) -> None:
    house = starting.house
    schema = Schema(columns=tuple(Column(name=name, kind="number") for name in ("distance", "wind")))
    starting.apply(house.deployment(1, house.variant(1, schema=schema)))
    for data in ([250, 1, 600, 2], [[250, 1], [600, 2]]):
        body = {"inputs": [{"name": "input-0", "shape": [2, 2], "datatype": "FP32", "data": data}]}
        reply = starting.post(f"{MODEL}/infer", body)
        assert reply.json()["outputs"][1]["data"] == [0.25, 0.6]
    assert house.memory.records[1].inputs == {"distance": 600, "wind": 2}


def test_a_row_that_failed_fails_a_v2_request_and_is_recorded(ready: Served) -> None:
    ready.house.fails_on(600)
    ready.apply(ready.house.deployment(2, ready.house.variant(2)))
    reply = ready.post(f"{MODEL}/infer", {"inputs": BOTH, "id": "q"})
    assert reply.status_code == 500
    assert reply.json()["error"] == "1 of 2 rows have no answer; row 1, id 'q-1': distance 600 divides by zero"
    assert [one.status for one in ready.house.memory.records] == ["scored", "failed"]
    kept = ready.post("/score", {"instances": [UA, DL]}).json()["predictions"]
    assert (kept[0]["probability"], kept[1]["error"]) == (0.25, "distance 600 divides by zero")


# Clients that are not ours


def test_nvidias_client(ready: Served) -> None:
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
    from tritonclient.utils import InferenceServerException

    client = InferenceServerClient(ready.url.removeprefix("http://"))
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("flights")
        assert client.is_model_ready("flights", "1")
        assert not client.is_model_ready("flights", "2")
        assert client.get_server_metadata()["name"] == "passerelle"
        assert client.get_model_metadata("flights")["platform"] == "passerelle"
        inputs = [
            InferInput("distance", [2, 1], "FP64"),
            InferInput("carrier", [2], "BYTES"),
            InferInput("plane", [2], "BYTES"),
        ]
        inputs[0].set_data_from_numpy(np.array([[250.0], [600.0]]), binary_data=False)
        for one, values in zip(inputs[1:], (["UA", "DL"], ["N0", "N1"]), strict=True):
            one.set_data_from_numpy(np.array(values, dtype=object), binary_data=False)
        result = client.infer("flights", inputs, request_id="r")
        assert result.as_numpy("probability").tolist() == [0.25, 0.6]
        assert result.as_numpy("prediction").tolist() == [False, True]
        assert result.get_response()["id"] == "r"
        wanted = [InferRequestedOutput("id", binary_data=False)]
        assert client.infer("flights", inputs, model_version="1", outputs=wanted).as_numpy("id").shape == (2,)
        inputs[0].set_data_from_numpy(np.array([[250.0], [600.0]]), binary_data=True)
        with pytest.raises(InferenceServerException, match=r"binary"):
            client.infer("flights", inputs)
    finally:
        client.close()
    assert [one.id for one in ready.house.memory.records][:2] == ["r-0", "r-1"]


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")  # mlflow, of its own types
def test_mlflows_client(ready: Served) -> None:
    import pandas as pd
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    host, _, port = ready.url.removeprefix("http://").partition(":")
    client = ScoringServerClient(host, port)
    client.wait_server_ready(timeout=5)
    assert client.get_version()
    frame = pd.DataFrame([UA, DL | {"plane": float("nan")}])  # what is missing in pandas
    answered = client.invoke(frame).get_predictions()
    assert answered["probability"].tolist() == [0.25, 0.6]
    assert ready.house.memory.records[1].inputs["plane"] is None
    client.invoke([UA])
    assert len(ready.house.memory.records) == 3


class Runtime(http.server.BaseHTTPRequestHandler):
    """SageMaker's runtime, of which only the way of a request is imitated: it strips all headers but its own."""

    container: str
    kept = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes", "x-amzn-sagemaker-inference-id")

    def do_POST(self) -> None:
        assert self.path == "/endpoints/flights-production/invocations"
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name: self.headers[name] for name in self.kept if name in self.headers}
        reply = httpx.post(f"{self.container}/invocations", content=body, headers=headers)
        self.send_response(reply.status_code)
        for name in ("content-type", "x-amzn-sagemaker-custom-attributes"):
            self.send_header(name, reply.headers[name])
        self.send_header("content-length", str(len(reply.content)))
        self.end_headers()
        self.wfile.write(reply.content)

    def log_message(self, *_: Any) -> None: ...


def test_amazons_client_through_a_plain_proxy(ready: Served) -> None:
    import boto3

    Runtime.container = ready.url
    with http.server.HTTPServer(("127.0.0.1", 0), Runtime) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        client = boto3.client(
            "sagemaker-runtime",
            region_name="eu-west-1",
            endpoint_url=f"http://127.0.0.1:{proxy.server_port}",
            aws_access_key_id="a",
            aws_secret_access_key="b",  # noqa: S106  (nobody's)
        )
        said = client.invoke_endpoint(
            EndpointName="flights-production",
            ContentType="text/csv",
            Accept="application/json",
            InferenceId="event-1",
            CustomAttributes="passerelle_unit=N14228",
            Body=b"250,UA,\n",
        )
        assert json.loads(said["Body"].read())["predictions"][0]["probability"] == 0.25
        assert said["CustomAttributes"] == "passerelle_revision=1,passerelle_id=event-1,passerelle_version=1"
        untyped = client.invoke_endpoint(EndpointName="flights-production", Body=json.dumps({"instances": [UA]}))
        assert json.loads(untyped["Body"].read())["predictions"][0]["prediction"] is False
        client.close()
        proxy.shutdown()
    assert next((one.id, one.unit) for one in ready.house.memory.records) == ("event-1", "N14228")


def test_plain_urllib_posts_to_azures_route(ready: Served) -> None:
    asked = urllib.request.Request(  # noqa: S310  (http, of this machine)
        f"{ready.url}/score",
        data=json.dumps({"instances": [UA]}).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer of-the-gateway"},
    )
    with urllib.request.urlopen(asked, timeout=5) as reply:  # noqa: S310  (the same)
        assert json.loads(reply.read())["predictions"][0]["version"] == 1
