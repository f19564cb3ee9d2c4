"""Notebooks in real kernels."""

from __future__ import annotations

import json
import venv
from pathlib import Path

import msgspec
import nbformat
import numpy as np
import pytest
from trips_project import HELD, MakeProject, held_out

from passerelle.errors import NotebookError, PasserelleError, SettingsError, SubmissionError
from passerelle.notebook.run import run_notebook
from passerelle.notebook.submission import Submission, read_answers
from passerelle.schema import decode_columns

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
        "passerelle.submit(model, X, make_features, events)\nassert 'MY_API_TOKEN' not in os.environ\n"
        "from passerelle.notebook.session import current\n"
        "assert not any('holdout' in str(path) for path in current().folder.rglob('*'))\n"
        "assert not hasattr(current(), 'holdout')",
    )
    seen: list[tuple[int, int, str]] = []
    execution = run_notebook(project, folder, holdout=held_out(folder), on_cell=lambda *cell: seen.append(cell))

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
    assert set(held.truth) == {"id"}  # what the kernel says about the truth is not asked
    asked = decode_columns((folder / "handout" / "holdout.msgpack").read_bytes())
    truth = decode_columns(held_out(folder).read_bytes())
    assert set(truth) - set(asked) == {"late"}
    right = (held.outputs[:, 0] > 0.5) == truth["late"]
    assert right.mean() > 0.7
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


def failure(make_project: MakeProject, *cells: str, **settings: str) -> tuple[PasserelleError, Path]:
    project, folder = make_project(*cells, **settings)
    with pytest.raises(PasserelleError) as failed:
        run_notebook(project, folder)
    assert not (folder / "submission").exists()
    assert json.loads((folder / "execution.json").read_bytes())["status"] == "failed"
    assert (folder / "executed.html").is_file()
    return failed.value, folder


GLOBAL = """
mean = raw["temp"].mean()
counts = raw.groupby("carrier").size().to_dict()
airports = passerelle.training_data("weather").groupby("origin")["wind"].mean()
def busy(raw):
    return raw["carrier"].map(counts).fillna(0.0)
def make_features(raw):
    return pd.DataFrame({"hour": raw["hour"], "warm": raw["temp"].fillna(0) - mean, "busy": busy(raw),
                         "wind": raw["origin"].map(airports).fillna(0.0)})
X = make_features(raw)
model = LogisticRegression(max_iter=1000).fit(X, raw["late"])
try:
    passerelle.submit(model, X, make_features, constants=["counts", "means"])
except passerelle.errors.SubmissionError as error:
    print(error)
"""


def test_a_global_of_the_training_rows_is_refused_or_declared(make_project: MakeProject) -> None:
    project, folder = make_project(
        BINARY,
        GLOBAL + "passerelle.submit(model, X, make_features, constants=['counts'])",
    )
    with pytest.raises(SubmissionError) as refused:
        run_notebook(project, folder)
    assert "features reads what was computed on the training rows: warm comes from 'mean'. If" in str(refused.value)
    assert 'raised in cell 2 of 2 (mean = raw["temp"].mean())' in str(refused.value)
    executed = nbformat.read(folder / "executed.ipynb", as_version=4)
    assert "constants names 'means', which features does not read" in executed.cells[1].outputs[0]["text"]


def test_what_is_declared_and_what_lies_beside_the_notebook_travels(make_project: MakeProject) -> None:
    project, folder = make_project(
        "# parameters\ntrees = 10",
        "import passerelle, lightgbm, preparation\nraw = passerelle.training_data()",
        "levels = sorted(raw['origin'].unique())",
        "def make_features(raw):\n    return preparation.prepare(raw, levels)",
        "X = make_features(raw)\nmodel = lightgbm.train({'verbose': -1, 'num_threads': 1}, "
        "lightgbm.Dataset(X, raw['late']), trees)\nassert trees == 7",
        "passerelle.submit(model, X, make_features, constants=['levels'])",
        task="regression",
        notebook="parameters = { trees = 7 }",
    )
    (project.root / "notebooks" / "preparation.py").write_text(
        "import pandas as pd\n\nSCALE = 1.8\n\n\ndef prepare(raw, levels):\n"
        "    origin = pd.Categorical(raw['origin'], categories=levels)\n"
        "    return pd.DataFrame({'hour': raw['hour'], 'origin': origin, 'temp': raw['temp'] * SCALE + 32})\n"
    )
    run_notebook(project, folder, holdout=held_out(folder))
    done = msgspec.json.decode((folder / "submission" / "submission.json").read_bytes(), type=Submission)
    assert done.constants == ("levels",)
    assert done.proofs["lineage"] == "constants of the training rows that were declared: levels"
    assert done.schema.names == ("hour", "origin", "temp")
    assert read_answers(folder / "submission" / "holdout.msgpack").outputs.shape == (HELD, 1)


def test_a_module_that_cannot_travel_is_named(make_project: MakeProject, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "faraway.py").write_text("def jfk(raw):\n    return raw['origin'] == 'JFK'\n")
    error, _ = failure(
        make_project,
        f"import sys\nsys.path.append({str(tmp_path / 'elsewhere')!r})\nimport faraway" + BINARY,
        "def far_features(raw):\n    return pd.DataFrame({'hour': raw['hour'], 'jfk': faraway.jfk(raw)})",
        "X = far_features(raw)\nmodel = LogisticRegression().fit(X, raw['late'])",
        "passerelle.submit(model, X, far_features)",
    )
    assert isinstance(error, SubmissionError)
    assert str(error).startswith("module 'faraway' cannot be loaded in a clean process: ModuleNotFoundError")


def test_a_cell_that_raises_is_named_and_the_copy_kept(make_project: MakeProject) -> None:
    error, folder = failure(make_project, "import passerelle", "# what follows\nnumber = 1\nnumber / 0", "print(3)")
    assert isinstance(error, NotebookError)
    assert "cell 2 of 3 (number = 1) raised ZeroDivisionError: division by zero" in str(error)
    assert str(folder / "executed.ipynb") in str(error)
    executed = nbformat.read(folder / "executed.ipynb", as_version=4)
    assert executed.cells[1].outputs[0]["ename"] == "ZeroDivisionError"
    assert json.loads((folder / "execution.json").read_bytes())["failed_cell"] == 2


def test_a_notebook_that_submits_nothing_is_told_how(make_project: MakeProject) -> None:
    error, _ = failure(make_project, "import passerelle\nraw = passerelle.training_data()")
    assert isinstance(error, SubmissionError)
    assert "submitted no model: add passerelle.submit(model, X=X_train, features=make_features)" in str(error)


def test_a_cell_that_takes_too_long_and_one_that_ends_its_kernel(make_project: MakeProject) -> None:
    error, _ = failure(make_project, "import time; time.sleep(60)", notebook="timeout_s = 1")
    assert "cell 1 of 1 (import time; time.sleep(60)) did not end in 1 s" in str(error)


def test_an_environment_that_lacks_something_is_named(make_project: MakeProject, tmp_path: Path) -> None:
    project, folder = make_project("1", notebook='python = "no/such/python"')
    with pytest.raises(SettingsError, match="no/such/python does not start"):
        run_notebook(project, folder)
    bare = tmp_path / "bare"
    venv.create(bare)
    named = msgspec.structs.replace(project.notebook, python=str(bare / "bin" / "python"))
    with pytest.raises(SettingsError, match=r"lacks passerelle, .*bin/python -m pip install passerelle cloudpickle"):
        run_notebook(msgspec.structs.replace(project, notebook=named), folder)
