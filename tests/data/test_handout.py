"""What a run is given: rows with the outcome as it was known, the holdout apart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from passerelle.data.contract import load_contract
from passerelle.data.handout import write_handout
from passerelle.data.landing import ingest
from passerelle.data.layout import HANDOUT, HANDOUT_FILE, Handout, table_file
from passerelle.data.table import snapshot
from passerelle.errors import DataError, SettingsError
from passerelle.project.settings import Project
from passerelle.schema import Columns, count, decode_columns

from .conftest import NOW, of_day, outcomes_of, write_csv

DAILY = """
[project]
name = "sales"
[task]
kind = "regression"
target = "amount"
key = ["day"]
time = "day"
holdout_days = 2
[data]
main = "shop"
"""

KEYED = """
[project]
name = "credit"
[task]
kind = "multiclass"
target = "grade"
key = ["client", "loan"]
holdout_share = 0.5
[data]
main = "loans"
"""


def _deliver(project: Project, name: str, text: str) -> None:
    (project.root / name).write_text(text)
    (delivery,) = ingest(project, [project.root / name], now=NOW)
    assert delivery.status == "accepted", delivery.problems


def _columns(folder: Path, name: str) -> Columns:
    return decode_columns((folder / HANDOUT / name).read_bytes())


def _held(folder: Path) -> Path:
    return folder / "holdouts" / "a-run.msgpack"


def _lists(columns: Columns) -> dict[str, list[Any]]:
    return {
        name: [str(one) if array.dtype.kind == "M" else one for one in array.tolist()]
        if array.dtype.kind != "M"
        else [str(one) for one in array]
        for name, array in columns.items()
    }


@pytest.fixture
def shop(make_project: Callable[[str], Project]) -> Project:
    """Six days in a shop; amounts arrive a day later, day 3's is corrected, day 6's has not come."""
    project = make_project(DAILY)
    days = "\n".join(f"2013-01-0{day},{day * 10},{'' if day == 2 else 'x'}" for day in (6, 2, 1, 5, 4, 3))
    _deliver(project, "shop-1.csv", f"day,visitors,note\n{days}\n")
    rows = "\n".join(f"2013-01-0{day},{day}.5,2013-01-0{day + 1}T00:00:00Z" for day in (1, 2, 3, 4, 5))
    _deliver(project, "outcomes-1.csv", f"day,amount,known_at\n{rows}\n2013-01-03,33,2013-01-05T00:00:00Z\n")
    return project


def test_the_first_outcomes_may_say_the_day_when_they_became_known(
    make_project: Callable[[str], Project], tmp_path: Path
) -> None:
    project = make_project(DAILY)
    _deliver(project, "shop-1.csv", "day,visitors\n2013-01-01,10\n2013-01-02,20\n2013-01-03,30\n2013-01-04,40\n")
    _deliver(project, "outcomes-1.csv", "day,amount,known_at\n2013-01-01,1.5,2013-01-02\n2013-01-02,2.5,2013-01-03\n")
    _deliver(
        project, "outcomes-2.csv", "day,amount,known_at\n2013-01-03,3.5,2013-01-04T08:00:00Z\n2013-01-04,4,2013-01-05\n"
    )
    contract = load_contract(project).tables["outcomes"]
    assert contract.schema.column("known_at").kind == "timestamp"
    handout = write_handout(
        project,
        snapshot(project),
        now=datetime(2013, 1, 4, 9, tzinfo=UTC),
        folder=tmp_path / "run",
        holdout=_held(tmp_path),
    )
    assert handout.notes[-1] == "1 row without an outcome yet left out"


def test_rows_get_the_latest_outcome_known_by_now_and_the_last_days_are_held_out(shop: Project, tmp_path: Path) -> None:
    handout = write_handout(
        shop, snapshot(shop), now=datetime(2013, 1, 31, tzinfo=UTC), folder=tmp_path / "run", holdout=_held(tmp_path)
    )
    assert _lists(_columns(tmp_path / "run", "shop.msgpack")) == {
        "day": ["2013-01-01", "2013-01-02", "2013-01-03"],
        "visitors": [10, 20, 30],
        "note": ["x", None, "x"],
        "amount": [1.5, 2.5, 33.0],
    }
    held = _lists(decode_columns(_held(tmp_path).read_bytes()))
    assert (held["day"], held["amount"]) == (["2013-01-04", "2013-01-05"], [4.5, 5.5])
    assert handout.notes == ("2 rows from 2013-01-04T00:00:00Z held out", "1 row without an outcome yet left out")
    assert msgspec.json.decode((tmp_path / "run" / HANDOUT / HANDOUT_FILE).read_bytes(), type=Handout) == handout
    assert list(handout.tables) == ["shop"]  # the outcomes hold the truth of the holdout
    assert [(one.name, one.kind, one.nullable) for one in handout.tables["shop"].columns] == [
        ("day", "date", False),
        ("visitors", "integer", False),
        ("note", "string", True),
        ("amount", "number", False),
    ]
    assert sorted(one.name for one in (tmp_path / "run" / HANDOUT).iterdir()) == [
        HANDOUT_FILE,
        table_file("shop"),
    ]


def test_the_outcome_is_the_one_in_force_at_that_moment(shop: Project, tmp_path: Path) -> None:
    before = datetime(2013, 1, 5, tzinfo=UTC) - timedelta(microseconds=1)
    handout = write_handout(shop, snapshot(shop), now=before, folder=tmp_path, holdout=_held(tmp_path))
    assert _lists(decode_columns(_held(tmp_path).read_bytes()))["amount"] == [2.5, 3.5]
    assert handout.notes[1] == "3 rows without an outcome yet left out"
    write_handout(
        shop, snapshot(shop), now=before + timedelta(microseconds=1), folder=tmp_path, holdout=_held(tmp_path)
    )
    assert _lists(decode_columns(_held(tmp_path).read_bytes()))["amount"] == [33.0, 4.5]


def test_quick_outcomes_of_the_last_hours_are_not_learnt_from(shop: Project, tmp_path: Path) -> None:
    """A refusal is known at once, a success after the horizon: the newest rows would all be refusals."""
    _deliver(shop, "shop-2.csv", "day,visitors,note\n2013-01-08,80,x\n2013-01-09,90,x\n")
    quick = "2013-01-08,0.5,2013-01-08T01:00:00Z\n2013-01-09,0.6,2013-01-09T01:00:00Z\n"
    _deliver(shop, "outcomes-2.csv", f"day,amount,known_at\n{quick}")
    mature = datetime(2013, 1, 9, tzinfo=UTC)  # of the 8th: its midnight and the horizon's 24 h

    def days(now: datetime, project: Project = shop) -> tuple[list[Any], str]:
        handout = write_handout(project, snapshot(project), now=now, folder=tmp_path, holdout=_held(tmp_path))
        held = _lists(decode_columns(_held(tmp_path).read_bytes()))
        return [*_lists(_columns(tmp_path, "shop.msgpack"))["day"], *held["day"]], handout.notes[-1]

    before, note = days(mature - timedelta(microseconds=1))
    assert before == [f"2013-01-0{day}" for day in (1, 2, 3, 4, 5)]
    assert note == "1 row whose outcome is not mature yet (horizon 24 h) left out"
    after, note = days(mature + timedelta(hours=1))
    assert after == [f"2013-01-0{day}" for day in (1, 2, 3, 4, 5, 8)]
    assert note == "1 row whose outcome is not mature yet (horizon 24 h) left out"
    longer = msgspec.structs.replace(shop.task, horizon_hours=97.5)
    few, note = days(mature + timedelta(hours=1), msgspec.structs.replace(shop, task=longer))
    assert few == [f"2013-01-0{day}" for day in (1, 2, 3, 4)]
    assert note == "3 rows whose outcome is not mature yet (horizon 97.5 h) left out"
    eternal = msgspec.structs.replace(shop.task, horizon_hours=1000)
    with pytest.raises(
        DataError, match="no outcome is mature at 2013-01-09T01:00:00Z: 7 are known, each of an event less"
    ):
        days(mature + timedelta(hours=1), msgspec.structs.replace(shop, task=eternal))


def test_a_snapshot_stays_what_it_was(shop: Project, tmp_path: Path) -> None:
    old = snapshot(shop)
    _deliver(shop, "shop-2.csv", "day,visitors,note\n2013-01-07,70,x\n")
    _deliver(shop, "outcomes-2.csv", "day,amount,known_at\n2013-01-07,7.5,2013-01-08T00:00:00Z\n")
    now = datetime(2013, 1, 31, tzinfo=UTC)
    write_handout(shop, old, now=now, folder=tmp_path / "old", holdout=_held(tmp_path))
    assert _lists(decode_columns(_held(tmp_path).read_bytes()))["day"] == ["2013-01-04", "2013-01-05"]
    handout = write_handout(shop, snapshot(shop), now=now, folder=tmp_path / "new", holdout=_held(tmp_path))
    assert _lists(decode_columns(_held(tmp_path).read_bytes()))["day"] == ["2013-01-07"]
    assert handout.snapshot == {"outcomes": 1, "shop": 1}


def test_a_repeated_write_is_the_same_to_the_byte_and_replaces_what_was_there(shop: Project, tmp_path: Path) -> None:
    write_handout(shop, snapshot(shop), now=NOW, folder=tmp_path, holdout=_held(tmp_path))
    first = {one.name: one.read_bytes() for one in (tmp_path / HANDOUT).iterdir()}
    (tmp_path / HANDOUT / "stray").write_text("x")
    write_handout(shop, snapshot(shop), now=NOW, folder=tmp_path, holdout=_held(tmp_path))
    assert {one.name: one.read_bytes() for one in (tmp_path / HANDOUT).iterdir()} == first


def test_without_time_a_share_of_the_keys_is_held_out(make_project: Callable[[str], Project], tmp_path: Path) -> None:
    project = make_project(KEYED)
    rows = "\n".join(f"c{number % 7},{number},{number}.5" for number in range(40))
    _deliver(project, "loans.csv", f"client,loan,sum\n{rows}\n")
    grades = "\n".join(f"c{number % 7},{number},{'ABC'[number % 3]},2013-01-01T00:00:00Z" for number in range(40))
    _deliver(project, "outcomes.csv", f"client,loan,grade,known_at\n{grades}\nc9,99,A,2013-01-01T00:00:00Z\n")
    _deliver(project, "regions.csv", "client,region\nc0,north\nc1,\n")
    handout = write_handout(project, snapshot(project), now=NOW, folder=tmp_path, holdout=_held(tmp_path))
    train, held = _columns(tmp_path, "loans.msgpack"), decode_columns(_held(tmp_path).read_bytes())
    assert count(train) + count(held) == 40
    assert not {*train["loan"].tolist()} & {*held["loan"].tolist()}
    assert 10 < count(held) < 30
    assert handout.notes == (
        f"{count(held)} rows held out: those whose key falls into the share 0.5",
        "1 outcome of rows that were not delivered left out",
    )
    assert _lists(_columns(tmp_path, "regions.msgpack")) == {"client": ["c0", "c1"], "region": ["north", None]}
    assert handout.tables["regions"].column("region").nullable


def test_outcomes_may_stand_in_the_main_table_itself(make_project: Callable[[str], Project], tmp_path: Path) -> None:
    project = make_project(f'{DAILY}outcomes = "shop"\n')
    rows = "\n".join(f"2013-01-0{day},{day}0,{day}.5,2013-01-0{day + 1}T00:00:00Z" for day in (1, 2, 3, 4, 5))
    _deliver(project, "shop-1.csv", f"day,visitors,amount,known_at\n{rows}\n2013-01-02,20,22,2013-01-04T00:00:00Z\n")
    handout = write_handout(
        project, snapshot(project), now=datetime(2013, 1, 5, tzinfo=UTC), folder=tmp_path, holdout=_held(tmp_path)
    )
    assert _lists(_columns(tmp_path, "shop.msgpack")) == {
        "day": ["2013-01-01", "2013-01-02"],
        "visitors": [10, 20],
        "amount": [1.5, 22.0],
    }
    assert handout.tables["shop"].names == ("day", "visitors", "amount")
    assert handout.notes[1] == "1 row without an outcome yet left out"


def test_without_rows_outcomes_or_a_split_the_next_step_is_told(
    make_project: Callable[[str], Project], tmp_path: Path
) -> None:
    project = make_project(DAILY)

    def write(now: datetime = NOW) -> None:
        write_handout(project, snapshot(project), now=now, folder=tmp_path / "run", holdout=_held(tmp_path))

    with pytest.raises(
        DataError, match="no accepted rows of the main table 'shop' yet: passerelle ingest FILE --table"
    ):
        write()
    _deliver(project, "visits.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"'shop' yet \(the tables with rows are visits\): .* set main in \[data\]"):
        write()
    _deliver(project, "shop.csv", "day,visitors\n2013-01-01,1\n2013-01-02,2\n")
    with pytest.raises(DataError, match=r"no outcomes yet: passerelle ingest FILE --table outcomes \(the key, amount"):
        write()
    known = "2013-01-03T00:00:00Z"
    _deliver(project, "outcomes.csv", f"day,amount,known_at\n2013-01-01,1,{known}\n2013-01-02,2,{known}\n")
    with pytest.raises(DataError, match="no outcome of any accepted row is known at 2013-01-02T00:00:00Z: there are 2"):
        write(datetime(2013, 1, 2, tzinfo=UTC))
    with pytest.raises(DataError, match="holdout_days = 2 holds out all 2 rows with an outcome: they span 1 days"):
        write()
    assert not (tmp_path / "run").exists()
    keyed = KEYED.replace('"client", "loan"', '"day"').replace("loans", "shop").replace("grade", "amount")
    project = make_project(keyed.replace("0.5", "0.01"))
    with pytest.raises(DataError, match=r"holdout_share = 0\.01 splits 2 rows with an outcome into all and none"):
        write()


def test_a_key_of_two_kinds_is_refused(shop: Project, tmp_path: Path) -> None:
    contract = shop.root / "contract.toml"
    text = contract.read_text()
    place = text.index("[outcomes.columns.day]")
    contract.write_text(text[:place] + text[place:].replace('kind = "date"', 'kind = "string"', 1))
    with pytest.raises(SettingsError, match="'day' is date in 'shop' and string in 'outcomes'"):
        write_handout(shop, snapshot(shop), now=NOW, folder=tmp_path / "run", holdout=_held(tmp_path))


def test_the_flights_are_sorted_by_time_though_the_file_is_not(
    project: Project, flights: pa.Table, tmp_path: Path
) -> None:
    for day in (9, 1, 5):  # delivered out of order
        write_csv(of_day(flights, 1, day), project.root / "in" / f"flights-{day}.csv")
        write_csv(outcomes_of(flights, 1, day), project.root / "in" / f"outcomes-{day}.csv")
    ingest(project, sorted((project.root / "in").iterdir()), now=NOW)
    write_handout(project, snapshot(project), now=NOW, folder=tmp_path, holdout=_held(tmp_path))
    train, held = _columns(tmp_path, "flights.msgpack"), decode_columns(_held(tmp_path).read_bytes())
    assert (train["time_hour"][1:] >= train["time_hour"][:-1]).all()
    assert (count(train), count(held)) == (842, of_day(flights, 1, 5).num_rows + of_day(flights, 1, 9).num_rows)
    assert held["time_hour"].min() > train["time_hour"].max()
