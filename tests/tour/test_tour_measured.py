"""What was measured survives a cut, and a line that was cut is left out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from passerelle.loop.replay import Replayed
from passerelle.tour.figures import Worth
from passerelle.tour.measured import (
    FILE,
    Progress,
    keep_progress,
    note,
    note_repeat,
    read_progress,
    repeated_ids,
    summed,
)

AT = datetime(2013, 2, 1, tzinfo=UTC)


def _replayed(events: int, *latencies: float) -> Replayed:
    return Replayed(
        events=events, outcomes=0, requests=len(latencies), repeats=0, errors=1, seconds=0.5, latencies_ms=latencies
    )


def test_stretches_are_summed_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    note(tmp_path, AT, _replayed(100, 5.0, 7.0))
    note(tmp_path, AT, _replayed(0))
    note(tmp_path, AT, _replayed(50, 9.0))
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"at": "2013-02-0')
    service = summed(tmp_path)
    assert (service.rate, service.p50_ms, service.errors) == (150.0, 7.0, 2)


def test_repeats_and_progress_are_kept(tmp_path: Path) -> None:
    assert (repeated_ids(tmp_path), read_progress(tmp_path)) == (set(), None)
    note_repeat(tmp_path, ["a", "b"])
    note_repeat(tmp_path, ["b"])
    assert repeated_ids(tmp_path) == {"a", "b"}
    progress = Progress(ticked=AT, seconds=3.5, memory_mib=9, cuts=1, endpoint_restarts=2)
    keep_progress(tmp_path, progress)
    assert read_progress(tmp_path) == progress


def test_the_share_of_the_gain_that_was_kept() -> None:
    assert Worth(since="m", events=1, frozen=0.53, loop=0.51, instant=0.50).kept == pytest.approx(2 / 3)
    assert Worth(since="m", events=1, frozen=0.5, loop=0.5, instant=0.5).kept is None
    assert Worth(since="m", events=1, frozen=0.5, loop=0.5).kept is None
