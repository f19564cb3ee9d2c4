"""Replay: recorded events go to a real endpoint in the order of their time, and the truth follows at its own time.

Lock-step: the events of an hour are asked before any truth that became known in that hour or later is told; no event is
asked after its own truth. A request that is not answered is sent again with the same ids: the first record wins.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from passerelle.errors import ServingError

EVENTS_PER_REQUEST = 50
OUTCOMES_PER_REQUEST = 500
GIVE_UP_AFTER_S = 60.0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One event to ask: when, under which id, with which inputs (as JSON)."""

    at: datetime
    id: str
    inputs: dict[str, Any]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One truth to tell: when it became known, about which prediction."""

    known_at: datetime
    id: str
    value: str | float | bool


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay did and how the endpoint answered. Latencies are of whole requests, in milliseconds."""

    events: int
    outcomes: int
    requests: int
    #: Requests that had to be sent again.
    repeats: int
    #: Events that got an error instead of a prediction.
    errors: int
    seconds: float
    latencies_ms: tuple[float, ...]


def steps(events: Sequence[Asked], outcomes: Sequence[Told]) -> Iterator[list[Asked] | list[Told]]:
    """The requests of a replay, in order: up to 50 events of one hour each, up to 500 truths each.

    >>> from datetime import UTC
    >>> noon = datetime(2013, 2, 1, 12, tzinfo=UTC)
    >>> event, truth = Asked(at=noon, id="a", inputs={}), Told(known_at=noon + timedelta(hours=3), id="a", value=True)
    >>> [type(step[0]).__name__ for step in steps([event], [truth])]
    ['Asked', 'Told']
    """
    waiting = sorted(outcomes, key=lambda told: told.known_at)
    told = 0
    ordered = sorted(events, key=lambda asked: asked.at)
    first = 0
    while first < len(ordered):
        hour = ordered[first].at.replace(minute=0, second=0, microsecond=0)
        last = first
        while last < len(ordered) and ordered[last].at < hour + timedelta(hours=1):
            last += 1
        due = told
        while due < len(waiting) and waiting[due].known_at <= ordered[first].at:
            due += 1
        yield from _parts(waiting[told:due], OUTCOMES_PER_REQUEST)
        yield from _parts(ordered[first:last], EVENTS_PER_REQUEST)
        told, first = due, last
    yield from _parts(waiting[told:], OUTCOMES_PER_REQUEST)


def replay(
    url: str,
    events: Sequence[Asked],
    outcomes: Sequence[Told],
    *,
    on_repeat: Callable[[list[str]], None] = lambda _: None,
    is_alive: Callable[[], bool] = lambda: True,
) -> Replayed:
    """Send all of it, over one kept-alive connection. ``on_repeat`` hears the ids of a request before it goes again.

    Raises ServingError if the endpoint stays silent for a minute, or at once when it ``is_alive`` no more.
    """
    with contextlib.closing(_Sender(url, on_repeat, is_alive)) as sender:
        return _replay(sender, events, outcomes)


def _replay(sender: _Sender, events: Sequence[Asked], outcomes: Sequence[Told]) -> Replayed:
    sent = {"events": 0, "outcomes": 0}
    errors = 0
    latencies = []
    started = time.perf_counter()
    for step in steps(events, outcomes):
        if isinstance(step[0], Asked):
            body = {"events": [{"id": one.id, "at": one.at, "inputs": one.inputs} for one in step]}
            before = time.perf_counter()
            answer = sender.post("/predict", body)
            latencies.append((time.perf_counter() - before) * 1000)
            errors += sum("error" in one for one in answer["predictions"])
            sent["events"] += len(step)
        else:
            sender.post("/outcomes", {"outcomes": step})
            sent["outcomes"] += len(step)
    return Replayed(
        events=sent["events"],
        outcomes=sent["outcomes"],
        requests=len(latencies),
        repeats=sender.repeats,
        errors=errors,
        seconds=time.perf_counter() - started,
        latencies_ms=tuple(latencies),
    )


def _parts(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for first in range(0, len(items), size):
        yield list(items[first : first + size])


class _Sender:
    """One connection that is made again when it breaks."""

    def __init__(self, url: str, on_repeat: Callable[[list[str]], None], is_alive: Callable[[], bool]) -> None:
        self._on_repeat = on_repeat
        self._is_alive = is_alive
        self.address = url.removeprefix("http://").rstrip("/")
        self.connection = http.client.HTTPConnection(self.address, timeout=30)
        self.repeats = 0

    def close(self) -> None:
        """Give the connection back."""
        self.connection.close()

    def post(self, path: str, value: dict[str, Any]) -> Any:
        """The decoded answer; sent again until it is one."""
        body = msgspec.json.encode(value)
        until = time.monotonic() + GIVE_UP_AFTER_S
        while True:
            try:
                self.connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = self.connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
            else:
                if answer.status == http.client.OK or b'"predictions"' in data:
                    return msgspec.json.decode(data)
                problem = f"{answer.status} {data[:300].decode(errors='replace')}"
                if answer.status < http.client.INTERNAL_SERVER_ERROR:
                    raise ServingError(f"{path} was refused: {problem}")
            if not self._is_alive():
                raise ServingError(f"the endpoint at {self.address} has ended: {problem}")
            if time.monotonic() > until:
                raise ServingError(f"{self.address}{path} has not answered for {GIVE_UP_AFTER_S:g} s: {problem}")
            self.repeats += 1
            self._on_repeat([one["id"] for one in value.get("events", ())])
            self.connection.close()
            time.sleep(0.1)
