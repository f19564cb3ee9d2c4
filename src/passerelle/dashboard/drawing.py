"""Drawing: the parts that all charts share. Colours are names of the page's own ("--good"): its script knows them.

plotly itself is not imported: a figure is a mapping, and the tests hold each against plotly's own schema.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

Figure = dict[str, Any]

#: From so many days on, months stand under the chart; below, this many days at most.
_MONTHS = 75
_TICKS = 5
_DAY_MS = 86_400_000
_DAY = timedelta(days=1)
_HALF_DAY = _DAY / 2
#: Ticks of an axis of events stand at least so much of it apart.
_EVENT_TICKS = 4.6


def trace(
    days: list[str],
    values: list[float | None] | list[float],
    colour: str,
    *,
    width: int,
    name: str,
    dash: str = "solid",
) -> dict[str, Any]:
    """A line over days."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": days,
        "y": values,
        "line": {"color": colour, "width": width, "dash": dash},
        "hovertemplate": "%{x|%-d %B %Y}<br>" + name + ": %{y:.4~g}<extra></extra>",
    }


def blank(title: str, *, shapes: list[dict[str, Any]], notes: list[dict[str, Any]]) -> dict[str, Any]:
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


def middle(start: datetime) -> str:
    """The middle of the day, so that a mark stands on its day."""
    return (start + _HALF_DAY).strftime("%Y-%m-%dT%H:%M")


def axis_of_days(first: datetime, last: datetime) -> dict[str, Any]:
    """From the first day to the last, whole, with ticks that stand on whole days, or on months."""
    ends = [f"{first:%Y-%m-%dT00:00}", f"{last + timedelta(days=1):%Y-%m-%dT00:00}"]
    days = (last - first).days + 1
    if days > _MONTHS:
        return {"range": ends, "dtick": "M1", "tickformat": "%b"}
    return {"range": ends, "tick0": middle(first), "dtick": math.ceil(days / _TICKS) * _DAY_MS}


def axis_of_events(days: Sequence[tuple[datetime, int]], *, reach: float = 0.0) -> dict[str, Any]:
    """From no event to the last, or as far as ``reach``; of each day the events by its end. Ticks say both.

    >>> start = datetime(2013, 6, 6)
    >>> axis = axis_of_events([(start, 900), (start + timedelta(days=1), 1850)])
    >>> axis["tickvals"], axis["ticktext"]
    ([900, 1850], ['900<br>6 Jun', '1,850<br>7 Jun'])
    >>> axis_of_events([(start, 900), (start + timedelta(days=1), 900)])["ticktext"]
    ['900<br>6 Jun']
    """
    end = max([1.0, reach, *(float(events) for _, events in days)])
    ticks: list[tuple[datetime, int]] = []
    reached = dict(zip([events for _, events in reversed(days)], [start for start, _ in reversed(days)], strict=True))
    for events, start in reached.items():  # from the last, which is always said; of days without events the first
        if events and (not ticks or min(ticks[0][1] - events, events) >= end / _EVENT_TICKS):
            ticks.insert(0, (start, events))
    return {
        "type": "linear",
        "range": [0, end * 1.05],
        "tickmode": "array",
        "tickvals": [events for _, events in ticks],
        "ticktext": [f"{events:,}<br>{start.day} {start:%b}" for start, events in ticks],
        "hoverformat": ",d",
        "unifiedhovertitle": {"text": "%{x:,d} events"},
        "title": {"text": "labelled events, up to the day", "font": {"size": 12}, "standoff": 6},
    }


def place_of(days: Sequence[tuple[datetime, int]], at: datetime) -> float:
    """How many events there were by a moment, as if those of a day came evenly.

    >>> start = datetime(2013, 6, 6)
    >>> place_of([(start, 900), (start + timedelta(days=1), 1900)], start + timedelta(days=1, hours=12))
    1400.0
    """
    before = 0
    for start, events in days:
        if at < start + _DAY:
            return before + (events - before) * max(0.0, (at - start) / _DAY)
        before = events
    return float(before)


def zone(low: float, high: float, colour: str) -> dict[str, Any]:
    """A coloured band from one value to another."""
    box = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": low, "y1": high}
    return {**box, "fillcolor": colour, "line": {"width": 0}, "layer": "below"}


def across(value: float, colour: str, *, dash: str) -> dict[str, Any]:
    """A line at a value."""
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": value, "y1": value}
    return {**line, "line": {"color": colour, "width": 1.5, "dash": dash}, "layer": "below"}


def upright(place: float, colour: str) -> dict[str, Any]:
    """A line at a number of events."""
    line = {"type": "line", "xref": "x", "x0": place, "x1": place, "yref": "paper", "y0": 0, "y1": 1}
    return {**line, "line": {"color": colour, "width": 1.5, "dash": "dot"}}


def note(value: float, text: str, colour: str, *, above: bool) -> dict[str, Any]:
    """Words at a value."""
    place = {
        "xref": "paper",
        "x": 0,
        "xanchor": "left",
        "yref": "y",
        "y": value,
        "yanchor": "bottom" if above else "top",
    }
    return {**place, "text": text, "showarrow": False, "font": {"color": colour, "size": 12}}


def mark(place: float, text: str, *, inside: bool = False, right: bool = False) -> dict[str, Any]:
    """Words at a number of events, above the chart or ``inside``, ending there; with ``right`` they begin there."""
    found = {"xref": "x", "x": place, "xanchor": "left" if right else "right", "yref": "paper", "y": 1}
    found |= {"yanchor": "top" if inside else "bottom", "text": f"<b>{text}</b>", "showarrow": False}
    return {**found, "font": {"color": "--ink", "size": 12}}


def shown(text: str) -> str:
    """What users named, to stand in a chart as it is: plotly would read some of it as HTML.

    >>> shown("<b>late</b> & more")
    '&lt;b>late&lt;/b> &amp; more'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;")
