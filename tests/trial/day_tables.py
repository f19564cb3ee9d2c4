"""Days as the reader of maturity gives them, made of arrays: for tests that need many of them, or large ones."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from passerelle.ledger.position import Position
from passerelle.monitoring.maturity import Day

Array = NDArray[Any]


def side(
    start: datetime,
    outputs: Array,
    truth: Array,
    *,
    version: Array | int = 1,
    role: str = "live",
    probability: Array | float = 1.0,
    units: Array | None = None,
    known: Array | None = None,
) -> pa.Table:
    """Answers of one day, spread over it in order; ``known``: which have an outcome (6 h later)."""
    count = len(outputs)
    at = np.datetime64(start.replace(tzinfo=None), "us") + np.arange(count) * (86_400_000_000 // max(1, count))
    names = np.array([f"{start:%j}-{row:07}" for row in range(count)])
    known = np.ones(count, dtype=bool) if known is None else known
    moment = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "id": pa.array(names),
            "unit": pa.array(names if units is None else units),
            "event_at": pa.array(at, moment),
            "role": pa.array([role] * count, pa.string()),
            "version": pa.array(np.broadcast_to(version, count), pa.int64()),
            "revision": pa.array(np.full(count, 2), pa.int64()),
            "trial": pa.array(["production-2-2"] * count, pa.string()),
            "probability": pa.array(np.broadcast_to(probability, count).astype(float)),
            "status": pa.array(["scored"] * count, pa.string()),
            "output": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), pa.array(outputs.astype(float))),
            "truth": pa.array(np.where(truth.astype(bool), "true", "false"), pa.string(), mask=~known),
            "known_at": pa.array(at + np.timedelta64(6, "h"), moment, mask=~known),
        }
    )


def day_of(start: datetime, *sides: pa.Table) -> Day:
    """A day of these answers."""
    return Day(start=start, rows=pa.concat_tables(sides), position=Position(), late=0)


def arrivals_of(rows: pa.Table) -> pa.Table:
    """As if each row's unit came for the first time."""
    return rows.select(["unit", "version", "probability"])


def at(start: datetime, day: int) -> datetime:
    """The beginning of a day, counted from 0."""
    return start + timedelta(days=day)
