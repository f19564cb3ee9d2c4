"""The page of performance: what is mature, what is not due yet, and calibration from the ledger."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import large
import lived
import msgspec
import numpy as np
import pytest
from large import DAYS, FIRST, ROWS
from plotly import graph_objects
from shown import PAGES, ask
from test_charts import coloured

from passerelle.dashboard import calibrating, performance_charts, performed
from passerelle.dashboard.later import Found, Later
from passerelle.dashboard.reading import Reader
from passerelle.dashboard.rendering import render
from passerelle.errors import LedgerError
from passerelle.monitoring.windows import Window
from passerelle.project.settings import Project


def test_calibration_counts_what_happened_of_what_was_said(answered: Project) -> None:
    found = calibrating.calibrate(answered, "production", (False, True), FIRST, FIRST + 8 * large.DAY)
    assert found.of == "True"
    assert found.rows == min(9 * (ROWS // DAYS), found.rows)
    assert found.rows >= min(4500, calibrating.ROWS)
    assert found.error < 0.05  # drawn from their own probabilities
    second = found.bins[2]
    assert second.said == pytest.approx(0.25, abs=0.02)
    assert second.happened == pytest.approx(second.said, abs=0.06)
    gone = calibrating.calibrate(answered, "production", (False, True), lived.YEAR, lived.YEAR + large.DAY)
    assert (gone.rows, gone.bins) == (0, ())
    wrong = calibrating.binned(np.array([0.9, 0.95]), np.array([False, False]))
    assert (wrong[9].rows, wrong[9].happened) == (2, 0.0)


def test_days_that_are_not_due_show_what_their_scores_expect(answered: Project) -> None:
    coming = calibrating.coming(answered, "production", lived.NOW.replace(hour=0) - 2 * large.DAY, lived.NOW)
    assert [one.start for one in coming] == [lived.NOW.replace(hour=0) - n * large.DAY for n in (2, 1)]
    # E p (1 - p) of Beta(2, 6): 2 / 8 - (2 * 3) / (8 * 9)
    assert coming[0].expected == pytest.approx(1 / 4 - 6 / 72, abs=0.02)


def test_calibration_is_of_the_newest_days_that_are_enough(answered: Project) -> None:
    windows = Reader(answered, "production").read().windows["performance"]
    found = calibrating.days_for(windows)
    assert found is not None
    first, last = found
    assert last == windows[-1].start
    rows = [one.value["rows"] for one in windows if one.start >= first]
    assert sum(rows) >= calibrating.ROWS > sum(rows[1:])
    assert calibrating.days_for(()) is None


def test_the_page_shades_what_is_not_due_and_draws_what_is_tolerated(answered: Project) -> None:
    with ask(answered) as client:
        page: dict[str, Any] = client.get("/performance", params={"format": "json", "days": "28"}).json()
        rows = client.get("/performance", params={"format": "csv"}).text.splitlines()
        text = client.get("/performance").text
    assert page["sentence"].startswith("The model lost 0.1")
    assert page["not_due"] == "2013-06-25T00:00:00Z"
    assert [one["start"] for one in page["coming"]] == ["2013-06-25T00:00:00Z", "2013-06-26T00:00:00Z"]
    assert page["calibration"]["last"] == "2013-06-24T00:00:00Z"
    assert len(page["days"]) == 28
    assert rows[0] == "day,events,loss,usual,expected,alert,tolerated,cost"
    assert len(rows) == 91
    assert "labels not yet due" in text
    seen = Reader(answered, "production").read()
    coming = Found(standing="there", value=(calibrating.Coming(start=lived.NOW, expected=0.2),))
    made = performed.performance_page(seen, span=90, calibrated=None, coming=coming, now=lived.NOW)
    figure = graph_objects.Figure(coloured(performance_charts.tolerance_chart(made)))
    zone = figure.layout.shapes[-1]
    assert (zone.x0, zone.x1) == ("2013-06-25T00:00", "2013-06-27T12:00")
    assert figure.data[-2].y[-1] == pytest.approx(0.148 * 1.25)
    assert figure.data[-1].y == (0.2,)
    bins = calibrating.binned(np.array([0.1, 0.9]), np.array([False, True]))
    shown = calibrating.Calibration(first=FIRST, last=FIRST, rows=2, bins=bins, error=0.1, of="True")
    assert graph_objects.Figure(coloured(performance_charts.calibration_chart(shown))).data[0].y == (0.0, 1.0)


def test_estimates_that_were_kept_stand_in_the_zone_with_their_past_error(answered: Project) -> None:
    seen = Reader(answered, "production").read()
    assert seen.windows["estimated"] == ()  # measured before there were any
    last = seen.windows["performance"][-1].start
    kept = [
        (last, {"rows": 9, "loss": 0.9}),
        (last + large.DAY, {"rows": 9, "loss": 0.16}),
        (last + 2 * large.DAY, {"rows": 9, "loss": 0.3, "past_error": 0.02, "past_days": 9, "warning": True}),
        (last + 3 * large.DAY, {"rows": 0, "loss": None}),
    ]
    windows = tuple(Window(start=start, watch="estimated", value=value) for start, value in kept)
    seen = msgspec.structs.replace(seen, windows=seen.windows | {"estimated": windows})
    own = tuple(calibrating.Coming(start=last + n * large.DAY, expected=0.2) for n in (2, 3))
    coming = Found(standing="there", value=own)
    page = performed.performance_page(seen, span=28, calibrated=None, coming=coming, now=lived.NOW)
    assert [(one.expected, one.past_error, one.warning) for one in page.coming] == [
        (0.16, None, False),
        (0.3, 0.02, True),
        (0.2, None, False),
    ]
    low, high, line = graph_objects.Figure(coloured(performance_charts.tolerance_chart(page))).data[-3:]
    assert (low.y[0], high.y[0], high.fill) == (pytest.approx(0.28), pytest.approx(0.32), "tonexty")
    assert (line.y, line.line.dash) == ((0.16, 0.3, 0.2), "dash")


def test_cost_slices_and_what_is_tolerated_are_shown_of_the_days_that_have_them(answered: Project) -> None:
    seen = Reader(answered, "production").read()
    windows = seen.windows["performance"]
    old = performed.performance_page(seen, span=28, calibrated=None, coming=None, now=lived.NOW)
    assert (old.slices, old.days[-1].cost, old.days[-1].tolerated) == ((), None, None)  # measured before there were any
    with pytest.raises(ValueError, match="no day has a cost"):
        performance_charts.cost_chart(old)
    kept = [
        one.value
        | {"cost": 2.5, "tolerated": 0.17}
        | {"slices": {"carrier": {"UA": {"rows": n, "loss": n / 10, "cost": 1.0 * n}, "<b>": {"rows": 1, "loss": 0.5}}}}
        for n, one in enumerate(windows[-2:], start=1)
    ]
    new = tuple(msgspec.structs.replace(one, value=value) for one, value in zip(windows[-2:], kept, strict=True))
    seen = msgspec.structs.replace(seen, windows=seen.windows | {"performance": (*windows[:-2], *new)})
    page = performed.performance_page(seen, span=28, calibrated=None, coming=None, now=lived.NOW)
    first, second = page.slices
    assert (first.value, first.rows) == ("UA", 3)
    assert (first.loss, first.cost) == pytest.approx((0.5 / 3, 5 / 3))
    assert (second.value, second.rows, second.loss, second.cost) == ("<b>", 2, 0.5, None)
    needed = graph_objects.Figure(coloured(performance_charts.tolerance_chart(page))).data[4].y
    assert needed[-1] == 0.17
    assert needed[-3] == pytest.approx(0.148 * 1.25)
    assert performance_charts.cost_chart(page)["data"][0]["y"] == [2.5, 2.5]
    text = render(
        "performance.html",
        page=page,
        drawn={"loss": performance_charts.tolerance_chart(page), "cost": performance_charts.cost_chart(page)},
        csv=True,
        project="flights",
        environment="production",
        now=lived.NOW,
        here="/performance",
        admin=False,
        known=False,
        most=0,
        plotly="7",
    )
    assert "exploratory" in text
    assert "&lt;b&gt;" in text
    assert "more than is tolerated" in text


def test_what_takes_long_is_computed_once_beside_the_page() -> None:
    later, go, made = Later(), threading.Event(), list[int]()

    def slow() -> int:
        go.wait(30)
        made.append(1)
        return 7

    assert later.get("a", slow, wait_s=0).standing == "computing"
    assert later.get("a", slow, wait_s=0).standing == "computing"
    go.set()
    assert later.get("a", slow, wait_s=30).value == 7
    assert (made, later.finished) == ([1], 1)

    def wrong() -> int:
        raise LedgerError("the ledger cannot be read")

    assert later.get("b", wrong, wait_s=30) == Found(standing="failed", reason="the ledger cannot be read")


def test_every_page_opens_over_many_predictions_and_at_full_size_within_a_second(
    answered: Project, tmp_path: Path
) -> None:
    """By the clock only at full size, a million, where nothing else runs."""
    took = {}
    with ask(answered) as client:
        for path in PAGES.values():
            client.get(path)
            began = time.monotonic()
            assert client.get(path).status_code == 200
            took[path] = time.monotonic() - began
    (tmp_path / "took.json").write_text(str(took), encoding="utf-8")
    if ROWS >= 1_000_000:
        assert max(took.values()) <= 1.0, took
