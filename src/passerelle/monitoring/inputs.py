"""Inputs: a day's recorded events as counts, made like the champion's reference profile."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from passerelle.bundle.profile import Hidden, Profile, profile
from passerelle.errors import LedgerError
from passerelle.ledger.views import open_views
from passerelle.project.settings import Privacy
from passerelle.schema import Column, Columns, Schema, as_array

#: Of a day with more events than this, an even sample of about so many is counted.
MOST_ROWS = 50_000

_READ = """
SELECT version, inputs, output FROM (
    SELECT * FROM all_predictions
    WHERE role = 'live' AND event_at >= ? AND event_at < ? AND status = 'scored'
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY received_at, writer, sequence, position) = 1
) WHERE hash(id) % ? = 0
"""
_COUNT = """
SELECT count(DISTINCT id) FILTER (event_at < ?) AS events, max(event_at) AS newest
FROM all_predictions WHERE role = 'live' AND event_at >= ?
"""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """A day's counts."""

    #: Live events, each once, scored or not.
    events: int
    #: Of all live events that were scored.
    inputs: Profile
    #: Of those that the champion answered: their scores count, their inputs are among the others.
    scores: Profile


def read_counts(
    folder: Path,
    start: datetime,
    *,
    reference: Profile,
    schema: Schema,
    version: int,
    privacy: dict[str, Privacy],
    last: bool = False,
) -> Counts | None:
    """Count the events of the day that begins at ``start``; None if no later day has any yet.

    ``last``: also if none has. Raises LedgerError if the ledger cannot be read.
    """
    end = start + timedelta(days=1)
    with open_views(folder) as connection:
        try:
            [found] = connection.sql(_COUNT, params=[end, start]).to_arrow_table().to_pylist()
            if not last and (found["newest"] is None or found["newest"] < end):
                return None
            every = max(1, -(-found["events"] // MOST_ROWS))
            rows = connection.sql(_READ, params=[start, end, every]).to_arrow_table()
        except duckdb.Error as error:
            raise LedgerError(f"the ledger in {folder} cannot be read: {error}. Restore what is named.") from error
    # A field of which the reference keeps no values has none here either, whatever the settings say by now.
    hidden: dict[str, Privacy] = {name: how for name, how in privacy.items() if how != "keep"}
    hidden |= {name: "hash" for name, field in reference.inputs.items() if isinstance(field, Hidden)}
    columns = read_columns([msgspec.json.decode(text) for text in rows["inputs"].to_pylist()], schema)
    width = len(reference.scores)
    answered = [output for number, output in _answers(rows) if number == version and len(output) == width]
    outputs = np.array(answered, dtype=np.float64).reshape(-1, width)
    empty = {name: array[:0] for name, array in columns.items()}
    scores = profile(empty, outputs, schema, privacy=hidden, like=reference)
    return Counts(
        events=found["events"],
        inputs=profile(columns, outputs[:0], schema, privacy=hidden, like=reference),
        scores=msgspec.structs.replace(scores, rows=len(outputs)),
    )


def read_outputs(folder: Path, start: datetime, *, width: int) -> NDArray[np.float64]:
    """What was answered on the day that begins at ``start``, each live event once, of shape (rows, width).

    Raises LedgerError if the ledger cannot be read.
    """
    with open_views(folder) as connection:
        try:
            rows = connection.sql(_READ, params=[start, start + timedelta(days=1), 1])
            answers = rows.filter(f"len(output) = {width:d}").select("output").to_arrow_table()["output"]
        except duckdb.Error as error:
            raise LedgerError(f"the ledger in {folder} cannot be read: {error}. Restore what is named.") from error
    flat = answers.combine_chunks().flatten() if len(answers) else pa.array([], pa.float64())
    return np.asarray(flat, dtype=np.float64).reshape(-1, width)


def read_columns(events: list[dict[str, Any]], schema: Schema) -> Columns:
    """Recorded events as Columns; what is no value of its field (hashed, of another version's schema) is missing."""
    return {
        column.name: _read([event.get(column.name) for event in events], _nullable(column)) for column in schema.columns
    }


def _nullable(column: Column) -> Column:
    return msgspec.structs.replace(column, nullable=True)


def _read(values: list[Any], column: Column) -> NDArray[Any]:
    if column.kind in ("integer", "number"):
        try:
            return np.array(values, dtype=np.float64)  # None becomes NaN
        except (TypeError, ValueError):
            numbers = (int, float)
            return as_array([value if isinstance(value, numbers) else None for value in values], column)
    if column.kind in ("string", "boolean"):
        kind = str if column.kind == "string" else bool
        return as_array([value if isinstance(value, kind) else None for value in values], column)
    read = _moment if column.kind == "timestamp" else _date
    return as_array([read(value) for value in values], column)


def _moment(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _date(value: Any) -> date | None:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def _answers(rows: pa.Table) -> list[tuple[int, list[float]]]:
    return list(zip(rows["version"].to_pylist(), rows["output"].to_pylist(), strict=True))
