"""A binary truth that is delivered as 1.0 and 0.0 is the classes 0 and 1, from the delivery to the held-out answers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import nbformat
import numpy as np

from passerelle.data.handout import write_handout
from passerelle.data.landing import ingest
from passerelle.data.table import snapshot
from passerelle.notebook.run import run_notebook
from passerelle.notebook.submission import Submission, read_answers
from passerelle.project.settings import load_project
from passerelle.schema import decode_columns

SETTINGS = """
[project]
name = "loans"
[task]
kind = "binary"
target = "bad"
key = ["loan", "part"]
positive = 1
[data]
main = "loans"
[notebook]
path = "model.ipynb"
"""
CELL = """
import passerelle
from sklearn.linear_model import LogisticRegression
raw = passerelle.training_data()
assert raw["bad"].dtype == "float64"
X = raw[["amount"]]
passerelle.submit(LogisticRegression().fit(X, raw["bad"]), X=X)
"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_truth_of_whole_floats_is_a_class(tmp_path: Path) -> None:
    (tmp_path / "passerelle.toml").write_text(SETTINGS)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)]), tmp_path / "model.ipynb")
    amounts = np.random.default_rng(1).normal(0, 1, 200).round(3).tolist()
    rows = "\n".join(f"a/{number},{number % 2},{amount}" for number, amount in enumerate(amounts))
    (tmp_path / "loans.csv").write_text(f"loan,part,amount\n{rows}\n")
    truth = "\n".join(
        f"a/{number},{number % 2},{float(amount > 0)},2025-01-01T00:00:00Z" for number, amount in enumerate(amounts)
    )
    (tmp_path / "outcomes.csv").write_text(f"loan,part,bad,known_at\n{truth}\n")
    project = load_project(tmp_path / "passerelle.toml")
    for name in ("loans.csv", "outcomes.csv"):
        (delivery,) = ingest(project, [tmp_path / name], now=NOW)
        assert delivery.status == "accepted", delivery.problems
    folder, held = tmp_path / "run", tmp_path / "holdouts" / "run.msgpack"
    handout = write_handout(project, snapshot(project), now=NOW, folder=folder, holdout=held)
    assert handout.tables["loans"].column("bad").kind == "number"

    run_notebook(project, folder, holdout=held)
    submitted = msgspec.json.decode((folder / "submission" / "submission.json").read_bytes(), type=Submission)
    assert submitted.classes == (0, 1)
    assert [type(one) for one in submitted.classes] == [int, int]
    answers, kept = read_answers(folder / "submission" / "holdout.msgpack"), decode_columns(held.read_bytes())
    assert answers.truth["loan"].tolist() == kept["loan"].tolist()
    assert ((answers.outputs[:, 0] > 0.5) == (kept["bad"] == 1.0)).mean() > 0.9
