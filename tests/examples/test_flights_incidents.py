"""incidents.py and tour.toml: what goes wrong on the way through the flights' year."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from passerelle.data.landing import ingest
from passerelle.project.settings import FILE, load_project
from passerelle.tour.script import load_script

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
NOW = datetime(2013, 4, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def written(incidents: ModuleType, year_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("project") / "incidents"
    incidents.write_incidents(year_folder, folder)
    return folder


def _cells(path: Path) -> dict[str, str]:
    return {cell["id"]: "".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]}


def test_the_tour_finds_all_that_its_script_names(written: Path) -> None:
    script = load_script(FLIGHTS)
    assert script.value is not None
    assert script.value.script is not None
    assert all((FLIGHTS / name).is_file() for name in (*script.prepare, script.value.script))
    named = [path for one in script.incidents for path in (one.deliver, one.notebook) if path]
    assert len(named) == 4
    assert all((written.parent / path).is_file() for path in named)
    assert [one.settings for one in script.of("2013-07")] == [{"trial": {"mode": "split"}}]
    assert [one.force_gate for one in script.of("2013-11")] == [True]


@pytest.mark.parametrize(
    ("month", "bad", "problems"),
    [
        pytest.param(
            3,
            "weather-2013-03-celsius.csv",
            [
                "column 'temp': has a mean of 4.378, below 20 (mean_at_least): is it in another unit?",
            ],
            id="celsius",
        ),
        pytest.param(
            8,
            "flights-2013-08-renamed.csv",
            [
                "column 'sched_dep_time': is missing; was it renamed to 'crs_dep_time'?",
                "column 'crs_dep_time': is not in the contract; did you mean 'sched_dep_time'?",
            ],
            id="renamed",
        ),
    ],
)
def test_a_bad_delivery_is_put_aside_and_the_right_one_accepted_after_it(
    *, month: int, bad: str, problems: list[str], written: Path, year_folder: Path, tmp_path: Path
) -> None:
    for name in (FILE, "contract.toml"):
        shutil.copy(FLIGHTS / name, tmp_path / name)
    project = load_project(tmp_path / FILE)
    right = sorted(year_folder.glob(f"*-2013-{month:02}.csv"))
    first, *others = ingest(project, [written / bad, *right], now=NOW)
    assert (first.status, list(first.problems)) == ("quarantined", [f"{bad}, {problem}" for problem in problems])
    assert [one.status for one in others] == ["accepted"] * 3


def test_only_the_temperatures_are_converted(written: Path, year: dict[str, pd.DataFrame]) -> None:
    right = year["weather"].query("month == 3").reset_index(drop=True)
    bad = pd.read_csv(written / "weather-2013-03-celsius.csv")
    changed = ["temp", "dewp"]
    pd.testing.assert_frame_equal(bad.drop(columns=changed), right.drop(columns=changed))
    pd.testing.assert_frame_equal(bad[changed] * 1.8 + 32, right[changed], atol=0.01, rtol=0)


def test_the_leaking_notebook_takes_the_delay_that_nobody_knows_yet(
    written: Path, notebook: dict[str, Any], year: dict[str, pd.DataFrame]
) -> None:
    cells = _cells(written / "leaking.ipynb")
    names = dict(notebook)
    for cell in ("make-events", "make-features"):
        exec(cells[cell], names)  # noqa: S102  (the project's own notebook)
    tables = {**year, "flights": year["flights"].head(500)}
    leaking = names["make_features"](names["make_events"](tables))
    honest = notebook["make_features"](notebook["make_events"](tables))
    pd.testing.assert_frame_equal(leaking.drop(columns="dep_delay"), honest)
    assert leaking["dep_delay"].equals(tables["flights"]["dep_delay"])
    same = [name for name, text in _cells(FLIGHTS / "notebooks" / "flights.ipynb").items() if cells[name] == text]
    assert set(cells) - set(same) == {"make-events", "make-features"}


def test_the_degraded_model_is_worse_by_one_and_a_half_margins_and_answers_each_row_for_itself(
    written: Path, notebook: dict[str, Any], year: dict[str, pd.DataFrame]
) -> None:
    tables = {**year, "flights": year["flights"].query("month == 1")}
    X = notebook["make_features"](notebook["make_events"](tables))  # noqa: N806  (what everybody calls it)
    truth = year["outcomes"].set_index("flight_id")["disrupted"].reindex(tables["flights"]["flight_id"]).astype(int)
    truth.index = X.index
    asked = tables["flights"]["day"] >= 25
    probability = notebook["fit_model"](X[~asked], truth[~asked], 2013).predict_proba(X[asked])[:, 1]
    names = {**notebook, "X": X, "truth": truth, "asked": asked, "probability": probability, "seed": 2013}
    exec(_cells(written / "degraded.ipynb")["submit"].partition("passerelle.submit")[0], names)  # noqa: S102  (ours)

    def brier(p: Any) -> float:
        return float(((p - truth[asked]) ** 2).mean())

    blurred = names["blurred"](probability, X[asked], names["strength"])
    assert 1.045 <= brier(blurred) / brier(probability) < 1.047
    together = names["model"].predict_proba(X.head(40))
    alone = np.vstack([names["model"].predict_proba(X.iloc[[row]]) for row in range(40)])
    np.testing.assert_array_equal(together, alone)


def test_it_fails_where_the_notebook_does_not_hold_what_it_changes(incidents: ModuleType) -> None:
    text = (FLIGHTS / "notebooks" / "flights.ipynb").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="'submit' holds 0 times, and not once: model = fit"):
        incidents.changed(text.replace("model = fit_model", "fitted = fit_model"), incidents.DEGRADED)
    with pytest.raises(ValueError, match="no cell 'make-events'"):
        incidents.changed(text.replace('"id": "make-events"', '"id": "events"'), incidents.LEAKING)
    with pytest.raises(ValueError, match="no sched_dep_time"):
        incidents.renamed(pd.DataFrame({"crs_dep_time": [517]}))
