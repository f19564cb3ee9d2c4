"""A split's pseudo-outcome: its mean, its bounds, and what it is right about where pooled means are wrong."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.trial import split
from passerelle.trial.betting import paired
from passerelle.trial.split import pseudo_outcomes

RUNS, ROWS = 200, 6000
LIMIT = 0.05 + 2 * math.sqrt(0.05 * 0.95 / RUNS)


def test_the_first_values_by_hand() -> None:
    found = pseudo_outcomes([1.0, 0.0, 1.0], [1, 0, 1], share=0.25, start=0.5)
    # b: 0.5; (0.5 + 1) / 2 = 0.75; (0.5 + 1 + 0) / 3 = 0.5
    assert found.tolist() == [0.5 / 0.25, -(0.0 - 0.75) / 0.75, 0.5 / 0.25]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=50), st.floats(0.1, 0.9))
def test_it_stays_within_its_bounds(events: list[tuple[float, bool]], share: float) -> None:
    losses, arms = [loss for loss, _ in events], [arm for _, arm in events]
    found = pseudo_outcomes(losses, arms, share=share, start=0.5)
    assert (np.abs(found) <= 1 / min(share, 1 - share) + 1e-12).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6), st.floats(0.1, 0.9))
def test_its_mean_over_all_assignments_is_the_difference(pairs: list[tuple[float, float]], share: float) -> None:
    expected = sum(challenger - champion for champion, challenger in pairs)
    total = 0.0
    for number in range(2 ** len(pairs)):
        arms = [number >> place & 1 for place in range(len(pairs))]
        chance = math.prod(share if arm else 1 - share for arm in arms)
        losses = [pair[arm] for pair, arm in zip(pairs, arms, strict=True)]
        total += chance * float(pseudo_outcomes(losses, arms, share=share, start=0.5).sum())
    assert total == pytest.approx(expected, abs=1e-9)


def test_a_challenger_at_the_margin_is_rarely_promoted() -> None:
    rng = np.random.default_rng(21)
    promoted = 0
    for _ in range(RUNS):
        arms = rng.random(ROWS) < 0.5
        losses = (rng.random(ROWS) < np.where(arms, 0.12, 0.10)).astype(float)
        course = split(losses, arms, share=0.5, margin=0.02, alpha=0.05, bounds=(0, 1), planned_n=7000)
        promoted += course.promoted_at is not None
    assert promoted / RUNS <= LIMIT


def test_an_equal_challenger_is_promoted_and_a_worse_one_rolled_back() -> None:
    rng = np.random.default_rng(22)
    found: dict[float, list[tuple[int, int]]] = {0.0: [], 0.05: []}
    for delta, courses in found.items():
        for _ in range(40):
            arms = rng.random(20_000) < 0.5
            losses = (rng.random(20_000) < np.where(arms, 0.10 + delta, 0.10)).astype(float)
            course = split(losses, arms, share=0.5, margin=0.02, alpha=0.05, bounds=(0, 1), planned_n=7000)
            courses.append((course.promoted_at or 20_001, course.rolled_back_at or 20_001))
    assert np.median([promoted for promoted, _ in found[0.0]]) <= 6955  # 1.25 of a fixed test of 80 % power
    assert np.mean([rolled_back <= 20_000 for _, rolled_back in found[0.0]]) <= 0.15
    assert max(rolled_back for _, rolled_back in found[0.05]) < 5000
    assert min(promoted for promoted, _ in found[0.05]) == 20_001


def test_it_is_right_when_the_share_grows_while_events_get_easier() -> None:
    """10 % to 50 % of the units while the errors fall from 20 % to 5 %: the pooled means are wrong each time."""
    rng = np.random.default_rng(23)
    promoted, pooled = 0, 0
    share = np.where(np.arange(ROWS) < ROWS // 2, 0.1, 0.5)
    hard = np.where(np.arange(ROWS) < ROWS // 2, 0.2, 0.05)
    for _ in range(RUNS):
        arms = rng.random(ROWS) < share
        losses = (rng.random(ROWS) < np.where(arms, hard + 0.02, hard)).astype(float)
        values = pseudo_outcomes(losses, arms, share=share, start=0.5)
        course = paired(values, margin=0.02, alpha=0.05, bounds=(-10, 10), planned_n=7000)
        promoted += course.promoted_at is not None
        spread = math.sqrt(losses[arms].var() / arms.sum() + losses[~arms].var() / (~arms).sum())
        pooled += losses[arms].mean() - losses[~arms].mean() < 0.02 - 1.645 * spread
    assert promoted / RUNS <= LIMIT
    assert pooled / RUNS > 0.9, "the check could not tell a wrong test"


def test_a_ramp_is_one_test_whose_bets_keep_to_the_bounds_of_their_own_event() -> None:
    rng = np.random.default_rng(24)
    share = np.repeat([0.05, 0.25, 0.5], 3000)
    arms = (rng.random(9000) < share).astype(int)
    losses = (rng.random(9000) < 0.1).astype(float)
    asked = {"margin": 0.05, "alpha": 0.05, "bounds": (0, 1), "planned_n": 1000}
    ramp = split(losses, arms, share=share, **asked)
    first = split(losses[:3000], arms[:3000], share=0.05, **asked)
    assert first.upper.tolist() == pytest.approx(ramp.upper[:3000].tolist(), abs=1e-9)
    assert first.lower.tolist() == pytest.approx(ramp.lower[:3000].tolist(), abs=1e-9)
    assert ramp.promoted_at is not None
    # What is announced later does not reach back.
    down = split(losses[::-1], arms[::-1], share=share[::-1], **asked)
    alone = split(losses[:5999:-1], arms[:5999:-1], share=0.5, **asked)
    assert alone.upper.tolist() == pytest.approx(down.upper[:3000].tolist(), abs=1e-9)
    # As if every event had been as poorly shared as the first: valid too, and later.
    values = pseudo_outcomes(losses, arms, share=share, start=0.5)
    slow = paired(values, margin=0.05, alpha=0.05, bounds=(-20, 20), planned_n=1000)
    assert slow.promoted_at is None or slow.promoted_at >= ramp.promoted_at


def test_a_share_of_each_event_that_never_changes_is_that_share() -> None:
    rng = np.random.default_rng(25)
    arms = (rng.random(500) < 0.5).astype(int)
    losses = rng.random(500)
    asked = {"margin": 0.1, "alpha": 0.05, "bounds": (0, 1), "planned_n": 100}
    one, each = split(losses, arms, share=0.5, **asked), split(losses, arms, share=np.full(500, 0.5), **asked)
    assert one.upper.tolist() == each.upper.tolist()
    assert (one.promoted_at, one.promote_evidence) == (each.promoted_at, each.promote_evidence)


def test_what_cannot_be_is_refused_with_what_it_was() -> None:
    asked = {"share": 0.5, "margin": 0.1, "alpha": 0.05, "bounds": (0, 1), "planned_n": 10}
    for wrong, said in (
        ({"losses": [2.0, 0.0]}, r"outside of \[0, 1\]"),
        ({"losses": [math.nan, 0.0]}, r"losses\[0\] is nan"),
        ({"arms": [1]}, "differ in shape"),
        ({"arms": [1, 2]}, "neither 0"),
        ({"share": [0.5]}, "differ in shape"),
        ({"share": [0.5, 1.0]}, "between 0 and 1"),
        ({"share": math.nan}, "between 0 and 1"),
        ({"margin": 1.0}, "margin is 1.0"),
    ):
        with pytest.raises(ValueError, match=said):
            split(**{"losses": [0.0, 1.0], "arms": [0, 1], **asked, **wrong})


def test_no_event_decides_nothing() -> None:
    course = split([], [], share=0.5, margin=0.1, alpha=0.05, bounds=(0, 1), planned_n=10)
    assert (course.promoted_at, course.rolled_back_at) == (None, None)
