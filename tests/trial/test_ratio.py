import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaln

from passerelle.trial import ratio
from passerelle.trial.ratio import log_evidence


@given(st.integers(0, 5000), st.integers(0, 5000), st.floats(0.05, 0.95))
def test_of_two_arms_it_is_the_beta_binomial(champion: int, challenger: int, share: float) -> None:
    expected = betaln(1000 * (1 - share) + champion, 1000 * share + challenger) - betaln(
        1000 * (1 - share), 1000 * share
    )
    expected -= champion * math.log(1 - share) + challenger * math.log(share)
    assert float(log_evidence([champion, challenger], [1 - share, share])) == pytest.approx(expected, abs=1e-6)


def test_units_that_go_where_they_should_raise_no_alarm_and_a_naive_test_alarms() -> None:
    rng = np.random.default_rng(3)
    runs = (rng.random((500, 10_000)) < 0.5).astype(int)
    alarms = sum(ratio(run, share=0.5, alpha=0.001) is not None for run in runs)
    assert alarms <= 3  # 0.001 + 2.5 standard errors: 2.3
    looks = np.arange(100, 10_001, 100)
    counts = runs.cumsum(axis=1)[:, looks - 1]
    z = np.abs(counts - looks / 2) / np.sqrt(looks / 4)
    assert (z > 1.96).any(axis=1).mean() > 0.2, "the check could not tell a wrong test"


def test_it_finds_a_mismatch() -> None:
    rng = np.random.default_rng(4)
    found = [ratio(rng.random(6000) < 0.55, share=0.5, alpha=0.001) for _ in range(40)]
    assert all(at is not None for at in found)
    assert np.median([at or 0 for at in found]) <= 3000
    assert ratio(rng.random(20_000) < 0.1, share=0.1, alpha=0.001) is None


def test_no_unit_is_no_alarm() -> None:
    assert ratio([], share=0.5, alpha=0.001) is None


def test_what_cannot_be_is_refused() -> None:
    for arms, share, alpha, said in (
        ([0, 2], 0.5, 0.001, "neither 0"),
        ([0, 1], 1.0, 0.001, "share is 1.0"),
        ([0, 1], 0.5, 0.0, "alpha is 0.0"),
    ):
        with pytest.raises(ValueError, match=said):
            ratio(arms, share=share, alpha=alpha)
