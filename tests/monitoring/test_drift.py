"""The test of drift on plain arrays: what it names, what it takes and refuses, and that a day is judged alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from passerelle.bundle.profile import merge, profile
from passerelle.monitoring import drift, drifting
from passerelle.monitoring.drift import LEARNING
from passerelle.schema import Column, Schema

ROWS, FEATURES = 300, 4


def _windows(count: int, *, seed: int, wobble: float = 0.05) -> Any:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, FEATURES, ROWS)) + wobble * random.normal(size=(count, FEATURES, 1))


REFERENCE = _windows(30, seed=0)


@pytest.mark.parametrize(
    ("change", "within"),
    [
        (lambda values: values + 0.5, 2),
        (lambda values: values * 1.3, 3),
        (lambda values: np.where(np.arange(ROWS) % 10 == 0, np.nan, values), 1),
        (lambda values: np.abs(values) - 0.8, 2),
        (lambda values: np.full_like(values, np.nan), 1),
        (lambda values: values * 0, 1),
    ],
)
def test_a_change_is_told_with_its_feature(change: Any, within: int) -> None:
    windows = _windows(30, seed=1)
    windows[20:, 2] = change(windows[20:, 2])
    [alarm] = drift(REFERENCE, windows, false_alarm_every=1000)
    assert 20 <= alarm.window < 20 + within
    assert alarm.features == (2,)


def test_it_restarts_and_what_has_changed_is_the_baseline() -> None:
    windows = _windows(90, seed=2)
    windows[20:, 1] += 1
    windows[60:, [0, 3]] += 1
    alarms = drift(REFERENCE, windows, false_alarm_every=1000)
    assert [(one.window, sorted(one.features)) for one in alarms] == [(20, [1]), (60, [0, 3])]
    # What happens while a baseline is learned is part of it.
    windows = _windows(90, seed=2)
    windows[20:, 1] += 1
    windows[20 + LEARNING - 1 :, 0] += 1
    assert [one.window for one in drift(REFERENCE, windows, false_alarm_every=1000)][:1] == [20]


def test_a_result_depends_on_no_later_window() -> None:
    windows = _windows(60, seed=3)
    windows[20:, 1] += 0.3
    windows[50:, 0] = np.nan
    whole = drift(REFERENCE, windows, false_alarm_every=50)
    for count in (19, 21, 30, 49, 52):
        part = drift(REFERENCE, windows[:count], false_alarm_every=50)
        assert part == [one for one in whole if one.window < count]
    assert drift(REFERENCE, windows[:0], false_alarm_every=50) == []


def test_units_do_not_matter() -> None:
    windows = _windows(40, seed=4)
    windows[20:, 1] += 0.2
    alarms = drift(REFERENCE, windows, false_alarm_every=100)
    assert alarms != []
    assert drift(np.exp(REFERENCE), np.exp(windows), false_alarm_every=100) == alarms
    assert drift(REFERENCE * 1e9 - 7, windows * 1e9 - 7, false_alarm_every=100) == alarms


def test_one_odd_row_alarms_nobody_and_many_do() -> None:
    """A feature that never changed, or was never missing, has no spread to learn."""
    reference, windows = _windows(30, seed=5), _windows(30, seed=6)
    reference[:, 0], windows[:, 0] = 7.0, 7.0
    windows[20, 0, 5], windows[22, 1, 9], windows[24, 0, 1] = 9.0, np.nan, -1e30
    assert drift(reference, windows, false_alarm_every=1000) == []
    windows[26:, 0] = 8.0
    assert [tuple(one) for one in drift(reference, windows, false_alarm_every=1000)] == [(26, (0,))]


def test_zeros_and_ones_and_integers_are_numbers() -> None:
    random = np.random.default_rng(7)
    reference, windows = random.random((30, 2, ROWS)) < 0.3, random.random((30, 2, ROWS)) < 0.3
    windows[20:, 1] = random.random((10, ROWS)) < 0.5
    [alarm] = drift(reference, windows, false_alarm_every=1000)
    assert (alarm.window, alarm.features) == (20, (1,))
    assert drift(reference.astype(np.int64), windows.astype(np.int64), false_alarm_every=1000) == [alarm]


@pytest.mark.parametrize(
    ("reference", "windows", "every", "said"),
    [
        (REFERENCE[:13], REFERENCE, 1000, "the reference has 13 windows: 14 at least"),
        (REFERENCE[0], REFERENCE, 1000, r"reference_windows has the shape \(4, 300\)"),
        (REFERENCE, REFERENCE[:, :3], 1000, "the reference has 4 features and the windows have 3"),
        (REFERENCE, REFERENCE[..., :200], 1000, "the reference's windows have 300 events and the others 200"),
        (REFERENCE, REFERENCE, 1, "false_alarm_every is 1: a number of windows above 1"),
        (np.where(np.arange(4)[:, None] == 3, np.nan, REFERENCE), REFERENCE, 9, "feature 3 has no value in the ref"),
        (REFERENCE.astype(object), REFERENCE, 9, "reference_windows holds object: numbers are wanted"),
        (REFERENCE, REFERENCE.astype(str), 9, "each category as a feature of 0 and 1"),
    ],
)
def test_what_it_refuses(reference: Any, windows: Any, every: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        drift(reference, windows, false_alarm_every=every)


def test_the_number_of_features_raises_no_alarm() -> None:
    """One number holds for all of them: a feature that is there 30 times is one feature, and 30 are held together."""
    random = np.random.default_rng(9)
    reference, windows = random.normal(size=(30, 1, 200)), random.normal(size=(400, 1, 200))
    alone = drift(reference, windows, false_alarm_every=20)
    together = drift(np.tile(reference, (1, 30, 1)), np.tile(windows, (1, 30, 1)), false_alarm_every=20)
    assert [one.window for one in together] == [one.window for one in alone]
    assert 0 < len(alone) <= 400 / 20
    others = drift(random.normal(size=(30, 30, 200)), random.normal(size=(400, 30, 200)), false_alarm_every=20)
    assert len(others) <= 400 / 20


def test_days_are_judged_by_the_same_arithmetic() -> None:
    """The rule on days, told that everything matters, raises the same alarms on the same windows."""
    everything = dict.fromkeys(drifting.MATTERS, 0.0)
    reference, windows = REFERENCE.copy(), _windows(60, seed=8)
    reference[:, 0], windows[:, 0] = 7.0, 7.0
    windows[10, 0, 3] = 9.0  # one odd row, which alarms nobody
    windows[20:, 1] += 0.5
    windows[45:, 3] *= 1.5
    names = [f"x{number}" for number in range(FEATURES)]
    schema = Schema(columns=tuple(Column(name=name, kind="number", nullable=True) for name in names))

    def counted(window: Any, like: Any = None) -> Any:
        return profile(dict(zip(names, window, strict=True)), np.empty((len(window[0]), 0)), schema, like=like)

    like = counted(reference.transpose(1, 0, 2).reshape(FEATURES, -1))
    days = [counted(window, like) for window in (*reference, *windows)]
    summed = days[0]
    for day in days[1:30]:
        summed = merge(summed, day)
    assert summed == like
    judged: list[drifting.Judged] = []
    for number, day in enumerate(days):
        # The days of the reference are given, and not judged.
        streams = drifting.input_streams(day, like)
        one = drifting.judge(
            judged, streams, version=1, rows=ROWS, stability={}, false_alarm_every=1000, matters=everything
        )
        if number < 30:
            one = drifting.Judged(version=1, rows=ROWS, streams=streams, restarts=number == 0)
        judged.append(one)
    alarms = drift(reference, windows, false_alarm_every=1000)
    assert len(alarms) == 2
    assert [number - 30 for number, one in enumerate(judged) if one.alarm] == [one.window for one in alarms]
    named = [tuple(dict.fromkeys(int(name.field[1:]) for name in one.named)) for one in judged if one.alarm]
    assert named == [one.features for one in alarms]
