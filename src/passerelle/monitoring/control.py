"""Control: is a day like the days before it? Pure arithmetic for one series of daily figures, or several at once.

A day is compared with all earlier days that were in control, by the t-test of a prediction: it learns how much ordinary
days differ among each other (weekends, rain), which a comparison of rows with rows does not. Its p-value becomes an
e-value; e-values gather in the Shiryaev-Roberts sum, which is expected to reach N once in at least N days by chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

Floats = NDArray[np.float64]

#: Evidence is kept below this, so that it stays a number in JSON.
MOST = 1e250
_LEAST_P = 1e-300
_FEWEST = 2


def prediction_p(earlier: Floats, value: Any, *, both: Any = False, least: Any = 0.0) -> Floats:
    """Probability of a value this large, or larger, after the earlier ones (with ``both``: this far off, either way).

    ``earlier`` has shape (days,) or (days, series), ``value`` and ``both`` one number per series. The t-test of a
    prediction: (x - mean) / (sd sqrt(1 + 1/k)) with k - 1 degrees of freedom (Brown, Durbin and Evans 1975: such p of
    successive normal values are independent and uniform). NaN earlier values are left out, series by series. Where
    there are fewer than two, or they never differed from each other and the value does not either, p is 1. ``least`` is
    the least that the sd is taken for: what is never known better, however alike the earlier days were.

    >>> round(float(prediction_p(np.array([1.0, 2.0, 3.0]), 6.0)), 4)
    0.0371
    """
    known = np.isfinite(earlier)
    count = known.sum(axis=0)
    mean = mean_of(earlier)
    squares = (np.where(known, earlier - mean, 0.0) ** 2).sum(axis=0)
    spread = np.sqrt(squares / np.maximum(count - 1, 1))
    spread = np.maximum(spread, least) * np.sqrt(1 + 1 / np.maximum(count, 1))
    off = np.asarray(value, dtype=np.float64) - mean
    # Rounding alone makes equal days differ by 1e-16 or so: that is no spread.
    tiny = 1e-12 * np.maximum(1.0, np.abs(mean))
    score = np.where(np.abs(off) <= tiny, 0.0, off / np.maximum(spread, tiny))
    degrees = np.maximum(count - 1, 1)
    p = np.where(both, 2 * stdtr(degrees, -np.abs(score)), stdtr(degrees, -score))
    usable = (count >= _FEWEST) & np.isfinite(score)
    return np.asarray(np.where(usable, np.minimum(p, 1.0), 1.0), dtype=np.float64)


def mean_of(earlier: Floats) -> Floats:
    """The mean of the earlier values, series by series; 0 where none is known."""
    known = np.isfinite(earlier)
    return np.asarray(np.where(known, earlier, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), dtype=np.float64)


def e_value(p: Any) -> Floats:
    """Evidence against chance: (1 - p + p ln p) / (p ln(p)^2), of mean 1 for uniform p (Vovk and Wang 2021).

    >>> [round(float(e), 2) for e in e_value([1.0, 0.05, 1e-5])]
    [0.5, 1.78, 754.35]
    """
    clipped = np.clip(np.asarray(p, dtype=np.float64), _LEAST_P, 1 - 1e-6)
    log = np.log(clipped)
    return np.asarray((1 - clipped + clipped * log) / (clipped * log**2), dtype=np.float64)


def gather(before: Any, e: Any) -> Floats:
    """The Shiryaev-Roberts sum after one more day: (1 + before) e (e-detectors: Shin, Ramdas and Rinaldo 2023).

    An alarm at N is expected by chance once in at least N days, also for the mean of several series' sums.

    >>> float(gather(3.0, 2.0))
    8.0
    """
    with np.errstate(over="ignore"):
        return np.asarray(np.minimum((1 + np.asarray(before, dtype=np.float64)) * e, MOST), dtype=np.float64)


class Gathered(NamedTuple):
    """The evidence of several series after one more day."""

    #: Of each series.
    sums: Floats
    #: Of all: what is compared with N.
    mean: float
    alarm: bool
    #: On an alarm the series that it names: those that would have raised it alone, the strongest first.
    named: list[int]


def gather_all(before: Any, e: Floats, *, false_alarm_every: float) -> Gathered:
    """One more day of several series, which are held together to N = ``false_alarm_every``: by the mean of their sums.

    However many they are, and whatever they have in common, an alarm is expected by chance once in at least N days.
    """
    sums = gather(before, e)
    # A mean of the largest would be no number any more.
    mean = float(np.minimum(sums, MOST / max(1, len(sums))).mean())
    alarm = mean >= false_alarm_every
    order: list[int] = np.argsort(-sums, kind="stable").tolist() if alarm else []
    return Gathered(sums, mean, alarm, [place for place in order if sums[place] >= false_alarm_every])


def expected_false_alarms(families: Iterable[tuple[float, float]]) -> float:
    """At most so many false alarms are expected of families of rules, each (days judged, days between two, at least).

    In the long run and for any number of days: the sum less the days is a supermartingale in which each alarm takes
    at least N away, so N times the alarms is expected to be at most the days. Families add, whatever they share: 200
    days of two rules, one false alarm in 1,000 days or in 365 at most.

    >>> round(expected_false_alarms([(200, 1000.0), (200, 365.0)]), 3)
    0.748
    """
    return sum(days / every for days, every in families)
