"""Scaffold: a new project, whole and working: settings, scoping note, notebook, sample data, tests and CI files."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import unicodedata
from datetime import date, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import jinja2
import jupytext

from passerelle.errors import SettingsError
from passerelle.project.place import refuse_unfit
from passerelle.project.sample import TARGETS, sample
from passerelle.project.scope import Acceptance, Milestone, Stage
from passerelle.project.settings import Metric, Name, TaskKind

Language = Literal["en", "fr"]

#: Stage → the milestone's name in each language, the week it starts in, and the week it ends with.
_PLAN: dict[Stage, tuple[dict[Language, str], int, int]] = {
    "scoped": ({"en": "Scoping note agreed", "fr": "Note de cadrage validée"}, 0, 2),
    "data": ({"en": "Data accepted", "fr": "Données acceptées"}, 1, 4),
    "trained": ({"en": "First version trained", "fr": "Première version entraînée"}, 3, 7),
    "deployed": ({"en": "Deployed", "fr": "Déploiement"}, 6, 9),
    "served": ({"en": "First real events answered", "fr": "Premiers événements réels servis"}, 8, 10),
    "judged": ({"en": "Judged on its outcomes", "fr": "Jugement sur les résultats observés"}, 10, 16),
}

#: Task → the metric of its gate, and the figures that it must reach on the sample; the user's own come later.
_METRIC: dict[TaskKind, Metric] = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
_GOALS: dict[TaskKind, tuple[dict[str, Any], ...]] = {
    "binary": (
        {"name": "AUC", "figure": "auc", "at_least": 0.75},
        {"name": "Log loss", "figure": "log_loss", "at_most": 0.5},
    ),
    "multiclass": (
        {"name": "Accuracy", "figure": "accuracy", "at_least": 0.6},
        {"name": "Log loss", "figure": "log_loss", "at_most": 0.9},
    ),
    "regression": ({"name": "RMSE (h)", "figure": "rmse", "at_most": 14.0},),
}

#: File of the project → its template; {language} is replaced.
_FILES = {
    "passerelle.toml": "passerelle.toml",
    "cadrage.md": "cadrage.{language}.md",
    "README.md": "README.md",
    "requirements.txt": "requirements.txt",
    ".gitignore": "gitignore",
    "tests/test_notebook.py": "test_notebook.py.j2",
    ".github/workflows/passerelle.yml": "github.yml",
    ".gitlab-ci.yml": "gitlab.yml",
    "azure-pipelines.yml": "azure-pipelines.yml",
}


def create(folder: Path, name: str, *, task: TaskKind, language: Language, time: bool, today: date) -> list[Path]:
    """Write a new project into ``folder``, which must not exist or be empty; the files written, in order.

    ``today`` is when the plan starts. The project appears whole or not at all. Raises SettingsError if the name cannot
    be a project's, or if the folder holds something.
    """
    _check_name(name)
    refuse_unfit(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} is there already and is not an empty folder: name another, or empty it.")
    draft = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        files = _contents(name, task=task, language=language, time=time, today=today)
        for relative, text in files.items():
            path = draft / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return [folder / relative for relative in files]


def _check_name(name: str) -> None:
    pattern: str = next(meta.pattern for meta in get_args(Name)[1:])
    if re.fullmatch(pattern, name):
        return
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()  # without its accents
    near = re.sub(r"[^a-z0-9_-]+", "-", plain.lower()).lstrip("-_0123456789").rstrip("-_")[:63]
    hint = f"try {near!r}" if re.fullmatch(pattern, near) else "try a word"
    raise SettingsError(
        f"{name!r} cannot be a project's name: it starts with a small letter and has small letters, digits, - and _ "
        f"(63 at most); {hint}."
    )


def _contents(name: str, *, task: TaskKind, language: Language, time: bool, today: date) -> dict[str, str]:
    """Path in the project → text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("passerelle.project", "templates/project"),
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  (TOML, Markdown and Python are written here, not HTML)
    )
    values = {
        "name": name,
        "task": task,
        "language": language,
        "time": time,
        "target": TARGETS[task],
        "metric": _METRIC[task],
        "milestones": _plan(language, today),
        "acceptance": [Acceptance(**goal) for goal in _GOALS[task]],
        "version": version("passerelle"),
        "t": partial(_in_language, language),
    }
    files = {
        path: environment.get_template(template.format(language=language)).render(values)
        for path, template in _FILES.items()
    }
    files["notebooks/model.ipynb"] = _notebook(environment.get_template("model.py.j2").render(values))
    return files | {f"deliveries/{name}": text for name, text in sample(task, time=time).items()}


def _in_language(language: Language, english: str, french: str) -> str:
    return {"en": english, "fr": french}[language]


def _plan(language: Language, today: date) -> list[Milestone]:
    return [
        Milestone(
            name=names[language],
            start=today + timedelta(weeks=first),
            end=today + timedelta(weeks=last),
            stage=stage,
        )
        for stage, (names, first, last) in _PLAN.items()
    ]


def _notebook(script: str) -> str:
    """A script in cells, as a notebook whose text is the same every time."""
    notebook = jupytext.reads(script, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02}"
        cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key == "tags"}
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"
