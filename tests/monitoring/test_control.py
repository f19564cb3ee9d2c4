"""The arithmetic of control: p-values, e-values and their sums keep what the docstrings promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, ttest_ind

from passerelle.monitoring.control import MOST, e_value, expected_false_alarms, gather, prediction_p

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=30)


def test_p_is_uniform_for_normal_days() -> None:
    random = np.random.default_rng(1)
    found = [float(prediction_p(random.normal(3, 2, 12), random.normal(3, 2))) for _ in range(2000)]
    assert kstest(found, "uniform").pvalue > 0.01
    both = [float(prediction_p(random.normal(3, 2, 12), random.normal(3, 2), both=True)) for _ in range(2000)]
    assert kstest(both, "uniform").pvalue > 0.01


def test_p_is_the_t_test_of_one_value_against_the_others() -> None:
    earlier = np.array([1.0, 2.5, 2.0, 4.0, 3.0])
    known = ttest_ind([7.0], earlier, alternative="greater").pvalue
    assert float(prediction_p(earlier, 7.0)) == pytest.approx(known)


@given(VALUES, st.floats(-1e3, 1e3), st.floats(0.1, 100), st.floats(-100, 100))
def test_p_does_not_depend_on_units(earlier: list[float], value: float, scale: float, shift: float) -> None:
    array = np.array(earlier)
    if array.std() < 1e-3:
        return
    p = float(prediction_p(array, value))
    assert float(prediction_p(array * scale + shift, value * scale + shift)) == pytest.approx(p, rel=1e-4, abs=1e-9)


@given(VALUES, st.floats(-1e3, 1e3), st.floats(0, 1e3))
def test_a_larger_value_is_never_more_probable(earlier: list[float], value: float, more: float) -> None:
    array = np.array(earlier)
    assert float(prediction_p(array, value + more)) <= float(prediction_p(array, value)) + 1e-12


def test_days_that_never_differed() -> None:
    same = np.full(20, 0.1) * 3
    assert float(prediction_p(same, 0.3)) == 1 / 2 or float(prediction_p(same, 0.3)) == 1.0
    assert float(prediction_p(same, 0.4)) < 1e-100
    assert float(prediction_p(np.array([1.0]), 5.0)) == 1.0
    assert float(prediction_p(np.array([]), 5.0)) == 1.0


def test_what_is_not_known_is_left_out_series_by_series() -> None:
    earlier = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, np.nan]])
    found = prediction_p(earlier, np.array([6.0, 9.0]))
    assert found[0] == pytest.approx(float(prediction_p(np.array([1.0, 2.0, 3.0]), 6.0)))
    assert found[1] == 1.0
    assert float(prediction_p(earlier, np.array([np.nan, 1.0]))[0]) == 1.0


def test_e_values_have_mean_one_by_chance() -> None:
    # Exact: the integral over p of a decreasing function, by fine steps in ln p.
    log = np.linspace(-700, np.log(1 - 1e-6), 2_000_001)
    p = np.exp(log)
    assert float(np.trapezoid(e_value(p) * p, log)) == pytest.approx(1.0, abs=2e-3)


@given(st.floats(0, 1), st.floats(0, 1))
def test_less_probable_is_more_evidence(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert float(e_value(low)) >= float(e_value(high)) - 1e-9


def test_the_sum_reaches_n_by_chance_no_oftener_than_once_in_n_days() -> None:
    random = np.random.default_rng(2)
    days, every = 60_000, 100
    alarms, evidence = 0, 0.0
    for e in e_value(random.uniform(size=days)):
        evidence = float(gather(evidence, e))
        if evidence >= every:
            alarms, evidence = alarms + 1, 0.0
    assert 0 < alarms <= days / every


def test_evidence_stays_a_number() -> None:
    assert float(gather(1e249, e_value(0.0))) == MOST
    assert np.isfinite(e_value([0.0, 1.0])).all()


def test_false_alarms_of_families_add_and_bound_what_is_raised() -> None:
    assert expected_false_alarms([]) == 0
    assert expected_false_alarms([(1000, 1000.0), (73, 365.0)]) == pytest.approx(1.2)
    random = np.random.default_rng(3)
    raised, days, every = 0, 50, 40.0
    for _ in range(400):  # also over a time that is hardly longer than N
        evidence = 0.0
        for e in e_value(random.uniform(size=days)):
            evidence = float(gather(evidence, e))
            if evidence >= every:
                raised, evidence = raised + 1, 0.0
    assert 0 < raised <= 400 * expected_false_alarms([(days, every)])
