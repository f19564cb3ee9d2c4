"""Measured: how the endpoint answered between two ticks, kept line by line, so that a cut tour forgets nothing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from passerelle.decoding import prepared
from passerelle.loop.replay import Replayed
from passerelle.tour.figures import Service

FILE = "measured.jsonl"
#: Ids of events that had to be sent again, of this attempt and of earlier ones that were cut.
REPEATED = "repeated.txt"
#: How far the tour is, after its last tick.
PROGRESS = "progress.json"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the tour is: all that came before this tick is done."""

    ticked: datetime
    #: Of all attempts up to then: wall time, the most memory, how often the tour and the endpoint were begun again.
    seconds: float
    memory_mib: int
    cuts: int
    endpoint_restarts: int


def read_progress(out: Path) -> Progress | None:
    """How far an earlier attempt came; None if none came to a tick."""
    path = out / PROGRESS
    return msgspec.json.decode(path.read_bytes(), type=prepared(Progress)) if path.exists() else None


def keep_progress(out: Path, progress: Progress) -> None:
    """Keep it, whole or not at all."""
    draft = out / f".{PROGRESS}"
    draft.write_bytes(msgspec.json.encode(progress))
    draft.replace(out / PROGRESS)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch between two ticks."""

    at: datetime
    events: int
    seconds: float
    errors: int
    #: Of whole requests.
    latencies_ms: tuple[float, ...]


def note(out: Path, at: datetime, replayed: Replayed) -> None:
    """Keep what a stretch measured; nothing if no event was asked in it."""
    if replayed.events:
        line = Measured(
            at=at,
            events=replayed.events,
            seconds=replayed.seconds,
            errors=replayed.errors,
            latencies_ms=tuple(round(value, 2) for value in replayed.latencies_ms),
        )
        with (out / FILE).open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")


def summed(out: Path) -> Service:
    """All stretches together. A last line that was cut is left out: its events were answered, not timed."""
    stretches = []
    if (out / FILE).exists():
        whole = [line for line in (out / FILE).read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        stretches = [msgspec.json.decode(line, type=prepared(Measured)) for line in whole]
    latencies = np.array([value for one in stretches for value in one.latencies_ms] or [0.0])
    seconds = sum(one.seconds for one in stretches)
    return Service(
        rate=sum(one.events for one in stretches) / seconds if seconds else 0.0,
        p50_ms=float(np.quantile(latencies, 0.5)),
        p99_ms=float(np.quantile(latencies, 0.99)),
        errors=sum(one.errors for one in stretches),
    )


def note_repeat(out: Path, ids: list[str]) -> None:
    """Note ids before they are sent again: a second record of theirs is a repeat, not a fault."""
    with (out / REPEATED).open("a", encoding="utf-8") as file:
        file.writelines(f"{id_}\n" for id_ in ids)


def repeated_ids(out: Path) -> set[str]:
    """The ids that were sent again."""
    return set((out / REPEATED).read_text(encoding="utf-8").splitlines()) if (out / REPEATED).exists() else set()
