"""Charts: plotly figures as JSON. Colours are names of the page's own ("--good"): its script puts in what they are.

plotly itself is not imported: a figure is a mapping, and the tests hold each against plotly's own schema.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from passerelle.dashboard.arm_charts import delay_chart
from passerelle.dashboard.drawing import (
    Figure,
    across,
    axis_of_days,
    axis_of_events,
    blank,
    mark,
    middle,
    note,
    place_of,
    trace,
    upright,
    zone,
)
from passerelle.dashboard.lists import DayLoss
from passerelle.dashboard.reading import Point
from passerelle.dashboard.trying import TrialPage
from passerelle.trial.judging import earliest_days
from passerelle.trial.provisional import Provisional
from passerelle.trial.verdict import Plan, Verdict

#: Fewer points than this are marked: of one alone there is no line.
_MARKED = 15
#: The most evidence that is drawn: beyond, the axis would hide where it was decided.
_MOST_EVIDENCE = 1e6


def trial_charts(page: TrialPage, stages: Sequence[tuple[datetime, str]]) -> dict[str, Figure]:
    """The figures of a trial's page, by name."""
    drawn: dict[str, Figure] = {}
    if page.record is None:
        return drawn
    plan, verdict, funnel = page.record.plan, page.record.verdict, page.beside.funnel
    if page.points:
        early = page.beside.provisional
        drawn["estimate"] = estimate_chart(plan, page.points, verdict, provisional=early, stages=stages)
        drawn["evidence"] = evidence_chart(plan, page.points, verdict)
    if funnel is not None and (delays := delay_chart(funnel, paired=plan.mode == "shadow")) is not None:
        drawn["delays"] = delays
    return drawn


def estimate_chart(
    plan: Plan,
    points: Sequence[Point],
    verdict: Verdict | None,
    *,
    provisional: Sequence[Provisional] = (),
    stages: Sequence[tuple[datetime, str]] = (),
) -> Figure:
    """The estimate with its running band over mature events; below the margin is where it is promoted.

    ``provisional`` days are dashed; ``stages`` are moments at which the share was changed, and to what.
    """
    points = _decisive(points, verdict)
    known = [point for point in points if point.estimate is not None]
    low, high = _range(plan, known, [one.estimate for one in provisional if one.estimate is not None])
    upper = _line(known, [_inside(point.upper, low, high) for point in known], "--accent-soft", "upper bound", width=1)
    lower = _line(known, [_inside(point.lower, low, high) for point in known], "--accent-soft", "lower bound", width=1)
    traces = [
        upper,
        {**lower, "fill": "tonexty", "fillcolor": "--band"},
        _line(known, [point.estimate for point in known], "--accent", "estimate", width=3, dated=True),
    ]
    if known:
        traces.append(_now(known[-1], low, high))
    shapes = [
        zone(low, plan.margin, "--good-zone"),
        zone(plan.margin, high, "--bad-zone"),
        across(0.0, "--soft", dash="solid"),
        across(plan.margin, "--bad", dash="dash"),
    ]
    notes = [note(plan.margin, "the margin", "--bad", above=True)]
    days = [(point.start, point.events) for point in points]
    _mark_verdict(plan, points, verdict, shapes, notes)
    if any(one.estimate is not None for one in provisional):
        early = _provisional(known, provisional)
        traces.append(early)
        days += list(zip([one.start for one in provisional], _counted(days, provisional), strict=True))
    end = days[-1][0] + timedelta(days=1) if days else plan.started_at
    for at, share in stages:
        if at < end:
            place = place_of(days, at)
            shapes.append(upright(place, "--accent"))
            notes.append(mark(place, share, inside=True, right=place * 2 < days[-1][1]))
    layout = blank("challenger − champion", shapes=shapes, notes=notes)  # noqa: RUF001  (a true minus)
    layout["yaxis"] |= {"range": [low, high], "tickformat": "+.4~g"}
    layout["margin"] |= {"r": 18}  # the last day's words end beyond the axis
    layout["xaxis"] |= axis_of_events(days, reach=_reach(plan, points))
    return {"data": traces, "layout": layout}


