"""Events: what is sent. Rows as a caller of the endpoint would send them, gathered into requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import DataError
from passerelle.serving.events import Event


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request: its body, and how many events are in it."""

    events: int
    #: JSON, as /predict takes it.
    body: bytes


def is_events(path: Path) -> bool:
    """Does this file hold events as a caller sends them: a JSON object with ``inputs`` to a line?"""
    if path.suffix != ".jsonl":
        return False
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    try:
        row = msgspec.json.decode(first)
    except msgspec.DecodeError:
        return False
    return isinstance(row, dict) and "inputs" in row


def read_events(path: Path) -> list[Event]:
    """The events of a file of JSON lines: {"id": ..., "unit": ..., "at": ..., "inputs": {...}}, inputs alone needed.

    Raises DataError with the line that is none.
    """
    decoder = msgspec.json.Decoder(prepared(Event))
    events = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                events.append(decoder.decode(line))
            except msgspec.DecodeError as error:
                raise DataError(f"{path.name}, line {number} is no event: {error}.") from error
    return events


def in_order(events: Sequence[Event], *, size: int) -> tuple[list[Event], list[datetime]]:
    """Events by their time, and when each ``size`` of them are due: when the last has happened.

    Raises DataError if one has no time.
    """
    moments = [event.at for event in events if event.at is not None]
    if len(moments) < len(events):
        missing = next(number for number, event in enumerate(events, start=1) if event.at is None)
        raise DataError(f"event {missing} has no time to be replayed by: give each its 'at', or send at a --rate.")
    ordered = sorted(events, key=lambda event: event.at or moments[0])
    moments.sort()
    return ordered, [moments[min(first + size, len(moments)) - 1] for first in range(0, len(moments), size)]


def gather(events: Sequence[Event], *, size: int) -> Iterator[Request]:
    """Requests of ``size`` events each, without end: after the last event, the first again.

    From the second pass on events go without their ids, so that each is an event of its own to the ledger.

    >>> events = [Event(id="a", inputs={"x": 1}), Event(id="b", inputs={"x": 2})]
    >>> [request.body.decode() for request in islice(gather(events, size=1), 3)]
    ['{"id":"a","inputs":{"x":1}}', '{"id":"b","inputs":{"x":2}}', '{"inputs":{"x":1}}']
    """
    named = True
    while events:
        rows = iter(events)
        while part := [_as_sent(event, named=named) for event in islice(rows, size)]:
            body = msgspec.json.encode({"events": part} if size > 1 else part[0])
            yield Request(events=len(part), body=body)
        named = False


def _as_sent(event: Event, *, named: bool) -> dict[str, Any]:
    about = {"id": event.id if named else None, "unit": event.unit, "at": event.at, "inputs": event.inputs}
    return {name: value for name, value in about.items() if value is not None}
