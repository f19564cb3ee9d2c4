"""One database, made once by whoever comes first, refused when it is newer or damaged."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from state_writing import write_many

from passerelle.errors import StateError
from passerelle.state import runs, tables
from passerelle.state.database import open_state, writing
from passerelle.state.timeline import Event, events, record

NOW = datetime(2013, 1, 31, 12, tzinfo=UTC)


@pytest.mark.usefixtures("sqlite")
def test_open_state_makes_the_database_in_write_ahead_mode(tmp_path: Path) -> None:
    open_state(tmp_path / "state")
    with sqlite3.connect(tmp_path / "state" / "state.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone() == ("2",)
    connection.close()


def test_foreign_keys_are_enforced(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    orphan = tables.files.insert().values(delivery="none", table="flights", sha256="0", name="x.csv")
    with pytest.raises(sa.exc.IntegrityError), writing(engine) as connection:
        connection.execute(orphan)


def test_opening_again_keeps_what_is_there(tmp_path: Path) -> None:
    runs.begin(open_state(tmp_path), "k", at=NOW)
    assert runs.get(open_state(tmp_path), "k") is not None


@pytest.mark.usefixtures("sqlite")
def test_a_newer_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    open_state(tmp_path)
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("UPDATE meta SET value = '7' WHERE name = 'format'")
    connection.close()
    with pytest.raises(StateError, match=r"made by a newer Passerelle \(its format is 7; this one knows 2\): upgrade"):
        open_state(tmp_path)


@pytest.mark.usefixtures("sqlite")
def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StateError, match=r"state\.db cannot be used as a database: file is not a database"):
        open_state(tmp_path)
    assert (tmp_path / "state.db").read_bytes().startswith(b"not a database")


def test_a_transaction_that_raises_leaves_nothing(tmp_path: Path) -> None:
    engine = open_state(tmp_path)

    def interrupted() -> None:
        with writing(engine) as connection:
            record(connection, Event(at=NOW, kind="run", subject="a", sentence="began"))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert events(engine) == []


def test_two_processes_open_and_write_at_once_without_losing_anything(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, name)) for name in ("a", "b", "c")]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert [one.exitcode for one in writers] == [0, 0, 0]
    engine = open_state(tmp_path)
    assert len(events(engine)) == 75
    run = runs.get(engine, "shared")
    assert run is not None
    assert run.attempt == 75  # each read the one before it: no update was lost


def test_killed_in_a_transaction_leaves_the_database_whole(tmp_path: Path) -> None:
    open_state(tmp_path)
    script = f"""
import os, signal
from pathlib import Path
from passerelle.state.database import open_state, writing
from passerelle.state import tables
with writing(open_state(Path({str(tmp_path)!r}))) as connection:
    connection.execute(tables.landed.insert().values(table="flights", version=1))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    engine = open_state(tmp_path)
    with writing(engine) as connection:  # the lock died with its holder
        assert connection.execute(sa.select(tables.landed)).all() == []


def test_moments_are_kept_in_utc_to_the_microsecond_and_naive_ones_refused(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    moment = datetime.fromisoformat("2013-01-31T12:00:00.000001-05:00")
    assert runs.begin(engine, "k", at=moment).started_at == moment
    found = runs.get(engine, "k")
    assert found is not None
    assert found.started_at.isoformat() == "2013-01-31T17:00:00.000001+00:00"
    with pytest.raises(sa.exc.StatementError, match="has no offset from UTC"):
        runs.begin(engine, "other", at=moment.replace(tzinfo=None))
