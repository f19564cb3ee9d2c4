"""Events of parts of the main table are those of the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from trips_project import WEATHER, hand_out, trips, weather

from passerelle.errors import SubmissionError
from passerelle.notebook import events as room
from passerelle.notebook.events import check_events, make_events
from passerelle.notebook.submission import HANDOUT, HANDOUT_FILE, Handout
from passerelle.schema import take

Check = Callable[..., str]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Check a function, by the columns that it adds and the temperature."""
    hand_out(tmp_path, "binary")
    handout = msgspec.json.decode((tmp_path / HANDOUT / HANDOUT_FILE).read_bytes(), type=Handout)
    tables = {"trips": take(trips("binary"), slice(0, 420)), "weather": weather()}

    def run(events: Any, *names: str) -> str:
        return check_events(events, handout, tables, make_events(events, handout, tables), ["temp", *names])

    return run


def joined(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return tables["trips"].merge(tables["weather"], how="left", on=["origin", "hour"])


def test_a_join_is_the_same_whatever_else_is_joined(check: Check) -> None:
    assert WEATHER.column("wind").nullable  # LGA has no weather: a row alone has a column of missing values
    assert check(joined, "wind") == "the same from 11 parts of 'trips': half of it shuffled, rows alone and in sevens"


def relative(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    main = tables["trips"]
    main["rel"] = main["distance"] / main["distance"].mean()
    main["nth"] = main.groupby("origin").cumcount()
    main["far"] = main["distance"] > 1500
    return main


def before(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    main = tables["trips"]
    main["before"] = main["temp"].shift()
    return main


def filled(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    main = tables["trips"]
    main["temp"] = main["temp"].fillna(main["temp"].median())
    return main


def one_hot(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([tables["trips"], pd.get_dummies(tables["trips"]["origin"])], axis=1)


def longest(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    main = tables["trips"]
    return main[main["distance"] > main["distance"].quantile(0.1)]


@pytest.mark.parametrize(
    ("events", "names", "said"),
    [
        (relative, ("far", "rel", "nth"), r"rel, nth of events depend on the other rows of 'trips' \(rel is "),
        (
            before,
            ("before",),
            "before of events depends on the other rows of 'trips' .* shuffled, without the other half",
        ),
        (filled, (), "temp of events depends on the other rows"),
        (
            one_hot,
            ("EWR",),
            r"EWR of events depends on the other rows .*\(EWR is not there alone\): an event comes alone",
        ),
        (longest, (), "rows for .* and .* for the same together with others"),
    ],
)
def test_what_depends_on_the_other_rows_is_refused_by_name(
    check: Check, events: Any, names: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SubmissionError, match=said):
        check(events, *names)


def test_a_column_that_is_not_read_may_be_what_it_likes(check: Check) -> None:
    assert check(relative, "far").startswith("the same from 11 parts")


def test_one_that_fails_on_few_rows_is_told_how_many(check: Check) -> None:
    def fails(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
        assert len(tables["trips"]) > 1
        return tables["trips"]

    with pytest.raises(SubmissionError, match=r"events fails: AssertionError.* It was given rows of 'trips' alone"):
        check(fails)


def test_a_slow_join_is_tried_three_times(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BUDGET_S", -1.0)
    assert check(joined, "wind").startswith("the same from 3 parts")
    with pytest.raises(SubmissionError, match="rel of events depends"):
        check(relative, "rel")
