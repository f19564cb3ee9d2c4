from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from passerelle.errors import ScoringError
from passerelle.notebook.golden import UNSEEN, edge_rows, golden_rows
from passerelle.schema import Column, Columns, Schema, count

SCHEMA = Schema(
    columns=(
        Column(name="hour", kind="integer", minimum=0, maximum=23),
        Column(name="temp", kind="number", nullable=True),
        Column(name="origin", kind="string"),
        Column(name="carrier", kind="string", nullable=True, allowed=("AA", "UA")),
    )
)
ROWS = 1000


def columns() -> Columns:
    random = np.random.default_rng(0)
    return {
        "hour": random.integers(1, 22, ROWS),
        "temp": np.where(np.arange(ROWS) == 700, np.nan, np.linspace(-10.0, 30.0, ROWS)),
        "origin": random.choice(np.array(["EWR", "JFK"], dtype=object), ROWS),
        "carrier": random.choice(np.array(["AA", "UA"], dtype=object), ROWS),
    }


def test_golden_rows_hold_training_rows_and_edges() -> None:
    def answers(rows: Columns) -> Any:
        return rows["hour"].astype(np.float64).reshape(-1, 1)

    golden, edges = golden_rows(columns(), SCHEMA, answers)
    assert count(golden.inputs) == len(golden.outputs) <= 200 + edges
    assert edges == 2 + 3 + 2 + 3
    assert golden.inputs["hour"].min() == 0
    assert golden.inputs["hour"].max() == 23
    assert golden.inputs["temp"][~np.isnan(golden.inputs["temp"])].tolist().count(70.0) == 1
    assert np.isnan(golden.inputs["temp"]).sum() == 2  # the one training row, and the edge
    assert UNSEEN in golden.inputs["origin"]
    assert set(golden.inputs["carrier"]) == {"AA", "UA", None}
    np.testing.assert_array_equal(golden.outputs[:, 0], golden.inputs["hour"])
    assert count(SCHEMA.validate(SCHEMA.rows(golden.inputs))) == len(golden.outputs)


def test_edges_that_the_model_does_not_answer_are_left_out() -> None:
    def answers(rows: Columns) -> Any:
        if UNSEEN in rows["origin"] or "" in rows["origin"]:
            raise ScoringError
        return np.zeros((count(rows), 1))

    golden, edges = golden_rows(columns(), SCHEMA, answers)
    assert edges == 8
    assert set(golden.inputs["origin"]) == {"EWR", "JFK"}


def test_the_same_rows_are_taken_each_time() -> None:
    first, _ = golden_rows(columns(), SCHEMA, lambda rows: np.zeros((count(rows), 1)))
    second, _ = golden_rows(columns(), SCHEMA, lambda rows: np.zeros((count(rows), 1)))
    for name in SCHEMA.names:
        np.testing.assert_array_equal(first.inputs[name], second.inputs[name])


@pytest.mark.parametrize("rows", [1, 3])
def test_few_rows_are_all_taken(rows: int) -> None:
    few = {name: array[:rows] for name, array in columns().items()}
    golden, edges = golden_rows(few, SCHEMA, lambda part: np.zeros((count(part), 1)))
    assert count(golden.inputs) == rows + edges


def test_a_missing_moment_is_an_edge_in_the_unit_of_its_column() -> None:
    schema = Schema(columns=(Column(name="at", kind="timestamp", nullable=True),))
    moments = np.array(["2013-01-01T05:00", "2013-01-01T06:00"], dtype="datetime64[us]")
    (edge,) = edge_rows({"at": moments}, schema)
    assert edge["at"].dtype == moments.dtype
    assert np.isnat(edge["at"]).all()
