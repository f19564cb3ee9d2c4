"""The flights notebook's own functions on the whole year: each trap of these data, and what an event may know."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from passerelle.data.contract import load_contract
from passerelle.project.note import render
from passerelle.project.settings import FILE, load_project

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
NOTEBOOK = json.loads((FLIGHTS / "notebooks" / "flights.ipynb").read_text(encoding="utf-8"))
KNOWN_AFTERWARDS = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum"}
MONTH_OF_ROWS = slice(0, 27_004)

Tables = dict[str, pd.DataFrame]


def test_the_events_are_the_flights_whatever_the_order_of_the_files(
    notebook: dict[str, Any], year: Tables, events: pd.DataFrame
) -> None:
    assert events.index.equals(year["flights"].index)
    shuffled = {name: table.sample(frac=1, random_state=1) for name, table in year.items()}
    again = notebook["make_events"](shuffled)
    assert again.index.equals(shuffled["flights"].index)
    pd.testing.assert_frame_equal(again.sort_index(), events)


def test_the_hour_that_comes_twice_doubles_no_flight(year: Tables, events: pd.DataFrame) -> None:
    local = ["origin", "year", "month", "day", "hour"]
    assert year["weather"].duplicated(local).sum() == 3
    assert not year["weather"].duplicated(["origin", "time_hour"]).any()
    assert len(events) == 336_776


def test_two_observations_of_an_hour_are_refused_and_not_doubled(notebook: dict[str, Any], year: Tables) -> None:
    weather = pd.concat([year["weather"], year["weather"].head(1)])
    with pytest.raises(pd.errors.MergeError, match="right dataset"):
        notebook["make_events"]({**year, "weather": weather})


def test_flights_without_weather_are_kept(year: Tables, events: pd.DataFrame) -> None:
    missing = events["temp"].isna().groupby(year["flights"]["month"]).sum()
    assert missing.tolist() == [61, 25, 0, 3, 0, 0, 46, 105, 14, 35, 145, 790]


def test_the_weather_is_that_of_the_hour_which_began_three_hours_before(year: Tables, events: pd.DataFrame) -> None:
    flight = year["flights"].query("flight_id == '2013-02-08-B6-517-EWR'").index[0]
    assert year["flights"].loc[flight, "time_hour"] == "2013-02-08T13:00:00Z"
    seen = year["weather"].query("origin == 'EWR' and time_hour == '2013-02-08T10:00:00Z'").iloc[0]
    assert events.loc[flight, "temp"] == seen["temp"]
    assert events.loc[flight, "pressure"] == seen["pressure"]


def test_weather_after_the_question_changes_nothing(notebook: dict[str, Any], year: Tables) -> None:
    flights = year["flights"][year["flights"]["time_hour"] == "2013-02-08T14:00:00Z"]
    before = notebook["make_events"]({**year, "flights": flights})
    later = pd.to_datetime(year["weather"]["time_hour"]) > pd.Timestamp("2013-02-08T11:00:00Z")
    changed = year["weather"].assign(temp=year["weather"]["temp"].mask(later, -99))
    after = notebook["make_events"]({**year, "flights": flights, "weather": changed})
    assert len(flights) > 10
    pd.testing.assert_frame_equal(after, before)


def test_clock_times(notebook: dict[str, Any]) -> None:
    assert notebook["minutes"](pd.Series([517, 5, 2359, 2400, 100])).tolist() == [317, 5, 1439, 0, 60]


def test_durations_cross_zones_and_midnights(notebook: dict[str, Any], year: Tables, events: pd.DataFrame) -> None:
    block = notebook["make_features"](events)["block_minutes"]
    assert (block.min(), block.max(), block.isna().sum()) == (50, 700, 0)
    flights = year["flights"].assign(block=block)
    honolulu = flights.query("dest == 'HNL' and origin == 'JFK'").iloc[0]  # 9:00 to 15:30, five hours west
    assert (honolulu["sched_dep_time"], honolulu["sched_arr_time"], honolulu["block"]) == (900, 1530, 690)
    for airport in ("BQN", "PSE", "SJU", "STT"):  # not in the airports table, an hour ahead of New York in winter
        assert airport not in set(year["airports"]["faa"])
        assert flights.query("dest == @airport")["block"].between(180, 280).all()
    flown = flights.dropna(subset=["air_time"])
    assert (flown["block"] - flown["air_time"]).between(-60, 200).mean() > 0.9999


def test_the_calendar_is_new_yorks(notebook: dict[str, Any], year: Tables, events: pd.DataFrame) -> None:
    features = notebook["make_features"](events)
    days = pd.to_datetime(year["flights"][["year", "month", "day"]])
    assert (features["weekday"] == days.dt.day_of_week).all()
    assert (pd.to_datetime(year["flights"]["time_hour"]).dt.day != year["flights"]["day"]).sum() == 38_444


def test_an_impossible_wind_is_missing(notebook: dict[str, Any], events: pd.DataFrame) -> None:
    broken = events["wind_speed"] > 1000
    assert broken.sum() == 32
    features = notebook["make_features"](events[broken])
    assert features[["wind_speed", "wind_east", "wind_north"]].isna().all(axis=None)
    assert (features["weather_known"] == 1).all()


@pytest.fixture(scope="module")
def model(notebook: dict[str, Any], year: Tables, events: pd.DataFrame) -> Any:
    """The notebook's model, fitted on January."""
    truth = year["outcomes"].set_index("flight_id")["disrupted"].astype(int)
    truth = truth.reindex(year["flights"]["flight_id"].iloc[MONTH_OF_ROWS])
    return notebook["fit_model"](notebook["make_features"](events.iloc[MONTH_OF_ROWS]), truth.to_numpy(), 2013)


