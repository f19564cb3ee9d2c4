"""The example's contract: the year is accepted as it is; what goes wrong in nature is put aside, with the reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from passerelle.data.landing import ingest
from passerelle.project.settings import FILE, Project, load_project

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    for name in (FILE, "contract.toml"):
        shutil.copy(FLIGHTS / name, tmp_path / name)
    return load_project(tmp_path / FILE)


def test_the_year_is_accepted(project: Project, year_folder: Path) -> None:
    found = ingest(project, sorted(year_folder.iterdir()), now=NOW)
    assert [(one.status, one.problems) for one in found] == [("accepted", ())] * 37
    assert sum(one.rows.get("flights", 0) for one in found) == 336_776


def _hours_and_minutes(rows: pd.DataFrame) -> pd.DataFrame:
    clock = rows["sched_dep_time"].astype(int)
    return rows.assign(sched_dep_time=(clock // 100).astype(str) + ":" + (clock % 100).astype(str).str.zfill(2))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        pytest.param(_hours_and_minutes, "sched_dep_time", id="clock times written with a colon"),
        pytest.param(lambda rows: rows.assign(origin="HPN"), "origin", id="an airport that is not ours"),
        pytest.param(lambda rows: pd.concat([rows, rows.head(700)]), "flight_id", id="a day delivered twice"),
        pytest.param(lambda rows: rows.assign(arr_delay="NA"), "arr_delay", id="flights that have not landed yet"),
        pytest.param(lambda rows: rows.assign(tailnum="NA"), "tailnum", id="no tail numbers"),
        pytest.param(lambda rows: rows.rename(columns={"dest": "destination"}), "dest", id="a column renamed"),
        pytest.param(lambda rows: rows.head(120), "rows", id="a file that was cut"),
        pytest.param(lambda rows: rows.assign(distance="-1"), "distance", id="an impossible distance"),
    ],
)
def test_a_bad_month_is_quarantined_with_its_reason(
    damage: Callable[[pd.DataFrame], pd.DataFrame], named: str, project: Project, year_folder: Path, tmp_path: Path
) -> None:
    rows = pd.read_csv(year_folder / "flights-2013-09.csv", dtype=str, na_filter=False)
    bad = tmp_path / "flights-2013-09.csv"
    damage(rows).to_csv(bad, index=False)
    (found,) = ingest(project, [bad], now=NOW)
    assert found.status == "quarantined"
    assert any(named in problem for problem in found.problems), found.problems
    assert len(found.problems) <= 2
