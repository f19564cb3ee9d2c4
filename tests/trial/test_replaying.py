"""A verdict is recomputed from the ledger as it was read, whatever has come since."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from trial_days import DAY, START, days, outcome, plan_of, prediction, project_in, write

from passerelle.errors import StateError
from passerelle.ledger.compaction import compact
from passerelle.ledger.forgetting import forget
from passerelle.ledger.watermarks import delta_versions
from passerelle.project.settings import Project
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.trial import trials
from passerelle.trial.evidence import close_blocks
from passerelle.trial.judging import digest, judge, set_aside
from passerelle.trial.replaying import replay
from passerelle.trial.verdict import Plan, Record

ID = "production-2-2"


def lived(project: Project, plan: Plan, *, worse: float) -> Record:
    """A trial, day by day, until its verdict."""
    engine = open_state(project.state)
    record = trials.start(engine, plan)
    for number, records in enumerate(days(plan.max_days + 2, rows=60, worse=worse, plan=plan)):
        folder = write(project, records, slot=f"worker-{number % 2}")
        now = START + number * DAY + DAY / 2
        if number % 3 == 2:
            compact(folder, now=now)
        blocks = close_blocks(project, record, now=now)
        verdict = judge(plan, blocks, now=now)
        if verdict.kind != "KEEP_GOING":
            delta = delta_versions(folder)
            return trials.decide(engine, ID, verdict, at=now, delta=delta, digest=digest(plan, blocks))
    raise AssertionError("no verdict")


@pytest.mark.parametrize("unit", ["day", "row"])
@pytest.mark.parametrize(
    ("mode", "worse", "kind"), [("shadow", -0.1, "PROMOTE"), ("shadow", 0.1, "ROLL_BACK"), ("split", 0.2, "ROLL_BACK")]
)
def test_the_ledger_gives_the_same_verdict_at_the_same_block(
    tmp_path: Path, mode: str, worse: float, kind: str, unit: str
) -> None:
    project = project_in(tmp_path)
    rollback_above = 0.0 if mode == "split" else 0.01
    plan = plan_of(mode=mode, unit=unit, rollback_above=rollback_above, max_days=12, planned_n=300)
    record = lived(project, plan, worse=worse)
    assert record.verdict is not None
    assert record.verdict.kind == kind
    # Records and corrections that came late change nothing, nor does compaction.
    late = [
        prediction("new", START + DAY / 4, [0.0], trial=ID),
        prediction("new", START + DAY / 4, [1.0], trial=ID, role="shadow", version=2),
        outcome("new", value=True, at=START + DAY / 2),
        outcome("0-0", value=True, at=START + DAY / 2),
        outcome("0-1", value=True, at=START + 9 * DAY),
    ]
    folder = write(project, late)
    for _ in range(2):
        again = replay(project, ID)
        assert (again.same, again.differences) == (True, ())
        assert again.recomputed == again.kept == record.verdict
        assert again.blocks == len(trials.blocks(open_state(project.state), ID))
        compact(folder, now=START + 30 * DAY)


def test_a_running_trial_is_replayed_too(tmp_path: Path) -> None:
    project, plan = project_in(tmp_path), plan_of()
    record = trials.start(open_state(project.state), plan)
    for records in days(3, plan=plan):
        write(project, records)
    close_blocks(project, record, now=START + 5 * DAY)
    again = replay(project, ID)
    assert (again.same, again.kept.kind, again.blocks) == (True, "KEEP_GOING", 3)


def test_a_trial_that_was_set_aside_is_the_same(tmp_path: Path) -> None:
    project, plan = project_in(tmp_path), plan_of()
    engine = open_state(project.state)
    record = trials.start(engine, plan)
    for records in days(3, plan=plan):
        write(project, records)
    blocks = close_blocks(project, record, now=START + 5 * DAY)
    verdict = set_aside(plan, blocks, reason="version 3 takes its place")
    trials.decide(engine, ID, verdict, at=START + 5 * DAY, delta={}, digest=digest(plan, blocks))
    again = replay(project, ID)
    assert (again.same, again.kept) == (True, verdict)


def test_a_trial_that_was_stopped_after_its_last_day_is_the_same(tmp_path: Path) -> None:
    project, plan = project_in(tmp_path), plan_of(max_days=4, min_days=4)
    engine = open_state(project.state)
    record = trials.start(engine, plan)
    for records in days(4, plan=plan):
        write(project, records)
    blocks = close_blocks(project, record, now=START + 9 * DAY)
    assert judge(plan, blocks).kind == "INCONCLUSIVE"
    verdict = set_aside(plan, blocks, reason="a person stopped the trial")
    trials.decide(engine, ID, verdict, at=START + 9 * DAY, delta={}, digest=digest(plan, blocks))
    again = replay(project, ID)
    assert (again.differences, again.same) == ((), True)


def test_a_block_that_was_changed_is_found(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    lived(project, plan_of(), worse=0.1)
    engine = open_state(project.state)
    first = trials.blocks(engine, ID)[0]
    with writing(engine) as connection:
        place = (tables.blocks.c.trial == ID) & (tables.blocks.c.start == first.start)
        value = connection.execute(sa.select(tables.blocks.c.value).where(place)).scalar_one()
        changed = value | {"difference": -0.5}
        connection.execute(tables.blocks.update().where(place).values(value=changed))
    again = replay(project, ID)
    assert not again.same
    assert again.differences[0].startswith("2013-02-01: difference differs: -0.5 was kept, the ledger says 0.0")
    assert "its digest differs" in again.differences[1]
    assert again.recomputed == again.kept, "the ledger still says what was decided"


def test_what_was_forgotten_is_found(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    lived(project, plan_of(), worse=0.1)
    folder = project.state / "ledger" / "production"
    compact(folder, now=START + 30 * DAY)
    forget(folder, "0-3", unit_column=None, salt="s")
    again = replay(project, ID)
    assert not again.same
    assert again.differences[0] == "2013-02-01: rows differs: 60 was kept, the ledger says 59"


def test_a_trial_that_is_not_there_is_named(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    with pytest.raises(StateError, match="no trial 'x': the trials are none"):
        replay(project, "x")
    trials.start(open_state(project.state), plan_of())
    with pytest.raises(StateError, match="the trials are production-2-2"):
        replay(project, "x")
