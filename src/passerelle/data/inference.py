"""A table's contract, inferred from its first delivery and written for a person to edit.

What must be decided to read the next delivery is decided: the kinds, and where a value may be missing. What one
delivery cannot tell is only suggested, in a comment: bounds, allowed values, how many rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import tomlkit
from tomlkit.items import Table

from passerelle.data.casting import cast, guess
from passerelle.data.contract import KNOWN_AT, TableContract, complete, contract_path
from passerelle.data.reading import Raw
from passerelle.errors import DataError
from passerelle.project.settings import Project
from passerelle.schema import Column, Kind

_HEADER = """\
What a good delivery of each table is. Written from the first delivery of each, and yours from then on: edit it, and
the next delivery is judged by what stands here. A delivery that does not fit is put aside whole, with a report.

kind             integer, number, boolean, string, timestamp or date
nullable         true: a value may be missing (an empty cell, NA, null)
minimum, maximum beyond them a value is impossible, not merely rare (integer, number)
allowed          the only values that are possible (string)
timezone         how a moment without an offset is meant, like "America/New_York"; UTC if it is not said (timestamp)
missing_at_most  the largest share of missing values in a delivery, like 0.2
mean_at_least, mean_at_most  bounds of the mean of a delivery's values: another unit shows there (integer, number)
key              of a table: the columns that identify a row; a second row with the same key is refused.
                 The main table and the outcomes have theirs from passerelle.toml (task.key).
rows_at_least    of a table: the fewest rows in a delivery

A line that begins with # is only a suggestion: take the # away if it is true of every delivery to come.
A new column: add it here with nullable = true, before it is delivered. A column that is dropped: delete it here."""

_FEW = 20


def infer(project: Project, name: str, files: Sequence[Raw], known: Mapping[str, TableContract]) -> TableContract:
    """The contract of a table from its first delivery; ``known`` are the tables there are already.

    The key of the main table and of the outcomes is of one kind: that of whichever came first. Raises DataError for a
    column whose kind cannot be told, SettingsError if a column that passerelle.toml names is not there.
    """
    main, outcomes = project.data.main, project.data.outcomes
    twin = known.get({main: outcomes, outcomes: main}.get(name, ""))
    shared = {one.name: one.kind for one in twin.columns if one.name in project.task.key} if twin else {}
    columns = []
    for column in dict.fromkeys(column for raw in files for column in raw.columns):
        kind: Kind | None = None
        nullable = False
        for raw in files:
            if column not in raw.columns:
                raise DataError(f"{raw.name} has no column {column!r}, and other files of table {name!r} have.")
            values = raw.columns[column]
            try:
                kind = _wider(kind, guess(values, text=raw.text))
            except ValueError as error:
                raise DataError(f"{raw.name}, column {column!r} {error}.") from error
        if (name, column, kind) == (outcomes, KNOWN_AT, "date"):
            kind = "timestamp"  # a day is its midnight, in the first delivery as in those after it
        guessed = Column(name=column, kind=shared.get(column, kind or "string"))
        for raw in files:
            nullable |= bool(cast(raw.columns[column], guessed, text=raw.text).values.null_count)
        columns.append(msgspec.structs.replace(guessed, nullable=nullable))
    return complete(project, name, tuple(columns))


def write_contract(project: Project, new: dict[str, tuple[TableContract, pa.Table]]) -> None:
    """Add tables to contract.toml, each with its first delivery's rows; what a person wrote there stays as it is."""
    path = contract_path(project)
    if path.is_file():
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
    else:
        document = tomlkit.document()
        for line in _HEADER.splitlines():
            document.add(tomlkit.comment(line) if line else tomlkit.comment(""))
    for name, (contract, rows) in new.items():
        if name not in document:
            document.add(tomlkit.nl())
            document.add(name, _section(project, contract, rows))
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8", newline="\n") as file:
        file.write(tomlkit.dumps(document).rstrip("\n") + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _section(project: Project, contract: TableContract, rows: pa.Table) -> Table:
    section = tomlkit.table()
    if contract.key:
        section.add(tomlkit.comment(f"key: {', '.join(contract.key)} (task.key in passerelle.toml)"))
    else:
        section.add(tomlkit.comment("key = []  # the columns that identify a row"))
    section.add(tomlkit.comment(f"rows_at_least = 1  # the first delivery held {rows.num_rows}"))
    columns = tomlkit.table(is_super_table=True)
    for column in contract.columns:
        one = tomlkit.table()
        one.add("kind", column.kind)
        if column.nullable:
            one.add("nullable", True)  # noqa: FBT003  (tomlkit's own signature)
        for line in _suggestions(project, contract, column, rows[column.name]):
            one.add(tomlkit.comment(line))
        one.add(tomlkit.nl())
        columns.add(column.name, one)
    section.add(tomlkit.nl())
    section.add("columns", columns)
    return section


def _suggestions(project: Project, contract: TableContract, column: Column, values: pa.ChunkedArray) -> list[str]:
    if values.null_count == len(values):
        return ["the first delivery held no value here: see whether this kind is right"]
    lines = []
    if values.null_count:
        lines.append(f"missing_at_most = 1.0  # the first delivery: {values.null_count / len(values):.3g}")
    if project.privacy.get(column.name, "keep") != "keep":
        return lines  # nothing of a private column is written out of the data
    if column.kind in ("integer", "number"):
        ends = pc.min_max(values).as_py()
        held = f"# the first delivery held {ends['min']!r} .. {ends['max']!r}"
        lines += [f"minimum = {ends['min']!r}  {held}", f"maximum = {ends['max']!r}"]
    if column.kind == "string" and column.name not in contract.key:
        texts: list[Any] = pc.unique(values).drop_null().to_pylist()
        if len(texts) <= _FEW and len(texts) < len(values):
            lines.append(f"allowed = {tomlkit.item(sorted(texts)).as_string()}")
    if column.kind == "timestamp":
        lines.append('timezone = "UTC"  # of moments without an offset')
    return lines


def _wider(first: Kind | None, second: Kind | None) -> Kind | None:
    """The kind that holds what two files of one delivery hold."""
    if first is None or second is None or first == second:
        return first or second
    kinds = {first, second}
    for pair, wide in _WIDER:
        if kinds == pair:
            return wide
    return "string"


_WIDER: tuple[tuple[set[Kind], Kind], ...] = (({"integer", "number"}, "number"), ({"date", "timestamp"}, "timestamp"))
