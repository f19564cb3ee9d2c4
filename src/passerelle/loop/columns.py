"""Columns: those that the settings name are columns of the project's tables."""

from __future__ import annotations

import difflib

from passerelle.data.contract import load_contract
from passerelle.errors import SettingsError
from passerelle.project.settings import Project


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
