"""Frame: figures, the methods under test, and the bars that are found in this folder."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, SupportsFloat

FOLDER = Path(__file__).parent
RESULTS = FOLDER.parent / "results" / "statistics.jsonl"
ALPHA = 0.05


class Figure(NamedTuple):
    """What was measured, what it is held to, and whether it keeps to that."""

    name: str
    value: float
    bound: float
    passed: bool


class Methods(NamedTuple):
    """The functions under test, with the signatures of the public API (see ``ours.py``). None: not of this kind."""

    #: "ours" or "naive": it is written with each figure.
    name: str
    #: As in passerelle.trial: an object with promoted_at, rolled_back_at, lower and upper (ratio: the alarm).
    paired: Callable[..., Any]
    split: Callable[..., Any]
    blocks: Callable[..., Any]
    ratio: Callable[..., Any]
    #: (happened_at, known_at, *, horizon, now) → indices of the events that count, in their order.
    cohort: Callable[..., Any]
    #: (losses, keys) → one row of (losses, first places) for each unit of evidence.
    units: Callable[..., Any]
    #: As in passerelle.monitoring: (reference_windows, windows, *, false_alarm_every) → alarms.
    drift: Callable[..., Any] | None = None
    #: (windows of losses, *, reference, tolerance, false_alarm_every) → indices of the alarms.
    performance: Callable[..., Any] | None = None
    #: (reference, windows, *, false_alarm_every) → indices of the alarms; counts of shape (windows, fields, values and,
    #: last, missing).
    counted: Callable[..., Any] | None = None
    #: (failed, *, percent) → after how many answers, looked at after each, a challenger is taken away, or None.
    breaker: Callable[..., Any] | None = None


class Bar(Protocol):
    """A module of this folder."""

    #: Replications of `make soak`, and of a quick look.
    FULL: int
    SMALL: int

    def run(self, *, replications: int, test: Methods) -> list[Figure]:
        """The figures of this bar; the docstring of the module says what it simulates."""
        ...


def at_most(name: str, value: SupportsFloat, bound: float) -> Figure:
    """A figure that must not be larger than its bound; NaN fails.

    >>> at_most("false promotions", 0.04, 0.05).passed, at_most("of nothing", math.nan, 1).passed
    (True, False)
    """
    return Figure(name, float(value), float(bound), float(value) <= bound)


def at_least(name: str, value: SupportsFloat, bound: float) -> Figure:
    """A figure that must not be smaller than its bound; NaN fails."""
    return Figure(name, float(value), float(bound), float(value) >= bound)


def rate_limit(replications: int, *, rate: float = ALPHA, errors: float = 2.0) -> float:
    """A rate and its standard errors above it: what chance allows in so many replications.

    >>> round(rate_limit(2000), 4)
    0.0597
    """
    return rate + errors * math.sqrt(rate * (1 - rate) / replications)


def bars(number: int | None = None) -> dict[str, Bar]:
    """Name → module of every bar, or of those with this number, in the order of their names."""
    pattern = "bar[0-9][0-9]_*.py" if number is None else f"bar{number:02d}_*.py"
    names = sorted(path.stem for path in FOLDER.glob(pattern))
    return {name: importlib.import_module(f"benchmarks.statistics.{name}") for name in names}
