"""What is known of the places where segments are kept, noted by several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from passerelle.ledger.stored import Place, note, places

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def test_what_one_notes_is_not_lost_to_another_that_notes_at_the_same_time(tmp_path: Path) -> None:
    wanted = {f"s3://bucket/{number}": Place(gathered_at=NOW) for number in range(60)}
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda at: note(tmp_path, at, now=NOW), wanted))
    assert places(tmp_path) == wanted
