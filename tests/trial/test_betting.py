"""Betting on rows: its promise by simulation, its bounds by their definition."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from passerelle.trial import paired
from passerelle.trial.betting import bets, log_course

RUNS, ROWS = 300, 6000
LIMIT = 0.05 + 2 * math.sqrt(0.05 * 0.95 / RUNS)


def zero_one(rng: np.random.Generator, rows: int, *, disagree: float, delta: float) -> NDArray[np.float64]:
    """Differences of two models' errors: they disagree on a share of the rows, and the mean is delta."""
    up, down = (disagree + delta) / 2, (disagree - delta) / 2
    return rng.choice([1.0, 0.0, -1.0], size=rows, p=[up, 1 - disagree, down])


def naive(values: NDArray[np.float64], null: float) -> bool:
    """Is a t-test at 5 %, asked after every ten rows, ever sure that the mean is below ``null``?"""
    at = np.arange(50, len(values) + 1, 10)
    means = np.cumsum(values)[at - 1] / at
    deviations = np.sqrt(np.cumsum(values**2)[at - 1] / at - means**2)
    return bool((np.sqrt(at) * (null - means) > 1.645 * deviations).any())


def test_a_challenger_at_the_margin_is_rarely_promoted_and_a_naive_test_promotes_it_often() -> None:
    rng = np.random.default_rng(11)
    runs = [zero_one(rng, ROWS, disagree=0.04, delta=0.01) for _ in range(RUNS)]
    courses = [paired(run, margin=0.01, alpha=0.05, bounds=(-1, 1), planned_n=3000) for run in runs]
    assert np.mean([course.promoted_at is not None for course in courses]) <= LIMIT
    assert np.mean([naive(run, 0.01) for run in runs]) > 0.25, "the check could not tell a wrong test"
    assert np.median([course.rolled_back_at or ROWS for course in courses]) < ROWS, "it is worse than the champion"


def test_an_equal_challenger_is_promoted_soon_and_rarely_rolled_back() -> None:
    rng = np.random.default_rng(12)
    runs = [zero_one(rng, ROWS, disagree=0.04, delta=0.0) for _ in range(RUNS)]
    courses = [paired(run, margin=0.01, alpha=0.05, bounds=(-1, 1), planned_n=3000) for run in runs]
    assert np.mean([course.rolled_back_at is not None for course in courses]) <= LIMIT
    assert np.mean([naive(-run, 0.0) for run in runs]) > 0.25, "the check could not tell a wrong test"
    assert np.median([course.promoted_at or ROWS for course in courses]) <= 3091  # 1.25 of a fixed test of 80 % power


def test_a_catastrophe_is_rolled_back_at_once() -> None:
    rng = np.random.default_rng(13)
    runs = [zero_one(rng, 500, disagree=0.4, delta=0.3) for _ in range(50)]
    found = [paired(run, margin=0.01, alpha=0.05, bounds=(-1, 1), planned_n=3000).rolled_back_at for run in runs]
    assert np.median([at or 500 for at in found]) <= 100


def test_rare_large_losses_do_not_fool_it() -> None:
    rng = np.random.default_rng(14)
    promoted = 0
    for _ in range(RUNS):
        jumps = 10.0 * (rng.random(ROWS) < 0.002)
        values = np.clip(rng.normal(0.1 - 0.02, 0.3, ROWS) + jumps, -12, 12)
        promoted += paired(values, margin=0.1, alpha=0.05, bounds=(-12, 12), planned_n=3000).promoted_at is not None
    assert promoted / RUNS <= LIMIT


def test_bets_are_made_before_the_difference_is_seen() -> None:
    values = np.random.default_rng(1).uniform(-1, 1, 50)
    before = bets(values, bounds=(-1, 1), alpha=0.05, planned_n=100)
    values[30:] = 1.0
    after = bets(values, bounds=(-1, 1), alpha=0.05, planned_n=100)
    assert (before[:31] == after[:31]).all()
    assert (before[31:] != after[31:]).any()


def test_the_evidence_is_the_formula() -> None:
    values = [0.3, -0.2, 0.1]
    sizes, weights = (0.5, 1.0, 2.0, 8.0), (0.2, 0.5, 0.2, 0.1)
    products = [1.0] * 4
    for t, value in enumerate(values, 1):
        earlier = values[: t - 1]
        mean = sum(earlier) / len(earlier) if earlier else 0.0
        spread = (4 / 4 + sum((one - mean) ** 2 for one in earlier)) / t
        unit = math.sqrt(2 * math.log(20) / (spread * max(t, 10)))
        products = [
            before * (1 + min(size * unit, 0.45) * (0.2 - value)) for before, size in zip(products, sizes, strict=True)
        ]
    expected = math.log(sum(weight * product for weight, product in zip(weights, products, strict=True)))
    numbers = np.array(values)
    found = log_course(numbers, bets(numbers, bounds=(-1, 1), alpha=0.05, planned_n=10), 0.2)
    assert found[-1] == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(-0.3, 0.3), st.integers(1, 400), st.floats(0.01, 0.5))
