"""Replay: the order of what is asked and told, and a real server that fails now and then."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import ServingError
from passerelle.loop.replay import Asked, Told, replay, steps

START = datetime(2013, 2, 1, tzinfo=UTC)

moments = st.lists(st.tuples(st.integers(0, 60 * 72), st.integers(1, 60 * 48)), max_size=150)


@given(moments)
def test_every_event_once_in_order_and_no_truth_before_its_event(pairs: list[tuple[int, int]]) -> None:
    events = [Asked(at=START + timedelta(minutes=at), id=str(n), inputs={}) for n, (at, _) in enumerate(pairs)]
    truths = [
        Told(known_at=START + timedelta(minutes=at + later), id=str(n), value=True)
        for n, (at, later) in enumerate(pairs)
    ]
    asked: list[Asked] = []
    told: list[Told] = []
    for step in steps(events, truths):
        if isinstance(step[0], Asked):
            assert len(step) <= 50
            assert len({one.at.replace(minute=0) for one in step}) == 1
            hour = step[0].at.replace(minute=0)
            assert all(one.known_at < hour + timedelta(hours=1) for one in told)
            asked += step
        else:
            assert {one.id for one in step} <= {one.id for one in asked}, "a truth was told before its event"
            told += step
    assert [one.at for one in asked] == sorted(one.at for one in events)
    assert sorted(one.id for one in told) == sorted(one.id for one in truths)


class Flaky(http.server.BaseHTTPRequestHandler):
    """Answers every third request with 503, every fifth with a broken connection."""

    protocol_version = "HTTP/1.1"
    count = 0
    seen: list[str] = []  # noqa: RUF012  (one server at a time)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Flaky.count += 1
        if Flaky.count % 5 == 0:
            self.close_connection = True
            return
        status = 503 if Flaky.count % 3 == 0 else 200
        ids = [one["id"] for one in body.get("events", [])]
        answer = json.dumps({"predictions": [{"id": one} for one in ids]} if status == 200 else {"error": "busy"})
        if status == 200:
            Flaky.seen += ids
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def flaky() -> Iterator[str]:
    Flaky.count, Flaky.seen = 0, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_not_answered_is_sent_again_until_it_is(flaky: str) -> None:
    events = [Asked(at=START + timedelta(minutes=7 * n), id=str(n), inputs={"n": n}) for n in range(100)]
    again: list[str] = []
    done = replay(flaky, events, [], on_repeat=again.extend)
    assert done.events == 100
    assert done.repeats > 3
    assert Flaky.seen == [str(n) for n in range(100)]
    assert len(done.latencies_ms) == done.requests
    assert again
    assert set(again) <= set(Flaky.seen)


def test_an_endpoint_that_has_ended_is_not_waited_for() -> None:
    with pytest.raises(ServingError, match="has ended"):
        replay("http://127.0.0.1:1", [Asked(at=START, id="a", inputs={})], [], is_alive=lambda: False)
