"""Retrain or not: what is enough, what is too soon, what an alert changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.loop.decide import Decision, should_retrain

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
