"""Schedules are made beforehand, in order, and hold the rate that was asked."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.load.schedule import constant, poisson, warped

rates = st.floats(0.01, 5000)
START = datetime(2013, 2, 1, tzinfo=UTC)


@given(rate=rates, seconds=st.floats(0.01, 3))
def test_a_constant_rate_holds_to_its_end(rate: float, seconds: float) -> None:
    due = constant(rate, seconds=seconds)
    assert len(due) == math.ceil(seconds * rate)
    assert all(0 <= moment < seconds + 1e-9 for moment in due)
    assert due[0] == 0
    assert all(math.isclose(moment, number / rate) for number, moment in enumerate(due))


@given(rate=rates, seed=st.integers(), requests=st.integers(0, 300))
def test_random_arrivals_come_again_with_their_seed(rate: float, seed: int, requests: int) -> None:
    due = list(poisson(rate, seed=seed, requests=requests))
    assert len(due) == requests
    assert due == sorted(due)
    assert due == list(poisson(rate, seed=seed, requests=requests))
    assert all(moment > 0 for moment in due)


def test_random_arrivals_have_the_mean_and_the_spread_of_poisson() -> None:
    due = list(poisson(1000, seed=5, seconds=20))
    assert len(due) == pytest.approx(20_000, abs=4 * math.sqrt(20_000))
    counted = Counter(int(moment * 100) for moment in due)
    in_a_part = [counted[part] for part in range(2000)]
    mean = sum(in_a_part) / len(in_a_part)
    variance = sum((count - mean) ** 2 for count in in_a_part) / len(in_a_part)
    assert variance == pytest.approx(mean, rel=0.15)
    assert due != list(poisson(1000, seed=6, seconds=20))


@given(gaps=st.lists(st.integers(0, 10_000_000), max_size=50), factor=st.floats(0.01, 10_000))
def test_a_warp_keeps_the_gaps(gaps: list[int], factor: float) -> None:
    moments = [START]
    for gap in gaps:
        moments.append(moments[-1] + timedelta(seconds=gap))
    due = warped(moments, factor)
    assert due[0] == 0
    for gap, before, after in zip(gaps, due, due[1:], strict=False):
        assert math.isclose(after - before, gap / factor, rel_tol=1e-6, abs_tol=1e-6 * max(1, after))


def test_a_warp_ends_when_it_is_told_to_and_refuses_disorder() -> None:
    moments = [START + timedelta(hours=hour) for hour in range(10)]
    assert list(warped(moments, 3600, seconds=3.5)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="not in order"):
        warped(moments[::-1], 3600)


@pytest.mark.parametrize("rate", [0, -1, math.inf, math.nan])
def test_a_rate_is_above_nothing(rate: float) -> None:
    with pytest.raises(ValueError, match="not above 0"):
        constant(rate, requests=1)
    with pytest.raises(ValueError, match="how many requests"):
        constant(1)
