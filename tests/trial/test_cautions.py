"""How far observations are from independent, and which unit would not flatter."""

from typing import Any

import msgspec
import numpy as np
import pytest
from day_tables import Array, at, day_of, side
from test_trial_judging import block, table
from trial_days import START, plan_of

from passerelle.trial.cautions import cautions
from passerelle.trial.evidence import block_of
from passerelle.trial.judging import judge
from passerelle.trial.verdict import Block


def blocks_of(
    rng: np.random.Generator,
    *,
    of_day: float = 0.0,
    of_unit: float = 0.0,
    per_unit: int = 1,
    days: int = 14,
    **plan: Any,
) -> list[Block]:
    """Days of 100 rows, whose differences share so much of their spread with their day, and with their unit."""
    found = []
    for number in range(days):
        start = at(START, number)
        units = np.repeat([f"{number}-{unit}" for unit in range(100 // per_unit)], per_unit)
        shocks = np.repeat(rng.normal(0, of_unit, 100 // per_unit), per_unit) + rng.normal(0, of_day)
        gap: Array = np.clip(0.5 + 0.1 * (shocks + rng.normal(0, 1, 100)), 0, 1)
        truth = np.zeros(100)
        sides = [
            side(start, np.full(100, 0.5), truth, units=units),
            side(start, gap, truth, units=units, version=2, role="shadow"),
        ]
        read = day_of(start, *sides)
        arrivals = sides[0].select(["unit", "version", "probability"]).group_by("unit").aggregate([("version", "min")])
        found.append(block_of(plan_of(**plan), read, day=start, arrivals=arrivals))
    return found


def test_rows_that_are_independent_have_no_design_effect() -> None:
    plan = plan_of(unit="row")
    effects = []
    for number in range(20):
        found = cautions(plan, blocks_of(np.random.default_rng([1, number]), unit="row"), [])
        effects.append(found.design_effect)
        assert found.per_unit == 1.0
        assert found.better_unit is None or (found.design_effect or 0) > 1.2
    assert np.mean([effect or 0 for effect in effects]) == pytest.approx(1.0, abs=0.25)


def test_rows_of_a_day_that_resemble_each_other_ask_for_days() -> None:
    """Of 100 rows with an intraclass correlation of 0.2, about 20 say as much as one."""
    plan = plan_of(unit="row")
    effects = [
        cautions(plan, blocks_of(np.random.default_rng([2, number]), unit="row", of_day=0.5), [])
        for number in range(10)
    ]
    assert {found.better_unit for found in effects} == {"days"}
    assert np.mean([found.design_effect or 0 for found in effects]) == pytest.approx(1 + 99 * 0.2, rel=0.25)
    late = msgspec.structs.replace(plan, min_days=14, max_days=20)
    verdict = judge(late, blocks_of(np.random.default_rng(2), unit="row", of_day=0.5))
    assert verdict.better_unit == "days"
    assert ' events say as much as one: they are weaker evidence than they look; say evidence = "days" in' in (
        verdict.sentence
    )


def test_rows_of_a_unit_that_resemble_each_other_ask_for_units() -> None:
    """Of 10 rows of a unit with an intraclass correlation of 0.5, 5.5 say as much as one."""
    plan = plan_of(unit="row")
    found = cautions(plan, blocks_of(np.random.default_rng(3), unit="row", of_unit=1.0, per_unit=10), [])
    assert found.design_effect == pytest.approx(5.5, rel=0.2)
    assert (found.better_unit, found.per_unit) == ("units", 10.0)
    alone = cautions(plan, blocks_of(np.random.default_rng(3), unit="row", per_unit=10), [])
    assert alone.better_unit is None, "they come back, and do not resemble each other"
    assert alone.design_effect == pytest.approx(1.0, abs=0.4)


def test_units_that_never_come_back_on_the_same_day_are_taken_to_be_alike() -> None:
    blocks = [block(day, 0.0, values=(0.0,) * 100, unlabelled=20, arrived=30) for day in range(9)]
    found = cautions(plan_of(unit="row"), blocks, [])
    assert (found.design_effect, found.better_unit) == (4.0, "units")


def test_of_days_the_design_effect_is_shown_and_asks_for_nothing() -> None:
    verdict = judge(plan_of(min_days=14), blocks_of(np.random.default_rng(2), of_day=0.5))
    assert verdict.design_effect is not None
    assert verdict.design_effect > 10
    assert verdict.better_unit is None
    slow = [0.02 * np.sin(day / 3) for day in range(30)]
    verdict = judge(plan_of(max_days=60, margin=0.0001, rollback_above=0.05), table(*slow))
    assert verdict.better_unit == "weeks"
    assert 'autocorrelation 0.9: they are weaker evidence than they look; say evidence = "weeks" in the next' in (
        verdict.sentence
    )


def test_losses_that_the_cap_cuts_are_counted_by_version() -> None:
    plan = plan_of(task="regression", classes=(), loss="squared", cap=1.0, min_days=1)
    start = START
    truth = np.array([1, 1, 1, 1])
    sides = [
        side(start, np.array([1.0, 2.5, 1.0, 1.0]), truth),
        side(start, np.array([3.0, 3.0, 2.2, 1.5]), truth, version=2, role="shadow"),
    ]
    numbers = [one.set_column(10, "truth", [["1.0", "1.0", "1.0", None]]) for one in sides]
    found = block_of(plan, day_of(start, *numbers), day=start)
    assert found.arms is not None
    assert [(arm.events, arm.labelled, arm.capped) for arm in found.arms] == [(4, 3, 1), (4, 3, 3)]
    assert found.difference == pytest.approx(2 / 3), "each loss counts up to the cap"
    verdict = judge(plan, [found])
    assert verdict.capped == pytest.approx((1 / 3, 1.0))
    assert "; the cap cut 33.33 % of the champion's losses and 100.00 % of the challenger's" in verdict.sentence
    assert "; 75 % of the events had an outcome in time" in verdict.sentence
    assert verdict.coverage == (0.75, 0.75)
    assert judge(plan, [msgspec.structs.replace(found, arms=None)]).capped is None
