"""The injector against servers that stall, fail, hang up and refuse: it goes on asking, and its figures show it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections import Counter

import pytest
from answering import Server, answering, reply

from passerelle.load.injectors import NobodyThereError, Progress, inject
from passerelle.load.plan import at_rate, at_warp
from passerelle.load.report import Injected, quantiles
from passerelle.load.target import find_target
from passerelle.serving.events import Event

ANSWER = reply({"id": "a", "prediction": 1})


def events(count: int = 50) -> list[Event]:
    return [Event(id=f"e{number}", inputs={"x": number}) for number in range(count)]


async def at_once(_number: int, _body: bytes) -> bytes:
    await asyncio.sleep(0)
    return ANSWER


def send(server: Server, rate: float, seconds: float, **more: object) -> Injected:
    return inject(find_target(server.url), at_rate(events(), rate, seconds=seconds), **more)


def closed_loop(url: str, requests: int, rate: float) -> list[float]:
    """What a naive client measures: it waits for each answer before it asks again."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    took = []
    for _ in range(requests):
        start = time.perf_counter()
        connection.request("POST", "/predict", b"{}")
        connection.getresponse().read()
        took.append(time.perf_counter() - start)
        time.sleep(max(0.0, 1 / rate - took[-1]))
    connection.close()
    return took


def stalling(after: int, seconds: float) -> Server:
    """From its request of this number on the whole server stands still, once, for so long."""

    async def answer(number: int, _body: bytes) -> bytes:
        if number == after:
            time.sleep(seconds)  # noqa: ASYNC251  (a whole server that stalls is the point)
        await asyncio.sleep(0)
        return ANSWER

    return answering(answer)


def test_every_request_is_sent_once_when_it_is_due() -> None:
    with answering(at_once) as server:
        done = send(server, 200, 1.0)
    assert (done.due, done.sent, done.answered, done.events) == (200, 200, 200, 200)
    assert done.errors == {}
    assert done.clean
    assert (done.asked_per_s, done.passes) == (200, 4)
    assert done.answered_per_s == pytest.approx(200, rel=0.1)
    assert Counter(json.loads(body)["inputs"]["x"] for body in server.bodies) == dict.fromkeys(range(50), 4)
    # What other jobs take makes requests late and never early: the earliest one tells when the first was due.
    gaps = [moment - number / 200 for number, moment in enumerate(server.arrived)]
    assert quantiles([gap - min(gaps) for gap in gaps]).p50 < 100, "in one go, half of them would be 500 ms away"
    assert "Authorization" not in server.heads[0]


def test_a_stall_is_seen_from_the_due_moment_and_a_closed_loop_hides_it() -> None:
    """One second of 4 s stands still: a quarter of the callers waits, half a second each on average."""
    with stalling(after=200, seconds=1.0) as server:
        done = send(server, 200, 4.0)
    assert done.answered == 800
    latency = done.latency_ms
    # On a quiet machine 600, 960 and 1000: what other jobs take comes on top.
    assert 500 < latency.p90 < latency.p99 <= latency.max
    assert latency.p99 > 900
    assert latency.p50 < latency.p90 / 2
    # All 64 connections were taken after 64 / 200 s: the rest waited its turn, and its clock ran.
    assert done.late > 100
    assert done.longest_wait_ms > 500

    with stalling(after=200, seconds=1.0) as server:
        naive = quantiles(closed_loop(server.url, 500, 200))
    assert naive.max > 990
    assert naive.p99 < naive.max / 4, "a closed loop meets the stall once in 500 requests"


def test_the_stall_shows_in_the_report_even_on_one_connection() -> None:
    with stalling(after=20, seconds=0.5) as server:
        done = send(server, 100, 1.0, connections=1)
    assert (done.answered, server.connections) == (100, 1)
    assert done.latency_ms.p90 > 300
    assert done.service_ms.p90 < done.latency_ms.p90 / 2, "from the moment of sending, one connection is a closed loop"


def test_what_is_not_answered_in_time_is_counted_and_keeps_its_place_in_the_latencies() -> None:
    async def answer(number: int, _body: bytes) -> bytes:
        if 10 <= number < 20:
            await asyncio.sleep(5)
        return ANSWER

    with answering(answer) as server:
        done = send(server, 100, 1.0, timeout_s=0.4)
    assert (done.sent, done.answered) == (100, 90)
    assert done.errors == {"timed out after 0.4 s": 10}
    assert not done.clean
    assert 400 <= done.latency_ms.p99 < 5000, "given up, not waited for"
    assert done.latency_ms.p50 < done.latency_ms.p99 / 2


def test_what_found_no_connection_until_it_was_given_up_was_never_sent() -> None:
    async def answer(_number: int, _body: bytes) -> bytes:
        await asyncio.sleep(5)
        return ANSWER

    with answering(answer) as server:
        done = send(server, 1000, 0.01, timeout_s=0.3, connections=2)
    assert (done.due, done.answered) == (10, 0)
    assert sum(done.errors.values()) == 10
    assert done.errors["timed out after 0.3 s, never sent"] == 10 - done.sent > 0
    assert 300 <= done.latency_ms.max < 800


def test_refusals_are_counted_by_kind_and_do_not_flatter() -> None:
    async def answer(number: int, _body: bytes) -> bytes:
        await asyncio.sleep(0.05 if number % 2 else 0)
        return ANSWER if number % 2 else reply({"error": "busy"}, "503 Service Unavailable")

    with answering(answer) as server:
        done = send(server, 100, 1.0)
    assert done.answered == 50
    assert done.errors == {"status 503": 50}
    assert done.said == {"status 503": '{"error": "busy"}'}
    assert done.latency_ms.p50 > 45, "a quick refusal is no latency"
    assert 'errors     50 status 503: {"error": "busy"}' in done.lines()


