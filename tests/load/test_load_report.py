"""The report: quantiles of real requests, and when its figures are not to be believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.load.report import Injected, can_judge, doubts, quantiles


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


def last_line(*, sent: int, answered: int, seconds: float, doubted: tuple[str, ...] = ()) -> str:
    quick = quantiles([0.001] * answered)
    return Injected(
        to="http://127.0.0.1:8700/predict",
        due=sent,
        sent=sent,
        answered=answered,
        events=answered,
        failed_events=0,
        events_a_request=1,
        errors={} if answered else {"status 401": sent},
        said={},
        asked_per_s=None,
        answered_per_s=answered / seconds,
        seconds=seconds,
        latency_ms=quick,
        service_ms=quick,
        late=0,
        longest_wait_ms=0.0,
        connections=64,
        lag_ms=quick,
        busy=1.62,
        passes=1,
        cut_short=False,
        doubts=doubted,
        judged=can_judge(sent=sent, answered=answered, seconds=seconds),
    ).lines()[-1]


@pytest.mark.parametrize(("sent", "seconds"), [(1, 0.2), (99, 60.0), (5000, 0.9)])
def test_a_short_injection_is_not_judged(sent: int, seconds: float) -> None:
    said = last_line(sent=sent, answered=sent, seconds=seconds)
    assert said.startswith(f"Too short to say whose figures these are: {sent:,} requests in {seconds:.1f} s")


def test_without_an_answer_there_is_nothing_to_judge() -> None:
    assert last_line(sent=100, answered=0, seconds=2.0) == "Nothing was answered: there are no figures to judge."


def test_enough_is_judged() -> None:
    assert last_line(sent=100, answered=1, seconds=1.0).endswith("these figures are the endpoint's.")
    assert last_line(sent=100, answered=99, seconds=1.0, doubted=("it was late",)).startswith("Do not believe these")
