"""The page of alerts: causes, who sees to them, silences."""

from __future__ import annotations

import lived
import msgspec

from passerelle.dashboard.lists import MOST, AlertsPage, alerts_page, alerts_table
from passerelle.dashboard.reading import Reader
from passerelle.dashboard.rendering import render
from passerelle.monitoring.silences import Silence
from passerelle.project.settings import Project


def test_alerts_of_one_cause_stand_together_with_who_sees_to_them_and_what_is_silenced(project: Project) -> None:
    seen = Reader(project, "production").read()
    first = next(one for one in seen.alerts if one.closed_at is None)
    seen_to = msgspec.structs.replace(first, acknowledged_at=lived.NOW, acknowledged_by="Ada", note="a new source")
    follows = msgspec.structs.replace(
        first, id="production-performance-x", watch="performance", group=first.id, opened_at=first.opened_at + lived.DAY
    )
    alone = msgspec.structs.replace(
        first, id="production-errors-y", watch="errors", opened_at=first.opened_at + lived.DAY
    )
    over = Silence(
        watch="volume", since=lived.NOW - 2 * lived.DAY, until=lived.NOW - lived.DAY, reason="a holiday", by="Ada"
    )
    lasts = msgspec.structs.replace(over, until=lived.NOW + lived.DAY)
    page = alerts_page(
        msgspec.structs.replace(seen, alerts=(seen_to, follows, alone), silences=(over, lasts)), now=lived.NOW
    )
    assert [[one.id for one in cause] for cause in page.causes] == [[alone.id], [first.id, follows.id]]
    assert page.silences == (lasts,)
    rows = alerts_table(page)
    assert [row["cause"] for row in rows if row["id"] == follows.id] == [first.id]
    assert render_alerts(page).count("Ada sees to it since") == 1
    assert "sends nothing until" in render_alerts(page)


def render_alerts(page: AlertsPage) -> str:
    return render(
        "alerts.html",
        page=page,
        drawn={},
        csv=True,
        project="flights",
        environment="production",
        now=lived.NOW,
        here="/alerts",
        admin=False,
        known=False,
        most=MOST,
        plotly="7",
    )
