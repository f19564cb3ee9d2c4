"""Sample: made-up parcels, so that a new project works before its own data are there. The same rows every time."""

from __future__ import annotations

import csv
import io
import random
from datetime import UTC, datetime, timedelta

from passerelle.project.settings import TaskKind

ROWS = 900
FIRST = datetime(2025, 1, 6, tzinfo=UTC)
DAYS = 70
#: The first delivery holds so many days, the second the rest: something to learn from, and something to answer.
FIRST_DAYS = 42
#: Hours that a parcel may travel before it is late; under the first, it is early.
PROMISED = (32.0, 68.0)

#: Task → the column that holds the truth.
TARGETS: dict[TaskKind, str] = {"binary": "late", "multiclass": "arrival", "regression": "transit_hours"}

_TABLES = ("events", "outcomes")
_CARRIERS = {"ambleside": 0.0, "bergamot": 8.0, "corvid": 18.0}
_MISSING_WEIGHT = 0.05


def sample(task: TaskKind, *, time: bool) -> dict[str, str]:
    """Two deliveries, one after the other: file name to text, the events and the outcomes of each.

    >>> files = sample("binary", time=True)
    >>> list(files)
    ['events-1.csv', 'outcomes-1.csv', 'events-2.csv', 'outcomes-2.csv']
    >>> files["events-1.csv"].splitlines()[1]
    'P00001,2025-01-06T04:00:00Z,corvid,832,0.78,false'
    >>> files["outcomes-2.csv"].splitlines()[0]
    'parcel,late,known_at'
    """
    draw = random.Random(20250106)  # noqa: S311  (a sample, not a secret)
    rows: dict[str, list[list[object]]] = {f"{table}-{number}.csv": [] for number in (1, 2) for table in _TABLES}
    for number in range(ROWS):
        shipped = FIRST + timedelta(hours=int(number * DAYS * 24 / ROWS) + draw.randrange(8))
        carrier = draw.choice(sorted(_CARRIERS))
        distance = draw.randrange(20, 1500)
        weight = round(draw.lognormvariate(0.8, 0.9), 2)
        express = draw.random() < 0.3  # noqa: PLR2004  (three in ten)
        hours = 18 + distance / 40 + _CARRIERS[carrier] + (weight > 8) * 6 - express * 14  # noqa: PLR2004  (heavy)
        hours += (shipped.weekday() >= 4) * 16 + (shipped.hour >= 18) * 8 + draw.gauss(0, 9)  # noqa: PLR2004  (weekend, evening)
        hours = round(max(4.0, hours), 2)
        key = f"P{number + 1:05}"
        shown_weight = "" if draw.random() < _MISSING_WEIGHT else weight
        moment = [f"{shipped:%Y-%m-%dT%H:%M:%SZ}"] if time else []
        known = shipped + timedelta(seconds=round(hours * 3600))
        delivery = 1 if shipped < FIRST + timedelta(days=FIRST_DAYS) else 2
        event: list[object] = [key, *moment, carrier, distance, shown_weight, str(express).lower()]
        rows[f"events-{delivery}.csv"].append(event)
        truth: list[object] = [key, _truth(task, hours), f"{known:%Y-%m-%dT%H:%M:%SZ}"]
        rows[f"outcomes-{delivery}.csv"].append(truth)
    fields = ["parcel", *(["shipped_at"] if time else []), "carrier", "distance_km", "weight_kg", "express"]
    truths = ["parcel", TARGETS[task], "known_at"]
    return {name: _csv(fields if name.startswith("events") else truths, rows[name]) for name in rows}


def _truth(task: TaskKind, hours: float) -> str | float:
    early, late = PROMISED
    if task == "binary":
        return str(hours > late).lower()
    if task == "multiclass":
        return "early" if hours < early else "late" if hours > late else "on_time"
    return hours


def _csv(fields: list[str], rows: list[list[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows(rows)
    return text.getvalue()
