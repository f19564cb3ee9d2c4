"""The door, knocked at through a real socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import httpx
import jsonschema
import pytest
from doorway import CLIENT, JSON, Served

from passerelle.errors import LedgerError, ServingError
from passerelle.serving.connection import Connection
from passerelle.serving.door import Door
from passerelle.serving.http import Route
from passerelle.serving.tokens import Needed, make_token

UA = {"distance": 250, "carrier": "UA", "plane": None}


@pytest.fixture
def served(house: Any, tmp_path: Path) -> Iterator[Served]:
    with Served(house, tmp_path / "tokens.json", max_rows=3, max_body_bytes=4000) as one:
        one.apply(house.deployment(1))
        yield one


@pytest.fixture(scope="module")
def shared(new_house: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all tests that leave no trace."""
    folder = tmp_path_factory.mktemp("shared")
    house = new_house(folder)
    with Served(house, folder / "tokens.json", max_rows=3, max_body_bytes=4000) as one:
        one.apply(house.deployment(1))
        yield one


def test_one_event_and_many(served: Served) -> None:
    reply = served.post("/predict", {"id": "a", "inputs": UA})
    assert (reply.status_code, reply.json()) == (
        200,
        {"id": "a", "prediction": False, "probability": 0.25, "version": 1, "revision": 1},
    )
    reply = served.post("/predict", {"events": [{"id": "b", "inputs": UA}, {"inputs": {**UA, "distance": 800}}]})
    assert reply.status_code == 200
    assert [answer["prediction"] for answer in reply.json()["predictions"]] == [False, True]
    assert len(served.house.memory.records) == 3


def test_outcomes(served: Served) -> None:
    reply = served.post("/outcomes", {"id": "a", "value": True, "known_at": "2013-02-01T00:00:00Z"})
    assert (reply.status_code, reply.json()) == (200, {"recorded": 1})
    reply = served.post("/outcomes", {"outcomes": [{"id": "a", "value": "x", "known_at": "2013-02-01T00:00:00Z"}]})
    assert (reply.status_code, reply.json()) == (200, {"recorded": 1, "unknown_classes": 1})
    reply = served.post("/outcomes", {"id": "a", "value": 1.5, "known_at": "2013-02-01T00:00:00Z"})
    reason = "1.5 is not a class: a string, an integer of 64 bits or a boolean"
    assert (reply.status_code, reply.json()["issues"]) == (422, [{"row": 0, "field": "value", "reason": reason}])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "see /docs for an example"),
        (b"", 400, "not JSON"),
        (b'{"inputs": {"distance": NaN}}', 400, "send null instead"),
        (b'{"inputs": {"distance": Infinity}}', 400, "send null instead"),
        (b'{"inputs": {"distance": "\xff"}}', 400, "not JSON"),
        (b'{"inputs": {"distance": ' + b"[" * 3000, 400, "not JSON"),
        (b'{"inputs": {"distance": ' + b"[" * 30 + b"]" * 30 + b"}}", 422, "is not a number"),
        (b'{"inputs": {"distance": ' + b"9" * 400 + b"}}", 422, "is not a finite number"),
        (b'{"inputs": {}}', 422, "is missing"),
        (b'{"inputs": {"distance": 1, "carrier": "UA", "plane": null, "x": 1}}', 422, "is not a field"),
        (b'{"inputs": {"distance": "1", "carrier": "UA", "plane": null}}', 422, "'1' is not a number"),
        (b'{"events": [{"id": "a", "inputs": {}}, {"id": "a", "inputs": {}}]}', 422, "also the id of row 0"),
        (json.dumps({"events": [{"inputs": UA}] * 4}).encode(), 413, "3 are the most"),
        (b" " * 4001, 413, "larger than 4000 bytes"),
    ],
)
def test_every_bad_body_gets_its_status_and_its_reason_and_is_not_recorded(
    shared: Served, body: bytes, status: int, words: str
) -> None:
    reply = shared.post("/predict", body)
    assert reply.status_code == status
    assert words in reply.json()["error"]
    assert ("issues" in reply.json()) == (status == 422)
    assert shared.house.memory.records == []