def test_bounds_only_tighten_and_say_what_the_verdicts_say(seed: int, mean: float, rows: int, margin: float) -> None:
    values = np.clip(np.random.default_rng(seed).normal(mean, 0.3, rows), -1, 1)
    course = paired(values, margin=margin, alpha=0.05, bounds=(-1, 1), planned_n=200, rollback_above=0.05)
    assert len(course.lower) == len(course.upper) == rows
    assert all(later <= earlier for earlier, later in pairwise(course.upper.tolist()))
    assert all(later >= earlier for earlier, later in pairwise(course.lower.tolist()))
    for at, reached in ((course.promoted_at, course.upper < margin), (course.rolled_back_at, course.lower > 0.05)):
        assert at == (int(reached.argmax()) + 1 if reached.any() else None)


def test_the_last_bound_is_the_smallest_null_that_was_refuted() -> None:
    values = np.random.default_rng(5).uniform(-0.5, 0.4, 800)
    course = paired(values, margin=0.1, alpha=0.05, bounds=(-1, 1), planned_n=300)
    sizes = bets(values, bounds=(-1, 1), alpha=0.05, planned_n=300)
    assert log_course(values, sizes, course.upper[-1]).max() == pytest.approx(math.log(20), abs=1e-6)
    assert log_course(-values, sizes, -course.lower[-1]).max() == pytest.approx(math.log(20), abs=1e-6)
    # Before, it stands at or above the true one, and not far above.
    for at in (100, 300, 500):
        earlier = paired(values[:at], margin=0.1, alpha=0.05, bounds=(-1, 1), planned_n=300).upper[-1]
        assert earlier - 1e-9 <= course.upper[at - 1] <= earlier + 0.1 * (earlier - values[:at].mean())


def test_the_bounds_of_the_first_events_are_what_a_look_at_that_moment_said() -> None:
    rng = np.random.default_rng(6)
    for values, bounds, planned_n in (
        (zero_one(rng, 3000, disagree=0.04, delta=0.0), (-1, 1), 500),
        (zero_one(rng, 3000, disagree=0.4, delta=0.3), (-1, 1), 500),
        (np.clip(rng.normal(-0.3, 0.01, 3000), -1, 1), (-1, 1), 3000),
        (np.clip(rng.normal(0, 0.3, 3000) + 10 * (rng.random(3000) < 0.002), -12, 12), (-12, 12), 1),
    ):
        asked = {"margin": 0.01, "alpha": 0.05, "bounds": bounds, "planned_n": planned_n}
        whole = paired(values, **asked)
        for count in (1, 2, 10, 50, 300, 1200, 3000):
            then = paired(values[:count], **asked)
            assert then.upper[-1] == pytest.approx(whole.upper[count - 1], abs=1e-9)
            assert then.lower[-1] == pytest.approx(whole.lower[count - 1], abs=1e-9)


def test_what_cannot_be_is_refused_with_what_it_was() -> None:
    asked = {"margin": 0.1, "alpha": 0.05, "bounds": (-1, 1), "planned_n": 10}
    for wrong, said in (
        ({"differences": [0.0, 1.5]}, r"outside of \[-1, 1\]"),
        ({"differences": [0.0, math.nan]}, r"differences\[1\] is nan"),
        ({"differences": [[0.0, 0.1]]}, r"shape \(1, 2\)"),
        ({"alpha": 1.0}, "alpha is 1.0"),
        ({"alpha": math.nan}, "alpha is nan"),
        ({"margin": math.nan}, "margin is nan"),
        ({"margin": 1.0}, "margin is 1.0: between the bounds"),
        ({"rollback_above": -1.0}, "rollback_above is -1.0"),
        ({"bounds": (1, -1)}, "the smaller first"),
        ({"bounds": (-math.inf, 1)}, "bounds are -inf"),
        ({"planned_n": 0}, "planned_n is 0"),
    ):
        with pytest.raises(ValueError, match=said):
            paired(**{"differences": [0.0], **asked, **wrong})


def test_no_difference_decides_nothing() -> None:
    course = paired([], margin=0.1, alpha=0.05, bounds=(-1, 1), planned_n=10)
    assert (course.promoted_at, course.rolled_back_at, len(course.upper)) == (None, None, 0)
    assert (course.promote_evidence, course.rollback_evidence) == (1.0, 1.0)
