"""Provisional: what the outcomes that have come so far say of the days that are not mature. Drawn, and decides nothing.

Outcomes that come early are no random sample: a challenger whose errors are found out late looks good here at first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import pyarrow.compute as pc

from passerelle.ledger.position import Position
from passerelle.ledger.storage import ledger_folder
from passerelle.monitoring.maturity import DAY, Day, floor_day, read_days
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.evidence import arrivals_of, block_of
from passerelle.trial.guarding import guard
from passerelle.trial.judging import first_block
from passerelle.trial.verdict import Block, Guarding, Plan, Record


class Provisional(msgspec.Struct, frozen=True, kw_only=True):
    """A day that is not mature."""

    #: From here for 24 h, in event time.
    start: datetime
    #: Events that can be compared so far, and of these the ones whose outcome is known by now.
    events: int
    rows: int
    #: Of these rows, challenger - champion (a split: the mean pseudo-outcome); None without any.
    difference: float | None
    #: The mean over the closed days and these, up to this one; as the verdict's: of days (weeks), or of their events.
    estimate: float | None


def provisional(project: Project, record: Record, now: datetime) -> list[Provisional]:
    """The days of a running trial after its last closed one, up to ``now``; [] for any other. Raises LedgerError.

    Of a trial of units, too, these are of rows: units are not complete here.
    """
    blocks = trials.blocks(open_state(project.state), record.plan.id)
    by_day = record.plan.unit in ("day", "week")
    sums = [_weighed(block, by_day=by_day) for block in blocks]
    found = []
    for block in _open_days(project, record, blocks, now):
        sums.append(_weighed(block, by_day=by_day))
        weight = math.fsum(one for _, one in sums)
        found.append(
            Provisional(
                start=block.start,
                events=block.rows + block.unlabelled,
                rows=block.rows,
                difference=block.difference,
                estimate=math.fsum(one for one, _ in sums) / weight if weight else None,
            )
        )
    return found


def _weighed(block: Block, *, by_day: bool) -> tuple[float, float]:
    """A day's difference times its weight, and its weight: each day the same, or each observation."""
    if block.difference is None:
        return 0.0, 0.0
    weight = 1.0 if by_day else float(block.observations or len(block.values) or block.rows)
    return block.difference * weight, weight


def guardrails_now(project: Project, record: Record, now: datetime) -> list[Guarding]:
    """Each guardrail of a trial over all of its events up to ``now``, also of days that wait for their outcomes.

    It needs no outcome, so that these bounds hold as those of the verdict do; a promotion is of closed days alone. In a
    shadow, scores that are still to be filled in are not among them. Raises LedgerError.
    """
    closed = trials.blocks(open_state(project.state), record.plan.id)
    blocks = [*closed, *_open_days(project, record, closed, now)]
    return [guard(record.plan, blocks, number).says for number in range(len(record.plan.guardrails))]


def _open_days(project: Project, record: Record, closed: Sequence[Block], now: datetime) -> list[Block]:
    """The days after the closed ones, as they stand now; none of a trial that does not run."""
    if record.status != "running":
        return []
    return open_days(ledger_folder(project.state, record.plan.environment), record.plan, closed, now=now)


def open_days(
    folder: Path, plan: Plan, closed: Sequence[Block], *, now: datetime, upto: Position | None = None
) -> list[Block]:
    """The days of a trial after its closed ones, with what had happened and was known at ``now``; up to a position.

    As blocks of days; they are never kept. Raises LedgerError.
    """
    plan = msgspec.structs.replace(plan, unit="day")
    start, end = (closed[-1].start + DAY if closed else first_block(plan)), floor_day(now) + DAY
    if start >= end:
        return []
    read = read_days(folder, start, end, horizon_hours=plan.horizon_hours, upto=upto)
    happened = read.rows.filter(pc.less_equal(read.rows["event_at"], now))
    known = pc.fill_null(pc.less_equal(happened["known_at"], now), fill_value=False)
    truth = pc.if_else(known, happened["truth"], None)
    happened = happened.set_column(happened.schema.get_field_index("truth"), "truth", truth)
    found = []
    while start < end:
        within = pc.and_(pc.greater_equal(happened["event_at"], start), pc.less(happened["event_at"], start + DAY))
        day = Day(start=start, rows=happened.filter(within), position=read.position, late=0)
        arrivals = arrivals_of(folder, plan, start, read.position) if plan.guardrails else None
        found.append(block_of(plan, day, day=start, arrivals=arrivals))
        start += DAY
    return found
