"""The gate refuses only what is plainly worse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.loop.gate import judge


@given(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0.001, 0.5), st.floats(0.1, 5))
def test_a_loss_passes_exactly_up_to_the_bound(candidate: float, champion: float, margin: float, above: float) -> None:
    result = judge("log_loss", candidate=candidate, champion=champion, margin=margin, refuse_above=above, rows=100)
    assert result.bound == pytest.approx(champion * (1 + margin * above))
    assert result.passed == (candidate <= result.bound)


def test_a_score_is_compared_in_points_and_upwards() -> None:
    assert judge("auc", candidate=0.651, champion=0.7, margin=0.025, refuse_above=2, rows=9).passed
    refused = judge("auc", candidate=0.649, champion=0.7, margin=0.025, refuse_above=2, rows=9)
    assert not refused.passed
    assert refused.sentence == "auc 0.649 on 9 held-out rows, champion 0.7: beyond the bound of 0.65."


def test_the_first_candidate_passes_and_says_why() -> None:
    result = judge("rmse", candidate=1.5, champion=None, margin=0.03, refuse_above=2, rows=9)
    assert result.passed
    assert result.bound is None
    assert "there is no champion to compare with" in result.sentence


def test_what_is_not_a_number_never_passes() -> None:
    assert not judge("rmse", candidate=math.nan, champion=None, margin=0.03, refuse_above=2, rows=9).passed
