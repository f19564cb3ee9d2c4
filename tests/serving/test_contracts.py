"""Other servers' contracts, asked by clients that are not ours: one path, one ledger."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from contracted import AT, BOTH, DL, MODEL, UA, tensors
from doorway import CLIENT, Served


def predicted(reply: httpx.Response) -> list[float]:
    assert reply.status_code == 200, reply.text
    return [one["probability"] for one in reply.json()["predictions"]]


def test_probes_say_503_until_a_revision_answers(starting: Served) -> None:
    probes = ["/ping", "/health", "/healthy", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/1/ready"]
    assert [CLIENT.get(starting.url + path).status_code for path in probes] == [503] * 6
    assert CLIENT.get(starting.url + "/v2/health/live").status_code == 200
    assert starting.post("/invocations", {"instances": [UA]}).status_code == 503
    assert CLIENT.get(starting.url + MODEL).status_code == 503
    starting.apply(starting.house.deployment(1))
    assert [CLIENT.get(starting.url + path).status_code for path in probes] == [200] * 6


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


def test_units_split_and_shadow_are_the_same_through_every_contract(starting: Served) -> None:
    house = starting.house
    variants = (
        house.variant(1, weight=0.5),
        house.variant(2, weight=0.5),
        house.variant(3, mode="shadow", weight=0.0),
    )
    starting.apply(house.deployment(1, *variants))
    by_form: list[list[tuple[str, int]]] = []
    units = ["N1", "N2", "N3"]
    for body in (
        {"instances": [UA | {"passerelle_unit": unit} for unit in units]},
        {"events": [{"inputs": UA, "unit": unit} for unit in units]},
        {"inputs": tensors(distance=("FP64", [1.0] * 3), carrier=("BYTES", ["UA"] * 3), plane=("BYTES", [None] * 3),
                           passerelle_unit=("BYTES", units))},
    ):  # fmt: skip
        house.memory.records.clear()
        assert starting.post("/invocations", body).status_code == 200
        for _ in range(200):
            if len(house.memory.records) == 6:
                break
            threading.Event().wait(0.01)
        roles = [one.role for one in house.memory.records]
        assert (roles.count("live"), roles.count("shadow")) == (3, 3)
        by_form.append([(one.unit, one.version) for one in house.memory.records if one.role == "live"])
    assert by_form[0] == by_form[1] == by_form[2]
    assert {version for _, version in by_form[0]} == {1, 2}
    refused = starting.post(f"{MODEL}/versions/1/infer", {"inputs": BOTH})
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


def test_the_route_of_v2_takes_no_lines(ready: Served) -> None:
    reply = CLIENT.post(f"{ready.url}/v2/models/flights/infer", content="5", headers={"content-type": "text/csv"})
    assert (reply.status_code, "send JSON, with" in reply.json()["error"]) == (415, True)
