"""The two Delta tables of a ledger, predictions and outcomes, and the Arrow form of a segment's records.

The columns are those of Prediction and Outcome; ``inputs`` and ``value`` as JSON text, and three more that say where a
record was written first: ``writer``, ``sequence`` of its segment, ``position`` in it. They order what was received at
one moment, and name rows without saying whose they are.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import msgspec
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from passerelle.errors import LedgerError
from passerelle.ledger.records import Outcome, Prediction, Record
from passerelle.ledger.segments import frames
from passerelle.ledger.storage import SegmentName, sync_file, sync_folder

TableName = Literal["predictions", "outcomes"]
TABLES: tuple[TableName, ...] = ("predictions", "outcomes")

#: The folder of segments that were torn or damaged, as compaction found them.
DAMAGED = "damaged"

_MOMENT = pa.timestamp("us", "UTC")
_ORIGIN = [("writer", pa.string()), ("sequence", pa.int64()), ("position", pa.int64())]
SCHEMAS: dict[TableName, pa.Schema] = {
    "predictions": pa.schema(
        [
            ("id", pa.string()),
            ("unit", pa.string()),
            ("role", pa.string()),
            ("status", pa.string()),
            ("revision", pa.int64()),
            ("version", pa.int64()),
            ("digest", pa.string()),
            ("trial", pa.string()),
            ("probability", pa.float64()),
            ("inputs", pa.string()),
            ("output", pa.list_(pa.float64())),
            ("error", pa.string()),
            ("event_at", _MOMENT),
            ("received_at", _MOMENT),
            ("latency_ms", pa.float64()),
            *_ORIGIN,
        ]
    ),
    "outcomes": pa.schema(
        [("id", pa.string()), ("value", pa.string()), ("known_at", _MOMENT), ("received_at", _MOMENT), *_ORIGIN]
    ),
}

#: Statistics of these columns alone go into Delta's log, which outlives erased rows: they name nobody.
_STATISTICS = {"predictions": "event_at,received_at,sequence,position", "outcomes": "known_at,received_at,sequence"}
_READER_VERSION = 1
_WRITER_VERSION = 2
_LOCK_S = 30.0


class SegmentRows(msgspec.Struct, frozen=True, kw_only=True):
    """A segment's records as Arrow."""

    name: SegmentName
    #: Table → its rows, in the order of writing.
    rows: dict[TableName, pa.Table]
    #: Where the segment is torn or damaged; None if it is whole.
    damage: str | None


def read_rows(data: bytes, name: SegmentName) -> SegmentRows:
    """A segment's whole frames as Arrow. Raises LedgerError, with its name, for a segment of a newer Passerelle."""
    batches: dict[TableName, list[pa.RecordBatch]] = {table: [] for table in TABLES}
    damage = None
    position = 0
    try:
        for whole in frames(data):
            if isinstance(whole, str):
                damage = whole
                continue
            for table in TABLES:
                batch = _batch(table, whole, name, position)
                if batch.num_rows:
                    batches[table].append(batch)
            position += len(whole)
    except LedgerError as error:
        raise LedgerError(f"segment {name.file}: {error}") from error
    rows = {table: pa.Table.from_batches(batches[table], SCHEMAS[table]) for table in TABLES}
    return SegmentRows(name=name, rows=rows, damage=damage)


def _batch(table: TableName, records: Sequence[Record], name: SegmentName, start: int) -> pa.RecordBatch:
    kind = Prediction if table == "predictions" else Outcome
    placed = [(start + number, record) for number, record in enumerate(records) if isinstance(record, kind)]
    columns: list[Sequence[object]] = []
    for field in SCHEMAS[table].names:
        if field == "writer":
            columns.append([name.writer] * len(placed))
        elif field == "sequence":
            columns.append([name.sequence] * len(placed))
        elif field == "position":
            columns.append([position for position, _ in placed])
        elif field in ("inputs", "value"):
            columns.append([msgspec.json.encode(getattr(record, field)).decode() for _, record in placed])
        else:
            columns.append([getattr(record, field) for _, record in placed])
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMAS[table], strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMAS[table])