def evidence_chart(plan: Plan, points: Sequence[Point], verdict: Verdict | None) -> Figure:
    """The evidence for promotion and for rolling back, on a logarithmic axis, with where it decides: at 1 / alpha.

    With guardrails the loss rolls back at 2 / alpha: the other half of alpha is theirs.
    """
    points = _decisive(points, verdict)
    for_it = [_clipped(point.promote_evidence) for point in points]
    against = [_clipped(point.rollback_evidence) for point in points]
    most = max([*for_it, *against, 2 / plan.alpha])
    promotes, rolls_back = 1 / plan.alpha, (2 if plan.guardrails else 1) / plan.alpha  # half is the guardrails' own
    shapes = [across(promotes, "--ink", dash="dash")]
    if plan.guardrails:
        notes = [
            note(math.log10(promotes), f"promotes at {promotes:.0f}", "--ink", above=False),
            note(math.log10(rolls_back), f"rolls back at {rolls_back:.0f}", "--bad", above=True),
        ]
        shapes.append(across(rolls_back, "--bad", dash="dash"))
    else:
        notes = [note(math.log10(promotes), f"decides at {promotes:.0f}", "--ink", above=True)]
    if verdict is not None and verdict.decided_by is not None and points:
        shapes.append(upright(points[-1].events, "--ink"))
    layout = blank("evidence", shapes=shapes, notes=notes)
    top = math.ceil(math.log10(most))
    ticks = [10.0**power for power in range(-2, top + 1)]
    layout["yaxis"] |= {"type": "log", "range": [-2.25, math.log10(most) + 0.6], "tickvals": ticks}
    layout["yaxis"]["ticktext"] = [f"{tick:,.10g}" for tick in ticks]
    layout["margin"] |= {"r": 18}  # the last day's words end beyond the axis
    layout["xaxis"] |= axis_of_events([(point.start, point.events) for point in points], reach=_reach(plan, points))
    return {
        "data": [
            _line(points, for_it, "--good", "for promotion", width=3, dated=True),
            _line(points, against, "--bad", "for rolling back", width=3, dash="dot"),
        ],
        "layout": layout,
    }


def loss_chart(days: Sequence[DayLoss]) -> Figure:
    """The champion's loss by day, what is expected of it, and the days that are part of an alert.

    Only over days with a loss. Raises ValueError without any: there is nothing to draw.
    """
    known = [day for day in days if day.loss is not None]
    if not known:
        raise ValueError("no day has a loss: say so instead of a chart")
    alerting = [day for day in known if day.alerting]
    traces = [
        trace([middle(day.start) for day in known], [day.loss for day in known], "--accent", width=2, name="loss"),
        trace(
            [middle(day.start) for day in known],
            [day.expected for day in known],
            "--soft",
            width=1,
            name="expected by its own scores",
            dash="dot",
        ),
        trace(
            [middle(day.start) for day in known],
            [day.reference for day in known],
            "--soft",
            width=2,
            name="usual",
            dash="dash",
        ),
        {
            "type": "scatter",
            "mode": "markers",
            "name": "part of an alert",
            "x": [middle(day.start) for day in alerting],
            "y": [day.loss for day in alerting],
            "marker": {"color": "--bad", "size": 10, "symbol": "diamond", "line": {"color": "--card", "width": 1.5}},
            "hovertemplate": "%{x|%-d %B %Y}<br>alert: %{y:.4~g}<extra></extra>",
        },
    ]
    layout = blank("mean loss of the day", shapes=[], notes=[])
    layout["yaxis"] |= {"rangemode": "tozero"}
    layout["xaxis"] |= axis_of_days(known[0].start, known[-1].start)
    if len(known) < _MARKED:
        traces[0] |= {"mode": "lines+markers"}
    return {"data": traces, "layout": layout}


def _decisive(points: Sequence[Point], verdict: Verdict | None) -> Sequence[Point]:
    """Up to the day that decided: what came later changed nothing."""
    end = verdict.decided_by if verdict is not None else None
    return points if end is None else [point for point in points if point.start <= end]


