"""Charts: what plotly is given is what plotly knows, and says what the trial said."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import lived
import msgspec
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.dashboard.charts import Figure, estimate_chart, evidence_chart, loss_chart
from passerelle.dashboard.lists import DayLoss
from passerelle.dashboard.reading import Point
from passerelle.dashboard.rendering import figure_json
from passerelle.project.settings import Guardrail
from passerelle.trial.verdict import Verdict

START = datetime(2013, 6, 6, tzinfo=UTC)
PLAN = lived.make_plan(champion=1, challenger=2, revision=2, at=START)


def coloured(value: Any) -> Any:
    """A figure with colours where the page puts its own."""
    if isinstance(value, dict):
        return {name: coloured(one) for name, one in value.items()}
    if isinstance(value, list):
        return [coloured(one) for one in value]
    return "#123456" if isinstance(value, str) and value.startswith("--") else value


def known(figure: Figure) -> go.Figure:
    """The figure as plotly's own schema takes it: raises for what it does not know."""
    return go.Figure(coloured(json.loads(figure_json(figure))))


def point(number: int, estimate: float | None = 0.001, *, bounds: bool = True, evidence: float = 3.0) -> Point:
    return Point(
        start=START + timedelta(days=number),
        estimate=estimate,
        lower=None if estimate is None or not bounds else estimate - 0.01,
        upper=None if estimate is None or not bounds else estimate + 0.01,
        promote_evidence=evidence,
        rollback_evidence=1 / evidence,
        events=(number + 1) * 100,
    )


def verdict() -> Verdict:
    return Verdict(
        kind="ROLL_BACK",
        trial=PLAN.id,
        blocks=14,
        rows=100,
        estimate=0.01,
        lower=0.005,
        upper=0.015,
        promote_evidence=0.1,
        rollback_evidence=40,
        autocorrelation=None,
        decided_by=START + timedelta(days=13),
        sentence="ROLL BACK: it is",
    )


def test_the_estimate_has_its_band_the_margin_zero_and_the_verdict() -> None:
    figure = known(estimate_chart(PLAN, [point(number, 0.01) for number in range(14)], verdict()))
    upper, lower, estimate, last = figure.data
    assert math.isclose(last.error_y.array[0], 0.01)
    assert math.isclose(last.error_y.arrayminus[0], 0.01)
    assert estimate.y == (0.01,) * 14
    assert estimate.x == tuple(range(100, 1500, 100))
    assert (estimate.customdata[0], estimate.customdata[-1]) == ("6 June 2013", "19 June 2013")
    assert figure.layout.xaxis.tickvals == (600, 1000, 1400)
    assert figure.layout.xaxis.ticktext[-1] == "1,400<br>19 Jun"
    assert math.isclose(upper.y[0] - lower.y[0], 0.02)
    assert lower.fill == "tonexty"
    levels = [shape.y0 for shape in figure.layout.shapes if shape.type == "line" and shape.yref == "y"]
    assert levels == [0.0, PLAN.margin]
    green = figure.layout.shapes[0]
    assert green.y1 == PLAN.margin
    assert green.y0 == figure.layout.yaxis.range[0]
    red = figure.layout.shapes[1]
    assert (red.y0, red.y1) == (PLAN.margin, figure.layout.yaxis.range[1])
    assert figure.layout.shapes[-1].x0 == 1400
    assert known(estimate_chart(PLAN, [point(number, 0.01) for number in range(20)], verdict())).data == figure.data
    assert "ROLL BACK" in figure.layout.annotations[-1].text


def test_before_the_first_possible_verdict_the_chart_shows_how_far_it_is() -> None:
    figure = known(estimate_chart(PLAN, [point(number, bounds=False) for number in range(3)], None))
    assert "first possible verdict" in figure.layout.annotations[-1].text
    assert figure.layout.shapes[-1].x0 == 1400  # at 100 a day
    assert figure.layout.xaxis.range == (0, pytest.approx(1400 * 1.05))


def test_evidence_is_drawn_on_a_logarithmic_axis_with_what_decides() -> None:
    figure = known(evidence_chart(PLAN, [point(0, evidence=1e250), point(1, evidence=10.0)], None))
    assert figure.layout.yaxis.type == "log"
    assert [shape.y0 for shape in figure.layout.shapes] == [20.0]
    assert figure.data[0].y == (1e6, 10.0)
    assert figure.data[1].y == (0.01, 0.1)


def test_with_guardrails_rolling_back_asks_for_twice_the_evidence() -> None:
    plan = msgspec.structs.replace(PLAN, guardrails=(Guardrail(watch="errors", margin=0.01),))
    figure = known(evidence_chart(plan, [point(0)], None))
    assert [shape.y0 for shape in figure.layout.shapes] == [20.0, 40.0]
    assert [one.text for one in figure.layout.annotations] == ["promotes at 20", "rolls back at 40"]


def test_days_of_an_alert_are_marked() -> None:
    days = [
        DayLoss(
            start=START + timedelta(days=n),
            loss=None if n == 2 else 0.1 * n,
            expected=None,
            reference=0.1,
            rows=9,
            alerting=n == 3,
        )
        for n in range(5)
    ]
    figure = known(loss_chart(days))
    marks = figure.data[-1]
    assert marks.x == ("2013-06-09T12:00",)
    assert marks.y[0] == days[3].loss
    assert len(figure.data[0].x) == 4


def lost(number: int, loss: float | None = 0.2) -> DayLoss:
    return DayLoss(
        start=START + timedelta(days=number), loss=loss, expected=None, reference=None, rows=9, alerting=False
    )


def test_the_axis_of_losses_is_the_days_that_have_one_with_ticks_of_whole_days() -> None:
    figure = known(loss_chart([lost(0, None), lost(1), lost(2), *(lost(n, None) for n in range(3, 90))]))
    assert figure.layout.xaxis.range == ("2013-06-07T00:00", "2013-06-09T00:00")
    assert figure.layout.xaxis.dtick == 86_400_000
    assert figure.layout.xaxis.tick0 == figure.data[0].x[0] == "2013-06-07T12:00"
    assert figure.data[0].mode == "lines+markers"
    assert known(loss_chart([lost(n) for n in range(22)])).layout.xaxis.dtick == 5 * 86_400_000
    assert known(loss_chart([lost(n) for n in range(90)])).layout.xaxis.dtick == "M1"


def test_without_outcomes_there_is_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no day has a loss"):
        loss_chart([lost(0, None)])


_FIGURES = st.one_of(st.none(), st.floats(-1e6, 1e6))


@given(st.lists(st.tuples(_FIGURES, st.booleans(), st.floats(1e-300, 1e250)), min_size=1, max_size=20))
def test_whatever_a_trial_says_can_be_drawn(said: list[tuple[float | None, bool, float]]) -> None:
    points = [
        point(n, estimate, bounds=bounds, evidence=evidence) for n, (estimate, bounds, evidence) in enumerate(said)
    ]
    figure = estimate_chart(PLAN, points, None)
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < 0 < PLAN.margin < high
    for estimate, _, _ in said:
        assert estimate is None or low < estimate < high
    known(figure)
    known(evidence_chart(PLAN, points, None))
