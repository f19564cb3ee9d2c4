"""value.py: what retraining is worth, computed without Passerelle."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from passerelle.data.handout import write_handout
from passerelle.data.landing import ingest
from passerelle.data.layout import HANDOUT
from passerelle.data.table import snapshot
from passerelle.project.settings import load_project
from passerelle.schema import decode_columns

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"


@pytest.fixture(scope="module")
def found(value: ModuleType) -> pd.DataFrame:
    """The answers of the first three deliveries."""
    answers: pd.DataFrame = value.probabilities(range(1, 4))
    return answers


def test_it_learns_from_the_rows_that_a_run_is_given(value: ModuleType, year_folder: Path, tmp_path: Path) -> None:
    project = msgspec.structs.replace(load_project(FLIGHTS / "passerelle.toml"), root=tmp_path)
    (tmp_path / "contract.toml").write_text((FLIGHTS / "contract.toml").read_text())
    ingest(project, [year_folder / "airports.csv", *year_folder.glob("*-2013-01.csv")], now=pd.Timestamp(0, tz="UTC"))
    _, flights = value.read_year(range(1, 3))
    now = flights.loc[flights["delivered"] == 2, "asked_at"].min()
    assert now.isoformat() == "2013-02-01T08:00:00+00:00"
    write_handout(project, snapshot(project), now=now.to_pydatetime(), folder=tmp_path / "run")
    given = decode_columns((tmp_path / "run" / HANDOUT / "flights.msgpack").read_bytes())["flight_id"]
    assert set(flights.loc[value.learnt_from(flights, 2), "flight_id"]) == set(given)
    assert len(given) == 19_686


def test_the_first_month_that_is_answered_is_answered_alike(found: pd.DataFrame) -> None:
    february, march = (found[found["month"] == month] for month in (2, 3))
    assert (len(february), len(march)) == (24_951, 28_834)
    np.testing.assert_array_equal(february["frozen"], february["instant"])
    assert (march["frozen"] != march["instant"]).mean() > 0.99


def test_the_figures_of_a_month(value: ModuleType, found: pd.DataFrame) -> None:
    figures = value.figures(found)
    assert (figures["since"], figures["events"], figures["frozen"]) == (5, 0, None)
    by_month = {month["month"]: month for month in figures["months"]}
    assert by_month[2]["frozen"] == pytest.approx(0.5653, abs=1e-4)
    assert by_month[3]["frozen"] == pytest.approx(0.5291, abs=1e-4)
    assert by_month[3]["instant"] == pytest.approx(0.4927, abs=1e-4)


COMPUTED = {"events": 1000, "frozen": 0.53, "instant": 0.50}
HELD = {"events": 1000, "frozen": 0.53 + 1e-7, "loop": 0.51}


@pytest.mark.parametrize(
    ("told", "problems"),
    [
        pytest.param(HELD, [], id="all is well"),
        pytest.param({**HELD, "frozen": 0.530002}, ["frozen is 0.530002000 in the tour"], id="another frozen"),
        pytest.param({**HELD, "loop": 0.511}, ["the loop kept 63.3% of the gain"], id="too little kept"),
        pytest.param({**HELD, "events": 999}, ["the tour counted 999 events"], id="other events"),
        pytest.param(None, ["the report has no value"], id="a short tour"),
    ],
)
def test_a_report_is_compared(value: ModuleType, told: dict[str, Any] | None, problems: list[str]) -> None:
    found = value.differences(COMPUTED, {"value": told})
    assert len(found) == len(problems)
    assert all(one.startswith(begin) for one, begin in zip(found, problems, strict=True)), found


def test_the_script_prints_its_figures_as_one_line_of_json(
    value: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["value.py", "--months", "2", "--json"])
    assert value.main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert [month["month"] for month in json.loads(line)["months"]] == [2]