def test_unknown_places_carriers_and_weather_get_an_answer(
    notebook: dict[str, Any], events: pd.DataFrame, model: Any
) -> None:
    strange = events.iloc[[30_000]].assign(carrier="ZZ", dest="XXX", dest_tzone=None)
    strange.loc[:, notebook["WEATHER"]] = np.nan
    (answer,) = model.predict_proba(notebook["make_features"](strange))[:, 1]
    assert 0.01 < answer < 0.9
    later = events.iloc[300_000:]  # destinations that January did not have
    new = later[~later["dest"].isin(events["dest"].iloc[MONTH_OF_ROWS])]
    assert len(new) > 0
    assert np.isfinite(model.predict_proba(notebook["make_features"](new))).all()


def test_an_answer_does_not_depend_on_the_batch(notebook: dict[str, Any], events: pd.DataFrame, model: Any) -> None:
    def answers(rows: pd.DataFrame) -> pd.Series:
        said = model.predict_proba(notebook["make_features"](rows))[:, 1]
        return pd.Series(said, index=rows.index)

    rows = events.iloc[27_004:51_955].sample(140, random_state=3)
    together = answers(rows)
    alone = pd.concat([answers(rows.iloc[[place]]) for place in range(40)])
    sevens = pd.concat([answers(rows.iloc[place : place + 7]) for place in range(0, 140, 7)])
    assert (alone - together.head(40)).abs().max() <= 1e-12
    assert (sevens - together).abs().max() <= 1e-12


def test_events_and_features_read_the_allowed_columns_only(
    notebook: dict[str, Any], rolling_origin: ModuleType, year: Tables, events: pd.DataFrame
) -> None:
    allowed = rolling_origin.ALLOWED_COLUMNS
    assert not KNOWN_AFTERWARDS & {column for columns in allowed.values() for column in columns}
    features = notebook["make_features"](events)
    without = {table: year[table][list(columns)] for table, columns in allowed.items()}
    pd.testing.assert_frame_equal(notebook["make_features"](notebook["make_events"](without)), features)
    garbage = year["flights"].assign(**dict.fromkeys(KNOWN_AFTERWARDS, 7))
    pd.testing.assert_frame_equal(notebook["make_events"]({**year, "flights": garbage}), events)
    assert not KNOWN_AFTERWARDS & {*events.columns, *features.columns}
    for table, columns in allowed.items():
        for column in columns:  # nothing on the list is idle
            with pytest.raises(KeyError, match=column):
                notebook["make_events"]({**without, table: without[table].drop(columns=column)})


def test_the_notebook_is_committed_clean_and_makes_the_two_calls() -> None:
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    tags = [tag for cell in code for tag in cell["metadata"].get("tags", ())]
    assert tags.count("parameters") == 1
    assert tags.count("features") == 4
    source = "\n".join("".join(cell["source"]) for cell in code)
    assert source.count("passerelle.training_data()") == 1
    assert source.count("passerelle.submit(") == 1


def test_notebook_and_settings_agree_on_the_costs() -> None:
    (cell,) = [cell for cell in NOTEBOOK["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    values: dict[str, Any] = {}
    exec("".join(cell["source"]), values)  # noqa: S102  (the example's own parameters)
    settings = tomllib.loads((FLIGHTS / FILE).read_text())
    assert (values["action_cost"], values["missed_cost"]) == (settings["costs"]["action"], settings["costs"]["missed"])
    assert values["full"] is False


def test_the_settings_and_the_contract_are_read() -> None:
    project = load_project(FLIGHTS / FILE)
    assert (project.task.target, project.task.key, project.task.time) == ("disrupted", ("flight_id",), "time_hour")
    tables = load_contract(project).tables
    assert sorted(tables) == ["airports", "flights", "outcomes", "weather"]
    assert tables["weather"].key == ("origin", "time_hour")
    assert tables["weather"].schema.column("wind_speed").maximum is None


@pytest.mark.parametrize(("language", "file"), [("en", "cadrage.md"), ("fr", "cadrage.fr.md")])
def test_the_scoping_note_is_filled_in_and_quotes_the_settings(language: str, file: str, tmp_path: Path) -> None:
    settings = (FLIGHTS / FILE).read_text().replace('language = "en"', f'language = "{language}"')
    (tmp_path / FILE).write_text(settings)
    text = (FLIGHTS / file).read_text()
    (tmp_path / "cadrage.md").write_text(text)
    project = load_project(tmp_path / FILE)
    page = render(project, reached={}, figures={"auc": 0.6722}, now=datetime(2026, 12, 1, tzinfo=UTC))
    assert "[to answer]" not in text
    assert "[à compléter]" not in text
    placeholders = {"task.lead_hours", "task.horizon_hours", "costs.action", "costs.missed", "costs.threshold"}
    assert all(f"{{{{ {name} }}}}" in text for name in {*placeholders, "milestones", "acceptance", "gate.margin"})
    assert (">36<" in page, "Ranks the flights at risk first" in page) == (True, True)


def test_a_quick_rolling_origin(rolling_origin: ModuleType) -> None:
    found = rolling_origin.rolling_origin([2, 3]).set_index(["month", "model"])
    rates, prior = "rates by hour and carrier", "prior: the past rate"
    assert found.loc[(2, prior), "log loss"] == pytest.approx(0.5859, abs=5e-5)
    assert found.loc[(3, rates), "AUC"] == pytest.approx(0.6441, abs=5e-5)
    for month, auc, loss in [(2, 0.63, 0.57), (3, 0.72, 0.50)]:
        model = found.loc[(month, "model")]
        assert auc < model["AUC"] < 0.85, "above 0.85 is a leak"
        assert model["log loss"] < loss
        assert model["log loss"] < found.loc[(month, rates), "log loss"] - 0.005
