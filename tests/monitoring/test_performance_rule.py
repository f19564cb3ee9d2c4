"""The rule on the loss: storms open it, ordinary days and seasons do not, and what is wrong stays until it is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from watched import make_project

from passerelle.monitoring.measuring import Figures, expected_loss, measure
from passerelle.monitoring.performance import Judged, began, excess_of, finding, judge
from passerelle.project.settings import load_project

EVERY = 365.0
START = datetime(2013, 2, 1, tzinfo=UTC)


def _day(excess: float, *, expected: float | None = 0.16, rows: int = 900, unlabelled: int = 0) -> Figures:
    loss = excess if expected is None else expected + excess
    return Figures(rows=rows, unlabelled=unlabelled, failed=0, loss=loss, expected=expected)


def _live(days: list[Figures]) -> list[Judged]:
    earlier: list[tuple[Figures, Judged]] = []
    for day in days:
        earlier.append((day, judge(earlier, day, false_alarm_every=EVERY)))
    return [judged for _, judged in earlier]


def _ordinary(count: int, *, seed: int = 3, sd: float = 0.03) -> list[Figures]:
    return [_day(float(one)) for one in np.random.default_rng(seed).normal(0, sd, count)]


def test_a_storm_opens_at_once_and_is_over_after_two_ordinary_days() -> None:
    days = [*_ordinary(14), _day(0.3), _day(0.25), *_ordinary(3, seed=4)]
    judged = _live(days)
    assert [one.alarm for one in judged] == [False] * 14 + [True] + [False] * 4
    assert [one.going_on for one in judged][13:] == [False, True, True, True, False, False]
    # The storm's days are no reference for the days after them.
    assert judged[16].reference_days == 14
    assert judged[16].reference == pytest.approx(np.mean([day.loss for day in days[:14]]))


def test_ordinary_days_raise_fewer_alarms_than_was_asked_for() -> None:
    days = 8 * int(EVERY)
    assert sum(one.alarm for one in _live(_ordinary(days, seed=5))) <= 8


def test_a_rare_day_that_calls_nobody_stays_in_the_reference() -> None:
    judged = _live([*_ordinary(30), _day(0.09), *_ordinary(1, seed=6)])
    assert [one.alarm for one in judged] == [False] * 32
    assert (judged[30].in_control, judged[31].reference_days) == (False, 31)


def test_a_hard_day_that_the_model_announced_is_not_its_fault() -> None:
    days = [*_ordinary(20), Figures(rows=900, unlabelled=0, failed=0, loss=0.26, expected=0.25)]
    assert not _live(days)[-1].alarm
    days[-1] = Figures(rows=900, unlabelled=0, failed=0, loss=0.42, expected=0.16)
    assert _live(days)[-1].alarm


def test_what_is_unlikely_and_small_calls_nobody() -> None:
    days = [*_ordinary(30, sd=0.002), *[_day(0.03)] * 3]  # 15 standard deviations, and less than a quarter more
    judged = _live(days)
    assert judged[-1].in_control is False
    assert not any(one.alarm for one in judged)


def test_a_model_that_broke_stays_alarmed_until_this_is_how_it_is() -> None:
    days = [*_ordinary(30), *[_day(0.15 + one.loss - 0.16) for one in _ordinary(40, seed=6) if one.loss]]
    judged = _live(days)
    assert judged[30].alarm
    assert [one.going_on for one in judged[30:]] == [True] * 13 + [False] * 27
    assert (judged[43].settled, judged[44].reference_days, judged[69].reference_days) == (True, 14, 39)
    assert judged[44].reference == pytest.approx(np.mean([day.loss for day in days[30:44]]))
    told = finding(judged[43], days[43], START, before=judged[42])
    assert told.state == "quiet"
    assert told.sentence.startswith("the loss has not come back in 14 days, so this is how it is now: 0.")
    # It is watched as before: what breaks once more alarms once more.
    assert _live([*days, _day(0.5)])[-1].alarm


def test_a_slow_decay_is_found() -> None:
    slow = [_day(0.0015 * number + (one.loss or 0) - 0.16) for number, one in enumerate(_ordinary(60, seed=7))]
    judged = _live([*_ordinary(30), *slow])
    assert any(one.alarm for one in judged)


def test_few_rows_are_not_judged_and_few_days_neither() -> None:
    judged = _live([*_ordinary(10), _day(0.5, rows=50)])
    assert (judged[-1].in_control, judged[-1].alarm, judged[-1].excess) == (None, False, None)
    assert [one.in_control is None for one in judged[:6]] == [True] * 5 + [False]


def test_outcomes_that_stop_coming_are_an_alert_of_their_own() -> None:
    days = [*_ordinary(10), _day(0.0, rows=100, unlabelled=800), *_ordinary(2, seed=8)]
    judged = _live(days)
    assert (judged[10].blind, judged[10].alarm) == (True, True)
    found = finding(judged[10], days[10], START, before=judged[9])
    assert found.state == "firing"
    assert "outcomes stopped coming: 100 of the 900 predictions of 2013-02-01" in found.sentence
    assert [one.going_on for one in judged[10:]] == [True, True, False]


def test_numbers_are_compared_by_the_logarithm_of_their_loss() -> None:
    random = np.random.default_rng(9)
    days = [_day(float(np.exp(random.normal(3, 0.1))), expected=None) for _ in range(30)]
    judged = _live([*days, _day(float(np.exp(4)), expected=None)])
    assert excess_of(days[0]) == pytest.approx(np.log(days[0].loss))
    assert [one.alarm for one in judged] == [False] * 30 + [True]


def test_the_sentence_has_the_figures_and_the_end_has_too() -> None:
    days = [*[_day(0.01 * one) for one in (-2, 1, 0, -1, 2, 1, -1)], _day(0.3), _day(0.0), _day(0.01)]
    judged = _live(days)
    opened = finding(judged[7], days[7], START, before=judged[6])
    assert opened.state == "firing"
    assert opened.sentence == (
        "the model lost 0.46 on 2013-02-01 (900 predictions), 2.9 times as much as on the 7 ordinary days before "
        "(0.16); its own scores expected 0.16 of that day."
    )
    assert finding(judged[8], days[8], START, before=judged[7]).state == "unsure"
    closed = finding(judged[9], days[9], START, before=judged[8])
    assert (closed.state, closed.sentence) == (
        "quiet",
        "the loss is as on other days again: 0.17 on 2013-02-01, 2 such days in a row.",
    )


def test_a_model_that_was_never_wrong_before_has_a_sentence_too() -> None:
    days = [*[_day(0.0, expected=0.0)] * 8, _day(0.2, expected=0.0)]
    judged = _live(days)
    assert judged[8].alarm
    assert finding(judged[8], days[8], START, before=judged[7]).sentence == (
        "the model lost 0.2 on 2013-02-01 (900 predictions), not as on the 8 ordinary days before (0); "
        "its own scores expected 0 of that day."
    )


def test_an_alarm_began_with_the_first_unlikely_day_before_it() -> None:
    days = [START + timedelta(days=number) for number in range(5)]
    earlier = [(day, Judged(excess=0.0, p=p)) for day, p in zip(days, (0.01, 0.4, 0.03, 0.02), strict=False)]
    assert began(earlier, days[4]) == days[2]
    assert began(earlier[:2], days[2]) == days[2]
    assert began([], days[0]) == days[0]
    assert began(earlier[:3], days[4]) == days[4]  # a day is missing in between


def test_expected_losses_are_those_of_a_model_that_is_right() -> None:
    random = np.random.default_rng(10)
    chances = random.uniform(0.05, 0.95, (200_000, 1))
    truth = (random.random(200_000) < chances[:, 0]).astype(float)
    from passerelle.metrics import row_losses

    for loss in ("brier", "log_loss", "zero_one"):
        expected = expected_loss(loss, chances, "binary")
        assert expected is not None
        assert row_losses(loss, chances, truth).mean() == pytest.approx(expected.mean(), abs=2e-3)
    three = np.array([[0.5, 0.3, 0.2]])
    assert expected_loss("brier", three, "multiclass") == pytest.approx(0.62)
    assert expected_loss("squared", three, "regression") is None


def test_a_day_is_measured_by_its_live_rows(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "role": ["live", "live", "live", "live", "shadow"],
            "status": ["scored", "scored", "failed", "scored", "scored"],
            "truth": ["true", "false", None, None, "true"],
            "version": [1, 2, 1, 1, 2],
            "output": pa.array([[0.75], [0.5], None, [0.1], [0.0]], pa.list_(pa.float64())),
        }
    )
    found, _ = measure(rows, make_project(tmp_path), (False, True))
    assert (found.rows, found.unlabelled, found.failed) == (2, 1, 1)
    assert found.loss == pytest.approx((0.0625 + 0.25) / 2)
    assert found.expected == pytest.approx((0.1875 + 0.25) / 2)
    assert found.versions == {"1": {"rows": 1, "loss": 0.0625}, "2": {"rows": 1, "loss": 0.25}}
    assert measure(rows.slice(2, 1), make_project(tmp_path / "b"), (False, True))[0].loss is None


def test_a_day_costs_what_the_project_declares_and_its_calibration_is_kept(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "role": ["live"] * 4,
            "status": ["scored"] * 4,
            "truth": ["true", "true", "false", None],
            "version": [1, 1, 2, 2],
            "output": pa.array([[0.9], [0.1], [0.52], [0.9]], pa.list_(pa.float64())),
        }
    )
    found, _ = measure(rows, make_project(tmp_path / "a", "[costs]\naction = 2.0\nmissed = 5.0\n"), (False, True))
    assert found.cost == pytest.approx((2 + 5 + 2) / 3)
    assert {name: one["cost"] for name, one in found.versions.items()} == {"1": 3.5, "2": 2.0}
    assert [(one.rows, one.score, one.positives) for one in found.bins] == [(1, 0.1, 1), (1, 0.52, 0), (1, 0.9, 1)]
    told = finding(Judged(excess=0.1, in_control=False, going_on=True), found, START, before=Judged(excess=None))
    assert told.sentence.endswith("It cost 3 an event, in the unit of [costs].")
    silent, _ = measure(rows, make_project(tmp_path / "b"), (False, True))  # none declared: none is made up
    assert (silent.cost, "cost" in silent.versions["1"], silent.bins) == (None, False, found.bins)
    # A window of before has neither.
    old = msgspec.convert({"rows": 1, "unlabelled": 0, "failed": 0, "loss": 0.1, "expected": 0.1}, Figures)
    assert (old.cost, old.bins, old.slices) == (None, (), {})


def test_numbers_have_no_business_cost(tmp_path: Path) -> None:
    (tmp_path / "passerelle.toml").write_text(
        '[project]\nname = "power"\n[task]\nkind = "regression"\ntarget = "mw"\nkey = ["site"]\n[costs]\n',
        encoding="utf-8",
    )
    rows = pa.table(
        {
            "role": ["live"],
            "status": ["scored"],
            "truth": ["3.5"],
            "version": [1],
            "output": pa.array([[3.0]], pa.list_(pa.float64())),
        }
    )
    found, _ = measure(rows, load_project(tmp_path / "passerelle.toml"), ())
    assert (found.loss, found.cost, found.bins) == (0.25, None, ())
