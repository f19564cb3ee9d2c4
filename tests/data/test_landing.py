"""Deliveries: once each, whole, and finished by the next one if the process dies half way."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from passerelle.data.landing import inbox, ingest, table_of
from passerelle.data.table import Snapshot, read, snapshot
from passerelle.errors import DataError
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.state.lease import LeaseError, lease
from passerelle.state.timeline import events

from .conftest import NOW, of_day, outcomes_of, write_csv


def test_a_delivery_lands_once_however_often_it_comes(project: Project, flights: pa.Table) -> None:
    path = write_csv(of_day(flights, 1, 1), project.root / "flights-2013-01-01.csv")
    (first,) = ingest(project, [path], now=NOW)
    assert (first.status, first.rows, first.repeated) == ("accepted", {"flights": 842}, False)
    assert first.sentence == "flights-2013-01-01.csv: 842 rows of flights."
    renamed = path.rename(path.with_name("flights-again.csv"))
    (second,) = ingest(project, [renamed], now=NOW + timedelta(days=1))
    assert (second.repeated, second.id, second.at) == (True, first.id, NOW)
    assert second.sentence == "flights-2013-01-01.csv was accepted on 2013-03-01 00:00 UTC already: nothing was done."
    assert read(project, "flights").num_rows == 842
    assert snapshot(project) == Snapshot(tables={"flights": 0})
    (event,) = events(open_state(project.state), kind="delivery")
    assert event.sentence == "Delivery accepted: flights-2013-01-01.csv: 842 rows of flights."
    assert not list((project.state / "landing").iterdir())


def test_the_types_of_csv_parquet_and_json_lines_are_those_of_the_contract(project: Project, flights: pa.Table) -> None:
    days = [of_day(flights, 1, day) for day in (1, 2, 3)]
    paths = [write_csv(days[0], project.root / "flights-1.csv"), project.root / "flights-2.parquet"]
    pq.write_table(days[1].set_column(3, "sched_dep_time", days[1]["sched_dep_time"].cast(pa.float64())), paths[1])
    paths.append(project.root / "flights-3.jsonl.gz")
    paths[2].write_bytes(gzip.compress("\n".join(map(json.dumps, days[2].to_pylist())).encode()))
    assert [one.status for one in ingest(project, paths, now=NOW)] == ["accepted"] * 3
    rows = read(project, "flights")
    assert rows.schema.field("time_hour").type == pa.timestamp("us", tz="UTC")
    assert rows.schema.field("sched_dep_time").type == pa.int64()
    expected = pa.concat_tables(days).drop_columns(["time_hour"])
    order = [(name, "ascending") for name in expected.column_names]
    assert rows.select(expected.column_names).sort_by(order).equals(expected.sort_by(order))


def test_the_order_of_columns_plays_no_part(project: Project, flights: pa.Table) -> None:
    first, second = of_day(flights, 1, 1), of_day(flights, 1, 2)
    ingest(project, [write_csv(first, project.root / "flights-1.csv")], now=NOW)
    path = write_csv(second.select(second.column_names[::-1]), project.root / "flights-2.csv")
    assert ingest(project, [path], now=NOW)[0].status == "accepted"
    assert read(project, "flights").column_names == first.column_names


def test_a_folder_is_one_batch_of_several_tables_accepted_or_put_aside_whole(
    project: Project, flights: pa.Table
) -> None:
    batch = project.root / "deliveries" / "2013-01-01"
    write_csv(of_day(flights, 1, 1), batch / "flights.csv")
    broken = write_csv(outcomes_of(flights, 1, 1).drop_columns(["known_at"]), batch / "outcomes.csv")
    (refused,) = ingest(project, inbox(project), now=NOW)
    assert refused.status == "quarantined"
    assert refused.problems[0].startswith("2013-01-01/outcomes.csv: table 'outcomes' has no column 'known_at'")
    assert snapshot(project).tables == {}
    assert not (project.root / "contract.toml").exists()
    write_csv(outcomes_of(flights, 1, 1), broken)
    (accepted,) = ingest(project, inbox(project), now=NOW)
    assert accepted.rows == {"flights": 842, "outcomes": 842}
    assert snapshot(project).tables == {"flights": 0, "outcomes": 0}
    assert inbox(project) == []


def test_of_a_folder_only_what_is_new_lands(project: Project, flights: pa.Table) -> None:
    batch = project.root / "batch"
    old = write_csv(of_day(flights, 1, 1), batch / "flights-1.csv")
    ingest(project, [old], now=NOW)
    write_csv(of_day(flights, 1, 2), batch / "flights-2.csv")
    shutil.copy(batch / "flights-2.csv", batch / "flights-2-copy.csv")
    (delivery,) = ingest(project, [batch], now=NOW)
    assert delivery.rows == {"flights": 943}
    assert read(project, "flights").num_rows == 842 + 943


def test_the_inbox_holds_what_was_not_delivered_yet(project: Project, flights: pa.Table) -> None:
    assert inbox(project) == []
    folder = project.root / "deliveries"
    second = write_csv(of_day(flights, 1, 2), folder / "flights-2.csv")
    first = write_csv(of_day(flights, 1, 1), folder / "flights-1.csv")
    (folder / ".hidden").write_text("x")
    (folder / "flights-3.csv").write_text("")
    assert inbox(project) == [first, second, folder / "flights-3.csv"]
    assert [one.status for one in ingest(project, inbox(project), now=NOW)] == ["accepted"] * 2 + ["quarantined"]
    assert inbox(project) == []  # the empty one was seen too
    write_csv(of_day(flights, 1, 3), folder / "flights-3.csv")
    assert inbox(project) == [folder / "flights-3.csv"]


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("flights.csv", "flights"),
        ("flights_2013.csv.gz", "flights"),
        ("Flights-2013-01.csv", "flights"),
        ("flights-weather-01.csv", "flights-weather"),
        ("flightsold-2013.csv", "flightsold"),
        ("weather/2013-01.csv", "weather"),
        ("airports_2013.csv", "airports"),
        ("unheard-of.csv", "unheard-of"),
    ],
)
def test_the_table_is_told_from_the_name(path: str, table: str) -> None:
    assert table_of(Path(path), known=("flights", "flights-weather", "weather")) == table


@pytest.mark.parametrize("path", ["2013-01.csv", "holdout.csv", "Été 1.csv"])
def test_a_name_that_says_no_table_is_refused_before_anything_is_done(project: Project, path: str) -> None:
    (project.root / path).write_text("a\n1\n")
    (project.root / "fine.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"cannot be told from its name.*say it with --table NAME"):
        ingest(project, [project.root / "fine.csv", project.root / path], now=NOW)
    assert snapshot(project).tables == {}
    assert ingest(project, [project.root / path], now=NOW, table="fine")[0].rows == {"fine": 1}


def test_a_path_that_is_not_there_is_refused(project: Project) -> None:
    with pytest.raises(DataError, match=r"none\.csv is not there"):
        ingest(project, [project.root / "none.csv"], now=NOW)
    (project.root / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no file"):
        ingest(project, [project.root / "empty"], now=NOW)


def test_two_cannot_ingest_at_once(project: Project) -> None:
    (project.root / "t.csv").write_text("a\n1\n")
    with lease(project.state, "ingest"), pytest.raises(LeaseError, match="holds the lease 'ingest'"):
        ingest(project, [project.root / "t.csv"], now=NOW)


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from passerelle.data import landing
from passerelle.project.settings import find_project

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(step, calls):
    def run(*arguments, **keywords):
        answer = step(*arguments, **keywords)
        calls.append(1)
        if len(calls) == int(sys.argv[3]):
            die()
        return answer
    return run

setattr(landing, sys.argv[2], then_die(getattr(landing, sys.argv[2]), []))
path = Path(sys.argv[1])
landing.ingest(find_project(path.parent), [path], now=datetime(2013, 3, 1, tzinfo=UTC))
"""


