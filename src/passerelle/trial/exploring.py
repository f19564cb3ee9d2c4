"""Exploring: the comparison by the values of one input field. It shows where to look, and never decides.

Each segment's sequence has alpha / the number of segments, so that all of them hold together; segments that were chosen
after a look at the data still promise nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerelle.errors import LedgerError
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask
from passerelle.monitoring.maturity import DAY, Day, read_days
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.comparing import Array
from passerelle.trial.evidence import block_of
from passerelle.trial.judging import course_of
from passerelle.trial.verdict import Block, Plan, Record

#: The values that are segments of their own: those with the most events; the rest stand together.
MOST_SEGMENTS = 10

_VALUES = """
SELECT id, arg_min(json_extract_string(inputs, $1), (received_at, writer, sequence, position)) FROM all_predictions
WHERE role = 'live' AND trial = $2 AND event_at >= $3 AND event_at < $4 GROUP BY id
"""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison on some events."""

    #: The field's value, as text; None where it is missing, or for all values beyond the ten most frequent.
    value: str | None
    #: Is it all the values beyond these?
    others: bool
    #: Days with evidence and mature events in them.
    days: int
    rows: int
    #: Mean difference and running bounds, of the (1 - 2 alpha / segments) confidence sequence.
    estimate: float | None
    lower: float | None
    upper: float | None


def segments(project: Project, record: Record, field: str, now: datetime) -> list[Segment]:
    """A trial's closed days by the values of an input field, most events first; [] if the ledger has no event of them.

    It reads all those days from the ledger: keep the answer. A trial of units is shown by rows here. Raises LedgerError
    if the ledger cannot be read, or if ``now`` lies before the trial.
    """
    blocks = trials.blocks(open_state(project.state), record.plan.id)
    plan = record.plan
    if plan.unit == "unit":
        plan = msgspec.structs.replace(plan, unit="row")
    if now < plan.started_at:
        raise LedgerError(f"trial {plan.id} began at {plan.started_at}: there is nothing of it before.")
    if not blocks:
        return []
    folder = ledger_folder(project.state, plan.environment)
    start, end = blocks[0].start, blocks[-1].start + DAY
    path = "$." + msgspec.json.encode(field).decode()
    said = dict(ask(folder, _VALUES, [path, plan.id, start, end]).rows)
    read = read_days(folder, start, end, horizon_hours=plan.horizon_hours)
    values = [said.get(one) for one in read.rows["id"].to_pylist()]
    live = np.asarray(pc.equal(read.rows["role"], "live"), dtype=bool)
    return _segments(plan, read, blocks, values, live)


def _segments(
    plan: Plan, read: Day, blocks: Sequence[Block], values: Sequence[str | None], live: Array
) -> list[Segment]:
    counts: dict[str | None, int] = {}
    for value, is_live in zip(values, live.tolist(), strict=True):
        counts[value] = counts.get(value, 0) + is_live
    if not counts:
        return []
    frequent = sorted(counts, key=lambda value: (-counts[value], value or ""))
    own = frequent if len(frequent) <= MOST_SEGMENTS + 1 else frequent[:MOST_SEGMENTS]
    code = {value: number for number, value in enumerate(own)}
    codes = np.array([code.get(value, len(own)) for value in values])
    total = len(own) + (len(own) < len(frequent))
    alone = msgspec.structs.replace(plan, alpha=plan.alpha / total, guardrails=())
    found = []
    for number in range(total):
        days = [_block(alone, read, block.start, codes == number) for block in blocks]
        counted = [day for day in days if day.difference is not None]
        course = course_of(alone, days)
        rows = sum(day.rows for day in counted)
        found.append(
            Segment(
                value=own[number] if number < len(own) else None,
                others=number == len(own),
                days=len(counted),
                rows=rows,
                estimate=_estimate(plan, counted),
                lower=_finite(course.lower),
                upper=_finite(course.upper),
            )
        )
    return found


def _block(plan: Plan, read: Day, day: datetime, mine: Array) -> Block:
    """A segment's day."""
    rows = read.rows.filter(pa.array(mine))
    within = pc.and_(pc.greater_equal(rows["event_at"], day), pc.less(rows["event_at"], day + DAY))
    return block_of(plan, Day(start=day, rows=rows.filter(within), position=read.position, late=0), day=day)


def _estimate(plan: Plan, counted: Sequence[Block]) -> float | None:
    weights = [day.rows if plan.unit == "row" else 1 for day in counted]
    if not counted:
        return None
    sums = [weight * (day.difference or 0.0) for weight, day in zip(weights, counted, strict=True)]
    return math.fsum(sums) / sum(weights)


def _finite(bounds: Array) -> float | None:
    return float(bounds[-1]) if len(bounds) and math.isfinite(bounds[-1]) else None
