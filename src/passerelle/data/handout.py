"""What a run is given to learn from: the main table's rows with their outcomes, the holdout apart, the other tables.

The outcomes table itself is not handed out: it holds the truth of the holdout.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerelle.data.columns import columns_of, row_ids
from passerelle.data.contract import KNOWN_AT, Contract, load_contract
from passerelle.data.holdout import last_days, share_of_keys
from passerelle.data.layout import HANDOUT, HANDOUT_FILE, Handout, table_file
from passerelle.data.table import Snapshot, read_conformed
from passerelle.errors import DataError, SettingsError
from passerelle.project.settings import Project
from passerelle.schema import Columns, Schema, encode_columns, take

__all__ = ["Handout", "count_mature", "write_handout"]

_PLACE = "__place__"


def write_handout(
    project: Project, snapshot: Snapshot, *, now: datetime, folder: Path, holdout: Path | None = None
) -> Handout:
    """Write ``<folder>/handout`` (the files that ``layout`` names), whole or not at all.

    The held-out rows, Columns of the main table with the target, go to the file ``holdout``, which lies outside of what
    a notebook is handed; without it they are written nowhere.

    Of the outcomes known at ``now``, the latest of each key is joined to its row; rows without one are left out and
    counted in the notes. With a time column, so are rows whose outcome is not mature: task.horizon_hours have not
    passed since the event, and the outcomes that are there already are the quick ones. Raises DataError if there are no
    rows or no outcomes yet, or if the holdout would be everything or nothing.
    """
    contract = load_contract(project)
    rows, schema, notes = _joined(project, snapshot, contract, now=now)
    rows, early = _mature(rows, project, now)
    columns = columns_of(rows, schema)
    held = _held_out(project, columns)
    if held.all() or not held.any():
        raise DataError(_no_split(project, columns))
    notes = [_held_note(project, columns, held), *notes, *early]
    tables = {project.data.main: schema}
    content = {table_file(project.data.main): take(columns, ~held)}
    for name, version in sorted(snapshot.tables.items()):
        if name not in (project.data.main, project.data.outcomes):
            table, tables[name] = read_conformed(project, contract, name, version)
            content[table_file(name)] = columns_of(table, tables[name])
    handout = Handout(
        project=project.name,
        task=project.task.kind,
        target=project.task.target,
        positive=project.task.positive,
        key=project.task.key,
        time=project.task.time,
        main=project.data.main,
        tables=tables,
        snapshot=snapshot.tables,
        notes=tuple(notes),
    )
    if holdout is not None:
        holdout.parent.mkdir(parents=True, exist_ok=True)
        draft = holdout.with_suffix(".draft")
        draft.write_bytes(encode_columns(take(columns, held)))
        draft.replace(holdout)
    _write(folder / HANDOUT, handout, content)
    return handout


def count_mature(project: Project, snapshot: Snapshot, *, now: datetime) -> int:
    """How many rows a run on this snapshot would be given now, held-out ones included; 0 if none are mature.

    Raises SettingsError if contract.toml does not fit the accepted rows.
    """
    try:
        rows, _, _ = _joined(project, snapshot, load_contract(project), now=now)
        return int(_mature(rows, project, now)[0].num_rows)
    except DataError:
        return 0


def _joined(
    project: Project, snapshot: Snapshot, contract: Contract, *, now: datetime
) -> tuple[pa.Table, Schema, list[str]]:
    """The main table's rows with the target as it is known now, in the order of time and key; and what was left out."""
    task, data = project.task, project.data
    if data.main not in snapshot.tables:
        there = f" (the tables with rows are {', '.join(snapshot.tables)})" if snapshot.tables else ""
        raise DataError(
            f"there are no accepted rows of the main table {data.main!r} yet{there}: "
            f"passerelle ingest FILE --table {data.main}, or set main in [data] of passerelle.toml."
        )
    main, schema = read_conformed(project, contract, data.main, snapshot.tables[data.main])
    if data.outcomes not in snapshot.tables:
        raise DataError(
            f"there are no outcomes yet: passerelle ingest FILE --table {data.outcomes} "
            f"(the key, {task.target} and {KNOWN_AT})."
        )
    key = list(task.key)
    outcomes, outcomes_schema = (main, schema)
    if data.outcomes != data.main:
        outcomes, outcomes_schema = read_conformed(project, contract, data.outcomes, snapshot.tables[data.outcomes])
    for name in key:
        kinds = schema.column(name).kind, outcomes_schema.column(name).kind
        if kinds[0] != kinds[1]:
            raise SettingsError(
                f"contract.toml: {name!r} is {kinds[0]} in {data.main!r} and {kinds[1]} in {data.outcomes!r}: "
                "a key is of one kind in both."
            )
    known = _latest(outcomes, key, now)
    kept = [name for name in schema.names if name not in (task.target, KNOWN_AT)]
    if data.outcomes == data.main:
        joined, waiting = known, len(_latest(outcomes, key, datetime.max.replace(tzinfo=UTC))) - len(known)
        strangers = 0
    else:
        kept = list(schema.names)
        joined = main.join(known.select([*key, task.target]), keys=key, join_type="inner")
        waiting, strangers = main.num_rows - joined.num_rows, known.num_rows - joined.num_rows
    if not joined.num_rows:
        raise DataError(
            f"no outcome of any accepted row is known at {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}: there are "
            f"{main.num_rows:,} rows of {data.main!r} and {known.num_rows:,} outcomes known by then; see that "
            f"{', '.join(key)} and {KNOWN_AT} say the same in both tables."
        )
    order = [(name, "ascending") for name in dict.fromkeys([*([task.time] if task.time else []), *key])]
    target = outcomes_schema.column(task.target)
    full = Schema(columns=(*schema.select(kept).columns, target))
    notes = []
    if waiting:
        notes.append(f"{waiting:,} row{'s' if waiting > 1 else ''} without an outcome yet left out")
    if strangers:
        notes.append(f"{strangers:,} outcome{'s' if strangers > 1 else ''} of rows that were not delivered left out")
    return joined.select(list(full.names)).sort_by(order), full, notes


