"""Forgetting: a unit (a customer, a passenger) is erased from the ledger, and from the disk.

Rows are named for Delta by where they were written first, never by the unit: Delta's log, which is kept, says how many
rows were deleted and not whose. Every file that a table no longer needs is removed, so versions from before cannot be
read again.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import msgspec
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from passerelle.errors import LedgerError
from passerelle.ledger.compaction import compact_alone, seal_the_living
from passerelle.ledger.privacy import GIVEN, hash_value
from passerelle.ledger.records import Outcome, Record
from passerelle.ledger.segments import HEADER_BYTES, read_frame
from passerelle.ledger.storage import LocalStorage, Storage
from passerelle.ledger.stored import storages
from passerelle.ledger.tables import DAMAGED, alone, files_below, files_of, open_table, parquet, sync_files

#: How long living writers have to seal what they hold: they look twenty times a second.
_SEAL_S = 5.0
_DELETE_ROWS = 1000

_ENCODER = msgspec.msgpack.Encoder()


class Forgetting(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, and what is left."""

    #: Records that were erased.
    predictions: int
    outcomes: int
    #: Damaged segments, kept aside, that held the unit and were removed.
    damaged: tuple[str, ...]
    #: Open segments of living writers that still hold the unit: its events since, or of a writer that did not answer.
    #: They are sealed within a minute (the Writer's roll_s); forget again then.
    remains: tuple[str, ...]

    def __str__(self) -> str:
        """For a person."""
        erased = f"{self.predictions:,} predictions and {self.outcomes:,} outcomes erased"
        if self.damaged:
            erased += f", {len(self.damaged)} damaged segments removed"
        if self.remains:
            erased += f"; still in {', '.join(self.remains)}, which its writer seals within a minute: forget again then"
        return erased


def forget(folder: Path, unit: str, *, unit_column: str | None, salt: str) -> Forgetting:
    """Erase a unit's predictions, and their outcomes, from the ledger in ``folder``, whether it was kept or hashed.

    ``unit`` is as the caller knows it, ``unit_column`` the field that it comes from (None: the event's id, or what the
    caller named), ``salt`` the deployment's ("": it is not known; what was hashed is not found then). A unit whose
    column is dropped cannot be found, and nothing in the ledger says who it was. Erasing again is harmless, and
    finishes what a crash interrupted.

    What lies in an object store is moved first, and so erased too, but for a store's own old versions of an object.

    Raises LedgerError if the unit is empty, the ledger is being changed by another process, the disk fails, or an
    object store cannot be reached.
    """
    if not unit:
        raise LedgerError("the unit to erase is empty: name it as the caller of the endpoint does.")
    marks = {unit}
    if salt:
        marks |= {hash_value(unit, column, salt) for column in (unit_column, GIVEN) if column is not None}
    storage = LocalStorage(folder)
    with alone(folder):
        try:
            seal_the_living(storage, wait_s=_SEAL_S)
            kept = [storage, *storages(folder).values()]
            for one in kept:
                compact_alone(folder, one, now=None)
            predictions, ids = _erase_predictions(folder, marks)
            outcomes = _erase_outcomes(folder, ids | marks)
            trace = _Trace(marks=marks, ids=ids, column=unit_column)
            damaged = _erase_damaged(folder, trace)
        except (DeltaError, OSError, duckdb.Error) as error:
            raise LedgerError(
                f"the ledger in {folder} could not be erased from: {error}. Some rows may be left: forget again."
            ) from error
        remains = tuple(file for one in kept for file in _remaining(one, trace))
        return Forgetting(predictions=predictions, outcomes=outcomes, damaged=damaged, remains=remains)


def _erase_predictions(folder: Path, marks: set[str]) -> tuple[int, set[str]]:
    delta = open_table(folder, "predictions")
    rows = _find(delta, "list_contains($marks, unit) OR list_contains($marks, id)", marks)
    _erase(folder / "predictions", delta, rows)
    return len(rows), {row[0] for row in rows}


def _erase_outcomes(folder: Path, ids: set[str]) -> int:
    delta = open_table(folder, "outcomes")
    rows = _find(delta, "list_contains($marks, id)", ids)
    _erase(folder / "outcomes", delta, rows)
    return len(rows)


def _find(delta: DeltaTable | None, condition: str, marks: set[str]) -> list[tuple[str, str, int, int]]:
    """The rows that meet a condition: id, and where they were written first."""
    files = files_of(delta)
    if not files:
        return []
    question = f"SELECT id, writer, sequence, position FROM {parquet(files)} WHERE {condition}"  # noqa: S608  (ours)
    with duckdb.connect() as connection:
        found: list[tuple[str, str, int, int]] = connection.execute(question, {"marks": sorted(marks)}).fetchall()
    return found


def _erase(path: Path, delta: DeltaTable | None, rows: list[tuple[str, str, int, int]]) -> None:
    """Delete rows, then every file that the table's newest version does not need, now: retention is zero."""
    if delta is None:
        return
    known = files_below(path)
    for start in range(0, len(rows), _DELETE_ROWS):
        places: dict[tuple[str, int], list[int]] = {}
        for _, writer, sequence, position in rows[start : start + _DELETE_ROWS]:
            places.setdefault((writer, sequence), []).append(position)
        delta.delete(
            " OR ".join(
                f"(writer = '{writer}' AND sequence = {sequence} AND position IN ({', '.join(map(str, positions))}))"
                for (writer, sequence), positions in places.items()
            )
        )
    sync_files(path, known)
    delta.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
    sync_files(path, known)


class _Trace(msgspec.Struct, frozen=True, kw_only=True):
    """By what a unit is known in a segment."""

    #: Its name, and its hashes.
    marks: set[str]
    #: The ids of its predictions.
    ids: set[str]
    #: The field that it comes from.
    column: str | None

    def is_in(self, data: bytes) -> bool:
        """Is the unit in this segment: in a record of it, or, where it is damaged, as a string of msgpack?

        A string is looked for with its length before it: a unit that is called "a" is not in every text with an a.
        """
        whole, rest = _decoded(data)
        names = self.marks | self.ids
        return any(self._is_of(record) for record in whole) or any(_ENCODER.encode(name) in rest for name in names)

    def _is_of(self, record: Record) -> bool:
        if isinstance(record, Outcome):
            return record.id in self.marks or record.id in self.ids
        known_by = {record.id, record.unit}
        if self.column is not None:
            known_by.add(str(record.inputs.get(self.column)))
        return not known_by.isdisjoint(self.marks)


def _decoded(data: bytes) -> tuple[list[Record], bytes]:
    """A segment's records up to the first damage, and the bytes from there."""
    records: list[Record] = []
    place = HEADER_BYTES
    while place < len(data):
        whole = read_frame(data, place)
        if isinstance(whole, str):
            break
        found, place = whole
        records += found
    return records, data[place:]


def _erase_damaged(folder: Path, trace: _Trace) -> tuple[str, ...]:
    """Remove the damaged segments that hold the unit, as far as it can be read in them."""
    erased = []
    for path in sorted((folder / DAMAGED).glob("*.seg")):
        if trace.is_in(path.read_bytes()):
            path.unlink()
            erased.append(path.name)
    return tuple(erased)


def _remaining(storage: Storage, trace: _Trace) -> tuple[str, ...]:
    return tuple(name.file for name in storage.names() if trace.is_in(storage.read(name) or b""))
