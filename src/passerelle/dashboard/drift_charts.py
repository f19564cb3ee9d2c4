"""Charts of drift: the heat map of fields by days, the evidence that decides, and the histograms of a day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from passerelle.dashboard.drawing import Figure, across, axis_of_days, blank, middle, note, shown, trace
from passerelle.dashboard.drifted import DriftPage, FieldDrift, Histogram, Rule

#: Evidence below 1 speaks for a field: it is drawn as none.
_LEAST = 1.0
#: Beyond this the axis would hide what lies below the threshold.
_MOST = 1e6
_ROW_PX = 26
#: Of more bars only the first, the middle and the last are named: the table has them all.
_NAMED = 6
_ALARM = "an alarm"
#: With more days there is no room between them.
_GAPS = 120


def heat_chart(page: DriftPage) -> Figure:
    """log10 of each field's evidence on each day, scores last; the darkest alone raises an alarm.

    Raises ValueError without any evidence: there is nothing to draw.
    """
    if not any(value is not None for field in page.fields for value in field.evidence):
        raise ValueError("no day was judged: say so instead of a chart")
    fields = list(reversed(page.fields))  # plotly draws the first at the bottom
    most = max(math.log10(field.alone) for field in page.fields)
    # A row of its own, above, for the marks: plotly wants figures for every row.
    names = [*(shown(field.name) for field in fields), _ALARM]
    empty = [None] * len(page.days)
    layout = blank("", shapes=[], notes=[])
    layout["height"] = 120 + _ROW_PX * len(fields)
    layout["margin"]["t"] = 48
    layout["hovermode"] = "closest"
    layout["xaxis"] |= axis_of_days(page.days[0], page.days[-1])
    layout["yaxis"] |= {"type": "category", "showgrid": False, "tickfont": {"size": 12}}
    layout["yaxis"].pop("title")
    alarms = sorted({day.start for rule in page.rules for day in rule.days if day.alarm})
    bar = {
        "orientation": "h",
        "thickness": 10,
        "len": 0.75,
        "x": 0,
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "ypad": 16,
        "outlinewidth": 0,
        "tickvals": [0, 1, 2, most],
        "ticktext": ["1", "10", "100", f"{10**most:,.0f}"],
        "tickfont": {"size": 11},
    }
    heat = {
        "type": "heatmap",
        "x": [middle(start) for start in page.days],
        "y": names,
        "z": [*([_log(value) for value in field.evidence] for field in fields), empty],
        "text": [*(_said(field) for field in fields), [""] * len(page.days)],
        "hovertemplate": "%{y}<br>%{x|%-d %B %Y}<br>%{text}<extra></extra>",
        "hoverongaps": False,
        "zmin": 0,
        "zmax": most,
        "xgap": 1 if len(page.days) <= _GAPS else 0,
        "ygap": 2,
        "colorscale": [[0, "--cold"], [0.5, "--warm"], [1, "--hot"]],
        "colorbar": bar,
    }
    marks = {
        "type": "scatter",
        "mode": "markers",
        "x": [middle(start) for start in alarms],
        "y": [_ALARM] * len(alarms),
        "marker": {"symbol": "diamond", "size": 10, "color": "--bad", "line": {"color": "--card", "width": 1.5}},
        "hovertemplate": "an alarm<br>%{x|%-d %B %Y}<extra></extra>",
        "cliponaxis": False,
    }
    return {"data": [heat, marks], "layout": layout}


def mean_chart(rules: Sequence[Rule]) -> Figure:
    """What decides: the mean evidence over all streams of each rule, on a logarithmic axis, with the alarm line.

    Raises ValueError without a judged day.
    """
    judged = [one for rule in rules for one in rule.days if one.mean is not None]
    if not judged:
        raise ValueError("no day was judged: say so instead of a chart")
    days = sorted(one.start for rule in rules for one in rule.days)
    shapes, notes = [], []
    for threshold in sorted({rule.threshold for rule in rules}):
        shapes.append(across(threshold, "--bad", dash="dash"))
        notes.append(note(math.log10(threshold), f"an alarm at {threshold:,.0f}", "--bad", above=True))
    layout = blank("mean evidence", shapes=shapes, notes=notes)
    top = math.log10(max([*(_clipped(one.mean or 0.0) for one in judged), *(rule.threshold for rule in rules)]))
    ticks = [10.0**power for power in range(math.ceil(top) + 1)]
    layout["yaxis"] |= {"type": "log", "range": [-0.15, top + 0.45], "tickvals": ticks}
    layout["yaxis"]["ticktext"] = [f"{tick:,.0f}" for tick in ticks]
    layout["xaxis"] |= axis_of_days(days[0], days[-1])
    traces: list[dict[str, Any]] = []
    for rule in rules:
        inputs = rule.of == "inputs"
        line = trace(
            [middle(one.start) for one in rule.days],
            [None if one.mean is None else _clipped(one.mean) for one in rule.days],
            "--accent" if inputs else "--good",
            width=2,
            name=rule.of,
            dash="solid" if inputs else "dot",
        )
        traces.append(line)
    alarms = [one for rule in rules for one in rule.days if one.alarm]
    raised = {
        "type": "scatter",
        "mode": "markers",
        "x": [middle(one.start) for one in alarms],
        "y": [_clipped(one.mean or 0.0) for one in alarms],
        "marker": {"color": "--bad", "size": 10, "symbol": "diamond", "line": {"color": "--card", "width": 1.5}},
        "hovertemplate": "%{x|%-d %B %Y}<br>an alarm<extra></extra>",
    }
    return {"data": [*traces, raised], "layout": layout}


def histogram_chart(histogram: Histogram) -> Figure:
    """Shares of the day, and as outlines the reference's."""
    labels = [shown(label) for label in histogram.labels]
    layout = blank("", shapes=[], notes=[])
    layout["margin"] = {"l": 4, "r": 4, "t": 8, "b": 4}
    layout["barmode"] = "overlay"
    layout["bargap"] = 0.12
    layout["xaxis"] = {
        name: value for name, value in layout["xaxis"].items() if name not in ("hoverformat", "tickformat")
    }
    layout["xaxis"] |= {"type": "category", "tickfont": {"size": 10}}
    if len(labels) > _NAMED:
        layout["xaxis"] |= {"tickvals": [0, len(labels) // 2, len(labels) - 1], "tickangle": 0}
    layout["yaxis"] |= {"tickformat": ".0%", "rangemode": "tozero", "nticks": 4}
    layout["yaxis"].pop("title")
    today = {"type": "bar", "x": labels, "name": "this day", "y": list(histogram.day), "marker": {"color": "--accent"}}
    outline = {"color": "--clear", "line": {"color": "--ink", "width": 1.5}}
    before = {"type": "bar", "x": labels, "name": "reference", "y": list(histogram.reference), "marker": outline}
    for one in (today, before):
        one["hovertemplate"] = f"{one['name']}: %{{y:.1%}}<extra></extra>"
    return {"data": [today, before], "layout": layout}


def _log(value: float | None) -> float | None:
    return None if value is None else math.log10(_clipped(value))


def _clipped(value: float) -> float:
    return min(max(value, _LEAST), _MOST)


def _said(field: FieldDrift) -> list[str]:
    return ["" if value is None else f"evidence {value:,.3g} of {field.alone:,.0f}" for value in field.evidence]
