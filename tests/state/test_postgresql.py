"""The state on a server: a schema for each project, locks that die with their holder, no password in any message."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from passerelle.errors import StateError
from passerelle.state import runs, tables
from passerelle.state.database import open_state, writing
from passerelle.state.lease import LeaseError, lease
from passerelle.state.postgresql import VARIABLE, schema_of

pytestmark = pytest.mark.usefixtures("postgresql")

NOW = datetime(2013, 1, 31, 12, tzinfo=UTC)
HOLD = """
import sys
from pathlib import Path
from passerelle.state.lease import lease
with lease(Path(sys.argv[1]), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


def project(root: Path, name: str) -> Path:
    """The state folder of a project; two clones of it share a name."""
    root.mkdir()
    (root / "passerelle.toml").write_text(f'[project]\nname = "{name}"\n')
    return root / ".passerelle"


def test_two_clones_of_a_project_share_its_schema_and_no_other_does(tmp_path: Path, server: str) -> None:
    one, two = project(tmp_path / "one", "parcels"), project(tmp_path / "two", "parcels")
    other = project(tmp_path / "other", "flights-2013")
    runs.begin(open_state(one), "k", at=NOW)
    assert [run.key for run in runs.all(open_state(two))] == ["k"]
    assert runs.all(open_state(other)) == []
    assert not (one / "state.db").exists()
    with psycopg.connect(server.replace("+psycopg", "")) as connection:
        query = "SELECT schemaname FROM pg_tables WHERE tablename = 'runs' ORDER BY 1"
        assert connection.execute(query).fetchall() == [("flights-2013",), ("parcels",)]


def test_text_sorts_as_in_sqlite(tmp_path: Path) -> None:
    engine = open_state(tmp_path)
    for key in ("b", "B", "a-b", "aa", "_"):
        runs.begin(engine, key, at=NOW)
    assert [run.key for run in runs.all(engine)] == ["B", "_", "a-b", "aa", "b"]


def test_a_lease_keeps_machines_apart_and_dies_with_its_holder(tmp_path: Path) -> None:
    one, two = project(tmp_path / "one", "parcels"), project(tmp_path / "two", "parcels")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(one)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LeaseError, match=rf"process {process.pid} on \S+ holds the lease 'train'"):  # noqa: SIM117
            with lease(two, "train"):
                pass
        with pytest.raises(LeaseError), lease(two, "train", wait_s=0.2):
            pass
        with lease(two, "ingest"), lease(project(tmp_path / "other", "other"), "train"):
            pass  # another purpose, another project
        process.kill()
        process.wait()
        with lease(two, "train", wait_s=5):
            pass


def test_a_lease_that_was_lost_is_told(tmp_path: Path, server: str) -> None:
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'passerelle % on %'"

    def work() -> None:
        with lease(tmp_path, "train"), psycopg.connect(server.replace("+psycopg", "")) as connection:
            connection.execute(end)

    with pytest.raises(StateError, match="held the lease 'train' was lost"):
        work()


def test_a_lease_that_was_lost_keeps_what_was_done_under_it_from_being_kept(tmp_path: Path, server: str) -> None:
    engine = open_state(tmp_path)

    def work() -> None:
        with lease(tmp_path, "train"), writing(engine) as connection:
            connection.execute(tables.landed.insert().values(table="flights", version=1))
            end_connections(server, "passerelle % on %")

    with pytest.raises(StateError, match="held the lease 'train' was lost"):
        work()
    with engine.connect() as reader:
        assert reader.execute(sa.select(tables.landed)).all() == []


def test_a_connection_that_is_lost_is_told_with_what_to_do(tmp_path: Path, server: str) -> None:
    engine = open_state(tmp_path)

    def work() -> None:
        with writing(engine) as connection:
            end_connections(server, "passerelle")
            connection.execute(tables.landed.insert().values(table="flights", version=1))

    with pytest.raises(StateError, match=r"the connection to PostgreSQL was lost .*run it again"):
        work()
    with engine.connect() as reader:
        assert reader.execute(sa.select(tables.landed)).all() == []


def end_connections(server: str, name: str) -> None:
    end = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name LIKE %s"
    with psycopg.connect(server.replace("+psycopg", "")) as connection:
        connection.execute(end, [name])


def test_a_writer_waits_for_the_one_before_it_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_state(tmp_path)
    monkeypatch.setattr("passerelle.state.database._BUSY_MS", 200)
    with writing(engine) as first:
        first.execute(tables.landed.insert().values(table="flights", version=1))
        with pytest.raises(StateError, match="another process writes to the state"), writing(engine):
            pass
        with engine.connect() as reader:
            assert reader.execute(sa.select(tables.landed)).all() == []
    with engine.connect() as reader:
        assert reader.execute(sa.select(tables.landed)).all() == [("flights", 1)]


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    with writing(open_state(tmp_path)) as connection:
        connection.execute(tables.meta.update().values(value="7"))
    with pytest.raises(StateError, match=r"made by a newer Passerelle \(its format is 7; this one knows 2\): upgrade"):
        open_state(tmp_path)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql+psycopg://a:hush@127.0.0.1:9/b", r"a:\*\*\*@127\.0\.0\.1:9/b cannot be used as the state"),
        ("mysql://a:hush@127.0.0.1/b", "names a mysql database"),
        ("hush", "is no address"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(StateError, match=said) as told:
        open_state(tmp_path)
    assert "hush" not in str(told.value)


def test_names_that_the_server_keeps_for_itself_are_refused(tmp_path: Path) -> None:
    for name in ("public", "pg_temp"):
        with pytest.raises(StateError, match=f"keeps the name '{name}' for itself"):
            schema_of(project(tmp_path / name, name))
    (tmp_path / "passerelle.toml").write_text("[project\n")
    with pytest.raises(StateError, match=r"does not say \[project\] name"):
        schema_of(tmp_path / ".passerelle")
