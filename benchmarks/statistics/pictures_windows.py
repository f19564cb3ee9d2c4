"""Pictures of docs/statistics.md on drift and performance; ``pictures`` draws them with the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.statistics import windows
from benchmarks.statistics.windows import EVERY, FEATURES, REFERENCE, ROWS, normal
from passerelle.monitoring import drift
from passerelle.monitoring.tolerance import bet, start

_OURS, _NAIVE, _GREY = "#0b6e4f", "#c1440e", "#666666"
_WINDOWS = 600
#: The loss is as known, then what is tolerated, then worse.
_REFERENCE, _TOLERANCE, _WORSE, _EACH = 0.10, 0.01, 0.13, 60


def false_alarms(axes: Any) -> None:
    """Twenty features that only wobble: how many windows have alarmed by each, and a change of one at the end."""
    rng = np.random.default_rng(111)
    before, after = normal(rng, REFERENCE, wobble=0.05), normal(rng, _WINDOWS, wobble=0.05)
    changed = _WINDOWS * 3 // 4
    after[changed:, 0] += 0.3
    at = np.arange(1, _WINDOWS + 1)
    tests = (("Kolmogorov-Smirnov at 5 %, each feature", windows.drift, _NAIVE), ("ours", drift, _OURS))
    for name, test, colour in tests:
        alarms = np.array([one.window + 1 for one in test(before, after, false_alarm_every=EVERY)])
        axes.plot(at, (alarms[:, None] <= at).sum(axis=0), color=colour, label=name, drawstyle="steps-post")
    axes.plot(at, at / EVERY, color=_GREY, linestyle=":", label="the 1 in 1,000 that was asked for")
    axes.axvline(changed, color=_GREY, linewidth=0.8)
    axes.text(changed * 0.985, 60, f"1 of {FEATURES} features moves by 0.3 sd", color=_GREY, ha="right")
    axes.set(xlabel=f"windows of {ROWS} events", ylabel="alarms so far")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, 1000)


def tolerated(axes: Any) -> None:
    """The evidence that a loss is more than what is tolerated; the windows that are "significantly" worse, below it."""
    rng = np.random.default_rng(112)
    chances = np.repeat([_REFERENCE, _REFERENCE + _TOLERANCE, _WORSE], _EACH)
    losses = (rng.random((len(chances), ROWS)) < chances[:, None]).astype(np.float64)
    asked: dict[str, float] = {"reference": _REFERENCE, "tolerance": _TOLERANCE, "false_alarm_every": EVERY}
    sums, evidence = start(), []
    for window in losses:
        sums = bet(sums, window, most=_REFERENCE + _TOLERANCE)
        evidence.append(float(sums.mean()))
        if evidence[-1] >= EVERY:
            sums = start()
    at = np.arange(len(chances))
    axes.plot(at, evidence, color=_OURS, label="ours: evidence")
    naive = windows.performance(list(losses), **asked)
    axes.plot(naive, np.full(len(naive), 0.02), "|", color=_NAIVE, label="z test of a window, at 5 %")
    axes.axhline(EVERY, color=_GREY, linestyle=":", label="alarm; the evidence begins anew")
    for place, name in enumerate((f"loss {_REFERENCE:g}", f"{_REFERENCE + _TOLERANCE:g}: tolerated", f"{_WORSE:g}")):
        axes.axvline(place * _EACH, color=_GREY, linewidth=0.8)
        axes.text(place * _EACH + 1, 3e4, name, color=_GREY)
    axes.set(yscale="log", xlabel=f"windows of {ROWS} mature outcomes", ylabel="evidence", ylim=(0.01, 1e5))
