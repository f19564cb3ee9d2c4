"""Drift: have the features changed? The test on plain arrays; ``drifting`` holds each day to the same arithmetic.

A module and its function share this name: ``from passerelle.monitoring import drift`` gives the function.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from passerelle.bundle.profile import bin_counts, bin_edges
from passerelle.monitoring.control import Floats, e_value, gather_all, mean_of, prediction_p
from passerelle.monitoring.streams import BOTH, OF_NUMBERS, angle, bin_streams, one_row

#: The windows that a baseline needs before one is judged: of days two weeks, so that it holds every weekday twice.
LEARNING = 14


class Alarm(NamedTuple):
    """An alarm of ``drift``."""

    #: The window that raised it: an index, from 0.
    window: int
    #: The features that have changed, the strongest evidence first: indices, from 0.
    features: tuple[int, ...]


def drift(reference_windows: Any, windows: Any, *, false_alarm_every: float) -> list[Alarm]:
    """The windows at which the features are no longer as they were; by chance one in ``false_alarm_every`` at most.

    Both arrays have shape (windows, features, events): numbers, with NaN for what is missing. The reference's values
    together make each feature's bins (BINS of them, at their quantiles), and its windows, 14 at least, show how much
    ordinary windows differ: the streams level, spread, shape and missing of every feature. A window's stream becomes a
    p-value by the t-test of a prediction from all windows since the baseline began (Brown, Durbin and Evans 1975), that
    an e-value (Vovk and Wang 2021), and these gather in a Shiryaev-Roberts sum (e-detectors: Shin, Ramdas and Rinaldo
    2023). The alarm is raised when the mean of the sums reaches ``false_alarm_every``, so that one number holds for all
    features together, whatever they have in common. It holds if the streams of ordinary windows are near normal and
    independent of the windows before; weekly or slowly wandering ones alarm oftener: make the windows longer.

    After an alarm everything restarts: the window that raised it is the first of a new baseline, and the 14th after it
    is the next that is judged. Unlike passerelle's alerts, which leave out what is too small to matter (MATTERS),
    any change counts. Each result depends on no later window.

    Raises ValueError for arrays of another shape, for what is no number (count the categories by name with
    bundle.profile, or give each as a feature of 0 and 1), a feature without a value in the reference, fewer reference
    windows than 14, or a ``false_alarm_every`` of 1 or less.

    >>> random = np.random.default_rng(1)
    >>> before, after = random.normal(size=(30, 4, 500)), random.normal(size=(60, 4, 500))
    >>> drift(before, after, false_alarm_every=1000)
    []
    >>> after[40:, 2] += 0.3
    >>> drift(before, after, false_alarm_every=1000)
    [Alarm(window=40, features=(2,))]
    """
    before, now = _windows("reference_windows", reference_windows), _windows("windows", windows)
    _check(before, now, false_alarm_every)
    values = np.concatenate([_values(before[:, place], now[:, place]) for place in range(now.shape[1])], axis=1)
    kinds = [*OF_NUMBERS, "missing"] * now.shape[1]
    both = np.array([kind in BOTH for kind in kinds])
    alarms: list[Alarm] = []
    sums, start = np.zeros(len(kinds)), 0
    for place in range(len(before), len(values)):
        base = values[start:place]
        if len(base) < LEARNING:
            continue
        least = one_row(kinds, mean_of(base), now.shape[2])
        p = prediction_p(base, values[place], both=both, least=least)
        gathered = gather_all(sums, e_value(p), false_alarm_every=false_alarm_every)
        sums = gathered.sums
        if gathered.alarm:
            features = dict.fromkeys(stream // len(set(kinds)) for stream in gathered.named)
            alarms.append(Alarm(place - len(before), tuple(features)))
            sums, start = np.zeros(len(kinds)), place
    return alarms


def _values(before: Floats, now: Floats) -> Floats:
    """The streams of a feature, of shape (all windows, 4), against the bins of the reference."""
    edges = bin_edges(before.ravel())
    counts, missing = bin_counts(np.concatenate([before, now]), edges)
    found, _ = bin_streams(counts, counts[: len(before)].sum(axis=0))
    rows = now.shape[1]
    return np.column_stack([found, angle(missing / rows, rows)])


def _windows(name: str, given: Any) -> Floats:
    array = np.asarray(given)
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"{name} holds {array.dtype}: numbers are wanted. Give each category as a feature of 0 and 1, or count "
            "them by name with passerelle.bundle.profile."
        )
    if array.ndim != 3 or 0 in array.shape[1:]:  # noqa: PLR2004  (windows, features, events)
        raise ValueError(f"{name} has the shape {array.shape}: (windows, features, events) is wanted")
    return np.asarray(array, dtype=np.float64)


def _check(before: Floats, now: Floats, false_alarm_every: float) -> None:
    if before.shape[1] != now.shape[1]:
        raise ValueError(f"the reference has {before.shape[1]} features and the windows have {now.shape[1]}")
    if before.shape[2] != now.shape[2]:
        raise ValueError(
            f"the reference's windows have {before.shape[2]} events and the others {now.shape[2]}: how much windows "
            "differ depends on how many events they have"
        )
    if len(before) < LEARNING:
        raise ValueError(f"the reference has {len(before)} windows: {LEARNING} at least show how much they differ")
    if not false_alarm_every > 1:
        raise ValueError(f"false_alarm_every is {false_alarm_every}: a number of windows above 1 is wanted")
    empty = np.flatnonzero(np.isnan(before).all(axis=(0, 2)))
    if empty.size:
        raise ValueError(f"feature {empty[0]} has no value in the reference")
