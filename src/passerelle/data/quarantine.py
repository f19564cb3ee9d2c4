"""Where a batch goes that is not accepted: its files as they were delivered, and a report of what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from passerelle.data.checking import Problem
from passerelle.project.settings import Project

REPORT = "report.html"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was wrong with a batch: report.json, and report.html for people."""

    project: str
    #: The delivery's id.
    delivery: str
    at: datetime
    #: The files' names.
    files: tuple[str, ...]
    #: Table → rows that could be read.
    rows: dict[str, int]
    problems: tuple[Problem, ...]
    #: What to type when the cause is removed.
    command: str


def quarantine_path(project: Project, delivery: str) -> Path:
    """The folder of a quarantined delivery."""
    return project.state / "quarantine" / delivery


def quarantine(project: Project, report: Report, files: Sequence[Path]) -> Path:
    """Copy a batch's files into quarantine with its report, whole or not at all; the path of report.html."""
    folder = quarantine_path(project, report.delivery)
    draft = folder.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "files").mkdir(parents=True)
    for number, path in enumerate(files):
        target = draft / "files" / path.name
        shutil.copyfile(path, target if not target.exists() else target.with_name(f"{number}-{path.name}"))
    encoded: Any = msgspec.json.format(msgspec.json.encode(report), indent=2)
    (draft / "report.json").write_bytes(encoded)
    (draft / REPORT).write_text(render(report), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)
    return folder / REPORT


def render(report: Report) -> str:
    """The report as one page of HTML that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("passerelle.data", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("quarantine.html").render(report=report)
