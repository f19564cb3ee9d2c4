"""Pictures of docs/statistics.md, one for each idea, with the naive method beside ours.

python -m benchmarks.statistics.pictures         (needs matplotlib; half a minute)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from benchmarks.statistics import naive
from benchmarks.statistics.bar15_blocks import MIN_DAYS, resampled
from benchmarks.statistics.flight_days import PATH
from benchmarks.statistics.frame import ALPHA, FOLDER
from benchmarks.statistics.ours import cohort
from benchmarks.statistics.pictures_windows import false_alarms, tolerated
from benchmarks.statistics.streams import EVENTS, assigned, zero_one
from passerelle.trial import blocks, paired, plan, ratio, split
from passerelle.trial.ratio import log_evidence
from passerelle.trial.split import pseudo_outcomes

ROOT = FOLDER.parents[1]
IMAGES = ROOT / "docs" / "images"
OURS, NAIVE, GREY = "#0b6e4f", "#c1440e", "#666666"
#: Replications of a curve, and the points that are drawn of it.
RUNS, POINTS = 300, 120


def peeking(axes: Any) -> None:
    """How many challengers at the margin have been promoted by each look."""
    rng = np.random.default_rng(101)
    runs = [zero_one(rng, EVENTS, disagree=0.04, delta=0.01) for _ in range(4 * RUNS)]
    asked: dict[str, Any] = {"margin": 0.01, "alpha": ALPHA, "bounds": (-1, 1), "planned_n": 3000}
    at = np.geomspace(50, EVENTS, POINTS)
    for name, test, colour in (("t test, looked at every 10 events", naive.paired, NAIVE), ("ours", paired, OURS)):
        found = np.array([test(run, **asked).promoted_at or np.inf for run in runs])
        axes.plot(at, 100 * (found[:, None] <= at).mean(axis=0), color=colour, label=name)
    axes.axhline(5, color=GREY, linestyle=":", label="the 5 % that was asked for")
    axes.set(xscale="log", xlabel="events looked at", ylabel="promoted by then, %", ylim=(0, None))


def band(axes: Any) -> None:
    """One trial of an equal challenger: the running bounds, and the interval of the t test at each look."""
    rng = np.random.default_rng(18)
    values = zero_one(rng, 6000, disagree=0.04, delta=0.0)
    asked: dict[str, Any] = {"margin": 0.01, "alpha": ALPHA, "bounds": (-1, 1), "planned_n": 2500}
    ours, other = paired(values, **asked), naive.paired(values, **asked)
    at = np.unique(np.geomspace(100, len(values), 2 * POINTS).astype(int))
    axes.axhspan(-0.03, 0.01, color=OURS, alpha=0.06)
    axes.axhspan(0.01, 0.05, color=NAIVE, alpha=0.06)
    axes.fill_between(at, ours.lower[at - 1], ours.upper[at - 1], color=OURS, alpha=0.25, label="ours: running bounds")
    axes.plot(at, other.lower[at - 1], color=NAIVE, linewidth=0.8, label="t interval at each look")
    axes.plot(at, other.upper[at - 1], color=NAIVE, linewidth=0.8)
    axes.plot(at, (np.cumsum(values) / np.arange(1, len(values) + 1))[at - 1], color="black", linewidth=1)
    axes.axhline(0.01, color=GREY, linestyle=":")
    axes.text(110, 0.0112, "margin", color=GREY)
    if ours.promoted_at is not None:
        axes.axvline(ours.promoted_at, color=OURS, linestyle="--", label=f"promoted at event {ours.promoted_at:,}")
    axes.set(xscale="log", xlabel="mature events", ylabel="challenger - champion", ylim=(-0.03, 0.05))


def ramp(axes: Any) -> None:
    """Traffic goes from 10 to 50 % while events get easier: the difference that each method sees; truth: the margin."""
    rng = np.random.default_rng(103)
    late = np.arange(EVENTS) >= EVENTS // 2
    share, error = np.where(late, 0.5, 0.1), np.where(late, 0.05, 0.20)
    losses, arms = assigned(rng, EVENTS, share=share, error=error, delta=0.02)
    at = np.linspace(500, EVENTS, POINTS).astype(int)
    pooled = [losses[:k][arms[:k] == 1].mean() - losses[:k][arms[:k] == 0].mean() for k in at]
    values = pseudo_outcomes(losses, arms, share=share, start=0.5)
    axes.plot(at, pooled, color=NAIVE, label="difference of the pooled means")
    axes.plot(at, (np.cumsum(values) / np.arange(1, EVENTS + 1))[at - 1], color=OURS, label="ours: mean pseudo-outcome")
    axes.axhline(0.02, color=GREY, linestyle=":", label="the truth: 2 points worse")
    axes.axvline(EVENTS // 2, color=GREY, linewidth=0.8)
    axes.text(EVENTS // 2 * 1.02, 0.05, "traffic 10 → 50 %", color=GREY)
    axes.set(xlabel="events", ylabel="challenger - champion")


def late(axes: Any) -> None:
    """Errors of the challenger are labelled four times as late: what each order of counting sees, as time passes."""
    rng = np.random.default_rng(104)
    happened = np.arange(EVENTS, dtype=np.float64)
    losses, arms = assigned(rng, EVENTS, share=0.5, error=0.10, delta=0.02)
    slow = np.where((arms == 1) & (losses == 1), 4.0, 1.0)
    known = happened + np.minimum(rng.exponential(1000 * slow), 10_000)
    now = np.linspace(1500, EVENTS + 10_000, POINTS)
    for name, order, colour in (
        ("as outcomes arrive", naive.cohort, NAIVE),
        ("ours: mature events, in their order", cohort, OURS),
    ):
        seen = []
        for moment in now:
            counted = order(happened, known, horizon=10_000.0, now=moment)
            one, other = losses[counted][arms[counted] == 1], losses[counted][arms[counted] == 0]
            seen.append(one.mean() - other.mean() if min(len(one), len(other)) > 200 else np.nan)  # noqa: PLR2004  (noise)
        axes.plot(now, seen, color=colour, label=name)
    axes.axhline(0.02, color=GREY, linestyle=":", label="the truth: 2 points worse")
    axes.axvline(EVENTS, color=GREY, linewidth=0.8)
    axes.set(xlabel="time (one event per unit; none after the line)", ylabel="challenger - champion")


def clusters(axes: Any) -> None:
    """Equal versions, keys with many events: how often the challenger is rolled back, by events per key."""
    rng = np.random.default_rng(105)
    each = (1, 2, 5, 10, 20, 40)
    asked: dict[str, Any] = {"share": 0.5, "margin": 0.02, "alpha": ALPHA, "bounds": (0, 1)}
    rates: dict[str, list[float]] = {"t test on events": [], "ours on events": [], "ours on keys": []}
    for events in each:
        found = np.zeros(3)
        for _ in range(RUNS):
            chance = rng.beta(0.9, 8.1, 600)
            counts = rng.binomial(events, chance)
            arm = (rng.random(600) < 0.5).astype(int)  # noqa: PLR2004  (halves)
            order = rng.permutation(600 * events)
            losses = np.concatenate([np.arange(events) < count for count in counts]).astype(float)[order]
            arms = np.repeat(arm, events)[order]
            found[0] += naive.split(losses, arms, planned_n=7000, **asked).rolled_back_at is not None
            found[1] += split(losses, arms, planned_n=7000, **asked).rolled_back_at is not None
            found[2] += split(counts / events, arm, planned_n=600, **asked).rolled_back_at is not None
        for rate, name in zip(100 * found / RUNS, rates, strict=True):
            rates[name].append(float(rate))
    for (name, rate), colour, style in zip(rates.items(), (NAIVE, OURS, OURS), ("-", "--", "-"), strict=True):
        axes.plot(each, rate, color=colour, linestyle=style, marker="o", markersize=3, label=name)
    axes.axhline(5, color=GREY, linestyle=":")
    axes.set(xscale="log", xlabel="events per key", ylabel="rolled back though equal, %", ylim=(0, None))
    axes.set_xticks(each, [str(one) for one in each])


def days(axes: Any) -> None:
    """Flights, three pairs of models at the margin, 60 days: how often each method promotes."""
    rng = np.random.default_rng(106)
    names, found = [], []
    for name, series in json.loads(PATH.read_text(encoding="utf-8")).items():
        margin = 0.03 * float(np.mean(series["champion"]))
        pool = np.array(series["shadow"]) - np.mean(series["shadow"]) + margin
        for together, drawn in ((1, "days"), (7, "weeks")):
            runs = [resampled(rng, pool, together=together) for _ in range(RUNS)]
            asked: dict[str, Any] = {"margin": margin, "alpha": ALPHA, "min_blocks": MIN_DAYS}
            rate = [
                np.mean([test(run, **asked).promoted_at is not None for run in runs]) for test in (naive.blocks, blocks)
            ]
            names.append(name.replace(" against ", "\nagainst ") + f", {drawn} drawn")
            found.append(100 * np.array(rate))
    place = np.arange(len(names))
    axes.barh(place - 0.2, [one for one, _ in found], height=0.38, color=NAIVE, label="t test after each day")
    axes.barh(place + 0.2, [other for _, other in found], height=0.38, color=OURS, label="ours")
    axes.axvline(5, color=GREY, linestyle=":")
    axes.set_yticks(place, names, fontsize=7)
    axes.set(xlabel="promoted at the margin, %")
    axes.invert_yaxis()


def mismatch(axes: Any) -> None:
    """Evidence of a sample ratio mismatch, at 50/50 and at 55/45; and where a chi-square test first cries wolf."""
    rng = np.random.default_rng(107)
    at = np.unique(np.geomspace(100, EVENTS, POINTS).astype(int))
    for share, colour, name in ((0.55, NAIVE, "55/45: something loses units"), (0.5, OURS, "50/50, as planned")):
        arms = (rng.random(EVENTS) < share).astype(int)
        challenger = np.cumsum(arms)
        evidence = log_evidence([np.arange(1, EVENTS + 1) - challenger, challenger], [0.5, 0.5])
        axes.plot(at, np.clip(evidence[at - 1] / np.log(10), -2, 8), color=colour, label=name)
        alarm = ratio(arms, share=0.5, alpha=0.001)
        if alarm is not None:
            axes.axvline(alarm, color=colour, linewidth=0.8)
    false = np.mean([naive.ratio(rng.random(EVENTS) < 0.5, share=0.5, alpha=0.05) is not None for _ in range(RUNS)])  # noqa: PLR2004  (halves)
    axes.axhline(3, color=GREY, linestyle=":", label="alarm: 1 in 1,000 if all is well")
    axes.set(xscale="log", xlabel="units", ylabel="evidence (powers of ten)")
    axes.set_title(f"chi-square at 5 % after each unit: {false:.0%} false alarms", fontsize=8, color=NAIVE)


def needed(axes: Any) -> None:
    """Labels until an equal challenger is promoted, in shadow and in split, and what was planned."""
    rng = np.random.default_rng(108)
    forecast = plan(margin=0.02, per_day=1000, deviation=0.2, losses=(np.arange(10_000) < 1000).astype(float))  # noqa: PLR2004  (10 %)
    for need, colour in ((forecast.shadow, OURS), (forecast.split, "#1f4e8c")):
        found = []
        for _ in range(RUNS):
            rows = 2 * (need.labels_90 or 0)
            asked: dict[str, Any] = {"margin": 0.02, "alpha": ALPHA, "planned_n": need.planned_n}
            if need.mode == "shadow":
                course = paired(zero_one(rng, rows, disagree=0.04, delta=0.0), bounds=(-1, 1), **asked)
            else:
                losses, arms = assigned(rng, rows, share=0.5, error=0.1, delta=0.0)
                course = split(losses, arms, share=0.5, bounds=(0, 1), **asked)
            found.append(course.promoted_at or np.inf)
        at = np.geomspace(100, 30_000, POINTS)
        axes.plot(
            at, 100 * (np.array(found)[:, None] <= at).mean(axis=0), color=colour, label=f"{need.mode}, simulated"
        )
        axes.plot([need.labels, need.labels_90], [50, 90], "x", color=colour, label=f"{need.mode}, planned")
    runs = [zero_one(rng, 5000, disagree=0.04, delta=0.0) for _ in range(RUNS)]
    once: dict[str, Any] = {"margin": 0.02, "alpha": ALPHA, "bounds": (-1, 1), "planned_n": 618}
    early = np.array([naive.paired(run, **once).promoted_at or np.inf for run in runs])
    axes.plot(
        at, 100 * (early[:, None] <= at).mean(axis=0), color=NAIVE, linewidth=0.8, label="t test: early, and wrong"
    )
    axes.set(xscale="log", xlabel="mature labels", ylabel="promoted by then, %")


PICTURES: tuple[Callable[[Any], None], ...] = (peeking, band, ramp, late, clusters, days, mismatch, needed)
PICTURES += (false_alarms, tolerated)


def main() -> None:
    """Draw every picture."""
    mpl.use("svg")
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "passerelle",
        "font.size": 8,
        "font.family": "sans-serif",
    } | {"axes.spines.top": False, "axes.spines.right": False, "path.simplify_threshold": 0.5}
    mpl.rcParams.update(settings)
    for draw in PICTURES:
        figure, axes = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
        draw(axes)
        axes.legend(frameon=False, fontsize=7)
        path = IMAGES / f"statistics-{draw.__name__}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
