"""Weeks, units and rows as the unit of evidence, from the ledger to the verdict."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from day_tables import day_of, side
from test_trial_judging import GOOD, block, table
from trial_days import DAY, START, outcome, plan_of, prediction, project_in, write

from passerelle.ledger.position import Position
from passerelle.ledger.records import Record
from passerelle.ledger.segments import record as record_records
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.betting import paired
from passerelle.trial.evidence import block_of, close_blocks
from passerelle.trial.judging import course_of, digest, judge
from passerelle.trial.replaying import replay

HOUR = timedelta(hours=1)


def visit(id: str, unit: str, hours: float, champion: float, challenger: float) -> list[Record]:  # noqa: A002
    """A shadow's event of a unit; the truth is False."""
    at = START + hours * HOUR
    return [
        prediction(id, at, [champion], unit=unit),
        prediction(id, at, [challenger], unit=unit, role="shadow", version=2),
        outcome(id, value=False, at=at + HOUR),
    ]


def test_a_units_value_is_the_mean_of_its_first_days(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    record = trials.start(open_state(project.state), plan_of(unit="unit", unit_days=2, min_days=1))
    write(
        project,
        [
            *visit("a1", "ann", 5, 0.1, 0.3),
            *visit("a2", "ann", 30, 0.1, 0.5),
            *visit("a3", "ann", 49, 0.1, 0.9),  # the third day
            *visit("b1", "bob", 3, 0.2, 0.2),
            *visit("c1", "cid", 26, 0.3, 0.1),
            prediction("d1", START + HOUR, [0.5], unit="dan"),
            prediction("d1", START + HOUR, [0.5], unit="dan", role="shadow", version=2),
        ],
    )
    first, second, third, fourth = close_blocks(project, record, now=START + 5.6 * DAY)
    assert (first.difference, first.values, first.arrived) == (None, (), 3), "no unit is complete yet"
    ann = ((0.09 - 0.01) + (0.25 - 0.01)) / 2
    assert second.values == pytest.approx((0.0, ann)), "in the order of their first events"
    assert (second.rows, second.observations, second.unlabelled) == (3, 2, 1)
    assert second.difference == pytest.approx(ann / 2)
    assert (second.champion_loss, second.challenger_loss) == (pytest.approx(0.025), pytest.approx(0.025 + ann / 2))
    assert third.values == pytest.approx((0.01 - 0.09,))
    assert (fourth.difference, fourth.arrived) == (None, 0)
    verdict = judge(record.plan, [first, second, third, fourth])
    assert verdict.estimate == pytest.approx((ann + 0.01 - 0.09) / 3)
    assert " per event of a unit than version 1" in verdict.sentence
    assert "over 2 days and 4 mature events of 3 units" in verdict.sentence


def test_in_a_split_what_another_version_answered_is_not_the_units(tmp_path: Path) -> None:
    """It moved to the challenger, as the share grew from 25 to 50 %."""
    project = project_in(tmp_path)
    plan = plan_of(mode="split", share=0.25, unit="unit", unit_days=2, rollback_above=0.0, min_days=1)
    record = trials.start(open_state(project.state), plan)
    records: list[Record] = [
        prediction("a1", START + HOUR, [0.1], unit="ann", version=1, probability=0.75),
        prediction("a2", START + 25 * HOUR, [0.9], unit="ann", version=2, probability=0.5),
        prediction("b1", START + 2 * HOUR, [0.3], unit="bob", version=2, probability=0.25),
        prediction("b2", START + 26 * HOUR, [0.5], unit="bob", version=2, probability=0.5),
        prediction("c1", START + 27 * HOUR, [0.4], unit="cid", version=2, probability=0.5),
        prediction("all", START + 28 * HOUR, [0.4], unit="dan", version=2, probability=1.0),
        *(outcome(id_, value=False, at=START + 30 * HOUR) for id_ in ("a1", "a2", "b1", "b2", "c1", "all")),
    ]
    write(project, records)
    first, second, third, *_ = close_blocks(project, record, now=START + 4.6 * DAY)
    losses = 0.01, (0.09 + 0.25) / 2
    expected = -(losses[0] - 0.2) / 0.75, (losses[1] - (0.2 + 0.01) / 2) / 0.25
    assert second.values == pytest.approx(expected)
    assert (second.champion_loss, second.challenger_loss) == (pytest.approx(0.01), pytest.approx(losses[1]))
    assert third.values == pytest.approx(((0.16 - 0.2) / 0.5,))
    assert (first.least_chance, second.least_chance, third.least_chance) == (None, None, 0.5)
    assert [(one.share, one.units) for one in second.stages] == [(0.5, (0, 1))]
    assert first.stages == ()


def test_a_trial_of_units_is_replayed(tmp_path: Path) -> None:
    """Also where labels came in another order, and were corrected after the days had closed."""
    rng = np.random.default_rng(5)
    records: list[Record] = []
    for number in range(60):
        unit, first = f"u{number}", float(rng.uniform(0, 24 * 4))
        hard = float(rng.uniform(0.2, 0.4))
        for again in range(3):
            gap = float(np.clip(hard + rng.normal(0.0, 0.05), 0, 1))
            records += visit(f"{unit}-{again}", unit, first + 20 * again, hard, gap)
    found = []
    for seed in (1, 2):
        project = project_in(tmp_path / str(seed))
        record = trials.start(open_state(project.state), plan_of(unit="unit", unit_days=3, min_days=3, planned_n=50))
        shuffled = [records[place] for place in np.random.default_rng(seed).permutation(len(records))]
        folder = ledger_folder(project.state, "production")
        for number, part in enumerate((shuffled[:300], shuffled[300:])):
            asyncio.run(record_records(LocalStorage(folder), part, slot=f"worker-{number}"))
        blocks = close_blocks(project, record, now=START + 9 * DAY)
        assert sum(len(one.values) for one in blocks) == 60
        late = [outcome(f"u{number}-0", value=True, at=START + 20 * DAY) for number in range(30)]
        write(project, late, slot="late")
        assert replay(project, record.plan.id).same
        found.append([msgspec.structs.replace(one, position=Position()) for one in blocks])
    assert found[0] == found[1]


def test_a_week_is_seven_days_that_count_the_same() -> None:
    plan = plan_of(unit="week", min_days=14, max_days=60)
    weekly = [0.001, -0.002, -0.001, -0.003, 0.0, -0.002, -0.001, -0.002]
    days = [mean + 0.02 * ((day % 7) - 3) for mean in weekly for day in range(7)]  # a strong day of the week
    blocks = table(*days)
    course = course_of(plan, blocks)
    assert course.upper.shape == (8,)
    assert judge(plan, blocks[:41]).kind == "KEEP_GOING"
    assert "1 more of the 6 weeks that a verdict needs are missing" in judge(plan, blocks[:41]).sentence
    assert judge(plan_of(unit="week", max_days=60, alpha=0.4), blocks[:41]).kind == "KEEP_GOING"
    verdict = judge(plan, blocks)
    assert (verdict.kind, verdict.decided_by) == ("PROMOTE", START + 41 * DAY), "at the end of the sixth week"
    assert verdict.estimate == pytest.approx(np.mean(weekly[:6]))
    assert " over 6 weeks, 42 days and 4,200 mature events" in verdict.sentence
    assert judge(plan_of(min_days=14, max_days=60), blocks).kind != "PROMOTE", "days are too noisy here"
    gap = table(*days[:3], None, *days[4:7])
    assert course_of(plan, gap).upper.shape == (1,)


def test_however_many_rows_a_day_has_few_values_are_kept() -> None:
    rows = 1_000_000 if os.environ.get("PASSERELLE_SOAK") else 100_000
    rng = np.random.default_rng(3)
    truth = rng.random(rows) < 0.3
    one, other = (np.clip(0.3 + rng.normal(0, 0.1, rows), 0, 1) for _ in range(2))
    units = np.array([f"u{number}" for number in range(rows)])
    plan = plan_of(unit="row", values_a_day=2000, min_days=1, planned_n=100_000)
    day = day_of(
        START,
        side(START, one, truth, units=units),
        side(START, other, truth, units=units, version=2, role="shadow"),
    )
    found = block_of(plan, day, day=START)
    differences = (other - truth) ** 2 - (one - truth) ** 2
    assert len(found.values) == 2000
    assert found.difference == pytest.approx(differences.mean())
    assert found.values[7] == pytest.approx(differences[7 * rows // 2000 : 8 * rows // 2000].mean())
    assert found.squares == pytest.approx(((differences - differences.mean()) ** 2).sum())
    assert (found.rows, found.observations) == (rows, rows)
    assert len(msgspec.json.encode(found)) < 100_000
    verdict = judge(plan, [found])
    assert (verdict.kind, verdict.estimate) == ("PROMOTE", pytest.approx(differences.mean()))


def test_means_of_neighbours_lose_little() -> None:
    rng = np.random.default_rng(4)
    values = np.clip(rng.normal(0.0, 0.2, (12, 8000)), -1, 1)
    wide = plan_of(unit="row", min_days=1, max_days=60, planned_n=2500)
    few = msgspec.structs.replace(wide, values_a_day=2000)
    rows = [block(day, float(part.mean()), values=tuple(part), observations=8000) for day, part in enumerate(values)]
    means = [
        msgspec.structs.replace(one, values=tuple(part.reshape(2000, 4).mean(axis=1)))
        for one, part in zip(rows, values, strict=True)
    ]
    each, grouped = course_of(wide, rows), course_of(few, means)
    assert each.promoted_at is not None
    assert grouped.promoted_at is not None
    assert grouped.promoted_at * 4 < each.promoted_at * 1.5
    fewer = [msgspec.structs.replace(one, observations=None) for one in means]
    aimed = course_of(msgspec.structs.replace(few, planned_n=625), fewer)
    assert aimed.promote_evidence == grouped.promote_evidence, "bets are aimed at as many means as make the rows"
    exact = paired(values.ravel(), margin=0.01, alpha=0.05, bounds=(-1, 1), planned_n=2500, rollback_above=0.01)
    assert each.promoted_at == exact.promoted_at


def test_what_earlier_plans_did_not_say_is_not_in_their_digest() -> None:
    plan, blocks = plan_of(), table(*GOOD)
    assert digest(plan, blocks) != digest(plan_of(unit_days=3), blocks)
    old = msgspec.json.encode({k: v for k, v in msgspec.to_builtins(plan).items() if k != "unit_days"})
    assert digest(msgspec.json.decode(old, type=type(plan)), blocks) == digest(plan, blocks)
