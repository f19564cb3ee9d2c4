"""Windows: what the bars of drift and performance simulate, and the naive tests of a window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import chdtri, kolmogorov

#: Windows of the reference, features, events of a window, and windows between two false alarms, at least.
REFERENCE, FEATURES, ROWS, EVERY = 30, 20, 500, 1000.0
#: The change comes after so many windows, and is waited for so many.
BEFORE, AFTER = 50, 50
_Z = 1.6448536269514722


class Named(NamedTuple):
    """What passerelle.monitoring.drift's alarms have."""

    window: int
    features: tuple[int, ...]


def normal(rng: np.random.Generator, windows: int, *, wobble: float = 0.0) -> Any:
    """Windows of normal features, each of whose means differs from window to window by ``wobble``."""
    values = rng.standard_normal((windows, FEATURES, ROWS))
    return values + wobble * rng.standard_normal((windows, FEATURES, 1)) if wobble else values


def delay(alarms: Sequence[int]) -> float:
    """Windows until a change after BEFORE windows is told; infinite if it is not, or if there was an alarm before it.

    Whoever is called before anything happened has stopped listening when it does.
    """
    if not len(alarms) or alarms[0] < BEFORE:
        return float("inf")
    return float(alarms[0] - BEFORE + 1)


def median(delays: Callable[[np.random.Generator], float], *, replications: int, seed: int) -> float:
    """The median delay of so many runs."""
    return float(np.median([delays(np.random.default_rng([seed, number])) for number in range(replications)]))


def drift(reference_windows: Any, windows: Any, *, false_alarm_every: float) -> list[Named]:
    """A Kolmogorov-Smirnov test of each feature of each window against the reference, at 5 %."""
    del false_alarm_every
    count, features, rows = windows.shape
    found = np.zeros((count, features), dtype=np.bool_)
    for place in range(features):
        known = np.sort(reference_windows[:, place].ravel())
        below = np.searchsorted(known, np.sort(windows[:, place], axis=1), side="right") / len(known)
        steps = np.arange(rows) / rows
        distance = np.maximum(below - steps, steps + 1 / rows - below).max(axis=1)
        found[:, place] = kolmogorov(distance * np.sqrt(rows * len(known) / (rows + len(known)))) < 0.05  # noqa: PLR2004  (as usual)
    return [
        Named(int(window), tuple(np.flatnonzero(found[window]).tolist())) for window in np.flatnonzero(found.any(1))
    ]


def performance(windows: Sequence[Any], *, reference: float, tolerance: float, false_alarm_every: float) -> list[int]:
    """A one-sided test of each window's mean loss against the reference, at 5 %."""
    del tolerance, false_alarm_every
    alarms = []
    for number, losses in enumerate(windows):
        error = np.sqrt(reference * (1 - reference) / len(losses))
        if np.mean(losses) > reference + _Z * error:
            alarms.append(number)
    return alarms


def counted(reference: Any, windows: Any, *, false_alarm_every: float) -> list[int]:
    """A chi-square test of each field of each window against the reference, at 5 %."""
    del false_alarm_every
    shares = reference.sum(axis=0) / reference.sum(axis=(0, 2))[:, None]
    expected = np.maximum(shares * windows.sum(axis=2, keepdims=True), 1e-9)
    statistic = ((windows - expected) ** 2 / expected).sum(axis=2)
    found = statistic > chdtri((shares > 0).sum(axis=1) - 1, 0.05)
    return [int(window) for window in np.flatnonzero(found.any(axis=1))]
