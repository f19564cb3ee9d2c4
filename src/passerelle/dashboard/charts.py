"""Charts: plotly figures as JSON. Colours are names of the page's own ("--good"): its script puts in what they are.

plotly itself is not imported: a figure is a mapping, and the tests hold each against plotly's own schema.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from passerelle.dashboard.lists import DayLoss
from passerelle.dashboard.reading import Point
from passerelle.trial.verdict import Plan, Verdict

Figure = dict[str, Any]

#: From so many days on, months stand under the chart; below, this many days at most.
_MONTHS = 75
_TICKS = 5
#: Fewer points than this are marked: of one alone there is no line.
_MARKED = 15
_DAY_MS = 86_400_000
_HALF_DAY = timedelta(hours=12)
#: The most evidence that is drawn: beyond, the axis would hide where it was decided.
_MOST_EVIDENCE = 1e6


def estimate_chart(plan: Plan, points: Sequence[Point], verdict: Verdict | None) -> Figure:
    """The estimate with its running band, the margin and zero; the zone below the margin is where it is promoted."""
    points = _decisive(points, verdict)
    known = [point for point in points if point.estimate is not None]
    days = [_day(point.start) for point in known] or [_day(plan.started_at)]
    low, high = _range(plan, known)
    traces = [
        _line(days, [_inside(point.upper, low, high) for point in known], "--accent-soft", width=1, name="upper bound"),
        {
            **_line(
                days, [_inside(point.lower, low, high) for point in known], "--accent-soft", width=1, name="lower bound"
            ),
            "fill": "tonexty",
            "fillcolor": "--band",
        },
        {**_line(days, [point.estimate for point in known], "--accent", width=3, name="estimate")},
    ]
    if known:
        traces.append(_now(known[-1], low, high))
    shapes = [
        _zone(low, plan.margin, "--good-zone"),
        _zone(plan.margin, high, "--bad-zone"),
        _across(0.0, "--soft", dash="solid"),
        _across(plan.margin, "--bad", dash="dash"),
    ]
    notes = [
        _note(plan.margin, "the margin", "--bad", above=True),
    ]
    if verdict is not None and verdict.decided_by is not None:
        shapes.append(_upright(verdict.decided_by, "--ink"))
        notes.append(_mark(verdict.decided_by, verdict.kind.replace("_", " ")))
    elif points and len(points) < plan.min_days:
        due = points[0].start + timedelta(days=plan.min_days - 1)
        shapes.append(_upright(due, "--soft"))
        notes.append(_mark(due, "first possible verdict"))
    layout = _layout("challenger − champion", shapes=shapes, notes=notes)  # noqa: RUF001  (a true minus)
    layout["yaxis"] |= {"range": [low, high], "tickformat": "+.4~g"}
    layout["xaxis"] |= _axis(*_span(plan, days))
    return {"data": traces, "layout": layout}


def evidence_chart(plan: Plan, points: Sequence[Point], verdict: Verdict | None) -> Figure:
    """The evidence for promotion and for rolling back, on a logarithmic axis, with 1 / alpha, where it decides."""
    points = _decisive(points, verdict)
    days = [_day(point.start) for point in points]
    for_it = [_clipped(point.promote_evidence) for point in points]
    against = [_clipped(point.rollback_evidence) for point in points]
    most = max([*for_it, *against, 1 / plan.alpha])
    notes = [_note(math.log10(1 / plan.alpha), f"decides at {1 / plan.alpha:.0f}", "--ink", above=True)]
    shapes = [_across(1 / plan.alpha, "--ink", dash="dash")]
    if verdict is not None and verdict.decided_by is not None:
        shapes.append(_upright(verdict.decided_by, "--ink"))
    layout = _layout("evidence", shapes=shapes, notes=notes)
    top = math.ceil(math.log10(most))
    ticks = [10.0**power for power in range(-2, top + 1)]
    layout["yaxis"] |= {"type": "log", "range": [-2.25, math.log10(most) + 0.4], "tickvals": ticks}
    layout["yaxis"]["ticktext"] = [f"{tick:,.10g}" for tick in ticks]
    layout["xaxis"] |= _axis(*_span(plan, days))
    return {
        "data": [
            _line(days, for_it, "--good", width=3, name="for promotion"),
            _line(days, against, "--bad", width=3, name="for rolling back", dash="dot"),
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
        _line([_day(day.start) for day in known], [day.loss for day in known], "--accent", width=2, name="loss"),
        _line(
            [_day(day.start) for day in known],
            [day.expected for day in known],
            "--soft",
            width=1,
            name="expected by its own scores",
            dash="dot",
        ),
        _line(
            [_day(day.start) for day in known],
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
            "x": [_day(day.start) for day in alerting],
            "y": [day.loss for day in alerting],
            "marker": {"color": "--bad", "size": 10, "symbol": "diamond", "line": {"color": "--card", "width": 1.5}},
            "hovertemplate": "%{x|%-d %B %Y}<br>alert: %{y:.4~g}<extra></extra>",
        },
    ]
    layout = _layout("mean loss of the day", shapes=[], notes=[])
    layout["yaxis"] |= {"rangemode": "tozero"}
    layout["xaxis"] |= _axis(known[0].start, known[-1].start)
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
        "x": [_day(point.start)],
        "y": [point.estimate],
        "error_y": bar,
        "marker": {"color": "--accent", "size": 9},
        "hoverinfo": "skip",
    }


def _line(
    days: list[str],
    values: list[float | None] | list[float],
    colour: str,
    *,
    width: int,
    name: str,
    dash: str = "solid",
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": days,
        "y": values,
        "line": {"color": colour, "width": width, "dash": dash},
        "hovertemplate": "%{x|%-d %B %Y}<br>" + name + ": %{y:.4~g}<extra></extra>",
    }


def _layout(title: str, *, shapes: list[dict[str, Any]], notes: list[dict[str, Any]]) -> dict[str, Any]:
    """What all charts share: quiet, without a legend (the page has one), and with nothing that catches a finger."""
    axis = {"gridcolor": "--line", "linecolor": "--line", "zeroline": False, "fixedrange": True, "automargin": True}
    return {
        "autosize": True,
        "margin": {"l": 8, "r": 8, "t": 28, "b": 8},
        "paper_bgcolor": "--clear",
        "plot_bgcolor": "--clear",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "--soft"},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "--card", "bordercolor": "--line", "font": {"color": "--ink"}},
        "xaxis": {**axis, "type": "date", "showgrid": False, "hoverformat": "%-d %B %Y", "tickformat": "%-d %b"},
        "yaxis": {**axis, "title": {"text": title, "standoff": 10, "font": {"size": 12}}},
        "shapes": shapes,
        "annotations": notes,
    }


def _day(start: datetime) -> str:
    """The middle of the day, so that a mark stands on its day."""
    return (start + _HALF_DAY).strftime("%Y-%m-%dT%H:%M")


def _axis(first: datetime, last: datetime) -> dict[str, Any]:
    """From the first day to the last, whole, with ticks that stand on whole days, or on months."""
    ends = [f"{first:%Y-%m-%dT00:00}", f"{last + timedelta(days=1):%Y-%m-%dT00:00}"]
    days = (last - first).days + 1
    if days > _MONTHS:
        return {"range": ends, "dtick": "M1", "tickformat": "%b"}
    return {"range": ends, "tick0": _day(first), "dtick": math.ceil(days / _TICKS) * _DAY_MS}


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


def _zone(low: float, high: float, colour: str) -> dict[str, Any]:
    box = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": low, "y1": high}
    return {**box, "fillcolor": colour, "line": {"width": 0}, "layer": "below"}


def _across(value: float, colour: str, *, dash: str) -> dict[str, Any]:
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": value, "y1": value}
    return {**line, "line": {"color": colour, "width": 1.5, "dash": dash}, "layer": "below"}


def _upright(start: datetime, colour: str) -> dict[str, Any]:
    at = _day(start)
    line = {"type": "line", "xref": "x", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1}
    return {**line, "line": {"color": colour, "width": 1.5, "dash": "dot"}}


def _note(value: float, text: str, colour: str, *, above: bool) -> dict[str, Any]:
    place = {
        "xref": "paper",
        "x": 0,
        "xanchor": "left",
        "yref": "y",
        "y": value,
        "yanchor": "bottom" if above else "top",
    }
    return {**place, "text": text, "showarrow": False, "font": {"color": colour, "size": 12}}


def _mark(start: datetime, text: str) -> dict[str, Any]:
    place = {"xref": "x", "x": _day(start), "xanchor": "right", "yref": "paper", "y": 1, "yanchor": "bottom"}
    return {**place, "text": f"<b>{text}</b>", "showarrow": False, "font": {"color": "--ink", "size": 12}}
