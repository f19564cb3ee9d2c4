"""A new project is whole: what it writes can be read, run and trusted as it is."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import tomllib
from datetime import UTC, date, datetime
from itertools import product
from pathlib import Path
from typing import Any, get_args

import msgspec
import nbformat
import pytest

from passerelle.errors import SettingsError
from passerelle.project.note import render
from passerelle.project.sample import TARGETS, sample
from passerelle.project.scaffold import create
from passerelle.project.scope import Stage
from passerelle.project.settings import Project, TaskKind, find_project, load_project

TODAY = date(2026, 3, 2)
KINDS = list(product(get_args(TaskKind), ("en", "fr"), (True, False)))


@pytest.fixture(params=KINDS, ids=str)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    task, language, time = request.param
    create(tmp_path / "churn", "churn", task=task, language=language, time=time, today=TODAY)
    return load_project(tmp_path / "churn" / "passerelle.toml")


def test_the_settings_say_what_was_asked(tmp_path: Path) -> None:
    paths = create(tmp_path / "churn", "churn", task="binary", language="fr", time=True, today=TODAY)
    assert sorted(path.relative_to(tmp_path / "churn").as_posix() for path in paths) == [
        ".github/workflows/passerelle.yml",
        ".gitignore",
        ".gitlab-ci.yml",
        "README.md",
        "azure-pipelines.yml",
        "cadrage.md",
        "deliveries/events-1.csv",
        "deliveries/events-2.csv",
        "deliveries/outcomes-1.csv",
        "deliveries/outcomes-2.csv",
        "notebooks/model.ipynb",
        "passerelle.toml",
        "requirements.txt",
        "tests/test_notebook.py",
    ]
    assert all(path.is_file() for path in paths)
    project = load_project(tmp_path / "churn" / "passerelle.toml")
    assert (project.name, project.project.language) == ("churn", "fr")
    assert (project.task.kind, project.task.target, project.task.key) == ("binary", "late", ("parcel",))
    assert (project.task.time, project.task.holdout_days) == ("shipped_at", 14)
    assert project.milestones[0].name == "Note de cadrage validée"
    assert (project.milestones[0].start, project.milestones[0].end) == (TODAY, date(2026, 3, 16))
    assert tuple(milestone.stage for milestone in project.milestones) == get_args(Stage)


def test_without_time_there_is_no_time(tmp_path: Path) -> None:
    create(tmp_path / "churn", "churn", task="regression", language="en", time=False, today=TODAY)
    project = load_project(tmp_path / "churn" / "passerelle.toml")
    assert (project.task.time, project.task.target) == (None, "transit_hours")
    notebook = (project.root / "notebooks/model.ipynb").read_text(encoding="utf-8")
    assert "shipped_at" not in notebook
    assert "shipped_at" not in (project.root / "deliveries/events-1.csv").read_text(encoding="utf-8")


def _uncommented(text: str) -> str:
    return re.sub(r"(?m)^# (?=[a-z_]+ = )", "", text)


def _sections(section: type[msgspec.Struct]) -> dict[str, set[str]]:
    found = {}
    for field in msgspec.structs.fields(section):
        kind = (get_args(field.type) or (field.type,))[0]
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            found[field.name] = {inner.name for inner in msgspec.structs.fields(kind)}
    return found


def test_every_setting_stands_in_the_file_with_its_comment(made: Project) -> None:
    text = (made.root / "passerelle.toml").read_text(encoding="utf-8")
    raw = tomllib.loads(_uncommented(text))
    for section, keys in _sections(Project).items():
        written = raw[section] if isinstance(raw[section], list) else [raw[section]]
        for block in written:
            assert set(block) == keys, section
    assert raw["privacy"] == {"carrier": "hash"}
    for section in ("task", "notebook", "gate", "costs", "serving"):  # each setting, or pair, has its words above it
        body = text.partition(f"[{section}]\n")[2].partition("\n\n")[0]
        assert body.count("\n# ") + body.startswith("# ") > len(re.findall(r"(?m)^# [a-z_]+ = ", body)), section


def test_the_commented_settings_are_the_defaults_or_examples_that_load(made: Project, tmp_path: Path) -> None:
    text = _uncommented((made.root / "passerelle.toml").read_text(encoding="utf-8"))
    (tmp_path / "passerelle.toml").write_text(text, encoding="utf-8")
    full = load_project(tmp_path / "passerelle.toml")
    assert full.gate == msgspec.structs.replace(made.gate, metric=made.metric)
    assert full.serving == msgspec.structs.replace(made.serving, ledger="durable")
    assert full.data == msgspec.structs.replace(made.data, bucket="s3://bucket/prefix")
    assert full.notebook.timeout_s == made.notebook.timeout_s
    assert (full.task.positive, full.task.lead_hours) == (made.task.positive, made.task.lead_hours)
    assert (full.task.holdout_share, full.task.holdout_days) == (made.task.holdout_share, made.task.holdout_days)


def test_the_note_renders_with_open_questions(made: Project) -> None:
    page = render(made, reached={}, figures={}, now=datetime(2026, 3, 3, tzinfo=UTC))
    assert "{{" not in page
    expected = "17 questions of this note" if made.project.language == "en" else "17 questions de cette note"
    assert expected in page


def test_the_notebook_is_valid_and_has_its_sections(made: Project) -> None:
    notebook = nbformat.read(made.root / made.notebook.path, as_version=4)
    nbformat.validate(notebook)
    headings = [cell.source.splitlines()[0] for cell in notebook.cells if cell.source.startswith("## ")]
    assert len(headings) == 7
    assert [heading[3:5] for heading in headings[1:6]] == ["1.", "2.", "3.", "4.", "5."]
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    compile(code, "notebook", "exec")
    assert code.count("passerelle.training_data()") == code.count("passerelle.submit(") == 1
    assert all(cell.outputs == [] for cell in notebook.cells if cell.cell_type == "code")


def test_the_projects_own_tests_pass_and_can_fail(tmp_path: Path) -> None:
    create(tmp_path / "churn", "churn", task="binary", language="en", time=True, today=TODAY)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "tests"]
    good = subprocess.run(command, cwd=tmp_path / "churn", capture_output=True, text=True, check=False)
    assert "3 passed" in good.stdout, good.stdout + good.stderr
    path = tmp_path / "churn/notebooks/model.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = next(cell for cell in notebook["cells"] if cell["metadata"].get("tags") == ["features"])
    cell["source"] = "".join(cell["source"]).replace("return X", 'X["rank"] = X["distance_km"].rank()\n    return X')
    path.write_text(json.dumps(notebook), encoding="utf-8")
    bad = subprocess.run(command, cwd=tmp_path / "churn", capture_output=True, text=True, check=False)
    assert "test_a_row_has_the_same_features_alone_as_among_others" in bad.stdout
    assert bad.returncode == 1


@pytest.mark.parametrize("task", get_args(TaskKind))
def test_the_sample_is_the_same_every_time_and_whole(task: TaskKind) -> None:
    assert sample(task, time=True) == sample(task, time=True)
    files = {name: list(csv.DictReader(io.StringIO(text))) for name, text in sample(task, time=True).items()}
    events, outcomes = ([*files[f"{table}-1.csv"], *files[f"{table}-2.csv"]] for table in ("events", "outcomes"))
    assert max(row["shipped_at"] for row in files["events-1.csv"]) < "2025-02-17T00:00:00Z"
    assert min(row["shipped_at"] for row in files["events-2.csv"]) >= "2025-02-17T00:00:00Z"
    assert len(events) == len({row["parcel"] for row in events}) == 900
    assert [row["parcel"] for row in events] == [row["parcel"] for row in outcomes]
    assert all(row["known_at"] > event["shipped_at"] for event, row in zip(events, outcomes, strict=True))
    assert 20 < sum(row["weight_kg"] == "" for row in events) < 80
    truths = {row[TARGETS[task]] for row in outcomes}
    expected = {"binary": {"true", "false"}, "multiclass": {"early", "on_time", "late"}}
    assert truths == expected.get(task, truths)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Churn 2", "try 'churn-2'"),
        ("", "try a word"),
        ("2024-churn", "try 'churn'"),
        ("a" * 64, "63 at most"),
        ("é", "try 'e'"),
        ("été", "try 'ete'"),
        ("Café d'été", "try 'cafe-d-ete'"),
        ("日", "a word"),
    ],
)
def test_a_bad_name_is_refused_with_a_near_one(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(hint)):
        create(tmp_path / "x", name, task="binary", language="en", time=True, today=TODAY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["a%20b", "a[1]", "a\nb", "a|b"])
def test_a_folder_in_which_no_table_can_be_kept_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(SettingsError, match="cannot hold a project"):
        create(tmp_path / folder, "parcels", task="binary", language="en", time=True, today=TODAY)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "passerelle.toml").touch()
    with pytest.raises(SettingsError, match="cannot hold a project"):
        find_project(tmp_path / folder)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="not an empty folder: name another, or empty it"):
        create(tmp_path, "churn", task="binary", language="en", time=True, today=TODAY)
    with pytest.raises(SettingsError, match="not an empty folder"):
        create(tmp_path / "notes.txt", "churn", task="binary", language="en", time=True, today=TODAY)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "churn").mkdir()
    create(tmp_path / "churn", "churn", task="binary", language="en", time=True, today=TODAY)
    assert [path.name for path in tmp_path.iterdir()] == ["churn"]


def test_a_project_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    real = Path.write_text

    def fail_later(self: Path, *args: Any, **keywords: Any) -> int:
        if len(written) == 5:
            raise OSError(28, "No space left on device")
        written.append(self)
        return real(self, *args, **keywords)

    monkeypatch.setattr(Path, "write_text", fail_later)
    with pytest.raises(OSError, match="No space"):
        create(tmp_path / "churn", "churn", task="binary", language="en", time=True, today=TODAY)
    assert list(tmp_path.iterdir()) == []


def test_git_keeps_the_trusted_keys_and_nothing_else_of_the_state(tmp_path: Path) -> None:
    create(tmp_path / "churn", "churn", task="binary", language="en", time=True, today=TODAY)
    for name in ("trust/a.pub", "registry.db", "runs/1/executed.ipynb", "../tour-report/report.html"):
        path = tmp_path / "churn/.passerelle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "churn", check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path / "churn", check=True)
    listed = subprocess.run(["git", "ls-files"], cwd=tmp_path / "churn", check=True, capture_output=True, text=True)
    assert [line for line in listed.stdout.splitlines() if line.startswith((".passerelle", "tour-report"))] == [
        ".passerelle/trust/a.pub"
    ]
