"""A run is found by its key before it is made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from passerelle.errors import StateError
from passerelle.state import runs
from passerelle.state.database import open_state

NOW = datetime(2013, 1, 31, 12, tzinfo=UTC)


def test_a_sealed_run_is_found_and_not_made_again(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    runs.begin(engine, "k", at=NOW)
    sealed = runs.finish(engine, "k", at=NOW + timedelta(minutes=3), status="sealed", details={"version": 4})
    assert runs.begin(engine, "k", at=NOW + timedelta(days=1)) == sealed
    assert runs.all(engine) == [sealed]
    assert (sealed.attempt, sealed.details, sealed.finished_at) == (1, {"version": 4}, NOW + timedelta(minutes=3))


@pytest.mark.parametrize("status", ["failed", "refused"])
def test_a_run_that_came_to_nothing_is_begun_again(tmp_path: Path, status: runs.Status) -> None:
    engine = open_state(tmp_path)
    runs.begin(engine, "k", at=NOW)
    runs.finish(engine, "k", at=NOW, status=status, details={"cell": 3})
    again = runs.begin(engine, "k", at=NOW + timedelta(hours=1))
    assert (again.status, again.attempt, again.finished_at, again.details) == ("running", 2, None, {})
    assert runs.get(engine, "k") == again


def test_finish_needs_a_run_that_is_open(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    with pytest.raises(StateError, match="run k was never begun: it cannot end as failed"):
        runs.finish(engine, "k", at=NOW, status="failed", details={})
    runs.begin(engine, "k", at=NOW)
    runs.finish(engine, "k", at=NOW, status="sealed", details={})
    with pytest.raises(StateError, match="run k is sealed already: it cannot end as failed"):
        runs.finish(engine, "k", at=NOW, status="failed", details={})


def test_all_answers_in_the_order_of_beginning(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    for hours, key in ((2, "b"), (1, "c"), (3, "a")):
        runs.begin(engine, key, at=NOW + timedelta(hours=hours))
    assert [run.key for run in runs.all(engine)] == ["c", "b", "a"]
    assert runs.get(engine, "d") is None
