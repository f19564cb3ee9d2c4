"""What a second process does, in a module that it can import."""

from datetime import UTC, datetime
from pathlib import Path

from passerelle.ledger.compaction import compact


def compact_often(folder: str) -> None:
    for _ in range(10):
        compact(Path(folder), now=datetime(2013, 2, 2, tzinfo=UTC))
