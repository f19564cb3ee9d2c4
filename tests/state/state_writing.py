"""What another process does, in a module that it can import."""

from datetime import UTC, datetime
from pathlib import Path

from passerelle.state import runs
from passerelle.state.database import open_state
from passerelle.state.timeline import Event, record

NOW = datetime(2013, 2, 1, tzinfo=UTC)


def write_many(folder: Path, name: str) -> None:
    engine = open_state(folder)
    for number in range(25):
        runs.begin(engine, "shared", at=NOW)
        record(engine, Event(at=NOW, kind="run", subject=name, sentence=f"{number}"))
