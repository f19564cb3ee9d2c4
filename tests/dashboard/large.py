"""A ledger of many predictions, with the outcomes of those that are due, by the ledger's own writer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from passerelle.ledger.compaction import compact
from passerelle.ledger.records import Outcome, Prediction, Record
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage

DAY = timedelta(days=1)
#: The days before lived.NOW that the tests' project has predictions of.
DAYS = 12
FIRST = datetime(2013, 6, 27, tzinfo=UTC) - DAYS * DAY
#: At full size pages over a million predictions are opened.
ROWS = 1_000_000 if "PASSERELLE_SOAK" in os.environ else 6000
#: Records of a day that are written at once.
_FRAME = 5000


def fill(
    folder: Path, *, first: datetime, days: int, rows: int, horizon_hours: float, trial: str | None, versions: list[int]
) -> None:
    """So many predictions in ``folder``, spread over the days, calibrated: the champion's live, the others' beside."""
    random = np.random.default_rng(5)
    a_day = rows // days
    for number in range(days):
        start = first + number * DAY
        for records in _day(random, start, a_day, horizon_hours=horizon_hours, trial=trial, versions=versions):
            asyncio.run(record(LocalStorage(folder), records, slot="w0"))
        compact(folder, now=start + DAY)


def _day(
    random: np.random.Generator,
    start: datetime,
    rows: int,
    *,
    horizon_hours: float,
    trial: str | None,
    versions: list[int],
) -> Iterator[list[Record]]:
    scores = random.beta(2, 6, rows)
    late = random.random(rows) < scores
    records: list[Record] = []
    for number in range(rows):
        at = start + number * DAY / rows
        for version in versions:
            live = version == versions[0]
            records.append(
                Prediction(
                    id=f"{start:%m%d}-{number}",
                    unit=f"{number}",
                    role="live" if live else "shadow",
                    status="scored",
                    revision=1,
                    version=version,
                    digest="",
                    trial=trial,
                    inputs={"temp": 50.0, "carrier": "UA" if number % 3 else "B6"},
                    output=(float(scores[number]) if live else float(scores[number]) * 0.9,),
                    event_at=at,
                    received_at=at,
                )
            )
        known = at + timedelta(hours=horizon_hours / 2)
        records.append(
            Outcome(id=f"{start:%m%d}-{number}", value=bool(late[number]), known_at=known, received_at=known)
        )
        if len(records) >= _FRAME:
            yield records
            records = []
    if records:
        yield records
