"""Other servers' contracts, asked by clients that are not ours: one path, one ledger."""

from __future__ import annotations

import http.server
import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from doorway import CLIENT, Served

from passerelle.schema import Column, Schema
from passerelle.serving.contracts import add_contracts
from passerelle.serving.http import Limits

SPECS = Path(os.environ.get("PASSERELLE_SPECS") or Path(__file__).parents[3] / "shared" / "reference" / "specs")
UA = {"distance": 250.0, "carrier": "UA", "plane": None}
DL = {"distance": 600.0, "carrier": "DL", "plane": "N1"}
AT = "2013-03-01T12:00:00Z"
MODEL = "/v2/models/flights"


def tensors(**columns: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": [len(data)], "datatype": kind, "data": data} for name, (kind, data) in columns.items()
    ]


BOTH = tensors(distance=("FP64", [250.0, 600.0]), carrier=("BYTES", ["UA", "DL"]), plane=("BYTES", [None, "N1"]))


@pytest.fixture
def served(house: Any, tmp_path: Path) -> Iterator[Served]:
    with Served(house, tmp_path / "tokens.json", max_rows=3, max_body_bytes=4000) as one:
        variables = {"AIP_PREDICT_ROUTE": "/v1/endpoints/e:predict", "AIP_HEALTH_ROUTE": "/healthy"}
        add_contracts(one.http, house.service, limits=Limits(max_rows=3), variables=variables)
        yield one


@pytest.fixture
def ready(served: Served) -> Served:
    served.apply(served.house.deployment(1))
    return served


def predicted(reply: httpx.Response) -> list[float]:
    assert reply.status_code == 200, reply.text
    return [one["probability"] for one in reply.json()["predictions"]]


def test_probes_say_503_until_a_revision_answers(served: Served) -> None:
    probes = ["/ping", "/health", "/healthy", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/1/ready"]
    assert [CLIENT.get(served.url + path).status_code for path in probes] == [503] * 6
    assert CLIENT.get(served.url + "/v2/health/live").status_code == 200
    assert served.post("/invocations", {"instances": [UA]}).status_code == 503
    assert CLIENT.get(served.url + MODEL).status_code == 503
    served.apply(served.house.deployment(1))
    assert [CLIENT.get(served.url + path).status_code for path in probes] == [200] * 6


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [UA, DL]},
        {"instances": [UA, DL], "parameters": {}},
        {"instances": [[250, "UA", None], [600, "DL", "N1"]]},
        {"instances": [{"inputs": UA}, {"inputs": DL, "id": None}]},
        {"dataframe_records": [UA, DL]},
        {"dataframe_split": {"columns": list(UA), "index": [7, 8], "data": [[*UA.values()], [*DL.values()]]}},
        {"inputs": [UA, DL]},
        {"inputs": {name: [UA[name], DL[name]] for name in UA}},
        {"events": [{"inputs": UA}, {"inputs": DL}]},
    ],
    ids="-".join,
)
def test_every_route_takes_every_form_of_a_body(ready: Served, body: dict[str, Any]) -> None:
    for path in ("/invocations", "/score", "/predict", "/v1/models/flights:predict", "/v1/endpoints/e:predict"):
        ready.house.memory.records.clear()
        reply = ready.post(path, body)
        assert predicted(reply) == [0.25, 0.6]
        assert [one.inputs for one in ready.house.memory.records] == [UA, DL]
        assert [one.id for one in ready.house.memory.records] == [one["id"] for one in reply.json()["predictions"]]


def test_our_own_forms_keep_their_answers(ready: Served) -> None:
    reply = ready.post("/predict", {"inputs": UA, "id": "a"})
    assert reply.json() == {"id": "a", "prediction": False, "probability": 0.25, "version": 1, "revision": 1}
    missing = ready.post("/predict", {"id": "a"})
    assert (missing.status_code, "is missing: send" in missing.text) == (422, True)


