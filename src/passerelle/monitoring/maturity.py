"""Maturity: predictions joined with the outcomes that were in force when their horizon passed; the reader of evidence.

A day (24 h of event time from a midnight in UTC) is mature once the horizon of its last moment has passed. What is
known later changes nothing: a correction after the horizon is ignored, and a ``Position`` says how far the ledger was
read, so that the same rows can be read again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from passerelle.errors import LedgerError
from passerelle.ledger.position import Position
from passerelle.ledger.tables import TABLES
from passerelle.ledger.views import open_views
from passerelle.ledger.watermarks import PLACE, open_until, places, position_of

DAY = timedelta(days=1)

#: What makes a record the same prediction, and which of them counts; as the view ``predictions`` has it.
_SAME = "id, role, CASE role WHEN 'shadow' THEN version END"
_FIRST = "received_at, writer, sequence, position"
_LAST = "known_at DESC, received_at DESC, writer DESC, sequence DESC, position DESC"
_FIELDS = "id, unit, event_at, role, version, revision, trial, probability, status, output, received_at, latency_ms"

#: So far around its days, in event time, a repeat of an id is looked for, and an outcome that was known before them:
#: what a day costs does not grow with the ledger.
REPEATS = timedelta(days=31)

#: Of the ids of these days all records around them are looked at, and of no others: a repeat is found.
_DAYS = f"""
WITH ids AS MATERIALIZED (SELECT DISTINCT id FROM read_predictions WHERE event_at >= $start AND event_at < $end),
first AS (
    SELECT {_FIELDS} FROM read_predictions SEMI JOIN ids USING (id)
    WHERE event_at >= $from AND event_at < $to
    QUALIFY row_number() OVER (PARTITION BY {_SAME} ORDER BY {_FIRST}) = 1
),
mine AS MATERIALIZED (SELECT * FROM first WHERE event_at >= $start AND event_at < $end),
truths AS (
    SELECT id, event_at, value AS truth, known_at
    FROM read_outcomes JOIN (SELECT DISTINCT id, event_at FROM mine) USING (id)
    WHERE known_at >= $from AND known_at <= $end::TIMESTAMPTZ + to_seconds($horizon_s)
    AND known_at <= event_at + to_seconds($horizon_s)
    QUALIFY row_number() OVER (PARTITION BY id, event_at ORDER BY {_LAST}) = 1
)
SELECT {_FIELDS}, truth, known_at FROM mine LEFT JOIN truths USING (id, event_at)
ORDER BY event_at, id, role, version
"""  # noqa: S608  (constants of this file)

#: What came after the position and would have counted: predictions of these days, and outcomes of theirs in time.
_LATE = f"""
WITH after_predictions AS (
    SELECT * FROM all_predictions LEFT JOIN upto USING (writer)
    WHERE event_at >= $start AND event_at < $end AND (last IS NULL OR {PLACE} > last)
), after_outcomes AS (
    SELECT * FROM all_outcomes LEFT JOIN upto USING (writer)
    WHERE (last IS NULL OR {PLACE} > last) AND known_at <= $end::TIMESTAMPTZ + to_seconds($horizon_s)
), mine AS (SELECT id, min(event_at) AS event_at FROM all_predictions WHERE event_at >= $start AND event_at < $end
    GROUP BY id)
SELECT (SELECT count(*) FROM after_predictions)
    + (SELECT count(*) FROM after_outcomes JOIN mine USING (id) WHERE known_at <= event_at + to_seconds($horizon_s))
"""  # noqa: S608  (constants of this file)

_UNITS = f"""
SELECT unit, arg_min(version, (event_at, {_FIRST})) AS version,
    arg_min(probability, (event_at, {_FIRST})) AS probability FROM read_predictions
