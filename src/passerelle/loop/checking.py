"""Check: everything that can be said of a project without running its notebook."""

from __future__ import annotations

import difflib
from datetime import datetime

from passerelle.data.contract import load_contract
from passerelle.errors import SettingsError, SubmissionError
from passerelle.notebook.source import read_source
from passerelle.project.note import FILE as NOTE
from passerelle.project.note import render
from passerelle.project.settings import FILE, Project


def refuse_unknown_columns(project: Project) -> None:
    """Raise SettingsError if a column that [privacy] or task.unit names is in no table: nothing would be protected."""
    tables = load_contract(project).tables
    if project.data.main not in tables:
        return  # nothing was delivered yet
    known = sorted({name for table in tables.values() for name in table.schema.names})
    named = {f"privacy.{name}": name for name in project.privacy}
    if project.task.unit is not None:
        named["task.unit"] = project.task.unit
    for place, name in named.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the columns are {', '.join(known)}."
            raise SettingsError(f"passerelle.toml: {place} names the column {name!r}, which no table has: {hint}")


def check_project(project: Project, *, now: datetime) -> dict[str, str]:
    """Read settings, contract, notebook and note; file → what it holds. Raises what is wrong with the first."""
    source = read_source(project.root / project.notebook.path)
    code = [cell.source for cell in source.node.cells if cell.cell_type == "code"]
    calls = [name for name in ("training_data", "submit") if not any(name in cell for cell in code)]
    if calls:
        raise SubmissionError(
            f"{project.notebook.path} never calls passerelle.{calls[0]}: add the call, see docs/notebook.md."
        )
    contract = load_contract(project)
    refuse_unknown_columns(project)
    note = project.root / NOTE
    found = {
        FILE: f"{project.name} predicts {project.task.target} ({project.task.kind})",
        "contract.toml": f"tables: {', '.join(contract.tables) or 'none until the first delivery'}",
        project.notebook.path: f"{len(code)} code cells, {source.language}",
    }
    if note.exists():
        render(project, reached={}, figures={}, now=now)
        found[note.name] = "every figure it names is in passerelle.toml"
    return found