def test_events_that_failed_in_an_answer_are_counted() -> None:
    async def answer(_number: int, body: bytes) -> bytes:
        await asyncio.sleep(0)
        asked = json.loads(body)["events"]
        return reply(
            {"predictions": [{"id": one["id"], **({"error": "x"} if one["inputs"]["x"] == 3 else {})} for one in asked]}
        )

    with answering(answer) as server:
        done = inject(find_target(server.url), at_rate(events(25), 50, size=10))
    assert (done.due, done.answered, done.events, done.failed_events) == (3, 3, 25, 1)
    assert not done.clean


def test_a_connection_that_breaks_is_replaced() -> None:
    async def answer(number: int, _body: bytes) -> bytes:
        await asyncio.sleep(0)
        return b"" if number % 10 == 5 else ANSWER

    with answering(answer) as server:
        done = send(server, 200, 0.5, connections=4)
    assert done.answered == 90
    assert done.errors == {"connection closed": 10}
    assert server.connections >= 10


def test_an_answer_that_closes_its_connection_is_an_answer() -> None:
    async def answer(_number: int, _body: bytes) -> bytes:
        await asyncio.sleep(0)
        return reply({"prediction": 1}, "200 OK", "Connection: close")

    with answering(answer) as server:
        done = send(server, 100, 0.5, connections=2)
    assert (done.answered, done.errors) == (50, {})


def test_what_is_no_http_is_said() -> None:
    async def answer(_number: int, _body: bytes) -> bytes:
        await asyncio.sleep(0)
        return b"SSH-2.0-OpenSSH\r\n"

    with answering(answer) as server:
        done = send(server, 50, 0.2)
    assert done.answered == 0
    assert sum(done.errors.values()) == 10
    assert all(kind.startswith("no HTTP answer") for kind in done.errors)


def test_a_server_that_goes_away_fails_what_is_due_then() -> None:
    gone = threading.Event()

    async def answer(number: int, _body: bytes) -> bytes:
        await asyncio.sleep(0)
        if number == 20:
            gone.set()
        return ANSWER

    with answering(answer) as server:
        target, plan = find_target(server.url), at_rate(events(), 100, seconds=1)
        done: list[Injected] = []
        sending = threading.Thread(target=lambda: done.append(inject(target, plan, connections=4)))
        sending.start()
        assert gone.wait(30)
    sending.join()
    assert 20 <= done[0].answered < 60
    assert done[0].answered + sum(done[0].errors.values()) == 100
    assert "no connection" in done[0].errors


def test_nobody_there_is_said_before_anything_is_sent() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NobodyThereError, match="start the endpoint with passerelle serve"):
            inject(find_target(url), at_rate(events(), 10))


def test_ctrl_c_ends_with_the_report_so_far() -> None:
    async def answer(number: int, _body: bytes) -> bytes:
        await asyncio.sleep(60 if number >= 30 else 0)
        return ANSWER

    with answering(answer) as server:
        timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        before = signal.getsignal(signal.SIGINT)
        start = time.monotonic()
        done = send(server, 40, 60.0)
        timer.join()
    assert 2 <= time.monotonic() - start < 30, "a second for what was on its way, of the minute that it would take"
    assert signal.getsignal(signal.SIGINT) is before
    assert done.cut_short
    assert done.answered == 30
    assert done.due == 2400
    assert done.errors == {"not waited for: ended by hand": done.sent - 30}
    assert done.latency_ms.max > 100, "what waited in vain is not left out"
    assert "ended by hand" in done.lines()[1]


def test_the_token_goes_with_every_request_and_into_no_report() -> None:
    with answering(at_once) as server:
        done = send(server, 50, 0.2, token="psr_secret")  # noqa: S106  (a test's)
    assert all("Authorization: Bearer psr_secret\r\n" in head for head in server.heads)
    assert "psr_secret" not in repr(done) + "".join(done.lines())


def test_progress_ends_at_the_end() -> None:
    seen: list[Progress] = []
    with answering(at_once) as server:
        send(server, 50, 1.2, on_progress=seen.append)
    assert len(seen) >= 3
    assert (seen[-1].due, seen[-1].sent, seen[-1].answered, seen[-1].waiting) == (60, 60, 60, 0)


def test_a_warp_of_nothing_ends_at_once() -> None:
    with answering(at_once) as server:
        done = inject(find_target(server.url), at_warp([], 10))
    assert (done.due, done.answered, done.asked_per_s, done.latency_ms.max) == (0, 0, None, None)


def test_an_injector_that_is_held_up_itself_says_so() -> None:
    with answering(at_once) as server:
        done = send(server, 200, 1.0, on_progress=lambda _: time.sleep(0.1))
    assert done.answered == 200
    assert done.lag_ms.p99 > 50
    assert done.doubts[0].startswith("1 % of the requests left")
    assert done.lines()[-1].startswith("Do not believe these figures: 1 % of the requests left ")


def test_a_connection_that_was_closed_while_nobody_needed_it_costs_nothing_but_its_making() -> None:
    async def answer(_number: int, _body: bytes) -> bytes:
        await asyncio.sleep(0)
        return reply({"prediction": 1}, "200 OK", "Connection: close")

    with answering(answer) as server:
        done = send(server, 4, 1.5, connections=1)
    assert (done.answered, done.errors, done.late) == (6, {}, 0)
    assert server.connections >= 6
