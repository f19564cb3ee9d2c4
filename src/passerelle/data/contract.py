"""What a good batch is, table by table: ``contract.toml``, beside passerelle.toml; read anew for every delivery.

A table's part is written when its first delivery comes (``inference``), and is the user's from then on.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import SettingsError
from passerelle.project.settings import Project
from passerelle.schema import Column, Kind, Schema

FILE = "contract.toml"

#: The column of the outcomes table that says when the truth became known.
KNOWN_AT = "known_at"

_Section = TypeVar("_Section", bound=msgspec.Struct)
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class TableContract(msgspec.Struct, frozen=True, kw_only=True):
    """What a good batch of one table is."""

    #: What each column may hold; every one must be there and no other, in any order.
    columns: tuple[Column, ...]
    #: The columns that identify a row; empty: rows may be alike.
    key: tuple[str, ...] = ()
    #: The time column; None if time plays no part.
    time: str | None = None
    #: The column that says when the row became known, for outcomes: a later one corrects an earlier one.
    known_at: str | None = None
    #: The fewest rows in a batch.
    rows_at_least: int = 1
    #: Column → the largest share of missing values in a batch.
    missing_at_most: dict[str, float] = {}
    #: Column → the least and the largest mean of a batch's values: values in another unit are possible one by one.
    mean_at_least: dict[str, float] = {}
    mean_at_most: dict[str, float] = {}

    @property
    def schema(self) -> Schema:
        """The columns, as a Schema."""
        return Schema(columns=self.columns)

    @property
    def identity(self) -> tuple[str, ...]:
        """What no two rows may share: the key, and for outcomes the moment they became known."""
        return self.key if self.known_at is None else (*self.key, self.known_at)


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """What a good batch is."""

    tables: dict[str, TableContract]


class _ColumnSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Kind
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None
    timezone: str | None = None
    missing_at_most: _Share | None = None
    mean_at_least: float | None = None
    mean_at_most: float | None = None


class _TableSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    columns: dict[str, dict[str, Any]]
    key: tuple[str, ...] = ()
    rows_at_least: Annotated[int, msgspec.Meta(ge=1)] = 1


def contract_path(project: Project) -> Path:
    """Where the contract stands."""
    return project.root / FILE


def load_contract(project: Project) -> Contract:
    """Read the contract; one without tables if there is no file yet.

    Raises SettingsError, naming the key, the value and, for a typing error, the near one.
    """
    path = contract_path(project)
    if not path.is_file():
        return Contract(tables={})
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}. Correct that line.") from error
    return Contract(tables={name: _table(project, name, section) for name, section in raw.items()})


def complete(project: Project, name: str, columns: tuple[Column, ...]) -> TableContract:
    """A table's contract with what passerelle.toml says of it: key, time and known_at, which may not be null.

    Raises SettingsError for a column that is needed and is not there, or is of the wrong kind.
    """
    task, data = project.task, project.data
    main, outcomes = name == data.main, name == data.outcomes
    known_at = KNOWN_AT if outcomes else None
    time = task.time if main else None
    key = task.key if main or outcomes else ()
    table = TableContract(columns=columns, key=key, time=time, known_at=known_at)
    needed = dict.fromkeys(key, "task.key")
    if time is not None:
        needed[time] = "task.time"
    if outcomes:
        needed |= {task.target: "task.target", KNOWN_AT: "the moment when an outcome became known"}
    for column, why in needed.items():
        _require(table, name, column, why)
    for moment, kinds in ((time, ("timestamp", "date")), (known_at, ("timestamp",))):
        if moment is not None and table.schema.column(moment).kind not in kinds:
            raise SettingsError(
                f"table {name!r}: column {moment!r} holds {table.schema.column(moment).kind} and must hold "
                f"{' or '.join(kinds)}: write it like 2013-01-31T12:00:00Z."
            )
    if main and not outcomes and task.target in table.schema.names:
        raise SettingsError(
            f"table {name!r} holds the target {task.target!r} itself. If each of its rows says when that became known "
            f'({KNOWN_AT}), set outcomes = "{name}" in [data] of passerelle.toml; else deliver the target in a table '
            f"of its own, {data.outcomes!r}: the key, the target and {KNOWN_AT}."
        )
    never = set(needed)
    changed = [
        msgspec.structs.replace(column, nullable=column.nullable and column.name not in never) for column in columns
    ]
    return msgspec.structs.replace(table, columns=tuple(changed))


def _require(table: TableContract, name: str, column: str, why: str) -> None:
    names = table.schema.names
    if column not in names:
        raise SettingsError(
            f"table {name!r} has no column {column!r} ({why}{near(column, names)}); its columns are {', '.join(names)}."
        )


def near(name: str, names: Mapping[str, Any] | tuple[str, ...]) -> str:
    """The end of a message that suggests the known name most like this one; empty if none is.

    >>> near("hour_", ("hour", "minute"))
    "; did you mean 'hour'?"
    """
    lower = {one.casefold(): one for one in names}
    found = difflib.get_close_matches(name.casefold(), lower, n=1, cutoff=0.6)
    return f"; did you mean {lower[found[0]]!r}?" if found else ""


def _table(project: Project, name: str, raw: Any) -> TableContract:
    path = contract_path(project)
    section = _section(_TableSection, raw, name, path)
    sections = {
        column: _section(_ColumnSection, one, f"{name}.columns.{column}", path)
        for column, one in section.columns.items()
    }
    columns = tuple(_column(column, one, f"{path}: {name}.columns.{column}") for column, one in sections.items())
    table = complete(project, name, columns)
    if section.key and table.key:
        raise SettingsError(f"{path}: {name}.key is said in passerelle.toml (task.key): leave it out here.")
    for column in section.key:
        _require(table, name, column, f"{name}.key in {path}")
    whole = {
        setting: {name: value for name, one in sections.items() if (value := getattr(one, setting)) is not None}
        for setting in _OF_A_BATCH
    }
    return msgspec.structs.replace(table, key=table.key or section.key, rows_at_least=section.rows_at_least, **whole)


#: What is said of a column's values in a batch together: not part of its schema.
_OF_A_BATCH = ("missing_at_most", "mean_at_least", "mean_at_most")


def _section(kind: type[_Section], raw: Any, place: str, path: Path) -> _Section:
    known = kind.__struct_fields__
    if isinstance(raw, dict):
        for key in raw:
            if key not in known:
                hint = near(key, known) or f"; the keys here are {', '.join(known)}."
                raise SettingsError(f"{path}: unknown key {f'{place}.{key}'!r}{hint}")
    try:
        return msgspec.convert(raw, prepared(kind))
    except msgspec.ValidationError as error:
        text = str(error).replace(" - at `$.", f" (at {place}.").replace("`", "")
        raise SettingsError(f"{path}: {place}: {text[0].lower()}{text[1:]}. Correct it and try again.") from error


def _column(name: str, section: _ColumnSection, place: str) -> Column:
    numeric = section.kind in ("integer", "number")
    for setting, value, fits, kinds in (
        ("minimum", section.minimum, numeric, "integer and number"),
        ("maximum", section.maximum, numeric, "integer and number"),
        ("mean_at_least", section.mean_at_least, numeric, "integer and number"),
        ("mean_at_most", section.mean_at_most, numeric, "integer and number"),
        ("allowed", section.allowed, section.kind == "string", "string"),
        ("timezone", section.timezone, section.kind == "timestamp", "timestamp"),
    ):
        if value is not None and not fits:
            raise SettingsError(f"{place}.{setting}: {section.kind} columns have none; it is for {kinds} columns.")
    for low, high in (("minimum", "maximum"), ("mean_at_least", "mean_at_most")):
        least, most = getattr(section, low), getattr(section, high)
        if least is not None and most is not None and least > most:
            raise SettingsError(f"{place}: {low} {least:g} is above {high} {most:g}.")
    if section.timezone is not None:
        try:
            ZoneInfo(section.timezone)
        except (ValueError, OSError, KeyError) as error:
            raise SettingsError(
                f"{place}.timezone: {section.timezone!r} is no time zone, like America/New_York."
            ) from error
    given = {field: getattr(section, field) for field in _ColumnSection.__struct_fields__ if field not in _OF_A_BATCH}
    return Column(name=name, **given)
