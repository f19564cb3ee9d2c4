"""A project that says what it tolerates: rows judge where they can, days where they differ; coverage is not feigned."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from watched import DAY, FEBRUARY, live, make_project

from passerelle.monitoring.alerts import find_alerts
from passerelle.monitoring.measuring import Figures
from passerelle.monitoring.performance import Judged, excess_of, finding, judge
from passerelle.monitoring.tolerance import Agreement, tolerated
from passerelle.monitoring.watching import watch
from passerelle.monitoring.windows import read_windows
from passerelle.state.database import open_state

EVERY = 1000.0
ROWS = 1000
TENTH = Agreement(share=0.1, bound=1.0)
START = FEBRUARY


def _rows(chance: float, *, seed: int) -> NDArray[np.float64]:
    return (np.random.default_rng(seed).random(ROWS) < chance).astype(np.float64)


def _figures(losses: NDArray[np.float64]) -> Figures:
    return Figures(
        rows=len(losses),
        unlabelled=0,
        failed=0,
        loss=float(losses.mean()),
        expected=None,
        variance=float(losses.var()),
    )


def _held_out(chances: list[float]) -> list[tuple[Figures, Judged]]:
    days = [_figures(_rows(chance, seed=number)) for number, chance in enumerate(chances)]
    return [(day, Judged(excess=excess_of(day), held_out=True)) for day in days]


def _live(chances: list[float], held_out: list[tuple[Figures, Judged]], agreement: Agreement | None) -> list[Judged]:
    earlier = list(held_out)
    for number, chance in enumerate(chances):
        losses = _rows(chance, seed=1000 + number)
        day = _figures(losses)
        earlier.append((day, judge(earlier, day, false_alarm_every=EVERY, agreement=agreement, losses=losses)))
    return [judged for _, judged in earlier[len(held_out) :]]


def test_what_is_tolerated_calls_nobody_and_what_is_not_calls_within_days() -> None:
    held_out = _held_out([0.2] * 12)
    within = _live([0.21] * 200, held_out, TENTH)
    assert not any(one.alarm for one in within)
    assert {one.tolerated is not None for one in within} == {True}
    beyond = _live([0.2] * 30 + [0.26] * 20, held_out, TENTH)
    [first, *_] = [number for number, one in enumerate(beyond) if one.alarm]
    assert 30 <= first <= 36
    assert beyond[first].reference == pytest.approx(0.2, abs=0.01)
    assert beyond[first].tolerated == pytest.approx(0.22, abs=0.015)
    assert beyond[first].reference_days == 12


def test_the_reference_does_not_follow_a_slow_decay() -> None:
    """By the days alone it fades into them: 0.0005 a day is small beside what days differ by."""
    slow = [0.2 + 0.0005 * number for number in range(120)]
    held_out = _held_out([0.2] * 12)
    assert any(one.alarm for one in _live(slow, held_out, TENTH))
    assert not any(one.alarm for one in _live(slow, held_out, None))


def test_an_alarm_lasts_until_two_days_keep_to_it_or_until_it_is_how_it_is() -> None:
    held_out = _held_out([0.2] * 12)
    over = _live([0.2] * 5 + [0.4] * 3 + [0.2] * 3, held_out, TENTH)
    assert [one.going_on for one in over] == [False] * 5 + [True] * 4 + [False] * 2
    assert over[9].sums == ()
    settled = _live([0.2] * 5 + [0.4] * 40, held_out, TENTH)
    assert [one.alarm for one in settled].count(True) >= 1
    assert settled[18].settled
    assert settled[44].reference == pytest.approx(0.4, abs=0.01)
    assert not any(one.alarm for one in settled[19:])


def test_days_judge_where_they_differ_by_more_than_their_rows() -> None:
    uneven = _held_out([0.1, 0.3] * 6)
    judged = _live([0.2] * 5, uneven, TENTH)
    assert {one.tolerated for one in judged} == {None}
    assert all(one.p is not None for one in judged)
    even = _held_out([0.2] * 12)
    old = [(msgspec.structs.replace(day, variance=None), known) for day, known in even]
    assert _live([0.2], old, TENTH)[0].tolerated is None  # kept by an earlier version


def test_the_share_is_what_days_are_worse_by() -> None:
    """Where no bets can be made (a loss without a bound): 15 % more is worse than a tenth, and less than a quarter."""
    boundless = Agreement(share=0.1, bound=None)
    earlier = [(_figures(_even(200 + number % 3)), Judged(excess=-1.6 + number % 3 / 100)) for number in range(20)]
    worse = _figures(_even(230))
    assert judge(earlier, worse, false_alarm_every=10.0, agreement=boundless, losses=_even(230)).alarm
    assert not judge(earlier, worse, false_alarm_every=10.0).alarm


def _even(ones: int) -> NDArray[np.float64]:
    return (np.arange(ROWS) < ones).astype(np.float64)


def test_few_rows_are_known_less_well() -> None:
    [few, many] = [tolerated([(0.1, 0.09, rows)] * 2, TENTH) for rows in (500, 50_000)]
    assert few is not None
    assert many == (0.1, 0.11)
    assert few == (0.1, pytest.approx(1.1 * (0.1 + 1.6448536 * (0.09 / 1000) ** 0.5)))
    assert tolerated([(0.95, 0.04, 500)] * 2, TENTH) is None  # everything would be tolerated


def test_the_sentence_names_what_is_tolerated() -> None:
    held_out = _held_out([0.2] * 12)
    judged = _live([0.2] * 5 + [0.5] * 2 + [0.1] * 2, held_out, TENTH)
    day = _figures(_rows(0.5, seed=1005))
    told = finding(judged[5], day, START, before=judged[4])
    assert told.state == "firing"
    assert told.sentence == (
        f"the model lost {day.loss:.3g} on 2013-02-01 (1,000 predictions), and {judged[5].tolerated:.3g} is tolerated: "
        f"a reference of 12 days ({judged[5].reference:.3g}), and what [monitoring] tolerance adds to it."
    )
    closed = finding(judged[8], _figures(_rows(0.1, seed=1008)), START, before=judged[7])
    assert closed.sentence.startswith("the loss is within what is tolerated again: 0.")


def test_a_project_that_tolerates_a_tenth(tmp_path: Path) -> None:
    project = make_project(tmp_path, "[monitoring]\ntolerance = 0.1\n")
    live(project, FEBRUARY, [0.0] * 20 + [0.5] * 3, events=100, wobble=0.0)
    watch(project, "production", now=FEBRUARY + 30 * DAY)
    engine = open_state(project.state)
    windows = read_windows(engine, "production", "performance")
    assert [one.value["tolerated"] is not None for one in windows[:5]] == [False] * 5  # too few days as yet
    assert [one.value["tolerated"] is not None for one in windows[20:23]] == [True] * 3
    assert windows[21].value["tolerated"] == pytest.approx(1.1 * windows[21].value["reference"], rel=0.06)
    [alert] = [one for one in find_alerts(engine, "production") if one.watch == "performance"]
    assert alert.first_day == FEBRUARY + 20 * DAY
    assert "is tolerated: a reference of 14 days" in alert.sentence


def test_coverage_that_was_never_more_is_not_outcomes_that_stop() -> None:
    """The days that a run holds out have all of their outcomes; production may label two in five."""
    held_out = _held_out([0.2] * 12)
    earlier = list(held_out)
    for number in range(20):
        losses = _rows(0.2, seed=500 + number)
        day = msgspec.structs.replace(_figures(losses), rows=400, unlabelled=600)
        earlier.append((day, judge(earlier, day, false_alarm_every=EVERY)))
    assert not any(judged.blind for _, judged in earlier)
    stopped = msgspec.structs.replace(_figures(_rows(0.2, seed=1)), rows=100, unlabelled=900)
    assert judge(earlier, stopped, false_alarm_every=EVERY).blind
