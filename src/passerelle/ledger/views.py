"""Views: the ledger as SQL, fresh: the Delta tables and the segments that are not in them yet, open ones too.

| view | a row is |
|---|---|
| all_predictions, all_outcomes | a record, as it was written |
| predictions | a prediction: of each id the live record received first; of each (id, version) the first shadow |
| repeats | an id, role and version of which records were too many (a live id counts for its first version), how many |
| outcomes | an outcome, corrections included |
| truths | an id and the outcome in force: the one known last, among those the one received last |
| judged | a live prediction with its truth: ``truth`` (JSON text), ``known_at``, ``truth_received_at`` |
| orphans | an outcome whose prediction is not in the ledger: kept and counted |
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
from deltalake import DeltaTable

from passerelle.errors import LedgerError
from passerelle.ledger.storage import LocalStorage
from passerelle.ledger.tables import (
    DAMAGED,
    SCHEMAS,
    TABLES,
    SegmentRows,
    TableName,
    files_of,
    listed,
    moved,
    open_table,
    parquet,
    plain,
    read_rows,
)

#: What makes a record the same prediction: a live id is one, whichever version a retry reached.
_SAME = "id, role, CASE role WHEN 'shadow' THEN version END"
_FIRST = "received_at, writer, sequence, position"
_LAST = "known_at DESC, received_at DESC, writer DESC, sequence DESC, position DESC"
_VIEWS = f"""
CREATE VIEW predictions AS SELECT * FROM all_predictions
    QUALIFY row_number() OVER (PARTITION BY {_SAME} ORDER BY {_FIRST}) = 1;
CREATE VIEW repeats AS SELECT id, role, arg_min(version, ({_FIRST})) AS version, count(*) - 1 AS repeats
    FROM all_predictions GROUP BY {_SAME} HAVING count(*) > 1;
CREATE VIEW outcomes AS SELECT * FROM all_outcomes;
CREATE VIEW truths AS SELECT * FROM all_outcomes
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY {_LAST}) = 1;
CREATE VIEW judged AS SELECT predictions.*, truths.value AS truth, truths.known_at,
    truths.received_at AS truth_received_at FROM predictions JOIN truths USING (id) WHERE role = 'live';
CREATE VIEW orphans AS SELECT * FROM all_outcomes ANTI JOIN all_predictions USING (id);
"""  # noqa: S608  (constants of this file)


_TOTALS = f"""
WITH once AS (
    SELECT id, role, arg_min(status, ({_FIRST})) AS status, count(*) - 1 AS repeats
    FROM all_predictions GROUP BY {_SAME}
)
SELECT count(*), count(*) FILTER (role = 'live'), count(*) FILTER (role = 'shadow'),
    count(*) FILTER (status = 'failed'), count(*) FILTER (status = 'timed_out'), coalesce(sum(repeats), 0)::BIGINT,
    (SELECT count(*) FROM outcomes), (SELECT count(*) FROM orphans),
    (SELECT count(*) FROM pending_predictions) + (SELECT count(*) FROM pending_outcomes)
FROM once
"""  # noqa: S608  (constants of this file)
_COLUMNS = {table: ", ".join(SCHEMAS[table].names) for table in TABLES}


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """How much the ledger holds."""

    #: Predictions, each counted once: live and shadow together.
    predictions: int
    live: int
    shadow: int
    #: Of these, how many the model failed on, and how many it was too slow for.
    failed: int
    timed_out: int
    #: Outcome records, corrections included.
    outcomes: int
    #: Outcome records whose prediction is not in the ledger.
    orphans: int
    #: Prediction records beyond the first of their id (a shadow's: of its id and version).
    repeats: int
    #: Records in segments that no table holds yet.
    uncompacted: int
    #: Segments that were torn or damaged: what could not be read of them is in the files of ``damaged/``.
    damaged: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that answer a question."""

    columns: tuple[str, ...]
    #: Python values; moments are aware and in UTC.
    rows: list[tuple[Any, ...]]


