"""Training a small project again and again, as it changes: what makes a version, what is found, what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from passerelle.data.landing import ingest
from passerelle.errors import GateError, SettingsError
from passerelle.loop.rollout import deploy, reconcile
from passerelle.loop.train import Training, registry_of, train
from passerelle.project.settings import Project, load_project
from passerelle.state.database import open_state
from passerelle.state.timeline import events

NOW = datetime(2026, 3, 1, tzinfo=UTC)

SETTINGS = """
[project]
name = "fruit"
[task]
kind = "multiclass"
target = "name"
key = ["id"]
holdout_share = 0.3
"""

CELLS = [
    "import passerelle\nfrom sklearn.tree import DecisionTreeClassifier\nfrom helper import prepare",
    "raw = passerelle.training_data()\nX = prepare(raw)",
    "model = DecisionTreeClassifier(random_state=0).fit(X, raw['name'])",
    "passerelle.submit(model, X=X, features=prepare)",
]

HELPER = """
def prepare(rows):
    return rows[["weight", "size"]] * 1.0
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    root = tmp_path / "fruit"
    (root / "notebooks").mkdir(parents=True)
    (root / "passerelle.toml").write_text(SETTINGS)
    (root / "notebooks" / "helper.py").write_text(HELPER)
    project = load_project(root / "passerelle.toml")
    write(project, CELLS)
    deliver(project, 1, ["apple", "plum", "pear"])
    return project


def write(project: Project, cells: list[str]) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(book, project.root / "notebooks" / "model.ipynb")


def deliver(project: Project, number: int, names: list[str]) -> None:
    random = np.random.default_rng(number)
    kinds = random.integers(0, len(names), 240)
    rows = pd.DataFrame(
        {
            "id": [f"{number}-{row}" for row in range(240)],
            "weight": kinds * 3.0 + random.normal(0, 0.4, 240),
            "size": random.normal(5, 1, 240).round(2),
        }
    )
    truth = pd.DataFrame({"id": rows["id"], "name": np.array(names)[kinds], "known_at": "2026-01-01T00:00:00Z"})
    for table, frame in (("events", rows), ("outcomes", truth)):
        path = project.root / f"{table}-{number}.csv"
        frame.to_csv(path, index=False)
        (delivery,) = ingest(project, [path], now=NOW)
        assert delivery.status == "accepted", delivery.sentence


def promote(project: Project, training: Training) -> None:
    deploy(project, registry_of(project), training.version, now=NOW)
    reconcile(project, registry_of(project))


def test_what_changed_makes_a_version_and_the_same_is_found(project: Project) -> None:
    first = train(project, now=NOW)
    assert (first.version, first.made) == (1, True)
    same = train(project, now=NOW)
    assert (same.version, same.made, same.digest) == (1, False, first.digest)
    (project.root / "notebooks" / "helper.py").write_text(HELPER.replace("1.0", "2.0"))
    helped = train(project, now=NOW)
    assert (helped.version, helped.made) == (2, True), "a module that travels with the model is part of it"
    told = [event.sentence for event in events(open_state(project.state), kind="version")]
    assert told == ["version 1 was made", "version 2 was made"]


def test_a_class_the_champion_never_saw_counts_against_it_and_breaks_nothing(project: Project) -> None:
    promote(project, train(project, now=NOW))
    deliver(project, 2, ["apple", "plum", "pear", "fig"])
    training = train(project, now=NOW)
    assert training.version == 2
    assert training.gate is not None
    assert training.gate.champion is not None
    assert training.gate.candidate < training.gate.champion


def test_a_plainly_worse_candidate_is_refused_and_does_not_stay_signed(project: Project) -> None:
    promote(project, train(project, now=NOW))
    before = sorted((project.state / "bundles").iterdir())
    worse = CELLS[2].replace("random_state=0", "max_depth=1, max_features=1, random_state=0")
    write(project, [CELLS[0], CELLS[1], worse, CELLS[3]])
    with pytest.raises(GateError, match="beyond the bound"):
        train(project, now=NOW)
    assert sorted((project.state / "bundles").iterdir()) == before
    assert [version.number for version in registry_of(project).versions()] == [1]
    pages = [page.read_text() for page in (project.state / "runs").glob("*/report.html")]
    assert sorted("The candidate was refused at the gate" in page for page in pages) == [False, True]


def test_a_first_candidate_that_is_worse_than_a_constant_is_refused(project: Project) -> None:
    upside_down = (
        CELLS[2] + "\nraw['name'] = raw['name'].sample(frac=1, random_state=1).to_numpy()\nmodel.fit(X, raw['name'])"
    )
    write(project, [CELLS[0], CELLS[1], upside_down, CELLS[3]])
    with pytest.raises(GateError, match="no champion yet, a constant answer"):
        train(project, now=NOW)


def test_a_champion_that_cannot_answer_any_more_stops_nobody(project: Project) -> None:
    promote(project, train(project, now=NOW))
    contract = project.root / "contract.toml"
    text = contract.read_text()
    start = text.index("[events.columns.size]")
    end = text.find("\n[", start + 1)
    contract.write_text(text[:start] + (text[end + 1 :] if end > 0 else ""))
    (project.root / "notebooks" / "helper.py").write_text(HELPER.replace(', "size"', ""))
    training = train(project, now=NOW)
    assert training.version == 2
    assert training.gate is not None
    assert "The champion, version 1, cannot answer these rows" in training.gate.sentence


def test_a_privacy_setting_that_protects_nothing_is_refused(project: Project) -> None:
    path = project.root / "passerelle.toml"
    path.write_text(SETTINGS + '[privacy]\nwieght = "hash"\n')
    with pytest.raises(
        SettingsError, match=r"privacy\.wieght names the column 'wieght', which no table has: did you mean"
    ):
        train(load_project(path), now=NOW)
