"""Watermarks: how far a ledger has been written, and how far it can be read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb

from passerelle.ledger.position import Position
from passerelle.ledger.records import Prediction
from passerelle.ledger.segments import read_segment
from passerelle.ledger.storage import LocalStorage
from passerelle.ledger.stored import gathered_until
from passerelle.ledger.tables import TABLES, open_table
from passerelle.ledger.views import open_views

#: A record's place among those of its writer, as one number: the segment's sequence, then the place in it.
PLACE = "(sequence * 4294967296 + position)"
_PLACES = 2**32


def read_position(folder: Path) -> Position:
    """How far the ledger in ``folder`` can be read now: of each writer, its last record. Raises LedgerError."""
    with open_views(folder) as connection:
        return position_of(connection)


def position_of(connection: duckdb.DuckDBPyConnection) -> Position:
    """How far the ledger can be read by a connection of ``open_views``."""
    places = " UNION ALL ".join(f"SELECT writer, max({PLACE}) AS place FROM all_{table} GROUP BY 1" for table in TABLES)  # noqa: S608  (constants of this file)
    rows = connection.execute(f"SELECT writer, max(place) FROM ({places}) GROUP BY 1 ORDER BY 1").fetchall()  # noqa: S608  (the same)
    return Position(writers={writer: divmod(place, _PLACES) for writer, place in rows})


def places(position: Position) -> dict[str, int]:
    """A position, with each writer's last place as one number, as PLACE writes it."""
    return {writer: sequence * _PLACES + place for writer, (sequence, place) in position.writers.items()}


def open_until(folder: Path) -> datetime | None:
    """Up to when, in event time, the writers that still have an open segment are known to have written.

    The earliest, over those writers, of the newest event_at among their segments that are not in the tables yet; a
    writer of outcomes alone is left out. What is kept in an object store is read no further than compaction has moved
    it (see stored). None: nothing holds anything up. Raises LedgerError.
    """
    storage = LocalStorage(folder)
    names = storage.names()
    newest: dict[str, datetime] = {}
    for writer in {name.writer for name in names if not name.sealed}:
        for name in [name for name in names if name.writer == writer]:
            data = storage.read(name)
            records = read_segment(data)[0] if data is not None else []
            moments = [record.event_at for record in records if isinstance(record, Prediction)]
            if moments:
                newest[writer] = max([*moments, *([newest[writer]] if writer in newest else [])])
    gathered = gathered_until(folder)
    return min([*newest.values(), *([] if gathered is None else [gathered])], default=None)


def delta_versions(folder: Path) -> dict[str, int]:
    """Ledger table → the version of its Delta table now; 0 before the first compaction. Raises LedgerError."""
    found = {table: open_table(folder, table) for table in TABLES}
    return {table: 0 if delta is None else delta.version() for table, delta in found.items()}