WHERE role = 'live' AND trial = $trial AND event_at >= $since AND event_at < $end
GROUP BY unit HAVING min(event_at) >= $start ORDER BY unit
"""  # noqa: S608  (constants of this file)

_NEWEST = """
SELECT revision, status, output FROM (
    SELECT unit, revision, status, output, received_at, writer, sequence, position FROM read_predictions
    WHERE trial = $trial AND version = $version AND event_at >= $since
    ORDER BY received_at DESC, writer DESC, sequence DESC, position DESC LIMIT $read
) QUALIFY row_number() OVER (
    PARTITION BY unit ORDER BY received_at DESC, writer DESC, sequence DESC, position DESC
) = 1
ORDER BY received_at DESC, writer DESC, sequence DESC, position DESC LIMIT $most
"""
#: So many answers are read for each one that is wanted: units ask more than once.
_FOR_ONE = 100


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """The predictions of a day (or of several), each with its outcome in force at event_at + horizon."""

    #: Where it begins, in event time.
    start: datetime
    #: A row is a prediction (the first record of a live id, or of a shadow's id and version): id, unit, event_at, role,
    #: version, revision, trial, probability, status, output (list of double), received_at, latency_ms, truth (JSON
    #: text; null: none was known), known_at. In the order of event_at, id, role, version.
    rows: pa.Table
    #: How far the ledger was read.
    position: Position
    #: Records of these days, beyond the position, that would have counted had they come in time.
    late: int


def floor_day(moment: datetime) -> datetime:
    """The midnight, in UTC, that a moment's day begins with.

    >>> floor_day(datetime(2013, 2, 1, 23, 30, tzinfo=UTC)).isoformat()
    '2013-02-01T00:00:00+00:00'
    """
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def closed(folder: Path, day: datetime, *, horizon_hours: float, now: datetime) -> bool:
    """Has the horizon of the day's last moment passed, and is every writer beyond the day? Raises LedgerError."""
    if now < day + DAY + timedelta(hours=horizon_hours):
        return False
    until = open_until(folder)
    return until is None or until >= day + DAY


def read_day(folder: Path, day: datetime, *, horizon_hours: float, upto: Position | None = None) -> Day:
    """The predictions of the day that begins at ``day``, with their outcomes; see read_days."""
    return read_days(folder, day, day + DAY, horizon_hours=horizon_hours, upto=upto)


def read_days(
    folder: Path, start: datetime, end: datetime, *, horizon_hours: float, upto: Position | None = None
) -> Day:
    """The predictions with ``start`` <= event_at < ``end``, with their outcomes, read up to a position.

    Without one: as far as the ledger can be read now. A record that repeats an id of the 31 days around them counts
    where the first one is; an outcome counts if it was known at most 31 days before them. Raises LedgerError if the
    ledger cannot be read.
    """
    asked = {"start": start, "end": end, "horizon_s": horizon_hours * 3600}
    around = {"from": start - REPEATS, "to": end + REPEATS}
    with open_views(folder) as connection:
        try:
            _define(connection, upto)
            rows = connection.sql(_DAYS, params=asked | around).to_arrow_table()
            late = 0
            if upto is not None:
                late = int(connection.sql(_LATE, params=asked).to_arrow_table().column(0)[0].as_py())
            return Day(start=start, rows=rows, position=upto or position_of(connection), late=late)
        except duckdb.Error as error:
            raise LedgerError(f"the ledger in {folder} cannot be read: {error}. Restore what is named.") from error


def read_arrivals(
    folder: Path, trial: str, since: datetime, day: datetime, *, upto: Position | None = None
) -> pa.Table:
    """The units that a trial saw, live, for the first time on ``day``: unit, version that answered first, probability.

    The probability is the version's, when it answered. ``since`` is when the trial started. In the order of the units.
    Raises LedgerError if the ledger cannot be read.
    """
    asked = {"trial": trial, "since": since, "start": day, "end": day + DAY}
    with open_views(folder) as connection:
        try:
            _define(connection, upto)
            return connection.sql(_UNITS, params=asked).to_arrow_table()
        except duckdb.Error as error:
            raise LedgerError(f"the ledger in {folder} cannot be read: {error}. Restore what is named.") from error


def read_newest(
    folder: Path, trial: str, version: int, *, since: datetime, most: int, upto: Position | None = None
) -> tuple[pa.Table, Position]:
    """The last answer of a version to each unit in a trial, newest first as received, and how far the ledger was read.

    At most ``most`` of those with an event_at of ``since`` or later: revision, status, output (list of double). A unit
    that asks again and again counts once. Raises LedgerError if the ledger cannot be read.
    """
    asked = {"trial": trial, "version": version, "since": since, "most": most, "read": most * _FOR_ONE}
    with open_views(folder) as connection:
        try:
            _define(connection, upto)
            return connection.sql(_NEWEST, params=asked).to_arrow_table(), upto or position_of(connection)
        except duckdb.Error as error:
            raise LedgerError(f"the ledger in {folder} cannot be read: {error}. Restore what is named.") from error


def _define(connection: duckdb.DuckDBPyConnection, upto: Position | None) -> None:
    """The views read_predictions and read_outcomes: what the position covers, or all there is."""
    if upto is not None:
        connection.execute("CREATE TEMP TABLE upto (writer VARCHAR, last BIGINT)")
        if upto.writers:
            connection.executemany("INSERT INTO upto VALUES (?, ?)", [[*one] for one in places(upto).items()])
    for table in TABLES:
        covered = "" if upto is None else f"JOIN upto USING (writer) WHERE {PLACE} <= last"
        connection.execute(f"CREATE TEMP VIEW read_{table} AS SELECT * FROM all_{table} {covered}")  # noqa: S608  (constants)
