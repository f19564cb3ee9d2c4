"""Charts of a trial's versions beside each other: when the outcomes of each become known."""

from __future__ import annotations

from typing import Any

from passerelle.dashboard.drawing import Figure, blank
from passerelle.trial.funnel import Funnel, FunnelArm


def delay_chart(funnel: Funnel, *, paired: bool) -> Figure | None:
    """The share of outcomes that were known so many hours after the event, by version; None where it was not counted.

    Of a shadow (``paired``) it is one line: both versions were asked about the same events.
    """
    arms = [(funnel.champion, "--accent", "solid"), (funnel.challenger, "--bad", "dot")]
    counted = [one for one in arms[: 1 if paired else 2] if one[0].due and one[0].known_after]
    if not counted:
        return None
    layout = blank("known", shapes=[], notes=[])
    layout["yaxis"] |= {"range": [0, 1.04], "tickformat": ".0%"}
    hours = funnel.horizon_hours
    layout["xaxis"] |= {"type": "linear", "range": [0, hours * 1.03], "tickmode": "array", "hoverformat": ".4~g"}
    layout["xaxis"] |= {"tickvals": [hours * part / 4 for part in range(5)], "tickformat": ".4~g"}
    layout["xaxis"] |= {
        "title": {"text": "hours after the event", "font": {"size": 12}, "standoff": 6},
        "unifiedhovertitle": {"text": "after %{x:.4~g} h"},
    }
    return {
        "data": [_curve(arm, funnel, colour, dash, paired=paired) for arm, colour, dash in counted],
        "layout": layout,
    }


def _curve(arm: FunnelArm, funnel: Funnel, colour: str, dash: str, *, paired: bool) -> dict[str, Any]:
    parts = len(arm.known_after)
    name = "both versions" if paired else f"version {arm.version}"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [funnel.horizon_hours * part / parts for part in range(parts + 1)],
        "y": [0.0, *arm.known_after],
        "line": {"color": colour, "width": 3, "dash": dash},
        "marker": {"color": colour, "size": 6},
        "hovertemplate": f"{name}: %{{y:.1%}}<extra></extra>",
    }
