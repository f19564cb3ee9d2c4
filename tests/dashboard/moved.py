"""Days of inputs and scores that a project counted, judged by the rule itself: temp moves at the end."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Literal

import msgspec
import numpy as np
import sqlalchemy as sa

from passerelle.bundle.profile import Categorical, Field, Hidden, Numeric, Profile, bin_counts
from passerelle.monitoring import drifting
from passerelle.monitoring.windows import Window, keep_window

EDGES = tuple(float(edge) for edge in np.linspace(20, 80, 41))
CARRIERS = ("UA", "B6", "<b>EV</b>")
VERSION = 4


def profile_of(random_: random.Random, *, rows: int, temp: float) -> Profile:
    """Counts of so many rows, whose temperature lies about ``temp``."""
    temps = np.array([random_.gauss(temp, 10) for _ in range(rows)])
    counts, _ = bin_counts(temps, np.array(EDGES))
    scores, _ = bin_counts(np.array([random_.betavariate(2, 6) for _ in range(rows)]), np.linspace(0.05, 0.95, 19))
    chosen = [random_.choices(CARRIERS, (5, 3, 2))[0] for _ in range(rows)]
    inputs: dict[str, Field] = {
        "temp": Numeric(edges=EDGES, counts=tuple(counts.tolist()), missing=rows // 50),
        "carrier": Categorical(values={one: chosen.count(one) for one in CARRIERS}, other=0, missing=0),
        "phone": Hidden(present=rows, missing=0),
    }
    edges = tuple(np.linspace(0.05, 0.95, 19).tolist())
    return Profile(rows=rows, inputs=inputs, scores=(Numeric(edges=edges, counts=tuple(scores.tolist()), missing=0),))


REFERENCE = profile_of(random.Random(1), rows=4000, temp=50)  # noqa: S311  (figures of a test)


def move(connection: sa.Connection, *, first: datetime, days: int, warm: int = 3) -> None:
    """Keep so many days' counts, and what the rule says of them; the last ``warm`` are 12 degrees warmer."""
    random_ = random.Random(2)  # noqa: S311  (figures of a test)
    judged: dict[Literal["input_drift", "score_drift"], list[drifting.Judged]] = {"input_drift": [], "score_drift": []}
    for number in range(days):
        start = first + number * timedelta(days=1)
        day = profile_of(random_, rows=300, temp=62 if number >= days - warm else 50)
        index = drifting.stability_of(day, REFERENCE)
        for watch, earlier in judged.items():
            inputs = watch == "input_drift"
            streams = (drifting.input_streams if inputs else drifting.score_streams)(day, REFERENCE)
            said = drifting.judge(
                earlier[-40:],
                streams,
                version=VERSION,
                rows=day.rows,
                stability={name: value for name, value in index.items() if (name in day.inputs) == inputs},
                false_alarm_every=1000,
            )
            earlier.append(said)
            keep_window(connection, "production", Window(start=start, watch=watch, value=msgspec.to_builtins(said)))
        value = {"version": VERSION, "profile": msgspec.to_builtins(day)}
        keep_window(connection, "production", Window(start=start, watch="counts", value=value))