def _line(
    points: Sequence[Point],
    values: Sequence[float | None],
    colour: str,
    name: str,
    *,
    width: int,
    dash: str = "solid",
    dated: bool = False,
) -> dict[str, Any]:
    """A line over mature events; of those at one place, one says the day."""
    line = trace([], list(values), colour, width=width, name=name, dash=dash)
    day = "%{customdata}<br>" if dated else ""
    return {
        **line,
        "x": [point.events for point in points],
        "customdata": [f"{point.start.day} {point.start:%B %Y}" for point in points],
        "hovertemplate": f"{day}{name}: %{{y:.4~g}}<extra></extra>",
    }


def _mark_verdict(
    plan: Plan,
    points: Sequence[Point],
    verdict: Verdict | None,
    shapes: list[dict[str, Any]],
    notes: list[dict[str, Any]],
) -> None:
    """Where it was decided; before, where the first verdict is possible at this pace."""
    if not points:
        return
    if verdict is not None and verdict.decided_by is not None:
        place, text, colour = float(points[-1].events), verdict.kind.replace("_", " "), "--ink"
    elif len(points) < earliest_days(plan) and points[-1].events:
        place, text, colour = _reach(plan, points), "first possible verdict", "--soft"
    else:
        return
    shapes.append(upright(place, colour))
    notes.append(mark(place, text))


def _counted(days: Sequence[tuple[datetime, int]], provisional: Sequence[Provisional]) -> list[int]:
    """How many events have an outcome by the end of each provisional day."""
    before = days[-1][1] if days else 0
    return [before + rows for rows in accumulate(one.rows for one in provisional)]


def _provisional(known: Sequence[Point], provisional: Sequence[Provisional]) -> dict[str, Any]:
    """The dashed line, from the last estimate on."""
    days = [(point.start, point.events) for point in known]
    ends = _counted(days, provisional)
    early = [(end, one) for end, one in zip(ends, provisional, strict=True) if one.estimate is not None]
    first = [(point.events, point.start, point.estimate) for point in known[-1:]]
    joined = [*first, *((end, one.start, one.estimate) for end, one in early)]
    return {
        **trace([], [value for _, _, value in joined], "--soft", width=2, name="provisional", dash="dash"),
        "x": [end for end, _, _ in joined],
        "customdata": [f"{start.day} {start:%B %Y}" for _, start, _ in joined],
        "hovertemplate": "%{customdata}<br>provisional: %{y:.4~g}<extra></extra>",
    }


def _now(point: Point, low: float, high: float) -> dict[str, Any]:
    """The last estimate and its interval: before a second day there is no band to see it by."""
    bar: dict[str, Any] = {"type": "data", "symmetric": False, "color": "--accent", "thickness": 2, "visible": False}
    lower, upper = _inside(point.lower, low, high), _inside(point.upper, low, high)
    if point.estimate is not None and lower is not None and upper is not None:
        bar |= {"array": [upper - point.estimate], "arrayminus": [point.estimate - lower], "visible": True}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [point.events],
        "y": [point.estimate],
        "error_y": bar,
        "marker": {"color": "--accent", "size": 9},
        "hoverinfo": "skip",
    }


def _reach(plan: Plan, points: Sequence[Point]) -> float:
    """The events by the day of the first possible verdict, at this pace: how far it still is shows."""
    return points[-1].events / len(points) * max(earliest_days(plan), len(points)) if points else 0.0


def _range(plan: Plan, points: Sequence[Point], early: Sequence[float]) -> tuple[float, float]:
    """From below to above: the margin, zero, every estimate, and as much of the band as leaves these readable."""
    wide = max([plan.margin, *(abs(point.estimate or 0.0) for point in points)]) * 3
    ends = [
        bound for point in points for bound in (point.lower, point.upper) if bound is not None and abs(bound) < wide
    ]
    ends += [estimate for estimate in early if abs(estimate) < wide]
    values = [0.0, plan.margin * 1.6, -plan.margin, *ends, *(point.estimate or 0.0 for point in points)]
    room = (max(values) - min(values)) * 0.08
    return min(values) - room, max(values) + room


def _inside(value: float | None, low: float, high: float) -> float | None:
    """A bound that is beyond the chart stands just outside: a line from infinity cannot be drawn."""
    reach = high - low
    return None if value is None else min(max(value, low - reach), high + reach)


def _clipped(evidence: float) -> float:
    return min(max(evidence, 1e-2), _MOST_EVIDENCE)
