"""Retrain or not: what is enough, what is too soon, what an alert changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.loop.decide import Decision, Gain, expected_gain, is_harmless, should_retrain

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def asked(**changes: Any) -> Decision:
    usual: dict[str, Any] = {
        "learnt": 1000,
        "mature": 1050,
        "share": 0.05,
        "last_attempt": NOON - timedelta(hours=12),
        "cooldown_hours": 12,
        "now": NOON,
    }
    return should_retrain(**(usual | changes))


@pytest.mark.parametrize(
    ("changes", "retrain", "said"),
    [
        ({}, "yes", "50 new mature outcomes, 5 % of the 1,000"),
        ({"mature": 1049}, "no", "5 % would be enough"),
        ({"mature": 1049, "alerts": ["score_drift", "performance"]}, "yes", "is open: performance, score_drift"),
        ({"mature": 1000, "alerts": ["performance"]}, "no", "no new mature outcome"),
        ({"mature": 900}, "no", "no new mature outcome"),
        ({"cooldown_hours": 12.5}, "no", "too fresh until 2013-03-01 12:30 UTC"),
        ({"cooldown_hours": 12.5, "alerts": ["performance"], "mature": 1001}, "no", "too fresh"),
        ({"last_attempt": None, "learnt": None, "mature": 7}, "yes", "no run has learned from any"),
        ({"learnt": None, "mature": 7, "cooldown_hours": 13}, "no", "too fresh"),
        ({"learnt": None, "mature": 0}, "no", "no outcome is mature yet"),
    ],
)
def test_the_reason_is_said(changes: dict[str, Any], retrain: str, said: str) -> None:
    decision = asked(**changes)
    assert decision.retrain is (retrain == "yes")
    assert said in decision.reason


@given(
    usual=st.fixed_dictionaries(
        {
            "learnt": st.none() | st.integers(1, 10**6),
            "share": st.floats(0.001, 0.999),
            "last_attempt": st.none() | st.floats(0, 100).map(lambda hours: NOON - timedelta(hours=hours)),
            "cooldown_hours": st.floats(0, 100),
        }
    ),
    mature=st.integers(0, 2 * 10**6),
    alerts=st.lists(st.sampled_from(["performance", "input_drift"])),
)
def test_more_data_and_more_alerts_never_turn_yes_into_no(
    usual: dict[str, Any], mature: int, alerts: list[str]
) -> None:
    decision = asked(**usual, mature=mature, alerts=alerts)
    assert decision.reason
    if decision.retrain:
        assert asked(**usual, mature=mature + 1, alerts=alerts).retrain
        assert asked(**usual, mature=mature, alerts=[*alerts, "performance"]).retrain
        assert mature > (usual["learnt"] or 0), "never on nothing new"


@pytest.mark.parametrize(
    ("per_event", "cost", "alerts", "retrain"),
    [(0.1, 5.0, (), "yes"), (0.1, 5.1, (), "no"), (0.1, 5.1, ("performance",), "yes"), (None, 5.1, (), "yes")],
)
def test_a_gain_is_held_to_its_cost(
    per_event: float | None, cost: float, alerts: tuple[str, ...], retrain: str
) -> None:
    gain = Gain(figure="cost", per_event=per_event, basis="3 versions", cost=cost)
    decision = asked(gain=gain, alerts=alerts)
    assert decision.retrain is (retrain == "yes")
    assert ("not known" if per_event is None else "over as many events again") in decision.reason


def test_a_gain_is_known_from_three_sizes_that_help() -> None:
    assert expected_gain([(100, 0.3), (100, 0.2), (400, 0.25)], 900, figure="rmse").per_event is None
    assert expected_gain([(100, 0.2), (400, 0.25), (900, 0.3)], 2500, figure="rmse").per_event is None
    found = expected_gain([(100, 0.3), (400, 0.25), (2500, 0.22)], 10_000, figure="rmse").per_event
    assert found == pytest.approx(0.01)


def test_drift_without_harm_is_told_and_hastens_nothing() -> None:
    decision = asked(mature=1049, harmless=["input_drift"])
    assert not decision.retrain
    assert "without harm to the loss: input_drift" in decision.reason
    assert not is_harmless([True, None])
    assert not is_harmless([True, False])
    assert is_harmless([None, True, True])
