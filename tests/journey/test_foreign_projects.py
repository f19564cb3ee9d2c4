"""Three projects that Passerelle was not designed on go the whole way, by the commands of the tutorial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import foreign
import pandas as pd
import pytest
from steps import largest_difference, run, run_json, serving

from passerelle.bundle.manifest import Manifest, read_manifest
from passerelle.clock import system_clock
from passerelle.loop.facts import figures, gather_report, reached
from passerelle.notebook.submission import Answers, read_answers
from passerelle.project.settings import load_project

pytestmark = pytest.mark.timeout(600)


def trained(folder: Path) -> tuple[Manifest, Answers, dict[str, Any]]:
    """Check, ingest and train a project: its manifest, the notebook's answers on the holdout, what train printed."""
    run("check", cwd=folder)
    run("ingest", cwd=folder)
    training = run_json("train", cwd=folder)
    manifest, _ = read_manifest(folder / ".passerelle" / "bundles" / training["digest"])
    return (
        manifest,
        read_answers(folder / ".passerelle" / "runs" / training["run"] / "submission" / "holdout.msgpack"),
        training,
    )


def test_wine_many_classes_without_a_time(tmp_path: Path) -> None:
    run("new", "wine", "--task", "multiclass", "--no-time", cwd=tmp_path)
    folder = tmp_path / "wine"
    foreign.wine(folder)
    manifest, answers, training = trained(folder)
    assert manifest.classes == ("barbera", "barolo", "grignolino")
    assert "hue" in manifest.schema.names
    assert "ash" not in manifest.schema.names, "the features do not read it, so an event need not carry it"
    assert training["parity"]["flips"] == 0
    assert training["metrics"]["accuracy"] > 0.85
    assert run_json("train", cwd=folder)["made"] is False, "the same notebook on the same data makes no second version"
    run("deploy", "1", cwd=folder)
    with serving(folder) as client:
        assert largest_difference(client, manifest, answers) <= 1e-12
        row = manifest.schema.rows(answers.inputs)[0]
        status, answer = client.ask("POST", "/predict", {"id": "mine", "inputs": row})
        assert status == 200
        assert answer["id"] == "mine"
        assert answer["prediction"] == max(answer["probability"], key=answer["probability"].get)
        outcome = {"id": "mine", "value": "barolo", "known_at": "2026-02-01T00:00:00Z"}
        assert client.ask("POST", "/outcomes", outcome)[0] == 200
        merlot = {"id": "another", "value": "merlot", "known_at": "2026-02-01T00:00:00Z"}
        assert client.ask("POST", "/outcomes", merlot) == (200, {"recorded": 1, "unknown_classes": 1})
    assert "mine" in run("ledger", "--last", "1000", cwd=folder)
    found = run_json("ledger", "--compact", "--sql", "SELECT id, truth FROM judged", cwd=folder)
    assert found["rows"] == [["mine", '"barolo"']]
    table = pd.read_csv(folder / "deliveries" / "events-1.csv")
    run("score", "deliveries/events-1.csv", "-o", "scored.csv", cwd=folder)
    scored = pd.read_csv(folder / "scored.csv")
    assert scored["id"].tolist() == table["bottle"].tolist()
    assert run_json("outcomes", "deliveries/outcomes-1.jsonl", cwd=folder) == {
        "recorded": 178,
        "unknown": 0,
        "unknown_classes": 0,
    }
    right = run_json("ledger", "--sql", "SELECT count(*) FROM judged WHERE id LIKE 'b%'", cwd=folder)
    assert right["rows"] == [[178]]


