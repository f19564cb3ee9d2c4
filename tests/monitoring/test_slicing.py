"""Slices: a mature day's loss by the values of an input field, for classes and numbers; none where none is named."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from watched import DAY, FEBRUARY, live, make_project

from passerelle.bundle.profile import Categorical, Hidden, Numeric
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask
from passerelle.monitoring.measuring import measure
from passerelle.monitoring.parts import BINS, binned, named, quarters, sliced
from passerelle.monitoring.slicing import read_slices
from passerelle.monitoring.watching import watch
from passerelle.monitoring.windows import read_windows
from passerelle.project.settings import load_project
from passerelle.state.database import open_state

TEMP = Numeric(edges=(0.0, 10.0, 20.0, 30.0), counts=(0, 25, 50, 25, 0), missing=0)


def test_a_mature_day_keeps_its_loss_and_cost_by_the_fields_that_are_named(tmp_path: Path) -> None:
    more = '[costs]\naction = 1.0\nmissed = 4.0\n[monitoring]\nslices = ["origin", "temp", "gone"]\n'
    project = make_project(tmp_path, more)
    live(project, FEBRUARY, [0.0, 0.0], events=120)
    watch(project, "production", now=FEBRUARY + 4 * DAY)
    value = read_windows(open_state(project.state), "production", "performance")[0].value
    assert set(value["slices"]) == {"origin", "temp"}  # a field that the champion does not take has none
    assert set(value["slices"]["origin"]) == {"EWR", "JFK", "LGA"}
    assert len(set(value["slices"]["temp"]) - {"missing"}) == 4
    # By the rows themselves, in another way.
    sql = """SELECT count(*), avg((output[1] - late) ** 2), avg(CASE WHEN output[1] > 0.25 THEN 1.0 ELSE 4.0 * late END)
    FROM (SELECT p.*, (o.value = 'true')::INT AS late FROM all_predictions p JOIN all_outcomes o USING (id)
    WHERE event_at < ? AND inputs LIKE '%"JFK"%')"""
    rows, loss, paid = ask(ledger_folder(project.state, "production"), sql, [FEBRUARY + DAY]).rows[0]
    found = value["slices"]["origin"]["JFK"]
    assert (found["rows"], found["loss"], found["cost"]) == (rows, pytest.approx(loss), pytest.approx(float(paid)))
    for parts in value["slices"].values():  # every row is in one slice
        assert sum(one["rows"] for one in parts.values()) == value["rows"] == 120
        assert sum(one["rows"] * one["loss"] for one in parts.values()) / 120 == pytest.approx(value["loss"])
        assert sum(one["rows"] * one["cost"] for one in parts.values()) / 120 == pytest.approx(value["cost"])


def test_where_none_is_named_none_is_kept(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0, 0.0], events=30)
    watch(project, "production", now=FEBRUARY + 4 * DAY + timedelta(hours=1))
    value = read_windows(open_state(project.state), "production", "performance")[0].value
    assert (value["slices"], value["cost"]) == ({}, None)
    assert sum(one["rows"] for one in value["bins"]) == 30


def test_what_the_reference_hides_has_no_slices_whatever_the_settings_say_by_now(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    live(project, FEBRUARY, [0.0], events=5)
    folder = ledger_folder(project.state, "production")
    from watched import SCHEMA

    hidden = {"origin": Hidden(present=9, missing=0), "temp": TEMP}
    assert set(read_slices(folder, FEBRUARY, ["origin", "temp"], reference=hidden, schema=SCHEMA)) == {"temp"}


def test_numbers_are_sliced_too(tmp_path: Path) -> None:
    (tmp_path / "passerelle.toml").write_text(
        '[project]\nname = "power"\n[task]\nkind = "regression"\ntarget = "mw"\nkey = ["site"]\n', encoding="utf-8"
    )
    rows = pa.table(
        {
            "id": ["a", "b", "c"],
            "role": ["live"] * 3,
            "status": ["scored"] * 3,
            "truth": ["3.0", "5.0", "8.0"],
            "version": [1] * 3,
            "output": pa.array([[3.0], [4.0], [5.0]], pa.list_(pa.float64())),
        }
    )
    names = dict(zip("abc", named(["4", "5.5", "30"], TEMP), strict=True))
    found, _ = measure(rows, load_project(tmp_path / "passerelle.toml"), (), {"wind": names})
    kept = {name: (one.rows, one.loss, one.cost) for name, one in found.slices["wind"].items()}
    assert kept == {"below 10": (2, 0.5, None), "20 and above": (1, 9.0, None)}


def test_values_by_name_are_the_most_frequent_of_the_reference() -> None:
    field = Categorical(values={f"v{number:02}": 100 - number for number in range(30)}, other=0, missing=0)
    assert named(["v00", "v19", "v20", "new", None], field) == ["v00", "v19", "others", "others", "missing"]


def test_quarters_that_are_close_together_keep_names_of_their_own() -> None:
    field = Numeric(edges=(1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3, 1e6 + 4), counts=(0, 5, 5, 5, 5, 0), missing=0)
    assert quarters(field) == [1e6 + 1, 1e6 + 2, 1e6 + 3]
    assert len(set(named(["1000000", "1000001", "1000002", "1000003"], field))) == 4
    same = Numeric(edges=(5.0,), counts=(0, 80), missing=0)
    assert named(["5", "4", None], same) == ["5 and above", "below 5", "missing"]


def test_parts_hold_every_row() -> None:
    random = np.random.default_rng(2)
    scores, happened = random.random(500), random.random(500) < 0.3
    bins = binned(scores, happened)
    assert (sum(one.rows for one in bins), sum(one.positives for one in bins)) == (500, int(happened.sum()))
    assert [int(one.score * BINS) for one in bins] == list(range(BINS))
    assert sliced([], np.array([]), lambda _: None) == {}
