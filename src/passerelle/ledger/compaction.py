"""Compaction: sealed segments are moved into the Delta tables, exactly once.

For each group of segments: their rows are committed with (writer, number of the last segment) as Delta's application
transaction, checked first; the new files are put on the disk, which delta-rs does not do; then the segments are
deleted. A crash between any two steps leaves segments that the tables hold already: the next compaction finds that by
the transaction, reads their rows in the tables, puts the tables on the disk again, and deletes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from passerelle.errors import LedgerError
from passerelle.ledger.storage import LocalStorage, SegmentName, Storage, sync_file, sync_folder
from passerelle.ledger.tables import (
    DAMAGED,
    TABLES,
    SegmentRows,
    TableName,
    alone,
    ensure_table,
    files_below,
    files_of,
    moved,
    open_table,
    read_rows,
    sync_files,
)

#: A commit takes segments until it has this many rows.
_COMMIT_ROWS = 250_000
#: With more files than this in a table, small ones are joined.
_MANY_FILES = 100
_LOOK_AGAIN_S = 0.02
#: So many segments of an object store are read, or deleted, at once.
_SIDE_BY_SIDE = 16

#: map, or one that does several at once.
_Each = Callable[..., Iterator[Any]]


class Compaction(msgspec.Struct, frozen=True, kw_only=True):
    """What a compaction did."""

    #: Segments that were moved and deleted.
    segments: int = 0
    #: Records that were added to the tables.
    predictions: int = 0
    outcomes: int = 0
    #: Segments that the tables held already, since an earlier compaction died before it could delete them.
    repeated: int = 0
    #: Segments that were torn or damaged: what they held up to there was moved, the file is kept in ``damaged/``.
    damaged: tuple[str, ...] = ()

    def __add__(self, other: Compaction) -> Compaction:
        """What both did."""
        return Compaction(
            segments=self.segments + other.segments,
            predictions=self.predictions + other.predictions,
            outcomes=self.outcomes + other.outcomes,
            repeated=self.repeated + other.repeated,
            damaged=self.damaged + other.damaged,
        )


def compact(
    folder: Path, *, now: datetime, storage: Storage | None = None, before_delete: Callable[[], None] = lambda: None
) -> Compaction:
    """Move all sealed segments of the ledger in ``folder`` into its tables, and those that dead writers left open.

    ``storage`` is where the segments are kept; None: in ``folder``. ``now`` is written in the note beside a damaged
    segment. ``before_delete`` is called when rows are in the tables and their segments are about to go: where this disk
    is not the last word, it takes them further. Raises LedgerError if the disk is full, a table cannot be opened or a
    newer Passerelle wrote a segment: what was moved until then stays moved, the rest waits.
    """
    with alone(folder):
        return compact_alone(folder, storage or LocalStorage(folder), now=now, before_delete=before_delete)


def compact_alone(
    folder: Path, storage: Storage, *, now: datetime | None, before_delete: Callable[[], None] = lambda: None
) -> Compaction:
    """Compact, for a caller who holds the ledger's lock."""
    seal_the_dead(storage)
    done = Compaction()
    try:
        with _reach(storage) as each:
            for group in _groups(storage, settled(storage.names()), each):
                done += _move(folder, storage, group, now, each, before_delete)
        if done.segments:
            _join_files(folder)
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise LedgerError(
            f"the ledger in {folder} could not be compacted: {error}. Nothing was lost: free the disk, compact again."
        ) from error
    return done


def seal_the_dead(storage: Storage) -> None:
    """Seal what dead writers left open: claiming a slot does it, and fails for the living."""
    for slot in {name.slot for name in storage.names() if not name.sealed}:
        try:
            claimed = storage.claim(slot)
        except LedgerError:
            continue
        claimed.release()


def seal_the_living(storage: LocalStorage, *, wait_s: float = 1.0) -> bool:
    """Have every open segment sealed: the dead writers' by us, the living ones' by themselves; did all of them?

    Living writers look twenty times a second whether they are asked; one that does not answer within ``wait_s`` seconds
    is left alone: it seals by age. What they record meanwhile goes into new segments, which are not waited for.
    """
    seal_the_dead(storage)
    asked = {name for name in storage.names() if not name.sealed}
    for name in asked:
        storage.ask_to_seal(name)
    until_s = time.monotonic() + wait_s
    while asked & set(storage.names()):
        if time.monotonic() >= until_s:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


def settled(names: Iterable[SegmentName]) -> Iterator[SegmentName]:
    """The segments that may be moved: of each writer in order, up to the first that is still open."""
    for _, of_writer in groupby(sorted(names), key=lambda name: name.writer):
        for name in of_writer:
            if not name.sealed:
                break
            yield name


@contextmanager
def _reach(storage: Storage) -> Iterator[_Each]:
    """How to do an act for many segments: on a disk one by one; a store answers slowly, and many at once."""
    if isinstance(storage, LocalStorage):
        yield map
        return
    with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="segments") as threads:
        yield threads.map


