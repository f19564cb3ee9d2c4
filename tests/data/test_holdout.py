"""The holdout: the last days, or a share of the keys that never changes its mind."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from passerelle.data.holdout import last_days, share_of_keys

HOURS = st.lists(st.integers(0, 500), min_size=1, max_size=60)


@given(HOURS, st.floats(0.01, 500))
def test_the_last_days_are_cut_at_one_moment_and_hold_the_newest_row(hours: list[int], days: float) -> None:
    times = np.datetime64("2013-01-01T00:00:00", "us") + np.array(hours) * np.timedelta64(1, "h")
    held = last_days(times, days)
    assert held[times.argmax()]
    if not held.all():
        assert times[~held].max() < times[held].min()
        assert (times.max() - times[~held].max()) / np.timedelta64(1, "D") >= days - 1e-9
    assert (times.max() - times[held].min()) / np.timedelta64(1, "D") < days


@given(HOURS, st.integers(1, 100))
def test_days_and_moments_of_midnight_are_cut_alike(numbers: list[int], days: int) -> None:
    dates = np.datetime64("2000-01-01", "D") + np.array(numbers) * np.timedelta64(1, "D")
    assert last_days(dates, days).tolist() == last_days(dates.astype("datetime64[us]"), days).tolist()
    assert last_days(dates, days).tolist() == (dates > dates.max() - np.timedelta64(days, "D")).tolist()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True), st.randoms(), st.floats(0.05, 0.95))
def test_a_key_is_held_out_whatever_else_is_there(ids: list[str], random: np.random.Generator, share: float) -> None:
    held = dict(zip(ids, share_of_keys(ids, share).tolist(), strict=True))
    shuffled = [*ids]
    random.shuffle(shuffled)
    some = shuffled[: len(ids) // 2]
    assert share_of_keys(some, share).tolist() == [held[one] for one in some]


@given(st.lists(st.text(), max_size=20), st.floats(0.05, 0.9), st.floats(0.01, 0.1))
def test_a_larger_share_holds_what_a_smaller_one_held(ids: list[str], share: float, more: float) -> None:
    ids = [one.encode("utf-8", "replace").decode() for one in ids]
    assert (share_of_keys(ids, share + more) >= share_of_keys(ids, share)).all()


def test_the_share_is_what_it_says_and_never_changes() -> None:
    ids = [f"UA/{number}" for number in range(20_000)]
    held = share_of_keys(ids, 0.2)
    assert abs(held.mean() - 0.2) < 0.01  # three standard errors: 0.0085
    # A version that hashes otherwise would hand out what an older one held out.
    assert [number for number in range(30) if held[number]] == [5, 6, 8, 22, 29]


def test_no_rows_hold_out_nothing() -> None:
    assert last_days(np.array([], dtype="datetime64[us]"), 7).tolist() == []
    assert share_of_keys([], 0.5).tolist() == []
