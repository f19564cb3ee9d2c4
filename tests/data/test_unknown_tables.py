"""A name that says no table of the project: put aside, told, and found again once it is renamed or called new."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from passerelle.cli import main
from passerelle.data.contract import load_contract
from passerelle.data.landing import inbox, ingest
from passerelle.data.quarantine import quarantine_path
from passerelle.data.table import read, snapshot
from passerelle.monitoring.incidents import put_aside
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.state.timeline import events

from .conftest import NOW

LATER = NOW + timedelta(days=1)


def put(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def flight(number: int) -> tuple[str, str]:
    return ("time_hour,carrier,flight,origin", f"2013-01-01T{number:02}:00:00Z,UA,{number},EWR")


@pytest.fixture
def lived(project: Project) -> Project:
    """The project after a first delivery of the main table and of the weather, file by file, at one moment."""
    for path in (
        put(project.root / "first" / "flights-1.csv", *flight(1)),
        put(project.root / "first" / "weather-1.csv", "origin,temp", "EWR,3.5"),
    ):
        assert ingest(project, [path], now=NOW)[0].status == "accepted"
    return project


def told(project: Project) -> list[str]:
    return [event.sentence for event in events(open_state(project.state), kind="delivery")]


def test_the_first_deliveries_make_any_table_file_by_file(lived: Project) -> None:
    assert snapshot(lived).tables == {"flights": 0, "weather": 0}


def test_a_letter_out_of_place_makes_no_table(lived: Project) -> None:
    before = (lived.root / "contract.toml").read_text()
    path = put(lived.root / "deliveries" / "flihgts-2013-02.csv", *flight(2))
    (refused,) = ingest(lived, inbox(lived), now=LATER)
    assert refused.status == "quarantined"
    assert refused.problems[0] == (
        "flihgts-2013-02.csv: no table is called 'flihgts'; did you mean 'flights'? Then rename the file. "
        "If it is a new table, say so: passerelle ingest deliveries/flihgts-2013-02.csv --new-table"
    )
    assert snapshot(lived).tables == {"flights": 0, "weather": 0}
    assert (lived.root / "contract.toml").read_text() == before
    kept = quarantine_path(lived, refused.id) / "files" / path.name
    assert kept.read_text() == path.read_text()
    assert inbox(lived) == []  # told once
    assert told(lived)[-1].startswith(
        "Delivery quarantined: flihgts-2013-02.csv was put aside: flihgts-2013-02.csv: no"
    )
    with open_state(lived.state).connect() as connection:
        assert put_aside(connection).state == "firing"


def test_renamed_in_the_inbox_it_is_taken_and_nothing_waits_any_more(lived: Project) -> None:
    path = put(lived.root / "deliveries" / "flihgts-2013-02.csv", *flight(2))
    (refused,) = ingest(lived, inbox(lived), now=LATER)
    path.rename(path.with_name("flights-2013-02.csv"))
    (accepted,) = ingest(lived, inbox(lived), now=LATER)
    assert (accepted.status, accepted.rows) == ("accepted", {"flights": 1})
    assert read(lived, "flights").num_rows == 2
    assert inbox(lived) == []
    assert not quarantine_path(lived, refused.id).exists()
    with open_state(lived.state).connect() as connection:
        assert put_aside(connection).state == "quiet"
    assert len(told(lived)) == 4  # what happened stays told


def test_said_to_be_new_it_is_made_and_known_from_then_on(lived: Project) -> None:
    path = put(lived.root / "deliveries" / "stations-1.csv", "station,height", "A,3")
    (refused,) = ingest(lived, [path], now=LATER)
    assert refused.problems[0] == (
        "stations-1.csv: no table is called 'stations': the tables are flights, outcomes, weather. If it is one of "
        "them, rename the file. If it is a new table, say so: passerelle ingest deliveries/stations-1.csv --new-table"
    )
    (accepted,) = ingest(lived, [path], now=LATER, new_table=True)
    assert (accepted.status, accepted.rows) == ("accepted", {"stations": 1})
    again = put(lived.root / "deliveries" / "stations-2.csv", "station,height", "B,4")
    assert ingest(lived, [again], now=LATER + timedelta(days=1))[0].status == "accepted"
    with open_state(lived.state).connect() as connection:
        assert put_aside(connection).state == "quiet"


def test_a_table_that_is_named_is_judged_alike(lived: Project) -> None:
    path = put(lived.root / "a file.csv", *flight(2))
    (refused,) = ingest(lived, [path], now=LATER, table="fligths")
    assert refused.problems[0].endswith(
        "did you mean 'flights'? Then say that table with --table. If it is a new table, say so: passerelle ingest "
        "'a file.csv' --table fligths --new-table"
    )
    assert ingest(lived, [path], now=LATER, table="flights")[0].status == "accepted"


def test_a_folder_with_one_unknown_name_is_put_aside_whole(lived: Project) -> None:
    batch = lived.root / "deliveries" / "2013-02"
    put(batch / "flights.csv", *flight(2))
    wrong = put(batch / "wether.csv", "origin,temp", "EWR,4.5")
    (refused,) = ingest(lived, inbox(lived), now=LATER)
    assert refused.status == "quarantined"
    assert "no table is called 'wether'; did you mean 'weather'?" in refused.problems[0]
    assert refused.problems[0].endswith("passerelle ingest deliveries/2013-02 --new-table")
    assert read(lived, "flights").num_rows == 1
    wrong.rename(batch / "weather.csv")
    (accepted,) = ingest(lived, inbox(lived), now=LATER)
    assert accepted.rows == {"flights": 1, "weather": 1}
    assert inbox(lived) == []


def test_only_the_files_that_were_accepted_wait_no_more(lived: Project) -> None:
    batch = lived.root / "deliveries" / "2013-02"
    flights = put(batch / "flights.csv", *flight(2))
    put(batch / "wether.csv", "origin,temp", "EWR,4.5")
    (refused,) = ingest(lived, [batch], now=LATER)
    ingest(lived, [flights], now=LATER)
    assert (quarantine_path(lived, refused.id) / "files" / "wether.csv").exists()
    with open_state(lived.state).connect() as connection:
        assert put_aside(connection).details["deliveries"] == [refused.id]


def test_a_contract_written_beforehand_says_which_tables_there_are(lived: Project, tmp_path: Path) -> None:
    shutil.rmtree(lived.state)  # as a colleague clones it: the contract, and nothing accepted yet
    assert list(load_contract(lived).tables) == ["flights", "weather"]
    refused, first, second = ingest(
        lived,
        [
            put(tmp_path / "in" / "flihgts-2.csv", *flight(2)),
            put(tmp_path / "in" / "weather-2.csv", "origin,temp", "EWR,3.5"),
            put(tmp_path / "in" / "flights-2.csv", *flight(3)),
        ],
        now=NOW,
    )
    assert "no table is called 'flihgts'" in refused.problems[0]
    assert (first.status, second.status) == ("accepted", "accepted")


def test_outcomes_that_come_later_than_all_else_are_no_new_table(lived: Project) -> None:
    header = "time_hour,carrier,flight,origin,disrupted,known_at"
    path = put(lived.root / "outcomes-1.csv", header, "2013-01-01T01:00:00Z,UA,1,EWR,true,2013-01-02T00:00:00Z")
    assert ingest(lived, [path], now=LATER)[0].rows == {"outcomes": 1}


def test_a_table_whose_contract_was_deleted_is_still_one(lived: Project) -> None:
    contract = lived.root / "contract.toml"
    text = contract.read_text()
    contract.write_text(text[: text.index("[weather]")])
    path = put(lived.root / "weather-2.csv", "origin,temp", "EWR,4.5")
    assert ingest(lived, [path], now=LATER)[0].status == "accepted"
    assert "[weather]" in contract.read_text()


def test_the_command_puts_aside_with_code_3_and_makes_what_is_called_new(lived: Project) -> None:
    path = put(lived.root / "stations-1.csv", "station,height", "A,3")
    refused = CliRunner().invoke(main, ["-C", str(lived.root), "ingest", str(path)])
    assert refused.exit_code == 3
    assert "passerelle ingest stations-1.csv --new-table" in refused.output
    made = CliRunner().invoke(main, ["-C", str(lived.root), "ingest", str(path), "--new-table"])
    assert (made.exit_code, "1 rows of stations" in made.output) == (0, True)
