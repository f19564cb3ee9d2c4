"""The accepted rows: a Delta table for each table of the project, ``<state>/data/<table>``, read as snapshots.

Delta neither syncs to disk nor refuses a repeated application transaction, so the order of things is ours: an append
carries its delivery's id, which is looked for before it is made; what a snapshot may read is the version that the
state database holds, written when the whole batch has landed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import deltalake
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from deltalake.exceptions import DeltaError, DeltaProtocolError, TableNotFoundError

from passerelle.data.casting import cast
from passerelle.data.columns import ARROW, arrow_schema
from passerelle.data.contract import Contract, TableContract, load_contract
from passerelle.errors import DataError, SettingsError, StateError
from passerelle.project.settings import Project
from passerelle.schema import Column, Schema
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.lease import lease

# No statistics of the columns in Delta's log: they would keep the smallest and largest values of rows forgotten since.
_CONFIGURATION = {"delta.dataSkippingNumIndexedCols": "0"}


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The accepted data as of one version of each of its Delta tables; equal snapshots hold the same rows."""

    tables: dict[str, int]


def snapshot(project: Project) -> Snapshot:
    """The accepted data as it is now; of a batch that is still landing, nothing."""
    query = sa.select(tables.landed).order_by(tables.landed.c.table)
    with open_state(project.state).connect() as connection:
        return Snapshot(tables={row.table: row.version for row in connection.execute(query)})


def read(project: Project, table: str, version: int | None = None) -> pa.Table:
    """The rows of a table, in its latest snapshot or as of a version.

    Raises DataError if there is no such table or version, if a newer program wrote it, or if its rows were forgotten.
    """
    if version is None:
        version = snapshot(project).tables.get(table)
        if version is None:
            raise DataError(f"there are no accepted rows of {table!r} yet: passerelle ingest FILE --table {table}")
    delta = open_delta(project, table)
    if delta is None:
        raise DataError(f"there are no accepted rows of {table!r} at {delta_path(project, table)}.")
    try:
        delta.load_as_version(version)
        return delta.to_pyarrow_table()
    except (FileNotFoundError, DeltaError, OSError) as error:
        raise DataError(
            f"version {version} of table {table!r} cannot be read any more (it is not there, or rows of it were "
            f"forgotten since): use a newer snapshot. ({_said(error)})"
        ) from error


def read_conformed(
    project: Project, contract: Contract, table: str, version: int | None = None
) -> tuple[pa.Table, Schema]:
    """The rows of a table in the form that the contract gives it today, in the order of its key, and its fields.

    A column that may not be null any more, but was, is still nullable there. Raises what read and conformed raise.
    """
    rows = read(project, table, version)
    if table not in contract.tables:
        raise DataError(f"contract.toml has no table {table!r}, and there are accepted rows of it: put its part back.")
    part = contract.tables[table]
    rows = conformed(rows, part.columns, table)
    if part.key:
        rows = rows.sort_by([(name, "ascending") for name in part.identity])
    columns = [
        msgspec.structs.replace(column, nullable=column.nullable or bool(rows[column.name].null_count))
        for column in part.columns
    ]
    return rows, Schema(columns=tuple(columns))


def _said(error: Exception) -> str:
    return str(error).partition("\n")[0]


def delta_path(project: Project, table: str) -> Path:
    """Where a table stands."""
    return project.state / "data" / table


def open_delta(project: Project, table: str) -> deltalake.DeltaTable | None:
    """The Delta table as it is now, a batch that is still landing included; None if there is none."""
    path = delta_path(project, table)
    try:
        delta = deltalake.DeltaTable(path)
        delta.to_pyarrow_dataset()  # refuses what it cannot read
    except TableNotFoundError:
        return None
    except (DeltaError, OSError, ValueError) as error:
        if isinstance(error, DeltaProtocolError) or "Unsupported" in str(error):
            raise DataError(f"{path} was written by a newer program ({_said(error)}): upgrade Passerelle.") from error
        raise DataError(
            f"{path} cannot be read ({_said(error)}): put back a copy of the folder from before."
        ) from error
    return delta


def append(project: Project, table: str, rows: pa.Table, *, delivery: str) -> int:
    """Append a delivery's rows, once however often it is called; the version that holds them. The caller has the lease.

    The table takes the form of ``rows`` first if its own differs (the contract was edited).
    """
    path = delta_path(project, table)
    delta = open_delta(project, table)
    if delta is not None:
        if delta.transaction_version(delivery) is not None:
            return int(delta.version())
        _conform(project, table, delta, rows.schema)
    transaction = deltalake.CommitProperties(app_transactions=[deltalake.Transaction(delivery, 1)])
    return _write(path, rows, mode="append", configuration=_CONFIGURATION, commit_properties=transaction)


