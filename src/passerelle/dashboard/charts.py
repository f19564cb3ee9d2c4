"""Charts: plotly figures as JSON. Colours are names of the page's own ("--good"): its script puts in what they are.

plotly itself is not imported: a figure is a mapping, and the tests hold each against plotly's own schema.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from passerelle.dashboard.drawing import Figure, across, axis_of_days, blank, mark, middle, note, trace, upright, zone
from passerelle.dashboard.lists import DayLoss
from passerelle.dashboard.reading import Point
from passerelle.trial.provisional import Provisional
from passerelle.trial.verdict import Plan, Verdict

#: Fewer points than this are marked: of one alone there is no line.
_MARKED = 15
_HALF_DAY = timedelta(hours=12)
#: The most evidence that is drawn: beyond, the axis would hide where it was decided.
_MOST_EVIDENCE = 1e6


def estimate_chart(
    plan: Plan,
    points: Sequence[Point],
    verdict: Verdict | None,
    *,
    provisional: Sequence[Provisional] = (),
    stages: Sequence[tuple[datetime, str]] = (),
) -> Figure:
    """The estimate with its running band, the margin and zero; the zone below the margin is where it is promoted.

    ``provisional`` days are dashed; ``stages`` are moments at which the share was changed, and to what.
    """
    points = _decisive(points, verdict)
    known = [point for point in points if point.estimate is not None]
    days = [middle(point.start) for point in known] or [middle(plan.started_at)]
    low, high = _range(plan, known)
    traces = [
        trace(days, [_inside(point.upper, low, high) for point in known], "--accent-soft", width=1, name="upper bound"),
        {
            **trace(
                days, [_inside(point.lower, low, high) for point in known], "--accent-soft", width=1, name="lower bound"
            ),
            "fill": "tonexty",
            "fillcolor": "--band",
        },
        {**trace(days, [point.estimate for point in known], "--accent", width=3, name="estimate")},
    ]
    if known:
        traces.append(_now(known[-1], low, high))
    shapes = [
        zone(low, plan.margin, "--good-zone"),
        zone(plan.margin, high, "--bad-zone"),
        across(0.0, "--soft", dash="solid"),
        across(plan.margin, "--bad", dash="dash"),
    ]
    notes = [
        note(plan.margin, "the margin", "--bad", above=True),
    ]
    if verdict is not None and verdict.decided_by is not None:
        shapes.append(upright(verdict.decided_by, "--ink"))
        notes.append(mark(verdict.decided_by, verdict.kind.replace("_", " ")))
    elif points and len(points) < plan.min_days:
        due = points[0].start + timedelta(days=plan.min_days - 1)
        shapes.append(upright(due, "--soft"))
        notes.append(mark(due, "first possible verdict"))
    early = [one for one in provisional if one.estimate is not None]
    if early:
        joined = [(known[-1].start, known[-1].estimate)] if known else []
        joined += [(one.start, one.estimate) for one in early]
        x = [middle(start) for start, _ in joined]
        line = trace(x, [value for _, value in joined], "--soft", width=2, name="provisional", dash="dash")
        traces.append(line)
        days = [*days, x[-1]]
    for at, share in stages:
        shapes.append(upright(at.replace(hour=0, minute=0), "--accent"))
        notes.append(mark(at.replace(hour=0, minute=0), share))
    layout = blank("challenger − champion", shapes=shapes, notes=notes)  # noqa: RUF001  (a true minus)
    layout["yaxis"] |= {"range": [low, high], "tickformat": "+.4~g"}
    layout["xaxis"] |= axis_of_days(*_span(plan, days))
    return {"data": traces, "layout": layout}


def evidence_chart(plan: Plan, points: Sequence[Point], verdict: Verdict | None) -> Figure:
    """The evidence for promotion and for rolling back, on a logarithmic axis, with 1 / alpha, where it decides."""
    points = _decisive(points, verdict)
    days = [middle(point.start) for point in points]
    for_it = [_clipped(point.promote_evidence) for point in points]
    against = [_clipped(point.rollback_evidence) for point in points]
    most = max([*for_it, *against, 1 / plan.alpha])
    notes = [note(math.log10(1 / plan.alpha), f"decides at {1 / plan.alpha:.0f}", "--ink", above=True)]
    shapes = [across(1 / plan.alpha, "--ink", dash="dash")]
    if verdict is not None and verdict.decided_by is not None:
        shapes.append(upright(verdict.decided_by, "--ink"))
    layout = blank("evidence", shapes=shapes, notes=notes)
    top = math.ceil(math.log10(most))
    ticks = [10.0**power for power in range(-2, top + 1)]
    layout["yaxis"] |= {"type": "log", "range": [-2.25, math.log10(most) + 0.4], "tickvals": ticks}
    layout["yaxis"]["ticktext"] = [f"{tick:,.10g}" for tick in ticks]
    layout["xaxis"] |= axis_of_days(*_span(plan, days))
    return {
        "data": [
            trace(days, for_it, "--good", width=3, name="for promotion"),
            trace(days, against, "--bad", width=3, name="for rolling back", dash="dot"),
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


def _now(point: Point, low: float, high: float) -> dict[str, Any]:
    """The last estimate and its interval: before a second day there is no band to see it by."""
    bar: dict[str, Any] = {"type": "data", "symmetric": False, "color": "--accent", "thickness": 2, "visible": False}
    lower, upper = _inside(point.lower, low, high), _inside(point.upper, low, high)
    if point.estimate is not None and lower is not None and upper is not None:
        bar |= {"array": [upper - point.estimate], "arrayminus": [point.estimate - lower], "visible": True}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [middle(point.start)],
        "y": [point.estimate],
        "error_y": bar,
        "marker": {"color": "--accent", "size": 9},
        "hoverinfo": "skip",
    }


def _span(plan: Plan, days: Sequence[str]) -> tuple[datetime, datetime]:
    """From the first day to the last, or to the day of the first possible verdict: how far it still is shows."""
    first = datetime.fromisoformat(days[0]) - _HALF_DAY
    last = max(datetime.fromisoformat(days[-1]) - _HALF_DAY, first + timedelta(days=plan.min_days - 1))
    return first, last


def _range(plan: Plan, points: Sequence[Point]) -> tuple[float, float]:
    """From below to above: the margin, zero, every estimate, and as much of the band as leaves these readable."""
    wide = max([plan.margin, *(abs(point.estimate or 0.0) for point in points)]) * 3
    ends = [
        bound for point in points for bound in (point.lower, point.upper) if bound is not None and abs(bound) < wide
    ]
    values = [0.0, plan.margin * 1.6, -plan.margin, *ends, *(point.estimate or 0.0 for point in points)]
    room = (max(values) - min(values)) * 0.08
    return min(values) - room, max(values) + room


def _inside(value: float | None, low: float, high: float) -> float | None:
    """A bound that is beyond the chart stands just outside: a line from infinity cannot be drawn."""
    reach = high - low
    return None if value is None else min(max(value, low - reach), high + reach)


def _clipped(evidence: float) -> float:
    return min(max(evidence, 1e-2), _MOST_EVIDENCE)
