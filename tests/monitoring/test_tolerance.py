"""Bets on the loss: they keep to what is asked, whatever the bound and the size of a window, and see what is worse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.monitoring.control import MOST
from passerelle.monitoring.tolerance import DISPERSED, bet, beyond, dispersion, start, upper_reference

LOSSES = st.lists(st.floats(0, 1), min_size=0, max_size=40)


@given(LOSSES, st.floats(0.01, 0.99))
def test_each_sum_is_the_product_of_its_bets(losses: list[float], most: float) -> None:
    stakes = np.minimum([0.1, 0.3, 1.0, 3.0], 0.9 / most)
    before = np.array([0.0, 1.0, 2.0, 3.0])
    known = (1 + before) * np.prod([1 + stakes * (loss - most) for loss in losses] or [np.ones(4)], axis=0)
    found = bet(before, losses, most=most)
    assert found == pytest.approx(known, rel=1e-9)
    assert (found > 0).all()


@given(LOSSES, st.floats(0.01, 0.9), st.floats(0.5, 1000))
def test_losses_in_other_units_say_the_same(losses: list[float], most: float, bound: float) -> None:
    scaled = [min(loss * bound, bound) for loss in losses]
    assert bet(start(), scaled, most=most * bound, bound=bound) == pytest.approx(
        bet(start(), losses, most=most), rel=1e-6
    )


def test_the_mean_of_a_bet_is_one_at_what_is_tolerated_and_less_below() -> None:
    # Exact: a loss is 1 with probability q, else 0.
    def mean(q: float) -> np.ndarray:
        return q * bet(start(), [1.0], most=0.11) + (1 - q) * bet(start(), [0.0], most=0.11)

    assert mean(0.11) == pytest.approx([1.0] * 4)
    assert (mean(0.10) < 1).all()
    assert (mean(0.12) > 1).all()


def test_rows_without_an_outcome_and_windows_of_any_size() -> None:
    windows = [[0.0, 1.0, np.nan], [], [np.nan], [1.0] * 200]
    assert beyond(windows, reference=0.1, tolerance=0.01, false_alarm_every=100) == [3]
    assert bet(start(), [np.nan], most=0.1) == pytest.approx([1.0] * 4)
    assert bet(start(), np.ones(10**5), most=0.1).tolist() == [MOST] * 4


def test_a_reference_of_few_rows_is_its_upper_bound() -> None:
    random = np.random.default_rng(1)
    over = [upper_reference(random.random(400) < 0.1) >= 0.1 for _ in range(2000)]
    assert 0.92 <= np.mean(over) <= 0.98
    with pytest.raises(ValueError, match="1 losses: a reference needs two at least"):
        upper_reference([0.5, np.nan])


def test_dispersion_is_one_for_independent_rows_and_tells_days_with_shocks() -> None:
    random = np.random.default_rng(2)
    rows = random.integers(200, 900, 4000)

    def of(shock: float) -> float:
        chances = np.clip(0.2 + shock * random.normal(size=len(rows)), 0, 1)
        means = random.binomial(rows, chances) / rows
        return dispersion(means, means * (1 - means), rows)

    assert of(0.0) == pytest.approx(1, abs=0.08)
    assert of(0.02) > 1.8 > DISPERSED
    assert np.isnan(dispersion([0.1], [0.09], [100]))
    assert np.isnan(dispersion([0.0, 0.0], [0.0, 0.0], [100, 100]))


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"a loss lies outside of \[0, 1"):
        bet(start(), [0.2, 1.5], most=0.1)
    with pytest.raises(ValueError, match=r"1\.5 is tolerated of losses between 0 and 1"):
        bet(start(), [0.2], most=1.5)
    with pytest.raises(ValueError, match=r"false_alarm_every is 0\.5"):
        beyond([], reference=0.1, tolerance=0.01, false_alarm_every=0.5)