def _write(path: Path, rows: pa.Table, **options: Any) -> int:
    """Write a version and have it on the disk before anything relies on it, which Delta does not see to."""
    try:
        deltalake.write_deltalake(path, rows, **options)
    except (DeltaError, OSError) as error:
        raise DataError(f"{path} cannot be written ({_said(error)}): free the disk and try again.") from error
    version = int(deltalake.DeltaTable(path).version())
    log = path / "_delta_log" / f"{version:020}.json"
    actions = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for file in (*(path / unquote(action["add"]["path"]) for action in actions if "add" in action), log):
        with file.open("r+b") as written:
            os.fsync(written.fileno())
    if sys.platform != "win32":  # where a folder cannot be synced
        for folder in (path.parent, path, log.parent):
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    return version


def identities(project: Project, table: str, contract: TableContract) -> pa.Table | None:
    """contract.identity of every accepted row, in the contract's types; None if there are none."""
    delta = open_delta(project, table)
    if delta is None or not contract.identity:
        return None
    columns = [contract.schema.column(name) for name in contract.identity]
    there = {field.name for field in delta.schema().fields}
    names = [column.name for column in columns]
    missing = next((name for name in names if name not in there), None)
    if missing is not None:
        raise SettingsError(f"the accepted rows of {table!r} have no column {missing!r}: it cannot be part of the key.")
    return conformed(delta.to_pyarrow_table(columns=names), columns, table)


def conformed(rows: pa.Table, columns: tuple[Column, ...] | list[Column], table: str) -> pa.Table:
    """Accepted rows in the form of a contract that was edited since: columns added (null), dropped, of another kind.

    Raises SettingsError if their values do not fit the new kind, or a new column may not be null.
    """
    arrays = []
    for column in columns:
        if column.name not in rows.column_names:
            if not column.nullable:
                raise SettingsError(
                    f"contract.toml: {table}.columns.{column.name} is new, and the accepted rows have none: "
                    "it must be nullable = true."
                )
            arrays.append(pa.chunked_array([pa.nulls(rows.num_rows, ARROW[column.kind])]))
            continue
        values = rows[column.name]
        if column.kind == "string" and not pa.types.is_string(values.type):
            values = values.cast(pa.string())
        result = cast(values, column, text=column.kind != "string" and pa.types.is_string(values.type))
        if result.misfits:
            misfit = result.misfits[0]
            raise SettingsError(
                f"contract.toml: {table}.columns.{column.name} is {column.kind} now, and the accepted rows hold "
                f"{misfit.values[0]!r}, which {misfit.reason}: give it a kind that holds both."
            )
        arrays.append(result.values)
    return pa.table(arrays, schema=arrow_schema(columns))


def _conform(project: Project, table: str, delta: deltalake.DeltaTable, schema: pa.Schema) -> None:
    rows = delta.to_pyarrow_table()
    if rows.schema.remove_metadata().equals(schema.remove_metadata()):
        return
    columns = load_contract(project).tables[table].columns
    form = conformed(rows, columns, table)
    _write(delta_path(project, table), form, mode="overwrite", schema_mode="overwrite")


def forget(project: Project, column: str, value: str) -> int:
    """Erase the rows in which ``column`` holds ``value``, in every table that has that column; how many they were.

    The old files are deleted too, so that snapshots from before cannot be read any more: a run of theirs cannot be
    repeated. Not touched, and to be looked at by hand: the inbox, quarantined copies, and what runs were handed.
    Raises SettingsError if no table has the column, or the value is not of its kind.
    """
    contract = load_contract(project).tables
    holders = {name: table for name, table in contract.items() if column in table.schema.names}
    if not holders:
        raise SettingsError(f"no table of contract.toml has a column {column!r}: name one that has the unit's id.")
    count = 0
    with lease(project.state, "ingest"):
        engine = open_state(project.state)
        with engine.connect() as connection:
            half = sa.select(tables.deliveries.c.id).where(tables.deliveries.c.status == "landing")
            if connection.execute(half).first() is not None:
                raise StateError("a delivery is still landing: run passerelle ingest to finish it, then forget again.")
        for name, table in holders.items():
            asked = cast(pa.chunked_array([pa.array([value])]), table.schema.column(column), text=True)
            if asked.misfits:
                raise SettingsError(f"{value!r} {asked.misfits[0].reason}, as column {column!r} of {name!r} holds.")
            delta = open_delta(project, name)
            if delta is None:
                continue
            rows = delta.to_pyarrow_table()
            if column not in rows.column_names:
                continue
            kept = rows.filter(pc.fill_null(pc.not_equal(rows[column], asked.values[0]), fill_value=True))
            if kept.num_rows < rows.num_rows:
                # Overwritten, not deleted by a predicate: Delta's log would keep the predicate, and so the value.
                _write(delta_path(project, name), kept, mode="overwrite")
                count += rows.num_rows - kept.num_rows
            delta = deltalake.DeltaTable(delta_path(project, name))
            delta.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
            with writing(engine) as connection:
                set_landed(connection, name, int(deltalake.DeltaTable(delta_path(project, name)).version()))
    return count


def set_landed(connection: sa.Connection, table: str, version: int) -> None:
    """From now on, snapshots hold this version of the table."""
    connection.execute(tables.landed.delete().where(tables.landed.c.table == table))
    connection.execute(tables.landed.insert().values(table=table, version=version))
