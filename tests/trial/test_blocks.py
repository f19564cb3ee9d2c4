"""The anytime-valid t-test on blocks: its arithmetic against scipy's, its promise by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from passerelle.trial import blocks
from passerelle.trial.blocks import critical_t, log_density_ratio, log_evidence

EFFECTS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.3)

finite = st.floats(-1, 1).map(lambda value: round(value, 6))


@pytest.mark.parametrize("freedom", [1, 5, 13, 59])
@pytest.mark.parametrize("t", [0.0, 0.3, 2.0, 6.0])
@pytest.mark.parametrize("delta", [0.1, 1.0, 4.0, 9.0])
def test_the_density_ratio_is_scipys(freedom: int, t: float, delta: float) -> None:
    theirs = math.log(stats.nct.pdf(t, freedom, delta) / stats.t.pdf(t, freedom))
    assert float(log_density_ratio(t, freedom, delta)) == pytest.approx(theirs, rel=1e-8, abs=1e-8)


def test_the_density_ratio_holds_where_the_densities_vanish() -> None:
    # As t grows, t / sqrt(v + t^2) goes to 1, and the ratio to that of a chi variable's moments.
    assert stats.t.pdf(1e9, 59) == 0
    at = np.linspace(1e-3, 40, 200_001)
    logs = stats.chi.logpdf(at, 60) + 10 * at - 50
    expected = logs.max() + math.log(np.exp(logs - logs.max()).sum() * (at[1] - at[0]))
    assert float(log_density_ratio(1e9, 59, 10.0)) == pytest.approx(expected, rel=1e-6)


def slow(values: NDArray[np.float64], null: float) -> float:
    """The evidence that the mean is below ``null``, as the formula is written."""
    count = len(values)
    t = math.sqrt(count) * (null - values.mean()) / values.std(ddof=1)
    if t < 0:
        return 0.0
    given_effects = [stats.nct.pdf(t, count - 1, math.sqrt(count) * effect) for effect in EFFECTS]
    return float(np.mean(given_effects) / stats.t.pdf(t, count - 1))


@pytest.mark.parametrize(("seed", "mean"), [(1, -0.004), (2, 0.0), (3, 0.004), (4, 0.012), (5, 0.02)])
def test_verdicts_are_those_of_the_formula(seed: int, mean: float) -> None:
    values = np.random.default_rng(seed).normal(mean, 0.012, 40)
    course = blocks(values, margin=0.006, alpha=0.05, min_blocks=5, rollback_above=0.006)
    counts = range(5, 41)
    promoted = [k for k in counts if slow(values[:k], 0.006) >= 20]
    rolled_back = [k for k in counts if slow(-values[:k], -0.006) >= 20]
    assert course.promoted_at == (promoted[0] if promoted else None)
    assert course.rolled_back_at == (rolled_back[0] if rolled_back else None)
    assert course.promote_evidence == pytest.approx(slow(values, 0.006), rel=1e-6)
    assert course.rollback_evidence == pytest.approx(slow(-values, -0.006), rel=1e-6)
    # At its own bound, a block's evidence is exactly what decides.
    own = values.mean() + critical_t(40, 0.05) * values.std(ddof=1) / math.sqrt(40)
    assert slow(values, own) == pytest.approx(20, rel=1e-6)


def first_naive(values: NDArray[np.float64], null: float, minimum: int) -> bool:
    """Is a t-test at 5 %, asked again after each block, ever sure that the mean is below ``null``?"""
    for count in range(minimum, len(values) + 1):
        t = math.sqrt(count) * (null - values[:count].mean()) / values[:count].std(ddof=1)
        if t > stats.t.ppf(0.95, count - 1):
            return True
    return False


def test_a_challenger_at_the_margin_is_rarely_promoted_and_a_naive_test_promotes_it_often() -> None:
    rng = np.random.default_rng(7)
    runs = rng.normal(0.005, 0.012, (1000, 60))
    courses = [blocks(run, margin=0.005, alpha=0.05, min_blocks=2, rollback_above=0.005) for run in runs]
    limit = 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1000)
    assert np.mean([course.promoted_at is not None for course in courses]) <= limit
    assert np.mean([course.rolled_back_at is not None for course in courses]) <= limit
    covers = [(course.lower <= 0.005).all() and (course.upper >= 0.005).all() for course in courses]
    assert np.mean(covers) >= 1 - 2 * limit
    naive = np.mean([first_naive(run, 0.005, 5) for run in runs[:200]])
    assert naive > limit, "the check could not tell a wrong test"


def test_it_finds_what_is_there() -> None:
    rng = np.random.default_rng(8)
    better = [blocks(rng.normal(-0.005, 0.01, 60), margin=0.005, alpha=0.05, min_blocks=14) for _ in range(200)]
    assert np.mean([course.promoted_at is not None for course in better]) >= 0.97
    worse = [blocks(rng.normal(0.01, 0.01, 60), margin=0.005, alpha=0.05, min_blocks=14) for _ in range(200)]
    assert np.mean([course.rolled_back_at is not None for course in worse]) >= 0.97
    assert min(course.rolled_back_at or 60 for course in worse) == 14


@given(st.lists(finite, max_size=30), st.floats(0.001, 0.5), st.integers(1, 20))
def test_bounds_only_tighten_and_say_what_the_verdicts_say(values: list[float], margin: float, minimum: int) -> None:
    course = blocks(values, margin=margin, alpha=0.05, min_blocks=minimum, rollback_above=margin)
    assert len(course.lower) == len(course.upper) == len(values)
    assert (np.diff(course.upper[np.isfinite(course.upper)]) <= 0).all()
    assert (np.diff(course.lower[np.isfinite(course.lower)]) >= 0).all()
    for at, reached in ((course.promoted_at, course.upper <= margin), (course.rolled_back_at, course.lower >= margin)):
        assert (at is not None) == bool(reached.any())
        assert at is None or (reached[at - 1] and not reached[: at - 1].any() and at >= minimum)
    longer = blocks([*values, 0.5], margin=margin, alpha=0.05, min_blocks=minimum, rollback_above=margin)
    assert (longer.upper[: len(values)] == course.upper).all(), "what comes later changes what was said"


@given(st.lists(finite, min_size=14, max_size=30), st.floats(0.01, 100))
def test_the_unit_of_the_loss_does_not_matter(values: list[float], unit: float) -> None:
    one = blocks(values, margin=0.123, alpha=0.05, min_blocks=14)
    other = blocks(np.array(values) * unit, margin=0.123 * unit, alpha=0.05, min_blocks=14)
    assert one.promote_evidence == pytest.approx(other.promote_evidence, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.001, -0.3, 0.1 + 0.2])
def test_blocks_that_are_all_equal_decide_nothing(value: float) -> None:
    course = blocks([value] * 30, margin=0.5, alpha=0.05, min_blocks=14)
    assert (course.promoted_at, course.rolled_back_at) == (None, None)
    assert (course.promote_evidence, course.rollback_evidence) == (1.0, 1.0)
    assert np.isinf(course.upper).all()


def test_one_block_and_none_decide_nothing() -> None:
    assert blocks([-9.0], margin=0.1, alpha=0.05, min_blocks=1).promoted_at is None
    assert blocks([], margin=0.1, alpha=0.05, min_blocks=1).promoted_at is None
    assert log_evidence(5.0, 1) == 0.0
    assert math.isinf(critical_t(2, 0.05))


def test_a_difference_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"block_means\[1\] is nan"):
        blocks([0.1, math.nan], margin=0.1, alpha=0.05, min_blocks=1)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha is 0"):
        blocks([0.0], margin=0.1, alpha=0, min_blocks=2)
    with pytest.raises(ValueError, match="min_blocks is 0"):
        blocks([0.0], margin=0.1, alpha=0.05, min_blocks=0)
