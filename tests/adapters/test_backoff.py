from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from passerelle.adapters.backoff import backoff_s


@given(st.integers(min_value=0, max_value=40))
def test_waits_are_bounded_and_differ(attempt: int) -> None:
    """Those who were refused at one moment do not all come again at another."""
    waits = {backoff_s(attempt, first_s=0.2, longest_s=20) for _ in range(5)}
    most = min(0.2 * 2.0**attempt, 20.0)
    assert all(0.3 * most <= wait <= most for wait in waits)
    assert len(waits) > 1