def _groups(storage: Storage, names: Iterable[SegmentName], each: _Each) -> Iterator[list[SegmentRows]]:
    """Segments, read, in groups that make one commit each."""
    group: list[SegmentRows] = []
    rest = iter(names)
    while some := list(islice(rest, _SIDE_BY_SIDE)):
        for name, data in zip(some, each(storage.read, some), strict=True):
            if data is None:
                continue
            group.append(read_rows(data, name))
            if sum(table.num_rows for segment in group for table in segment.rows.values()) >= _COMMIT_ROWS:
                yield group
                group = []
    if group:
        yield group


def _move(  # noqa: PLR0917  (one act)
    folder: Path,
    storage: Storage,
    group: list[SegmentRows],
    now: datetime | None,
    each: _Each,
    before_delete: Callable[[], None],
) -> Compaction:
    """Commit, put on the disk and where it is to last, delete: in this order."""
    added: dict[TableName, int] = {}
    repeated: set[SegmentName] = set()
    for table in TABLES:
        added[table], held = _commit(folder, table, group)
        repeated |= held
    damaged = [segment for segment in group if segment.damage]
    for segment in damaged:
        _set_aside(folder, storage, segment, now)
    before_delete()
    list(each(storage.delete, [segment.name for segment in group]))
    return Compaction(
        segments=len(group),
        predictions=added["predictions"],
        outcomes=added["outcomes"],
        repeated=len(repeated),
        damaged=tuple(f"{segment.name.file}: {segment.damage}" for segment in damaged),
    )


def _commit(folder: Path, table: TableName, group: list[SegmentRows]) -> tuple[int, set[SegmentName]]:
    """Add what the table does not hold yet, durably: the rows added, and the segments that it held."""
    with_rows = [segment for segment in group if segment.rows[table].num_rows]
    if not with_rows:
        return 0, set()
    delta = ensure_table(folder, table)
    last = {writer: moved(delta, writer) for writer in {segment.name.writer for segment in with_rows}}
    held = {segment.name for segment in with_rows if segment.name.sequence <= last[segment.name.writer]}
    if held:
        _read_again(folder / table, delta, held)
    fresh = [segment for segment in with_rows if segment.name not in held]
    # Whoever died before us may have left a commit that is not on the disk: then all of the table is put there.
    known = set() if held or not last else files_below(folder / table)
    rows = pa.concat_tables([segment.rows[table] for segment in fresh]) if fresh else None
    if rows is not None:
        newest = {segment.name.writer: segment.name.sequence for segment in fresh}
        write_deltalake(
            delta,
            rows,
            mode="append",
            # A table of an earlier Passerelle gets the columns that came since, in the same commit.
            schema_mode="merge" if {*rows.column_names} - {field.name for field in delta.schema().fields} else None,
            commit_properties=CommitProperties(
                app_transactions=[Transaction(writer, sequence) for writer, sequence in newest.items()]
            ),
        )
    sync_files(folder / table, known)
    return rows.num_rows if rows is not None else 0, held


def _read_again(path: Path, delta: DeltaTable, held: set[SegmentName]) -> None:
    """Read what the table holds of these segments, which an earlier compaction moved and could not delete.

    A power cut can leave a commit in Delta's log whose files are torn, since delta-rs does not wait for the disk.
    Raises LedgerError if a file cannot be read: the segments are kept then. Rows that are missing from files that can
    be read were erased: they came in one commit, whole.
    """
    wanted = {(name.writer, name.sequence) for name in held}
    for file in files_of(delta):
        try:
            origin = pq.read_table(file, columns=["writer", "sequence"], partitioning=None).to_pydict()
            if not wanted.isdisjoint(zip(origin["writer"], origin["sequence"], strict=True)):
                pq.read_table(file, partitioning=None)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).strip()
            raise LedgerError(
                f"{file} cannot be read ({reason}). Nothing was deleted: its rows may be in {len(held)} segments that "
                "wait. Restore the file; or, if the power failed just after it was made, remove the newest file of "
                f"{path / '_delta_log'}, and compact again."
            ) from error


def _set_aside(folder: Path, storage: Storage, segment: SegmentRows, now: datetime | None) -> None:
    """Keep a damaged segment as it is, with a note that says what was recovered."""
    note = {
        "segment": segment.name.file,
        "damage": segment.damage,
        "recovered": {table: rows.num_rows for table, rows in segment.rows.items()},
        "compacted_at": now,
    }
    place = folder / DAMAGED
    place.mkdir(exist_ok=True)
    _write(place / segment.name.file, storage.read(segment.name) or b"")
    _write(place / f"{segment.name.file}.json", msgspec.json.format(msgspec.json.encode(note)) + b"\n")


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        sync_file(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def _join_files(folder: Path) -> None:
    """Join small files, so that queries stay quick; the old ones stay, for an auditor who goes back."""
    for table in TABLES:
        delta = open_table(folder, table)
        if delta is not None and len(delta.file_uris()) > _MANY_FILES:
            known = files_below(folder / table)
            delta.optimize.compact()
            sync_files(folder / table, known)
