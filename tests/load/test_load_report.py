"""The report: quantiles of real requests, and when its figures are not to be believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from passerelle.load.report import doubts, quantiles


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300))
def test_quantiles_are_values_in_order_and_enough_are_not_above(seconds: list[float]) -> None:
    found = quantiles(seconds)
    all_of_them = {round(one * 1000, 3) for one in seconds}
    shares = {0.5: found.p50, 0.9: found.p90, 0.99: found.p99, 0.999: found.p99_9, 1.0: found.max}
    assert set(shares.values()) <= all_of_them
    assert list(shares.values()) == sorted(shares.values())
    for share, value in shares.items():
        not_above = sum(round(one * 1000, 3) <= value for one in seconds)
        assert not_above >= share * len(seconds) - 1e-9


def test_an_injector_is_doubted_for_its_lag_and_for_its_work() -> None:
    quick, slow, slower = quantiles([0.001]), quantiles([0.0025]), quantiles([0.026])
    assert doubts(lag_ms=quick, latency_ms=quick, busy=0.5) == ()
    assert doubts(lag_ms=slow, latency_ms=slower, busy=0.5) == ()
    assert doubts(lag_ms=slow, latency_ms=quantiles([0.02]), busy=0.5) == (
        "1 % of the requests left 2.5 ms late or more, by the injector's own fault",
    )
    assert doubts(lag_ms=quick, latency_ms=quick, busy=0.95) == ("the injector used 95% of its processor",)
    assert doubts(lag_ms=quantiles([]), latency_ms=quantiles([]), busy=0.0) == ()
