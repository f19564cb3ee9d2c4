"""Calibrating: do the events that got 70 % happen in 70 of 100? And what do scores expect whose outcome is not due?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerelle.bundle.manifest import Label
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask
from passerelle.metrics import positions
from passerelle.monitoring.maturity import floor_day, read_days
from passerelle.monitoring.measuring import expected_loss
from passerelle.monitoring.windows import Window
from passerelle.project.settings import Project

#: Calibration is of the newest mature days: so many rows, or days, at most.
ROWS = 20_000
DAYS = 28
#: Of a day that is not due so many scores are looked at.
_SCORES = 5000
_BINS = 10
_DAY = timedelta(days=1)
_OUTPUTS = """
SELECT date_trunc('day', event_at) AS day, output FROM all_predictions
WHERE role = 'live' AND status = 'scored' AND event_at >= ? AND event_at < ? AND hash(id) % ? = 0
"""
_COUNT = "SELECT count(*) FROM all_predictions WHERE role = 'live' AND event_at >= ? AND event_at < ?"


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Events whose probability lies in [low, high)."""

    low: float
    high: float
    rows: int
    #: Mean probability, and the share on which it happened; None without rows.
    said: float | None
    happened: float | None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Probabilities beside what happened, on the newest mature days."""

    first: datetime
    last: datetime
    rows: int
    bins: tuple[Bin, ...]
    #: Mean distance of said and happened over the rows.
    error: float
    #: What the probabilities are of: the positive class, or of several classes the one with the largest.
    of: str


class Coming(msgspec.Struct, frozen=True, kw_only=True):
    """A day whose outcomes are not due yet: the estimate that was kept of it, or what its own scores expect."""

    start: datetime
    expected: float
    #: By how much such estimates of mature days were off, in the mean; None with too few of them.
    past_error: float | None = None
    #: Is it far above what is usual? It calls nobody.
    warning: bool = False


def days_for(windows: Sequence[Window]) -> tuple[datetime, datetime] | None:
    """The first and the last of the mature days that calibration is measured on; None before there is one."""
    rows, chosen = 0, list[datetime]()
    for one in reversed(windows[-DAYS:]):
        if rows >= ROWS:
            break
        rows += int(one.value.get("rows") or 0)
        chosen.append(one.start)
    return (chosen[-1], chosen[0]) if rows else None


def calibrate(
    project: Project, environment: str, classes: Sequence[Label], first: datetime, last: datetime
) -> Calibration:
    """Probabilities beside what happened, on mature days. Raises LedgerError if the ledger cannot be read."""
    folder = ledger_folder(project.state, environment)
    every = max(1, -(-int(ask(folder, _COUNT, [first, last + _DAY]).rows[0][0]) // (2 * ROWS)))
    rows = read_days(folder, first, last + _DAY, horizon_hours=project.task.horizon_hours).rows
    chosen = pc.and_(pc.equal(rows["role"], "live"), pc.equal(rows["status"], "scored"))
    known = rows.filter(pc.and_(chosen, pc.is_valid(rows["truth"])))
    known = known.take(np.arange(0, known.num_rows, every))
    of = str(classes[1]) if project.task.kind == "binary" else "the most probable class"
    if known.num_rows == 0:  # measured once, and the ledger has nothing of these days any more
        return Calibration(first=first, last=last, rows=0, bins=(), error=0.0, of=of)
    outputs = np.array(known["output"].to_pylist(), dtype=np.float64).reshape(known.num_rows, -1)
    labels = positions([msgspec.json.decode(text) for text in known["truth"].to_pylist()], classes)
    if project.task.kind == "binary":
        said, happened = outputs[:, 0], labels == 1
    else:
        said, happened = outputs.max(axis=1), labels == outputs.argmax(axis=1)
    bins = binned(said, happened)
    total = sum(one.rows for one in bins)
    error = sum(one.rows * abs((one.said or 0.0) - (one.happened or 0.0)) for one in bins) / max(1, total)
    return Calibration(first=first, last=last, rows=total, bins=bins, error=error, of=of)


def binned(said: NDArray[np.float64], happened: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Ten bins of equal width.

    >>> found = binned(np.array([0.05, 0.15, 0.12]), np.array([False, True, False]))
    >>> [(one.rows, one.happened) for one in found[:3]]
    [(1, 0.0), (2, 0.5), (0, None)]
    """
    place = np.clip((said * _BINS).astype(int), 0, _BINS - 1)
    found = []
    for number in range(_BINS):
        mine = place == number
        rows = int(mine.sum())
        found.append(
            Bin(
                low=number / _BINS,
                high=(number + 1) / _BINS,
                rows=rows,
                said=float(said[mine].mean()) if rows else None,
                happened=float(happened[mine].mean()) if rows else None,
            )
        )
    return tuple(found)


def coming(project: Project, environment: str, start: datetime, now: datetime) -> tuple[Coming, ...]:
    """What the scores of each day from ``start`` on expect; () for numbers. Raises LedgerError."""
    if project.task.kind == "regression" or start >= now:
        return ()
    folder, end = ledger_folder(project.state, environment), floor_day(now) + _DAY
    total = int(ask(folder, _COUNT, [start, end]).rows[0][0])
    every = max(1, total // (_SCORES * max(1, (end - start).days)))
    by_day: dict[datetime, list[list[float]]] = {}
    for day, output in ask(folder, _OUTPUTS, [start, end, every]).rows:
        by_day.setdefault(day, []).append(output)
    found = []
    for day in sorted(by_day):
        width = len(by_day[day][0])
        outputs = np.array([one for one in by_day[day] if len(one) == width], dtype=np.float64)
        losses = expected_loss(project.loss, outputs, project.task.kind)
        if losses is not None:
            found.append(Coming(start=day, expected=float(losses.mean())))
    return tuple(found)