def test_chicago_numbers_with_late_outcomes_and_retraining(tmp_path: Path) -> None:
    run("new", "chicago", "--task", "regression", cwd=tmp_path)
    folder = tmp_path / "chicago"
    foreign.chicago(folder)
    python = foreign.another_environment(tmp_path)
    foreign.set_lines(folder / "passerelle.toml", python=f'"{python}"')
    manifest, answers, training = trained(folder)
    assert manifest.environment.packages["pandas"] == "2.2.3"
    assert "pyarrow" not in manifest.environment.packages
    assert training["metrics"]["mae"] < 3
    assert {column.kind for column in manifest.schema.columns if column.name == "day"} == {"date"}
    run("deploy", "1", cwd=folder)
    with serving(folder, "--workers", "2") as client:
        assert largest_difference(client, manifest, answers, singles=60) <= 1e-12
        # new data arrive: a second version, in shadow, then for half of the units, then back; nothing is restarted
        foreign.later_chicago(folder)
        run("ingest", cwd=folder)
        again = run_json("train", cwd=folder)
        assert again["version"] == 2
        assert again["gate"]["champion"] is not None, "the candidate is compared with the champion on the same rows"
        rows = manifest.schema.rows(answers.inputs)
        for arguments, seen in ((["--shadow"], {1}), (["--share", "0.5"], {1, 2}), ([], {2})):
            revision = run_json("deploy", "2", *arguments, cwd=folder)["revision"]
            foreign.wait_for_revision(client, revision, workers=2)
            answered = client.predict([{"id": f"{revision}-{n}", "inputs": row} for n, row in enumerate(rows)])
            assert {one["version"] for one in answered} == seen
        revision = run_json("rollback", cwd=folder)["revision"]
        foreign.wait_for_revision(client, revision, workers=2)
        assert {one["version"] for one in client.predict([{"inputs": row} for row in rows])} == {1, 2}
        before = {
            one["id"]: one["version"] for one in client.predict([{"id": f"u{n}", "inputs": rows[0]} for n in range(50)])
        }
        after = {
            one["id"]: one["version"] for one in client.predict([{"id": f"u{n}", "inputs": rows[0]} for n in range(50)])
        }
        assert before == after, "a unit stays with its version"
    shadows = run_json("ledger", "--sql", "SELECT count(*) FROM predictions WHERE role = 'shadow'", cwd=folder)
    assert shadows["rows"] == [[len(rows)]]
    note = folder / "note.html"
    run("note", "--out", str(note), cwd=folder)
    assert "chicago" in note.read_text()
    project = load_project(folder / "passerelle.toml")
    assert figures(project)["parity_max_abs_diff"] <= 1e-12
    assert figures(project)["rmse"] == pytest.approx(training["metrics"]["rmse"]), "the champion's, after the roll-back"
    assert set(reached(project)) == {"data", "trained", "deployed", "served"}, "the note's questions are still open"
    pages = {path.name for path in gather_report(project, tmp_path / "out", now=system_clock())}
    assert pages == {"executed.html", "executed.ipynb", "report.html", "report.json", "note.html"}


def test_credit_an_existing_mlflow_model(tmp_path: Path) -> None:
    run("new", "credit", "--task", "binary", "--no-time", cwd=tmp_path)
    folder = tmp_path / "credit"
    tracking = f"sqlite:///{tmp_path / 'theirs.db'}"
    source = foreign.credit(folder, tracking=tracking)
    run("ingest", cwd=folder)
    refused = run("import", source, cwd=folder, code=3, MLFLOW_TRACKING_URI=tracking)
    assert "--trust" in refused
    assert "Version 1" in run("import", source, "--trust", cwd=folder, MLFLOW_TRACKING_URI=tracking)
    version = run_json("versions", cwd=folder)[0]
    manifest, _ = read_manifest(folder / ".passerelle" / "bundles" / version["digest"])
    run("deploy", "1", cwd=folder)
    inputs, expected = foreign.credit_answers(tracking, folder, manifest)
    with serving(folder) as client:
        answers = Answers(inputs=inputs, outputs=expected)
        assert largest_difference(client, manifest, answers) <= 1e-12
        status, answer = client.ask("POST", "/predict", {"inputs": {"Age": 30}})
        assert status == 422
        assert {issue["field"] for issue in answer["issues"]} >= {"Seniority", "Home"}
    run("score", "deliveries/events-1.csv", "-o", "scored.parquet", cwd=folder)
    assert run_json("outcomes", "deliveries/outcomes-1.csv", cwd=folder)["unknown"] == 0


def test_clients_a_pipeline_on_raw_fields_is_served_without_code(tmp_path: Path) -> None:
    run("new", "clients", "--task", "binary", "--no-time", cwd=tmp_path)
    folder = tmp_path / "clients"
    foreign.clients(folder)
    manifest, answers, training = trained(folder)
    assert training["forms"].startswith("inline")
    assert any(name.startswith("inline/") for name in manifest.files)
    run("deploy", "1", cwd=folder)
    with serving(folder) as client:
        status, state = client.ask("GET", "/ready")
        assert (status, state["variants"][0]["kind"]) == (200, "inline")
        assert largest_difference(client, manifest, answers) <= 1e-12
        row = manifest.schema.rows(answers.inputs)[0]
        missing = {**row, "Income": None, "Job": None, "Home": "a castle nobody has seen"}
        assert 0 < client.predict([{"inputs": missing}])[0]["probability"] < 1
