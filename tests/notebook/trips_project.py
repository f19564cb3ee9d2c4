"""A small project with a handout, made as the pipeline makes it, and a way to run cells in its notebook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import nbformat
import numpy as np

from passerelle.data.layout import HANDOUT, HANDOUT_FILE, Handout, table_file
from passerelle.project.settings import Project, load_project
from passerelle.schema import Column, Columns, Schema, encode_columns, take

ROWS = 420
HELD = 100

WEATHER = Schema(
    columns=(
        Column(name="origin", kind="string"),
        Column(name="hour", kind="integer"),
        Column(name="wind", kind="number", nullable=True),
    )
)
TRIPS = (
    Column(name="id", kind="integer"),
    Column(name="hour", kind="integer", minimum=0, maximum=23),
    Column(name="origin", kind="string"),
    Column(name="carrier", kind="string", nullable=True),
    Column(name="temp", kind="number", nullable=True),
    Column(name="distance", kind="integer"),
    Column(name="at", kind="timestamp"),
)
TARGETS = {
    "binary": Column(name="late", kind="boolean"),
    "multiclass": Column(name="late", kind="string"),
    "regression": Column(name="late", kind="number"),
}


def trips(task: str) -> Columns:
    random = np.random.default_rng(3)
    rows = ROWS + HELD
    hour = random.integers(0, 24, rows)
    temp = random.normal(10, 8, rows).round(1)
    origin = random.choice(np.array(["EWR", "JFK", "LGA"], dtype=object), rows)
    score = hour / 12 - 1 + (origin == "JFK") - temp / 20 + random.normal(0, 0.6, rows)
    temp[random.random(rows) < 0.05] = np.nan
    carrier = random.choice(np.array(["AA", "UA", None], dtype=object), rows)
    truth: Any = score.round(3)
    if task == "binary":
        truth = score > 0
    if task == "multiclass":
        truth = np.array(["early", "fair", "late"], dtype=object)[np.digitize(score, [-0.5, 0.5])]
    return {
        "id": np.arange(rows),
        "hour": hour,
        "origin": origin,
        "carrier": carrier,
        "temp": temp,
        "distance": random.integers(100, 3000, rows),
        "at": np.datetime64("2013-01-01T05:00", "us") + np.arange(rows) * np.timedelta64(3_600_000_000, "us"),
        "late": truth,
    }


def weather() -> Columns:
    origins, hours = np.meshgrid(np.array(["EWR", "JFK"], dtype=object), np.arange(24))
    return {
        "origin": origins.reshape(-1),
        "hour": hours.reshape(-1).astype(np.int64),
        "wind": np.linspace(0, 30, origins.size),
    }


def hand_out(folder: Path, task: str) -> None:
    """Write the handout of a run: 420 rows to learn from, 100 held out, and the weather."""
    schema = Schema(columns=(*TRIPS, TARGETS[task]))
    handout = Handout(
        project="trips",
        task=task,  # type: ignore[arg-type]
        target="late",
        positive=True,
        key=("id",),
        time="at",
        main="trips",
        tables={"trips": schema, "weather": WEATHER},
        snapshot={"trips": 0, "weather": 0},
        notes=(f"{HELD} rows held out",),
    )
    rows = trips(task)
    (folder / HANDOUT).mkdir(parents=True)
    (folder / HANDOUT / HANDOUT_FILE).write_bytes(msgspec.json.encode(handout))
    (folder / HANDOUT / table_file("trips")).write_bytes(encode_columns(take(rows, slice(0, ROWS))))
    (folder / HANDOUT / table_file("weather")).write_bytes(encode_columns(weather()))
    held_out(folder).parent.mkdir(exist_ok=True)
    held_out(folder).write_bytes(encode_columns(take(rows, slice(ROWS, None))))


def held_out(folder: Path) -> Path:
    """The file of the rows that the run in this folder is judged by: outside of it."""
    return folder.with_name("holdouts") / f"{folder.name}.msgpack"


SETTINGS = """
[project]
name = "trips"
[task]
kind = "{task}"
target = "late"
key = ["id"]
time = "at"
[data]
main = "trips"
[notebook]
path = "notebooks/model.ipynb"
{notebook}
"""

MakeProject = Callable[..., tuple[Project, Path]]


def project_maker(tmp_path: Path) -> MakeProject:
    """A project with a notebook of these cells, and the folder of a run with its handout."""

    def make(*cells: str, task: str = "binary", notebook: str = "") -> tuple[Project, Path]:
        root = tmp_path / "trips"
        (root / "notebooks").mkdir(parents=True)
        (root / "passerelle.toml").write_text(SETTINGS.format(task=task, notebook=notebook))
        node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        for cell in node.cells:
            if cell.source.startswith("# parameters"):
                cell.metadata["tags"] = ["parameters"]
        nbformat.write(node, root / "notebooks" / "model.ipynb")
        folder = tmp_path / "run"
        hand_out(folder, task)
        return load_project(root / "passerelle.toml"), folder

    return make