def test_a_body_that_grows_beyond_the_limit_while_it_arrives_is_refused(shared: Served) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(50):
            yield b" " * 100

    reply = CLIENT.post(f"{shared.url}/predict", content=parts(), headers=JSON)
    assert (reply.status_code, "larger than 4000 bytes" in reply.json()["error"]) == (413, True)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "words"),
    [
        ("POST", "/predict", {}, 415, "sent as nothing: send JSON"),
        ("POST", "/predict", {"content-type": "text/plain"}, 415, "sent as text/plain"),
        (
            "POST",
            "/predict",
            {"content-type": "application/json", "content-encoding": "gzip"},
            415,
            "the body is compressed (gzip)",
        ),
        ("GET", "/predict", {}, 405, "/predict takes POST, not GET"),
        ("DELETE", "/ready", {}, 405, "/ready takes GET, not DELETE"),
        ("OPTIONS", "/predict", {}, 405, "/predict takes POST"),
        ("GET", "/nowhere", {}, 404, "there is no /nowhere; the paths are /"),
        ("GET", "/caf%C3%A9", {}, 404, "there is no /café"),
        ("GET", "/predict/", {}, 404, "there is no /predict/"),
        ("GET", "/ready", {"host": "evil.example"}, 421, "localhost or 127.0.0.1"),
        ("GET", "/ready", {"host": "127.0.0.1.evil.example:80"}, 421, "localhost or 127.0.0.1"),
    ],
)
def test_every_bad_request_gets_its_status_and_the_next_step(
    shared: Served, *, method: str, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    reply = CLIENT.request(method, shared.url + path, headers=headers, content=b"{}" if method == "POST" else None)
    assert reply.status_code == status
    assert words in reply.json()["error"]
    if status == 405:
        assert reply.headers["allow"] in ("POST", "GET")


@pytest.mark.parametrize("host", ["localhost", "localhost:8700", "127.0.0.1:1", "[::1]:8700", "[::1]"])
def test_loopback_names_pass_without_tokens(shared: Served, host: str) -> None:
    assert CLIENT.get(f"{shared.url}/ready", headers={"host": host}).status_code == 200


def test_bytes_that_are_not_http_get_a_400_and_harm_nobody(shared: Served) -> None:
    port = int(shared.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 400")
    assert CLIENT.get(f"{shared.url}/ready").status_code == 200


def test_a_head_that_is_too_large_is_refused(shared: Served) -> None:
    port = int(shared.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
        one.sendall(b"GET /live HTTP/1.1\r\nx: " + b"x" * 40_000)
        assert one.recv(1000).startswith(b"HTTP/1.1 400")
        assert one.recv(1000) == b""
    assert CLIENT.get(f"{shared.url}/live", headers={"x": "x" * 20_000}).status_code == 200


def test_a_head_that_does_not_come_closes_its_connection(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "head_deadline_s", 0.2)
    port = int(shared.url.rpartition(":")[2])
    live = b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n"
    for said in (b"", b"GET /live HT", live + b"GET /live HTTP/1.1\r\nho"):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
            one.sendall(said)
            heard = b""
            while data := one.recv(1000):
                heard += data
            assert heard.count(b"HTTP/1.1 200") == said.count(b"\r\n\r\n")
    with httpx.Client() as idle:  # whoever is only idle between two requests stays
        first = idle.get(f"{shared.url}/live")
        threading.Event().wait(0.4)
        second = idle.get(f"{shared.url}/live")
        assert first.status_code == second.status_code == 200
        ports = {reply.extensions["network_stream"].get_extra_info("client_addr") for reply in (first, second)}
        assert len(ports) == 1


def test_a_body_that_does_not_come_is_given_up(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passerelle.serving.http.BODY_DEADLINE_S", 0.2)
    port = int(shared.url.rpartition(":")[2])
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    for started in (b"", b'{"inputs"'):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
            one.sendall(head + started)
            assert one.recv(1000).startswith(b"HTTP/1.1 408")


def test_failed_and_late_events_have_their_status(served: Served) -> None:
    served.house.fails_on(666)
    served.apply(served.house.deployment(2, served.house.variant(2)))
    bad, good = {"inputs": {**UA, "distance": 666}}, {"inputs": UA}
    reply = served.post("/predict", bad)
    assert (reply.status_code, reply.json()["error"]) == (500, "distance 666 divides by zero")
    assert served.post("/predict", {"events": [bad, bad]}).status_code == 500
    reply = served.post("/predict", {"events": [bad, good]})
    assert (reply.status_code, ["error" in answer for answer in reply.json()["predictions"]]) == (200, [True, False])

    def late(_: Any) -> Any:
        raise TimeoutError

    served.house.prepare = lambda _, scorer: setattr(scorer, "function", late)
    served.apply(served.house.deployment(3, served.house.variant(3)))
    reply = served.post("/predict", good)
    assert (reply.status_code, reply.json()["error"]) == (504, "the model did not answer within 2 s")


def test_a_ledger_that_fails_is_503_and_says_when_to_try_again(served: Served) -> None:
    served.house.memory.error = LedgerError("the disk is full")
    reply = served.post("/predict", {"inputs": UA})
    assert (reply.status_code, reply.json(), reply.headers["retry-after"]) == (503, {"error": "the disk is full"}, "1")


def test_before_the_first_revision(house: Any, tmp_path: Path) -> None:
    with Served(house, tmp_path / "tokens.json") as served:
        assert CLIENT.get(f"{served.url}/live").status_code == 200
        ready = CLIENT.get(f"{served.url}/ready")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        reply = served.post("/predict", {"inputs": UA})
        assert (reply.status_code, "passerelle deploy" in reply.json()["error"]) == (503, True)


def test_ready_shows_what_answers(served: Served) -> None:
    house = served.house
    served.apply(house.deployment(2, house.variant(1), house.variant(2, weight=0.0, mode="shadow"), trial="t1"))
    assert CLIENT.get(f"{served.url}/ready").json() == {
        "ready": True,
        "project": "flights",
        "environment": "production",
        "revision": 2,
        "trial": "t1",
        "variants": [
            {"version": 1, "mode": "live", "weight": 1.0, "kind": "inline", "state": "ready"},
            {"version": 2, "mode": "shadow", "weight": 0.0, "kind": "inline", "state": "ready"},
        ],
        "problem": None,
    }


def test_metrics_count_what_happened(served: Served) -> None:
    served.post("/predict", {"events": [{"inputs": UA}] * 3})
    served.post("/predict", b"{")
    text = CLIENT.get(f"{served.url}/metrics").text
    assert 'passerelle_events_total{role="live",status="scored",version="1"} 3.0' in text
    assert 'passerelle_requests_total{code="200",route="/predict"} 1.0' in text
    assert 'passerelle_requests_total{code="400",route="/predict"} 1.0' in text
    assert 'passerelle_batch_rows_sum{version="1"} 3.0' in text
    assert "passerelle_revision 1.0" in text


def test_openapi_describes_what_is_answered(served: Served) -> None:
    """The examples fit the document, are answered, and the answers fit it too."""
    document = CLIENT.get(f"{served.url}/openapi.json").json()
    for path, kinds in {"/predict": ("Answer", "predictions"), "/outcomes": (None, None)}.items():
        operation = document["paths"][path]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        for example in content["examples"].values():
            jsonschema.validate(example["value"], {**content["schema"], "components": document["components"]})
            reply = served.post(path, example["value"])
            assert reply.status_code == 200
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            jsonschema.validate(reply.json(), {**schema, "components": document["components"]})
        assert kinds
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"inputs": {}}, {**content["schema"], "components": document["components"]})
    assert {route.path for route in served.http.routes} - {"/"} == set(document["paths"])


def test_the_page_needs_nothing_from_elsewhere(shared: Served) -> None:
    reply = CLIENT.get(f"{shared.url}/docs")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "http://" not in reply.text
    assert "https://" not in reply.text
    assert reply.text == CLIENT.get(f"{shared.url}/").text
    assert CLIENT.head(f"{shared.url}/docs").status_code == 200


def test_with_tokens_each_route_asks_for_its_scope(house: Any, tmp_path: Path) -> None:
    path, now = tmp_path / "tokens.json", datetime.now(UTC)
    tokens = {
        scope: make_token(path, name=scope, scopes=(scope,), created_at=now)
        for scope in ("predict", "label", "read", "admin")
    }
    tokens["expired"] = make_token(path, name="old", scopes=("admin",), created_at=now, expires_at=now)
    tokens["unknown"] = "psr_nobody"
    with Served(house, path) as served:
        served.apply(house.deployment(1))
        for route in served.http.routes:
            assert route.needs in get_args(Needed)

            def ask(authorization: str | None, route: Route = route) -> httpx.Response:
                headers = JSON | ({} if authorization is None else {"authorization": authorization})
                return CLIENT.request(route.method, served.url + route.path, headers=headers, content=b"{}")

            refusals = set()
            for name, token in tokens.items():
                reply = ask(f"Bearer {token}")
                allowed = route.needs == "nothing" or name in (route.needs, "admin")
                assert (reply.status_code == 403) == (not allowed), (route.path, name)
                if not allowed:
                    refusals.add(reply.text)
            reply = ask(None)
            assert (reply.status_code == 401) == (route.needs != "nothing")
            if route.needs != "nothing":
                assert ask("Basic abc").status_code == 403
                assert len(refusals | {reply.text}) == 1  # whoever asks learns nothing
    assert house.memory.records == []


def test_a_route_cannot_be_made_without_a_scope(shared: Served) -> None:
    async def reply(_: bytes) -> Any:
        raise NotImplementedError

    with pytest.raises(TypeError):
        Route("GET", "/new", reply=reply)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="needs None"):
        Route("GET", "/new", None, reply)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is there already"):
        shared.http.add([Route("GET", "/ready", "read", reply)])


def test_without_tokens_other_machines_are_not_served(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"0\.0\.0\.0 can be reached from other machines and there is no token"):
        Door(tmp_path / "tokens.json", host="0.0.0.0")  # noqa: S104  (it is refused)