def open_views(folder: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection, in memory, with the views above over the ledger in ``folder`` as it is now.

    It holds no lock and stops nobody. Close it. Fetch moments through Arrow, as ``ask`` does. A segment that is torn or
    damaged is read up to there; ``damage`` and compaction say where. Raises LedgerError if a table or a segment cannot
    be read.
    """
    # Segments first: one that is compacted while we look is in the tables by the time we open those.
    storage = LocalStorage(folder)
    segments = []
    for name in storage.names():
        data = storage.read(name)
        if data is not None:
            segments.append(read_rows(data, name))
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    try:
        _define(connection, folder, segments)
    except BaseException as error:
        connection.close()
        if isinstance(error, duckdb.Error):
            raise LedgerError(f"the tables in {folder} cannot be read: {error}. Restore what is named.") from error
        raise
    return connection


def ask(folder: Path, sql: str, parameters: Sequence[object] = ()) -> Answer:
    """The answer to a question in SQL of the views, with a parameter for each ``?``.

    Raises LedgerError if the question is not one SELECT, DuckDB does not understand it, or the ledger cannot be read.
    """
    with open_views(folder) as connection:
        try:
            # A COPY could write over the ledger's own files, which the connection may open.
            if [one.type for one in connection.extract_statements(sql)] != [duckdb.StatementType.SELECT]:
                raise LedgerError(f"the ledger answers one SELECT, and was asked {sql!r}: ask of its views.")
            # Through Arrow: DuckDB's own fetch of a moment needs pytz.
            answer = connection.sql(sql, params=list(parameters)).to_arrow_table()
        except duckdb.Error as error:
            raise LedgerError(f"the ledger did not understand {sql!r}: {error}") from error
    columns = [column.to_pylist() for column in answer.columns]
    return Answer(columns=tuple(answer.column_names), rows=list(zip(*columns, strict=True)))


def totals(folder: Path) -> Totals:
    """How much the ledger in ``folder`` holds now, counted once each."""
    counted = ask(folder, _TOTALS).rows[0]
    predictions, live, shadow, failed, timed_out, repeats, outcomes, orphans, uncompacted = counted
    return Totals(
        predictions=predictions,
        live=live,
        shadow=shadow,
        failed=failed,
        timed_out=timed_out,
        outcomes=outcomes,
        orphans=orphans,
        repeats=repeats,
        uncompacted=uncompacted,
        damaged=sum(1 for _ in (folder / DAMAGED).glob("*.seg")),
    )


def damage(folder: Path) -> tuple[str, ...]:
    """Where the sealed segments that wait for compaction are torn or damaged: a sentence each, with the segment.

    Not of open ones: what looks torn there may be a frame that is being written.
    """
    storage = LocalStorage(folder)
    read = {name: storage.read(name) for name in storage.names() if name.sealed}
    found = {name: read_rows(data, name).damage for name, data in read.items() if data is not None}
    return tuple(f"{name.file}: {sentence}" for name, sentence in found.items() if sentence)


def _define(connection: duckdb.DuckDBPyConnection, folder: Path, segments: list[SegmentRows]) -> None:
    paths: list[str] = []
    for table in TABLES:
        delta = open_table(folder, table)
        connection.register(f"pending_{table}", _pending(delta, table, segments))
        files = files_of(delta)
        paths += {*files, *map(plain, files)}
        # By name: a table that an earlier Passerelle wrote lacks the columns that came since.
        sources = [f"pending_{table}", *([parquet(files)] if files else [])]
        all_of_them = " UNION ALL BY NAME ".join(f"SELECT * FROM {source}" for source in sources)  # noqa: S608  (ours)
        view = f"SELECT {_COLUMNS[table]} FROM ({all_of_them})"  # noqa: S608  (ours)
        connection.execute(f"CREATE VIEW all_{table} AS {view}")
    connection.execute(_VIEWS)
    # Questions are asked of the ledger: SQL that reads or writes other files, or loads code, is refused.
    connection.execute(f"SET TimeZone = 'UTC'; SET allowed_paths = {listed(paths)};")
    connection.execute("SET enable_external_access = false; SET lock_configuration = true;")


def _pending(delta: DeltaTable | None, table: TableName, segments: list[SegmentRows]) -> pa.Table:
    """The rows of the segments that the Delta table does not hold."""
    last = {writer: moved(delta, writer) for writer in {segment.name.writer for segment in segments}}
    pending = [segment.rows[table] for segment in segments if segment.name.sequence > last[segment.name.writer]]
    return pa.concat_tables([SCHEMAS[table].empty_table(), *pending])
