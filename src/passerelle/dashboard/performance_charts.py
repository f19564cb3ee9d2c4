"""Charts of performance: the loss with what is tolerated and the days that are not due; and calibration."""

from __future__ import annotations

from typing import Any

from passerelle.dashboard.calibrating import Calibration
from passerelle.dashboard.charts import loss_chart
from passerelle.dashboard.drawing import Figure, axis_of_days, blank, middle, trace
from passerelle.dashboard.lists import DayLoss
from passerelle.dashboard.performed import PerformancePage


def tolerance_chart(page: PerformancePage) -> Figure:
    """The mature loss, the line that an alarm needs, and in the zone that is not due what is expected.

    Raises ValueError without a mature day.
    """
    figure = loss_chart(page.days)
    known = [one for one in page.days if one.loss is not None]
    figure["data"].append(
        trace(
            [middle(one.start) for one in known],
            [_needed(one, page.worse) for one in known],
            "--bad",
            width=1,
            name="an alarm needs",
            dash="dash",
        )
    )
    last = known[-1].start
    if page.not_due is not None and page.now > page.not_due:
        last = max(last, page.now)
        zone = {"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 0}, "layer": "below"}
        ends = {"x0": f"{page.not_due:%Y-%m-%dT%H:%M}", "x1": f"{page.now:%Y-%m-%dT%H:%M}", "fillcolor": "--due-zone"}
        figure["layout"]["shapes"].append(zone | ends)
        words: dict[str, Any] = {"xref": "x", "x": ends["x1"], "xanchor": "right", "yref": "paper", "y": 1}
        words |= {"yanchor": "bottom", "text": "labels not yet due", "showarrow": False}
        figure["layout"]["annotations"].append(words | {"font": {"color": "--soft", "size": 12}})
    banded = [(one, one.past_error) for one in page.coming if one.past_error is not None]
    for sign in (-1, 1) if banded else ():
        edge = [max(0.0, one.expected + sign * error) for one, error in banded]
        days = [middle(one.start) for one, _ in banded]
        name = "less its past error" if sign < 0 else "with its past error"
        side = trace(days, edge, "--clear", width=0, name=name)
        figure["data"].append(side if sign < 0 else {**side, "fill": "tonexty", "fillcolor": "--band"})
    if page.coming:
        line = trace(
            [middle(one.start) for one in page.coming],
            [one.expected for one in page.coming],
            "--accent",
            width=2,
            name="expected, not known",
            dash="dash",
        )
        figure["data"].append(line | {"mode": "lines+markers", "marker": {"size": 6, "symbol": "circle-open"}})
    figure["layout"]["xaxis"] |= axis_of_days(known[0].start, last)
    return figure


def _needed(day: DayLoss, worse: float) -> float | None:
    """What an alarm needs: more than is tolerated, where that was said, else so many times the usual."""
    if day.tolerated is not None:
        return day.tolerated
    return None if day.reference is None else day.reference * worse


def cost_chart(page: PerformancePage) -> Figure:
    """The mean business cost of an event, day by day. Raises ValueError without a day that has one."""
    known = [one for one in page.days if one.cost is not None]
    if not known:
        raise ValueError("no day has a cost: say so instead of a chart")
    layout = blank("mean cost of an event", shapes=[], notes=[])
    layout["yaxis"] |= {"rangemode": "tozero"}
    layout["xaxis"] |= axis_of_days(known[0].start, known[-1].start)
    days, costs = [middle(one.start) for one in known], [one.cost for one in known]
    return {"data": [trace(days, costs, "--accent", width=2, name="cost of an event")], "layout": layout}


def calibration_chart(calibration: Calibration) -> Figure:
    """What was said, across, and how often it happened, up; on the diagonal both are the same."""
    bins = [one for one in calibration.bins if one.rows]
    layout = blank("how often it happened", shapes=[], notes=[])
    layout["hovermode"] = "closest"
    plain = {name: one for name, one in layout["xaxis"].items() if name not in ("hoverformat", "type", "tickformat")}
    share = {"range": [-0.03, 1.03], "tickformat": ".0%", "dtick": 0.25}
    layout["xaxis"] = plain | share | {"title": {"text": "what the model said", "font": {"size": 12}}}
    layout["yaxis"] |= share
    layout["shapes"] = [
        {
            "type": "line",
            "x0": 0,
            "y0": 0,
            "x1": 1,
            "y1": 1,
            "line": {"color": "--soft", "width": 1.5, "dash": "dash"},
            "layer": "below",
        }
    ]
    most = max((one.rows for one in bins), default=1)
    points = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [one.said for one in bins],
        "y": [one.happened for one in bins],
        "text": [f"{one.rows:,} events" for one in bins],
        "line": {"color": "--accent", "width": 2},
        "marker": {"color": "--accent", "size": [6 + 16 * (one.rows / most) ** 0.5 for one in bins]},
        "hovertemplate": "said %{x:.1%}, happened %{y:.1%}<br>%{text}<extra></extra>",
    }
    return {"data": [points], "layout": layout}
