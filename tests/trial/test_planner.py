"""The planner: what it says by hand, what it refuses and offers instead, and the tests themselves beside it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerelle.trial import blocks, paired, plan
from passerelle.trial.needs import Need

ERRORS = [0.0] * 9 + [1.0]


def test_rows_by_the_formula() -> None:
    forecast = plan(margin=0.01, per_day=100, deviation=0.2, min_days=1, max_days=60)
    n80 = (1.6448536 + 0.8416212) ** 2 * 0.04 / 0.0001
    largest_bet = math.log(20) * 2 / 0.9 / 0.01
    corner = 1.1 * largest_bet * (largest_bet / (largest_bet + n80)) ** 1.5
    need = forecast.shadow
    assert need.planned_n == math.ceil(n80) == 2474
    assert (need.labels, need.labels_90) == (math.ceil(0.9 * n80 + corner), math.ceil(2.4 * n80 + corner))
    assert (need.days, need.days_90) == (math.ceil(need.labels / 100), math.ceil(need.labels_90 / 100))
    assert need.resolves
    assert not need.resolves_90
    assert forecast.refused is None
    assert forecast.instead == ()


def test_a_split_needs_so_many_times_the_labels_of_a_shadow() -> None:
    """Theory: 4 sd(loss)^2 / sd(difference)^2; 9 of models that err at 10 % and disagree on 4 % of the events."""
    forecast = plan(margin=0.002, per_day=1e5, deviation=0.2, losses=ERRORS * 10_000)
    assert forecast.split.deviation == pytest.approx(0.6, abs=1e-4)
    assert forecast.ratio == pytest.approx(9.0, rel=0.15)
    poor = plan(margin=0.002, per_day=1e5, deviation=0.2, losses=ERRORS * 10_000, share=0.1)
    assert poor.split.deviation == pytest.approx(1.0, abs=1e-4)


def test_what_is_not_known_is_said() -> None:
    known = plan(margin=0.01, per_day=100, deviation=0.2, losses=ERRORS)
    assert known.assumed == ()
    from_losses = plan(margin=0.01, per_day=100, losses=ERRORS * 100, correlation=0.5)
    assert from_losses.shadow.deviation == pytest.approx(0.3, abs=1e-3)  # 0.3 sqrt(2 (1 - 0.5))
    assert from_losses.assumed == ("the two versions' losses of one row correlate at 0.5",)
    from_deviation = plan(margin=0.01, per_day=100, deviation=0.2, correlation=0.5)
    assert from_deviation.split.deviation == pytest.approx(0.4)  # 2 * 0.2 / sqrt(2 (1 - 0.5))
    assert "correlate at 0.5 (for the split)" in from_deviation.assumed[0]


def test_days_of_a_champions_log() -> None:
    rng = np.random.default_rng(4)
    storms = rng.normal(0.3, 0.05, 28)
    days = np.repeat(np.arange(28), 500)
    losses = np.clip(rng.normal(storms[days], 0.2), 0, 1)
    known = plan(margin=0.01, per_day=500, unit="day", losses=losses, days=days)
    means = np.array([losses[days == day].mean() for day in range(28)])
    assert known.shadow.deviation == pytest.approx(means.std(ddof=1) * math.sqrt(0.4))
    tossed = 2 * losses.std(ddof=1) / math.sqrt(500)
    assert known.split.deviation == pytest.approx(math.hypot(known.shadow.deviation, tossed))
    flattered = plan(margin=0.01, per_day=500, unit="day", losses=losses)
    assert flattered.shadow.deviation < known.shadow.deviation / 4
    assert "independent of each other" in flattered.assumed[0]


def test_a_week_is_seven_days() -> None:
    week = plan(margin=0.01, per_day=100, unit="week", deviation=0.005, max_days=120).shadow
    day = plan(margin=0.01, per_day=100, unit="day", deviation=0.005, min_days=2, max_days=120).shadow
    assert week.days is not None
    assert (week.days % 7, week.labels) == (0, week.days * 100)
    assert day.days is not None
    assert week.days == day.days * 7


def test_it_refuses_and_says_what_would_do() -> None:
    forecast = plan(margin=0.02, per_day=50, losses=ERRORS * 100, mode="split", share=0.1)
    assert forecast.refused is not None
    assert forecast.refused.startswith("a margin of 0.02 cannot be resolved in 60 days")
    said = " | ".join(forecast.instead)
    for part in ("a margin of 0.0", "a shadow", "a share of 0.5", "max_days = ", "labels a day"):
        assert part in said
    wider = float(forecast.instead[0].removeprefix("a margin of ").split()[0])
    asked = {"per_day": 50, "losses": ERRORS * 100, "mode": "split", "share": 0.1}
    assert plan(margin=wider, **asked).refused is None
    assert plan(margin=wider * 0.98, **asked).refused is not None
    longer = forecast.need.days
    assert longer is not None
    assert plan(margin=0.02, max_days=longer, **asked).refused is None
    assert plan(margin=0.02, max_days=longer - 1, **asked).refused is not None


def test_never_is_a_value_too() -> None:
    forecast = plan(margin=1e-6, per_day=10, deviation=0.5, unit="row")
    assert (forecast.shadow.labels, forecast.shadow.days, forecast.ratio) == (None, None, None)
    assert "more than ten years" in str(forecast.refused)
    assert plan(margin=1e-6, per_day=10, deviation=0.5, unit="day").shadow.days is None


@settings(deadline=None, max_examples=30)
@given(
    st.floats(0.001, 0.2),
    st.floats(0.01, 0.5),
    st.floats(10, 1e6),
    st.sampled_from(["row", "unit"]),
    st.floats(0.05, 0.5),
)
def test_more_margin_needs_less_and_90_in_100_need_more(
    margin: float, deviation: float, per_day: float, unit: str, share: float
) -> None:
    def labels(need: Need) -> float:
        return math.inf if need.labels is None else need.labels

    asked = {"per_day": per_day, "deviation": deviation, "unit": unit, "share": share}
    one, wider = plan(margin=margin, **asked), plan(margin=margin * 1.5, **asked)
    for need, less in ((one.shadow, wider.shadow), (one.split, wider.split)):
        assert labels(less) <= labels(need)
        assert need.labels is None or need.labels_90 is None or need.labels <= need.labels_90
        assert need.days is None or need.days >= 14
    assert labels(one.split) >= labels(one.shadow)


def test_the_tests_need_what_was_planned() -> None:
    """Small here; at full size and for more cases in benchmarks/statistics/bar16_planner.py."""
    rng = np.random.default_rng(7)
    need = plan(margin=0.02, per_day=1e9, deviation=0.2, min_days=1).shadow
    found = []
    for _ in range(200):
        values = rng.choice([1.0, 0.0, -1.0], size=3 * need.labels_90, p=[0.02, 0.96, 0.02])
        course = paired(values, margin=0.02, alpha=0.05, bounds=(-1, 1), planned_n=need.planned_n)
        found.append(course.promoted_at or math.inf)
    assert np.quantile(found, 0.5, method="inverted_cdf") == pytest.approx(need.labels, rel=0.25)
    assert np.quantile(found, 0.9, method="inverted_cdf") == pytest.approx(need.labels_90, rel=0.25)
    days = plan(margin=0.01, per_day=1, unit="day", deviation=0.02).shadow
    found = [
        blocks(rng.normal(0, 0.02, 120), margin=0.01, alpha=0.05, min_blocks=14).promoted_at or math.inf
        for _ in range(200)
    ]
    assert np.quantile(found, 0.5, method="inverted_cdf") == pytest.approx(days.days, rel=0.25)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"margin": 0.0}, "margin is 0.0"),
        ({"margin": 1.0}, "margin is 1.0"),
        ({"margin": math.nan}, "margin is nan"),
        ({"per_day": 0}, "per_day is 0"),
        ({"horizon_days": -1}, "horizon_days is -1"),
        ({"share": 1.0}, "share is 1.0"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"deviation": 0.0}, "deviation is 0.0"),
        ({"deviation": None}, "how much do losses vary"),
        ({"deviation": None, "losses": [0.5]}, "losses holds 1"),
        ({"deviation": None, "losses": [0.5, 0.5]}, "all equal"),
        ({"deviation": None, "losses": [0.5, math.nan]}, r"losses\[1\] is nan"),
        ({"deviation": None, "losses": [0.5, 0.1], "days": [1], "unit": "day"}, "days has the shape"),
        ({"deviation": None, "losses": [0.5, 0.1], "days": [1, 1], "unit": "day"}, "of one block"),
        ({"correlation": 1.0}, "correlation is 1.0"),
        ({"max_days": 7}, "min_days is 14 and max_days 7"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(**{"margin": 0.01, "per_day": 100, "deviation": 0.1, **wrong})