def _mature(rows: pa.Table, project: Project, now: datetime) -> tuple[pa.Table, list[str]]:
    """The rows whose horizon has passed, a day's counted from its midnight in UTC; and what was left out."""
    task, moment = project.task, pa.timestamp("us", tz="UTC")
    if task.time is None:
        return rows, []
    until = pa.scalar(now - timedelta(hours=task.horizon_hours), moment)
    mature = rows.filter(pc.less_equal(rows[task.time].cast(moment), until))
    early = rows.num_rows - mature.num_rows
    if not mature.num_rows:
        raise DataError(
            f"no outcome is mature at {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}: {early:,} are known, each of an event "
            f"less than {task.horizon_hours:g} h ago. Wait, or set another horizon_hours in passerelle.toml."
        )
    which = f"row{'s' if early > 1 else ''} whose outcome is not mature yet (horizon {task.horizon_hours:g} h)"
    return mature, [f"{early:,} {which} left out"] if early else []


def _latest(outcomes: pa.Table, key: list[str], now: datetime) -> pa.Table:
    """Of the outcomes known by now, the latest of each key."""
    moment = pa.scalar(now, pa.timestamp("us", tz="UTC"))
    known = outcomes.filter(pc.less_equal(outcomes[KNOWN_AT], moment)).sort_by(KNOWN_AT)
    known = known.append_column(_PLACE, pa.array(np.arange(known.num_rows)))
    last = known.group_by(key).aggregate([(_PLACE, "max")])[f"{_PLACE}_max"]
    return known.drop_columns([_PLACE]).take(last)


def _held_out(project: Project, columns: Columns) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    task = project.task
    if task.time is not None:
        return last_days(columns[task.time], task.holdout_days)
    return share_of_keys(row_ids(columns, task.key), task.holdout_share)


def _no_split(project: Project, columns: Columns) -> str:
    task = project.task
    count = len(columns[task.target])
    if task.time is None:
        return (
            f"task.holdout_share = {task.holdout_share:g} splits {count:,} rows with an outcome into all and none: "
            "deliver more rows, or set another share in passerelle.toml."
        )
    times = columns[task.time].astype("datetime64[us]")
    days = (times.max() - times.min()) / np.timedelta64(1, "D")
    return (
        f"task.holdout_days = {task.holdout_days:g} holds out all {count:,} rows with an outcome: they span "
        f"{days:.3g} days. Set fewer days in passerelle.toml, or deliver more."
    )


def _held_note(project: Project, columns: Columns, held: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    task, count = project.task, int(held.sum())
    if task.time is None:
        return f"{count:,} rows held out: those whose key falls into the share {task.holdout_share:g}"
    start = columns[task.time][held].min().astype("datetime64[s]")
    return f"{count:,} rows from {start}Z held out"


def _write(folder: Path, handout: Handout, content: dict[str, Columns]) -> None:
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, columns in content.items():
        (draft / name).write_bytes(encode_columns(columns))
    (draft / HANDOUT_FILE).write_bytes(msgspec.json.encode(handout))
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)
