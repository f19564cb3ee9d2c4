"""Notebooks in real kernels."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import nbformat
import numpy as np
import pytest
from conftest import HELD, MakeProject

from passerelle.errors import NotebookError, SettingsError, SubmissionError
from passerelle.notebook.run import run_notebook
from passerelle.notebook.submission import Submission, read_answers

BINARY = """
import numpy as np, pandas as pd, passerelle, os
from sklearn.linear_model import LogisticRegression
raw = passerelle.training_data()
def make_features(raw):
    return pd.DataFrame({
        "hour": raw["hour"], "jfk": raw["origin"] == "JFK", "cold": raw["temp"].fillna(10.0) < 5,
        "wind": raw["wind"].fillna(0.0), "weekday": raw["at"].dt.dayofweek,
    })
def events(tables):
    return tables["trips"].merge(tables["weather"], how="left", on=["origin", "hour"])
rows = events({"trips": raw.drop(columns="late"), "weather": passerelle.training_data("weather")})
X = make_features(rows).sample(300, random_state=1)
model = LogisticRegression(max_iter=1000).fit(X, raw.loc[X.index, "late"])
"""


def test_a_binary_notebook_crosses_whole(make_project: MakeProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "hush")
    project, folder = make_project(
        BINARY,
        "passerelle.submit(model, X, make_features, events)\nassert 'MY_API_TOKEN' not in os.environ",
    )
    seen: list[tuple[int, int, str]] = []
    execution = run_notebook(project, folder, on_cell=lambda *cell: seen.append(cell))

    assert execution.status == "succeeded"
    assert execution.cells == 2
    assert seen[1] == (2, 2, "passerelle.submit(model, X, make_features, events)")
    done = msgspec.json.decode((folder / "submission" / "submission.json").read_bytes(), type=Submission)
    assert done.schema.names == ("hour", "origin", "temp", "at", "wind")
    assert done.schema.column("wind").nullable
    assert done.classes == (False, True)
    assert done.x_columns == ("hour", "jfk", "cold", "wind", "weekday")
    assert done.rows == 300
    assert "300 rows and 5 columns" in done.proofs["skew"]
    held = read_answers(folder / "submission" / "holdout.msgpack")
    assert held.outputs.shape == (HELD, 1)
    assert held.truth["id"].tolist() == list(range(420, 520))
    assert set(held.inputs) == set(done.schema.names)
    right = (held.outputs[:, 0] > 0.5) == held.truth["target"]
    assert right.mean() > 0.75
    golden = read_answers(folder / "submission" / "golden.msgpack")
    assert np.isnan(golden.inputs["temp"]).any()
    assert "never seen in training" in golden.inputs["origin"]
    assert not list(folder.glob(".draft*"))

    executed = nbformat.read(execution.executed, as_version=4)
    assert len(executed.cells) == 2
    assert "trips: 420 rows, 8 columns; 100 rows held out" in executed.cells[0].outputs[0]["text"]
    assert "clean process" in executed.cells[1].outputs[0]["text"]
    page = execution.html.read_text()
    for remote in ('src="http', "src='http", 'href="http', "cdnjs", "unpkg", "@import url"):
        assert remote not in page