@pytest.mark.parametrize(
    ("step", "times"), [("_stage", 1), ("write_contract", 1), ("append", 1), ("append", 2), ("set_landed", 1)]
)
@pytest.mark.parametrize("same", [True, False])
def test_killed_anywhere_the_next_ingest_finishes_it_once(
    project: Project, flights: pa.Table, step: str, times: int, *, same: bool
) -> None:
    batch = project.root / "batch"
    write_csv(of_day(flights, 1, 1), batch / "flights.csv")
    write_csv(outcomes_of(flights, 1, 1), batch / "outcomes.csv")
    command = [sys.executable, "-c", KILLED, str(batch), step, str(times)]
    assert subprocess.run(command, check=False).returncode == -9
    assert snapshot(project).tables == {}  # nothing of a half landed batch is read
    other = write_csv(of_day(flights, 1, 2), project.root / "flights-2.csv")
    (delivery,) = ingest(project, [batch if same else other], now=NOW)
    assert delivery.status == "accepted"
    assert not delivery.repeated
    ingest(project, [batch, other], now=NOW)
    assert read(project, "flights").num_rows == 842 + 943
    assert read(project, "outcomes").num_rows == 842
    assert [event.details["status"] for event in events(open_state(project.state), kind="delivery")] == ["accepted"] * 2
    assert not list((project.state / "landing").iterdir())


def test_a_year_of_flights_lands_within_seconds(project: Project, flights: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "flights-2013.parquet"
    pq.write_table(flights.drop_columns(["dep_time"]), path)
    start = time.monotonic()
    (delivery,) = ingest(project, [path], now=NOW)
    assert delivery.rows == {"flights": 336_776}
    assert time.monotonic() - start < 60, "2 s on a quiet machine"
    pq.write_table(flights.drop_columns(["dep_time"]).slice(0, 30_000), path)
    start = time.monotonic()
    (again,) = ingest(project, [path], now=NOW)
    assert again.problems[0].startswith(
        "flights-2013.parquet: the key time_hour/carrier/flight/origin was accepted before (30,000 rows: row 1 2013-01-"
    )
    assert time.monotonic() - start < 60
