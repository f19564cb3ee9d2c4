"""The bad batches that the flights of 2013 suggest: each is put aside with its reason, and storms are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from passerelle.data.deliveries import Delivery
from passerelle.data.landing import ingest
from passerelle.data.table import read, snapshot
from passerelle.project.settings import Project

from .conftest import NOW, SCHEDULE, of_day, outcomes_of, write_csv

Deliver = Callable[[pa.Table, str], Delivery]


@pytest.fixture
def deliver(project: Project, flights: pa.Table) -> Deliver:
    """Deliver a table as CSV, after the last days of January have been accepted."""
    january = pa.concat_tables([of_day(flights, 1, 30), of_day(flights, 1, 31)])
    ingest(project, [write_csv(january, project.root / "flights-2013-01.csv")], now=NOW)

    def run(table: pa.Table, name: str) -> Delivery:
        before = snapshot(project)
        (delivery,) = ingest(project, [write_csv(table, project.root / name)], now=NOW)
        if delivery.status == "quarantined":
            assert snapshot(project) == before
        return delivery

    return run


def _edit(project: Project, old: str, new: str) -> None:
    path = project.root / "contract.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _with(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def _clock(table: pa.Table) -> list[str]:
    return [f"{value // 100:02}:{value % 100:02}" for value in table["sched_dep_time"].to_pylist()]


def _local_text(table: pa.Table) -> list[str]:
    return [text.replace("T", " ").replace("Z", " EST") for text in table["time_hour"].to_pylist()]


SPOILT: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "clock as HH:MM": (
        lambda table: _with(table, "sched_dep_time", _clock(table)),
        "column 'sched_dep_time': is not an integer (926 rows: row 1 '05:00', row 2 '05:25', row 3 '05:30', …)",
    ),
    "hours with a half": (
        lambda table: _with(table, "hour", [5.5, *table["hour"].to_pylist()[1:]]),
        "column 'hour': is not an integer (1 row: row 1 '5.5')",
    ),
    "a column renamed": (
        lambda table: table.rename_columns(["sched_dep" if n == "sched_dep_time" else n for n in table.column_names]),
        "column 'sched_dep_time': is missing; was it renamed to 'sched_dep'?",
    ),
    "a column left out": (
        lambda table: table.drop_columns(["distance"]),
        "column 'distance': is missing",
    ),
    "a column in capitals": (
        lambda table: table.rename_columns(["Carrier" if n == "carrier" else n for n in table.column_names]),
        "column 'carrier': is missing; was it renamed to 'Carrier'?",
    ),
    "another reader's extra column": (
        lambda table: table.append_column("rownames", pa.array(range(table.num_rows))),
        "column 'rownames': is not in the contract; if it comes to stay, add it to contract.toml with nullable = true",
    ),
    "a key that is null": (
        lambda table: _with(table, "carrier", [None, *table["carrier"].to_pylist()[1:]]),
        "column 'carrier': is missing, and may not be (1 row: row 1 null)",
    ),
    "moments of no format": (
        lambda table: _with(table, "time_hour", _local_text(table)),
        "column 'time_hour': is not a moment, like 2013-01-31T12:00:00Z (926 rows: row 1 '2013-02-01 10:00:00 EST'",
    ),
    "the day twice": (
        lambda table: pa.concat_tables([table, table]),
        "the key time_hour/carrier/flight/origin repeats a row of this batch (926 rows: row 927 2013-02-01T1",
    ),
    "no row": (lambda table: table.slice(0, 0), "holds no row."),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_day_is_put_aside_with_its_reason(deliver: Deliver, flights: pa.Table, name: str) -> None:
    spoil, reason = SPOILT[name]
    delivery = deliver(spoil(of_day(flights, 2, 1)), "flights-2013-02-01.csv")
    assert delivery.status == "quarantined"
    assert delivery.problems[0].removeprefix("flights-2013-02-01.csv").lstrip(":, ").startswith(reason)


def test_a_day_that_was_accepted_before_is_put_aside(deliver: Deliver, flights: pa.Table) -> None:
    delivery = deliver(of_day(flights, 1, 31).slice(3), "flights-2013-01-31.csv")
    assert "the key time_hour/carrier/flight/origin was accepted before (925 rows: row 1 " in delivery.problems[0]


def test_a_month_cut_in_utc_overlaps_the_one_cut_in_local_time(deliver: Deliver, flights: pa.Table) -> None:
    utc = flights.filter(pc.starts_with(flights["time_hour"], "2013-02")).select(list(SCHEDULE))
    delivery = deliver(utc, "flights-2013-02.csv")
    evening = pc.sum(pc.equal(utc["month"], 1)).as_py()
    assert evening == 139
    assert f"was accepted before ({evening} rows: row 1 2013-02-01T0" in delivery.problems[0]


EDITED = {
    "lower case": (
        '[flights.columns.carrier]\nkind = "string"',
        '[flights.columns.carrier]\nkind = "string"\nallowed = ["UA", "AA"]',
        lambda table: _with(table.slice(0, 1), "carrier", ["ua"]),
        "column 'carrier': is not one of 'UA', 'AA'; did you mean 'UA'? (1 row: row 1 'ua')",
    ),
    "an unknown origin": (
        '[flights.columns.origin]\nkind = "string"',
        '[flights.columns.origin]\nkind = "string"\nallowed = ["EWR", "JFK", "LGA"]',
        lambda table: _with(table.slice(0, 2), "origin", ["HPN", "LGA"]),
        "column 'origin': is not one of 'EWR', 'JFK', 'LGA' (1 row: row 1 'HPN')",
    ),
    "an impossible distance": (
        '[flights.columns.distance]\nkind = "integer"',
        '[flights.columns.distance]\nkind = "integer"\nmaximum = 5000',
        lambda table: _with(table.slice(0, 2), "distance", [5000, 5001]),
        "column 'distance': is above 5000, the largest possible value (1 row: row 2 5001)",
    ),
    "half a day": (
        "# rows_at_least = 1",
        "rows_at_least = 600",
        lambda table: table.slice(0, 463),
        "holds 463 rows, and a batch has at least 600 (rows_at_least)",
    ),
    "nearly all missing": (
        '[flights.columns.distance]\nkind = "integer"',
        '[flights.columns.distance]\nkind = "integer"\nnullable = true\nmissing_at_most = 0.2',
        lambda table: _with(table.slice(0, 4), "distance", [None, None, 5, 5]),
        "column 'distance': is missing in 50.0% of the rows, and may be in 20.0% at most (missing_at_most)",
    ),
    "kilometres": (
        '[flights.columns.distance]\nkind = "integer"',
        '[flights.columns.distance]\nkind = "integer"\nmaximum = 5000\nmean_at_most = 1200',
        lambda table: _with(table.slice(0, 2), "distance", [1609, 2000]),
        "column 'distance': has a mean of 1804, above 1200 (mean_at_most): is it in another unit?",
    ),
    "leagues": (
        '[flights.columns.distance]\nkind = "integer"',
        '[flights.columns.distance]\nkind = "integer"\nmean_at_least = 700',
        lambda table: _with(table.slice(0, 2), "distance", [333, 500]),
        "column 'distance': has a mean of 416.5, below 700 (mean_at_least): is it in another unit?",
    ),
}


@pytest.mark.parametrize("name", EDITED)
def test_what_the_edited_contract_forbids_is_put_aside(
    deliver: Deliver, flights: pa.Table, project: Project, name: str
) -> None:
    old, new, spoil, reason = EDITED[name]
    _edit(project, old, new)
    delivery = deliver(spoil(of_day(flights, 2, 1)), "flights-2013-02-01.csv")
    assert delivery.problems[0].removeprefix("flights-2013-02-01.csv").lstrip(":, ") == reason
    _edit(project, new, old)  # the user thinks again: the same file is judged by what stands there now
    (again,) = ingest(project, [project.root / "flights-2013-02-01.csv"], now=NOW)
    assert again.status == ("quarantined" if name == "nearly all missing" else "accepted")


def test_wind_of_1048_miles_an_hour_and_a_repeated_hour_need_a_line_each(project: Project) -> None:
    weather = pa.table({"origin": ["EWR", "EWR"], "hour": ["2013-01-01 05", "2013-01-01 06"], "wind": [10.4, 20.7]})
    ingest(project, [write_csv(weather, project.root / "weather-1.csv")], now=NOW)
    _edit(project, "# key = []  #", 'key = ["origin", "hour"]  #')
    _edit(project, "# minimum = 10.4  # the first delivery held 10.4 .. 20.7\n# maximum = 20.7", "maximum = 200")
    bad = pa.table({"origin": ["EWR"], "hour": ["2013-02-12 03"], "wind": [1048.36]})
    (delivery,) = ingest(project, [write_csv(bad, project.root / "weather-2.csv")], now=NOW)
    assert delivery.problems == (
        "weather-2.csv, column 'wind': is above 200, the largest possible value (1 row: row 1 1048.36)",
    )
    again = pa.table({"origin": ["EWR", "EWR"], "hour": ["2013-11-03 01"] * 2, "wind": [5.0, 6.0]})
    (delivery,) = ingest(project, [write_csv(again, project.root / "weather-3.csv")], now=NOW)
    assert delivery.problems == (
        "weather-3.csv: the key origin/hour repeats a row of this batch (1 row: row 2 EWR/2013-11-03 01)",
    )


@pytest.mark.parametrize(("month", "day"), [(2, 8), (2, 9), (3, 8), (12, 31), (11, 3)])
def test_days_of_storm_or_clock_change_are_data_like_any_other(
    deliver: Deliver, flights: pa.Table, month: int, day: int
) -> None:
    assert deliver(of_day(flights, month, day), f"flights-2013-{month:02}-{day:02}.csv").status == "accepted"


def test_outcomes_not_known_yet_are_put_aside(project: Project, flights: pa.Table) -> None:
    day = outcomes_of(flights, 1, 1)
    blank = _with(day, "disrupted", pa.nulls(day.num_rows, pa.bool_()))
    (delivery,) = ingest(project, [write_csv(blank, project.root / "outcomes-1.csv")], now=NOW)
    assert delivery.problems[0].startswith("outcomes-1.csv, column 'disrupted': is missing, and may not be (842 rows")
    assert not (project.root / "contract.toml").exists()


def test_an_outcome_may_be_corrected_and_not_repeated(project: Project, flights: pa.Table) -> None:
    day = outcomes_of(flights, 1, 1).slice(0, 2)
    ingest(project, [write_csv(day, project.root / "outcomes-1.csv")], now=NOW)
    later = _with(day, "known_at", ["2013-01-05T00:00:00Z", *day["known_at"].to_pylist()[1:]])
    (delivery,) = ingest(project, [write_csv(later, project.root / "outcomes-2.csv")], now=NOW)
    what = "the key time_hour/carrier/flight/origin/known_at was accepted before"
    assert delivery.problems[0].startswith(f"outcomes-2.csv: {what} (1 row: row 2 ")
    (delivery,) = ingest(project, [write_csv(later.slice(0, 1), project.root / "outcomes-3.csv")], now=NOW)
    assert delivery.status == "accepted"
    assert read(project, "outcomes").num_rows == 3


def test_infinity_is_refused_and_nan_is_missing(project: Project) -> None:
    path = project.root / "weather-1.parquet"
    pq.write_table(pa.table({"temp": [1.5, float("nan")]}), path)
    assert ingest(project, [path], now=NOW)[0].status == "accepted"
    assert read(project, "weather")["temp"].to_pylist() == [1.5, None]
    pq.write_table(pa.table({"temp": [1.5, float("inf")]}), path)
    (delivery,) = ingest(project, [path], now=NOW)
    reason = "is not finite: leave it out if it is not known (1 row: row 2 inf)"
    assert delivery.problems == (f"weather-1.parquet, column 'temp': {reason}",)


def test_the_first_delivery_needs_the_columns_that_the_settings_name(project: Project, flights: pa.Table) -> None:
    first = of_day(flights, 1, 1).rename_columns(
        ["timehour" if name == "time_hour" else name for name in of_day(flights, 1, 1).column_names]
    )
    (delivery,) = ingest(project, [write_csv(first, project.root / "flights-1.csv")], now=NOW)
    reason = "table 'flights' has no column 'time_hour' (task.time; did you mean 'timehour'?)"
    assert delivery.problems[0].startswith(f"flights-1.csv: {reason}")
    leaky = of_day(flights, 1, 1).append_column("disrupted", pa.array([True] * 842))
    (delivery,) = ingest(project, [write_csv(leaky, project.root / "flights-1.csv")], now=NOW)
    assert "table 'flights' holds the target 'disrupted' itself" in delivery.problems[0]
    assert snapshot(project).tables == {}


def test_every_problem_is_told_and_at_most_twenty_rows_of_each(deliver: Deliver, flights: pa.Table) -> None:
    day = of_day(flights, 2, 1)
    day = _with(_with(day, "sched_dep_time", _clock(day)), "distance", ["far"] * 926)
    delivery = deliver(day, "flights-2013-02-01.csv")
    assert [one.split("'")[1] for one in delivery.problems] == ["sched_dep_time", "distance"]
    assert delivery.report is not None
    report = Path(delivery.report)
    assert report.read_text().count("&#39;far&#39;") == 20