@pytest.mark.parametrize(
    "lines",
    [
        "250,UA,\n600,DL,N1\n",
        "carrier,distance,plane\r\nUA,250.0,\r\nDL,600,N1\r\n",
        '\ufeffplane,"carrier",distance\n,"UA",250\n"N1",DL,6e2',
    ],
)
def test_csv_with_and_without_names(ready: Served, lines: str) -> None:
    reply = ready.post(
        "/invocations", lines.encode(), **{"content-type": "text/csv; charset=utf-8", "accept": "text/csv"}
    )
    assert reply.headers["content-type"].startswith("text/csv")
    ids = [one.id for one in ready.house.memory.records]
    assert reply.text.splitlines() == [
        "id,prediction,probability,version,revision,error",
        f"{ids[0]},false,0.25,1,1,",
        f"{ids[1]},true,0.6,1,1,",
    ]
    assert [one.inputs for one in ready.house.memory.records] == [UA, DL]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"instances": [{"distance": 250, "carrier": "UA"}]}, 422, "row 0, field 'plane': is missing"),
        ({"instances": [[1, 2]]}, 422, "has 2 values, and the fields are 3: distance, carrier, plane"),
        ({"instances": UA}, 422, "is not a list of rows"),
        ({"instances": []}, 422, "is empty"),
        ({"instances": [UA] * 4}, 413, "holds 4 events"),
        ({"instances": [UA], "parameters": {"threshold": 1}}, 422, "'parameters': says 'threshold'"),
        ({"instances": [UA], "signature": "x"}, 422, "'signature': is not a key here"),
        ({"instances": [UA | {"passerelle_at": "yesterday"}]}, 422, "field 'at'"),
        ({"instances": [UA | {"passerelle_id": "a"}] * 2}, 422, "is also the id of row 0"),
        ({"inputs": {"distance": [1, 2], "carrier": ["UA"], "plane": [None, None]}}, 422, "'carrier': has 1 values"),
        ({"dataframe_split": {"columns": ["distance", "distance"], "data": [[1, 2]]}}, 422, "stands twice"),
        ({"dataframe_split": {"columns": ["distance"], "data": [[1, 2]]}}, 422, "has 2 values"),
        ({"dataframe_split": [1]}, 422, "is not {"),
        (b"[1, 2]", 400, "is not a JSON object"),
        (b"{", 400, "is not JSON"),
        (b'{"instances": [[Infinity, "UA", null]]}', 400, "is not JSON"),
        (b'{"instances": ' + b"[" * 1500, 400, "is not JSON"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_recorded(ready: Served, body: Any, status: int, words: str) -> None:
    reply = ready.post("/invocations", body)
    assert (reply.status_code, words in reply.json()["error"]) == (status, True), reply.text
    assert ready.house.memory.records == []


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (b"distance,carrier\n1,UA\n", "field 'plane': is missing"),
        (b"far,UA,N1\n", "field 'distance': 'far' is not a number"),
        (b"1,UA\n", "has 2 values"),
        (b"distance,distance,plane\n1,1,x\n", "stands twice"),
        (b'"1,UA\n', "is not CSV"),
        (b"\xff\n", "is not CSV"),
        (b"", "is empty"),
    ],
)
def test_wrong_csv_is_refused_in_words(ready: Served, lines: bytes, words: str) -> None:
    reply = ready.post("/invocations", lines, **{"content-type": "text/csv"})
    assert words in reply.json()["error"]
    assert ready.post("/invocations", b"<a/>", **{"content-type": "text/xml"}).status_code == 415
    assert ready.house.memory.records == []


def test_rows_say_their_id_unit_and_time_in_every_form(ready: Served) -> None:
    said = {"passerelle_id": "a", "passerelle_unit": "N1", "passerelle_at": AT}
    bodies = [
        {"instances": [UA | said]},
        {"dataframe_split": {"columns": [*UA, *said], "data": [[*UA.values(), *said.values()]]}},
        {"inputs": {name: [value] for name, value in (UA | said).items()}},
        {"instances": [{"inputs": UA, "id": "a", "unit": "N1", "at": AT}]},
        {"inputs": tensors(
            distance=("FP64", [250.0]), carrier=("BYTES", ["UA"]), plane=("BYTES", [None]),
            passerelle_id=("BYTES", ["a"]), passerelle_unit=("BYTES", ["N1"]), passerelle_at=("BYTES", [AT]),
        )},
    ]  # fmt: skip
    for body in bodies:
        assert ready.post("/invocations", body).status_code == 200
    lines = ",".join([*UA, *said]) + f"\n250,UA,,a,N1,{AT}\n"
    assert ready.post("/invocations", lines.encode(), **{"content-type": "text/csv"}).status_code == 200
    moment = datetime(2013, 3, 1, 12, tzinfo=UTC)
    assert [(one.id, one.unit, one.event_at, one.inputs) for one in ready.house.memory.records] == [
        ("a", "N1", moment, UA)
    ] * 6


