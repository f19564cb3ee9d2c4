"""A small project of fruit, whose notebook has a module beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
from waiting_trainer import NOW

from passerelle.data.landing import ingest
from passerelle.project.settings import Project, load_project

SETTINGS = """
[project]
name = "fruit"
[task]
kind = "multiclass"
target = "name"
key = ["id"]
holdout_share = 0.3
[notebook]
python = "{python}"
"""
CELLS = [
    "import passerelle\nfrom sklearn.tree import DecisionTreeClassifier\nfrom helper import prepare",
    "raw = passerelle.training_data()\nX = prepare(raw)",
    "model = DecisionTreeClassifier(random_state=0, max_depth=3).fit(X, raw['name'])",
    "passerelle.submit(model, X=X, features=prepare)",
]
HELPER = 'def prepare(rows):\n    return rows[["weight", "size"]] * 1.0\n'


def write(project: Project, cells: list[str]) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(book, project.root / "notebooks" / "model.ipynb")


def fruit_project(root: Path) -> Project:
    """The project, with its data accepted."""
    (root / "notebooks").mkdir(parents=True)
    (root / "passerelle.toml").write_text(SETTINGS.format(python=sys.executable))
    (root / "notebooks" / "helper.py").write_text(HELPER)
    project = load_project(root / "passerelle.toml")
    write(project, CELLS)
    random = np.random.default_rng(1)
    kinds = random.integers(0, 3, 240)
    rows = pd.DataFrame({"id": [f"{row}" for row in range(240)], "weight": kinds * 3.0 + random.normal(0, 0.4, 240)})
    rows["size"] = random.normal(5, 1, 240).round(2)
    names = np.array(["apple", "plum", "pear"])[kinds]
    truth = pd.DataFrame({"id": rows["id"], "name": names, "known_at": "2026-01-01T00:00:00Z"})
    for table, frame in (("events", rows), ("outcomes", truth)):
        path = root / f"{table}.csv"
        frame.to_csv(path, index=False)
        assert ingest(project, [path], now=NOW)[0].status == "accepted"
    return project
