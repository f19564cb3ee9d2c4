"""The comparison by an input field: exploratory, at a share of alpha."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from trial_days import DAY, START, days, plan_of, project_in, write

from passerelle.errors import LedgerError
from passerelle.ledger.records import Prediction, Record
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.evidence import close_blocks
from passerelle.trial.exploring import segments
from passerelle.trial.judging import course_of


def carried(records: list[Record], carriers: int) -> list[Record]:
    """The same, each event by one of so many carriers; the challenger is bad at the first."""
    found: list[Record] = []
    for record in records:
        if isinstance(record, Prediction):
            row = int(record.id.split("-")[1])
            output = record.output
            if row % carriers == 0 and record.role == "shadow":
                output = (0.5,)
            inputs = {"carrier": f"c{row % carriers:02}"}
            found.append(msgspec.structs.replace(record, inputs=inputs, output=output))
        else:
            found.append(record)
    return found


def test_each_segment_is_tested_at_a_share_of_alpha(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    record = trials.start(open_state(project.state), plan_of(max_days=30))
    write(project, [one for day in days(20) for one in carried(day, 2)])
    now = START + 30 * DAY
    blocks = close_blocks(project, record, now=now)
    first, second = segments(project, record, "carrier", now)
    assert (first.value, first.others, second.value) == ("c00", False, "c01")
    assert first.rows + second.rows == sum(block.rows for block in blocks)
    assert first.lower is not None
    assert first.lower > 0.01, "it is bad at these, and they show it"
    assert second.upper is not None
    assert second.upper < 0.05
    pooled = [block.difference for block in blocks if block.difference is not None]
    assert (first.estimate or 0) / 2 + (second.estimate or 0) / 2 == pytest.approx(np.mean(pooled), abs=0.002)
    [whole] = segments(project, record, "nothing", now)
    course = course_of(record.plan, blocks)
    assert whole.estimate == pytest.approx(np.mean(pooled))
    assert (whole.lower, whole.upper) == (course.lower[-1], course.upper[-1])
    assert trials.blocks(open_state(project.state), record.plan.id) == blocks, "it decides nothing"


def test_two_segments_have_half_of_alpha_each(tmp_path: Path) -> None:
    """Two segments with the same events would each have the bounds of a trial at half of alpha."""
    project, twice = project_in(tmp_path / "one"), project_in(tmp_path / "two")
    plan = plan_of(max_days=30, alpha=0.05)
    record, other = (trials.start(open_state(one.state), plan) for one in (project, twice))
    once = [one for day in days(10) for one in day]
    again = [msgspec.structs.replace(one, id=f"{one.id}-0") for one in once]
    write(project, once)
    write(twice, [*carried(again, 1), *once])
    now = START + 20 * DAY
    blocks = close_blocks(project, record, now=now)
    close_blocks(twice, other, now=now)
    halves = course_of(plan, blocks, alpha=plan.alpha / 2)
    found = {one.value: one for one in segments(twice, other, "carrier", now)}
    assert found[None].lower == pytest.approx(halves.lower[-1])
    assert found[None].upper == pytest.approx(halves.upper[-1])


def test_the_rarest_values_stand_together(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    record = trials.start(open_state(project.state), plan_of(unit="row"))
    write(project, carried(days(1)[0], 20))
    close_blocks(project, record, now=START + 3 * DAY)
    found = segments(project, record, "carrier", START + 3 * DAY)
    assert [one.others for one in found] == [False] * 10 + [True]
    assert [one.rows for one in found] == [2] * 10 + [20]
    assert [one.value for one in segments(project, record, "nothing", START + 3 * DAY)] == [None]


def test_before_the_first_closed_day_there_is_none(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    record = trials.start(open_state(project.state), plan_of())
    assert segments(project, record, "carrier", START) == []
    with pytest.raises(LedgerError, match="there is nothing of it before"):
        segments(project, record, "carrier", START - DAY)