def open_table(folder: Path, table: TableName) -> DeltaTable | None:
    """A table of the ledger in ``folder``; None before the first compaction.

    Raises LedgerError if it is damaged, or asks for more than this Passerelle knows.
    """
    path = folder / table
    if not (path / "_delta_log").is_dir() or not any((path / "_delta_log").glob("*.json")):
        return None
    try:
        found = DeltaTable(path)
        protocol = found.protocol()
    except (DeltaError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise LedgerError(
            f"the Delta table {path} cannot be opened ({reason}): restore it from a backup, or upgrade Passerelle if a "
            "newer one wrote it. Segments that it does not hold yet are kept."
        ) from error
    if protocol.min_reader_version > _READER_VERSION or protocol.min_writer_version > _WRITER_VERSION:
        raise LedgerError(
            f"the Delta table {path} asks for protocol {protocol.min_reader_version}/{protocol.min_writer_version}, "
            f"and this Passerelle knows {_READER_VERSION}/{_WRITER_VERSION}: a newer Passerelle or another tool "
            "changed it. Upgrade Passerelle, or restore the table. Nothing was changed."
        )
    return found


def ensure_table(folder: Path, table: TableName) -> DeltaTable:
    """The table, made if there is none."""
    found = open_table(folder, table)
    if found is not None:
        return found
    return DeltaTable.create(
        folder / table,
        schema=SCHEMAS[table],
        mode="ignore",
        # An auditor goes back to the version that a verdict was computed from: its log is kept for ten years.
        configuration={
            "delta.dataSkippingStatsColumns": _STATISTICS[table],
            "delta.logRetentionDuration": "interval 3650 days",
        },
    )


def moved(table: DeltaTable | None, writer: str) -> int:
    """The number of the last segment of this writer whose rows are in the table; 0 if none is."""
    version: int | None = None if table is None else table.transaction_version(writer)
    return version or 0


def files_of(delta: DeltaTable | None) -> list[str]:
    """The Parquet files of the table's newest version, which DuckDB reads itself.

    Not by way of pyarrow's dataset: delta-rs writes strings as ``string_view`` when it deletes or joins files, and no
    filter on those passes there (deltalake 1.6, pyarrow 26). That a file is the table's rows and nothing else is what
    protocol 1/2 says: no deletion vectors, no renamed columns.
    """
    return [] if delta is None else [unquote(uri) for uri in delta.file_uris()]


def parquet(files: Sequence[str]) -> str:
    """These files' rows as a table in SQL, with no column of a folder that is called like one (``version=9``).

    Files that were written before a column came hold NULL there, if others of them have it.
    """
    return f"read_parquet({listed([plain(file) for file in files])}, hive_partitioning = false, union_by_name = true)"


def plain(file: str) -> str:
    """A file's name as DuckDB takes it for this file alone: it reads * and ? as a pattern.

    >>> plain("/home/zoé/what?/a.parquet")
    '/home/zoé/what[?]/a.parquet'
    """
    return re.sub(r"[*?]", r"[\g<0>]", file)


def listed(texts: Sequence[str]) -> str:
    """Texts as a list in SQL."""
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"


def files_below(folder: Path) -> set[Path]:
    """The files of a table, its log's included."""
    return {Path(place) / name for place, _, names in os.walk(folder) for name in names}


def sync_files(folder: Path, known: set[Path]) -> None:
    """Put a table's files on the disk, except those in ``known``: delta-rs itself never does."""
    new = files_below(folder) - known
    for path in sorted(new):
        file = os.open(path, os.O_RDONLY)
        try:
            sync_file(file)
        finally:
            os.close(file)
    for place in {path.parent for path in new} | {folder, folder.parent}:
        sync_folder(place)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the ledger's lock: one process at a time changes its tables. Death releases it.

    Raises LedgerError if another one holds it for half a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    until_s = time.monotonic() + _LOCK_S
    lock = os.open(folder / "compaction.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until_s:
                    raise LedgerError(
                        f"another process is changing the ledger in {folder}: try again later."
                    ) from error
                time.sleep(0.05)
        yield
    finally:
        os.close(lock)
