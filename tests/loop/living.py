"""A small project with a life: deliveries by the week, and a ledger of what an endpoint would have recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd

from passerelle.deployment.spec import Deployment
from passerelle.ledger.records import Outcome, Prediction, Record
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.loop.rollout import PRODUCTION, revisions
from passerelle.project.settings import Project, load_project

FIRST = datetime(2026, 1, 5, tzinfo=UTC)
A_DAY = timedelta(days=1)
HORIZON_H = 12

#: A project as it was left, and the moment of its next tick.
Stage = tuple[Project, datetime]
Take = Callable[[str], Stage]

SETTINGS = f"""
[project]
name = "orders"
[task]
kind = "binary"
target = "late"
key = ["order"]
time = "at"
holdout_days = 2
horizon_hours = {HORIZON_H}
[data]
main = "orders"
[loop]
tick_s = 0.3
[trial]
min_days = 3
max_days = 9
margin = 0.2
"""

CELLS = [
    "import passerelle\nfrom sklearn.linear_model import LogisticRegression",
    "raw = passerelle.training_data()\nX = raw[['distance', 'weight']]",
    "model = LogisticRegression().fit(X, raw['late'])",
    "passerelle.submit(model, X=X)",
]


def make_project(root: Path, more: str = "") -> Project:
    """A project of orders, without data. ``more`` is added to its settings."""
    (root / "notebooks").mkdir(parents=True)
    (root / "deliveries").mkdir()
    (root / "passerelle.toml").write_text(SETTINGS + more)
    write(root, CELLS)
    return load_project(root / "passerelle.toml")


def write(root: Path, cells: Sequence[str]) -> None:
    """Another notebook."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number}"
    nbformat.write(book, root / "notebooks" / "model.ipynb")


def deliver(project: Project, week: int, *, rows: int = 280) -> datetime:
    """Put a week's orders and their outcomes into the inbox; the moment at which all of them are mature."""
    draw = np.random.default_rng(week)
    start = FIRST + week * 7 * A_DAY
    distance, weight = draw.uniform(0, 10, rows), draw.uniform(0, 5, rows)
    chance = 1 / (1 + np.exp(5 - distance))
    at = [start + timedelta(hours=167 * number / rows) for number in range(rows)]
    orders = pd.DataFrame(
        {
            "order": [f"{week}-{number}" for number in range(rows)],
            "at": [f"{one:%Y-%m-%dT%H:%M:%SZ}" for one in at],
            "distance": distance.round(3),
            "weight": weight.round(3),
        }
    )
    known = [f"{one + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}" for one in at]
    late = draw.uniform(size=rows) < chance
    outcomes = pd.DataFrame({"order": orders["order"], "late": late, "known_at": known})
    inbox = project.root / project.data.inbox
    orders.to_csv(inbox / f"orders-{week}.csv", index=False)
    outcomes.to_csv(inbox / f"outcomes-{week}.csv", index=False)
    return start + 7 * A_DAY + timedelta(hours=HORIZON_H)


def current(project: Project) -> Deployment:
    """The revision that production is at."""
    found = revisions(project, PRODUCTION).current()
    assert found is not None
    return found


def answer_day(
    project: Project,
    day: datetime,
    *,
    champion: float = 0.3,
    challenger: float | None = 0.3,
    rows: int = 20,
    missing: int = 0,
) -> None:
    """Record a day of production: the truth is false, so a score is its own distance from it.

    A shadow's score of each event stands beside it, but for the last ``missing``.
    """
    deployment = current(project)
    draw = np.random.default_rng(day.toordinal())
    records: list[Record] = []
    for number in range(rows):
        at = day + timedelta(hours=24 * number / rows)
        id_ = f"{day:%m%d}-{number}"
        for variant in deployment.variants:
            score = champion if variant.mode == "live" else challenger
            if score is None or (variant.mode == "shadow" and number >= rows - missing):
                continue
            records.append(
                Prediction(
                    id=id_,
                    unit=id_,
                    role=variant.mode,
                    status="scored",
                    revision=deployment.revision,
                    version=variant.version,
                    digest=variant.digest,
                    trial=deployment.trial,
                    inputs={"distance": number / 10, "weight": 1.0},
                    output=(score + float(draw.uniform(-0.05, 0.05)),),
                    event_at=at,
                    received_at=at,
                )
            )
        records.append(Outcome(id=id_, value=False, known_at=at + timedelta(hours=6), received_at=at))
    asyncio.run(record(LocalStorage(ledger_folder(project.state, PRODUCTION)), records, slot="test"))