def test_a_platforms_headers_say_it_where_the_rows_do_not(ready: Served) -> None:
    attributes = f"trace=1, passerelle_unit=N%201,passerelle_at={AT}"
    headers = {"X-Amzn-SageMaker-Custom-Attributes": attributes, "X-Amzn-SageMaker-Inference-Id": "i"}
    one = ready.post("/invocations", {"instances": [UA]}, **headers)
    assert one.headers["X-Amzn-SageMaker-Custom-Attributes"] == (
        "passerelle_revision=1,passerelle_id=i,passerelle_version=1"
    )
    ready.post("/invocations", {"instances": [UA, DL | {"passerelle_id": "own"}]}, **headers)
    ready.post("/invocations", {"instances": [UA]}, **{"X-Amzn-SageMaker-Custom-Attributes": "passerelle_id=mine"})
    ready.post("/score", {"instances": [UA]}, **{"x-ms-client-request-id": "azure"})
    records = ready.house.memory.records
    assert [one.id for one in records] == ["i", "i-0", "own", "mine", "azure"]
    assert [one.unit for one in records[:3]] == ["N 1"] * 3
    assert records[0].event_at == datetime(2013, 3, 1, 12, tzinfo=UTC)


def test_units_split_and_shadow_are_the_same_through_every_contract(served: Served) -> None:
    house = served.house
    variants = (
        house.variant(1, weight=0.5),
        house.variant(2, weight=0.5),
        house.variant(3, mode="shadow", weight=0.0),
    )
    served.apply(house.deployment(1, *variants))
    by_form: list[list[tuple[str, int]]] = []
    units = ["N1", "N2", "N3"]
    for body in (
        {"instances": [UA | {"passerelle_unit": unit} for unit in units]},
        {"events": [{"inputs": UA, "unit": unit} for unit in units]},
        {"inputs": tensors(distance=("FP64", [1.0] * 3), carrier=("BYTES", ["UA"] * 3), plane=("BYTES", [None] * 3),
                           passerelle_unit=("BYTES", units))},
    ):  # fmt: skip
        house.memory.records.clear()
        assert served.post("/invocations", body).status_code == 200
        for _ in range(200):
            if len(house.memory.records) == 6:
                break
            threading.Event().wait(0.01)
        roles = [one.role for one in house.memory.records]
        assert (roles.count("live"), roles.count("shadow")) == (3, 3)
        by_form.append([(one.unit, one.version) for one in house.memory.records if one.role == "live"])
    assert by_form[0] == by_form[1] == by_form[2]
    assert {version for _, version in by_form[0]} == {1, 2}
    refused = served.post(f"{MODEL}/versions/1/infer", {"inputs": BOTH})
    assert (refused.status_code, "a caller cannot choose" in refused.text) == (404, True)


def test_kserve_v1_says_its_models(ready: Served) -> None:
    assert CLIENT.get(ready.url + "/v1/models").json() == {"models": ["flights", "flights-production"]}
    assert CLIENT.get(ready.url + "/v1/models/flights-production").json() == {
        "name": "flights-production",
        "ready": True,
    }
    unknown = ready.post("/v1/models/trains:predict", {"instances": [UA]})
    assert (unknown.status_code, unknown.json()["error"]) == (
        404,
        "there is no model 'trains' here: ask for flights or flights-production.",
    )
    assert CLIENT.post(ready.url + "/v1/models/flights").status_code == 405


# The Open Inference Protocol


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


def test_v2_of_several_classes(served: Served) -> None:
    house = served.house
    house.prepare = lambda _version, scorer: setattr(
        scorer, "function", lambda columns: np.array([[0.2, 0.5, 0.3]] * len(columns["distance"]))
    )
    variant = house.variant(1, task="multiclass", classes=("early", "on time", "late"))
    served.apply(house.deployment(1, variant))
    outputs = served.post(
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


def test_a_matrix_and_nested_data_are_rows_in_the_metadatas_order(served: Served) -> None:
    house = served.house
    schema = Schema(columns=tuple(Column(name=name, kind="number") for name in ("distance", "wind")))
    served.apply(house.deployment(1, house.variant(1, schema=schema)))
    for data in ([250, 1, 600, 2], [[250, 1], [600, 2]]):
        body = {"inputs": [{"name": "input-0", "shape": [2, 2], "datatype": "FP32", "data": data}]}
        reply = served.post(f"{MODEL}/infer", body)
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
