"""Funnel: what becomes of a trial's events, version by version, from the request to the mature outcome. For people.

Closed days are counted from their blocks; only the days after them are read from the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np

from passerelle.ledger.storage import ledger_folder
from passerelle.monitoring.maturity import DAY, floor_day, read_days
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.trial import trials
from passerelle.trial.comparing import Compared, compare, only
from passerelle.trial.counting import delays_of
from passerelle.trial.counts import DELAY_PARTS, Arm
from passerelle.trial.judging import first_block
from passerelle.trial.verdict import Block, Plan, Record


class FunnelArm(msgspec.Struct, frozen=True, kw_only=True):
    """One version's events."""

    version: int
    #: Events that it had to answer: in a shadow every one of the trial.
    assigned: int
    #: Of these: that can be compared: answered, a failure being an answer (in a shadow by both, and by the champion in
    #: time).
    scored: int
    #: Of the scored: whose label horizon has passed by now.
    due: int
    #: Of the scored, due or not: whose outcome is known by now, and within its horizon.
    labelled: int
    #: Of the labelled: due too, so that they count.
    mature: int
    #: Of the due: the share whose outcome was known after one, two, ... ten tenths of the horizon. All of these were
    #: watched for the whole horizon, so that the share needs no other estimate. (): an old block did not count it.
    known_after: tuple[float, ...]

    @property
    def coverage(self) -> float | None:
        """The share of the due that have an outcome; None while none is due."""
        return self.mature / self.due if self.due else None


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the events since a trial's first whole day."""

    #: Live events of the trial.
    requests: int
    champion: FunnelArm
    challenger: FunnelArm
    #: Hours of the label horizon, that ``known_after`` divides.
    horizon_hours: float


class _Counts(msgspec.Struct):
    assigned: int = 0
    scored: int = 0
    due: int = 0
    labelled: int = 0
    mature: int = 0
    delays: list[int] = msgspec.field(default_factory=lambda: [0] * DELAY_PARTS)

    def add(self, *, assigned: int, scored: int, due: int, labelled: int, mature: int, delays: Sequence[int]) -> None:
        """Add some events to those so far."""
        self.assigned += assigned
        self.scored += scored
        self.due += due
        self.labelled += labelled
        self.mature += mature
        self.delays = [one + other for one, other in zip(self.delays, [*delays] or [0] * DELAY_PARTS, strict=True)]


def funnel(project: Project, record: Record, now: datetime) -> Funnel:
    """The funnel of a trial at a moment; of one that was decided, of its closed days. Raises LedgerError."""
    plan = record.plan
    blocks = trials.blocks(open_state(project.state), plan.id)
    arms = (_Counts(), _Counts())
    for block in blocks:
        _add_closed(plan, arms, block)
    if record.status == "running":
        start = blocks[-1].start + DAY if blocks else first_block(plan)
        end = floor_day(now) + DAY
        if start < end:
            folder = ledger_folder(project.state, plan.environment)
            rows = read_days(folder, start, end, horizon_hours=plan.horizon_hours).rows
            _add_open(plan, arms, compare(plan, rows), now)
    champion, challenger = (
        FunnelArm(
            version=version,
            assigned=counts.assigned,
            scored=counts.scored,
            due=counts.due,
            labelled=counts.labelled,
            mature=counts.mature,
            known_after=tuple((np.cumsum(counts.delays) / max(1, counts.due)).tolist())
            if sum(counts.delays) == counts.mature
            else (),
        )
        for version, counts in zip((plan.champion, plan.challenger), arms, strict=True)
    )
    both = champion.assigned + (challenger.assigned if plan.mode == "split" else 0)
    return Funnel(requests=both, champion=champion, challenger=challenger, horizon_hours=plan.horizon_hours)


def _add_closed(plan: Plan, arms: tuple[_Counts, _Counts], block: Block) -> None:
    """All events of a closed day are due, and those labelled are mature."""
    known = block.arms
    if known is None:  # kept before versions were counted: a shadow's are the same
        one = Arm(events=block.rows + block.unlabelled, labelled=block.rows)
        known = (one, one) if plan.mode == "shadow" else (one, Arm(events=0, labelled=0))
    missing = block.unpaired + block.champion_late if plan.mode == "shadow" else 0
    for counts, arm in zip(arms, known, strict=True):
        counts.add(
            assigned=arm.events + missing,
            scored=arm.events,
            due=arm.events,
            labelled=arm.labelled,
            mature=arm.labelled,
            delays=arm.delays,
        )


def _add_open(plan: Plan, arms: tuple[_Counts, _Counts], compared: Compared, now: datetime) -> None:
    now_us = round(now.timestamp() * 1_000_000)
    horizon_us = round(timedelta(hours=plan.horizon_hours) / timedelta(microseconds=1))
    happened = only(compared, compared.at_us <= now_us)
    known = happened.known & (delays_of(plan, happened).known_us <= now_us)
    due = happened.at_us + horizon_us <= now_us
    part = delays_of(plan, happened).part
    missing = compared.unpaired + compared.champion_late
    for counts, challenger in zip(arms, (False, True), strict=True):
        mine = np.ones(len(due), dtype=bool) if plan.mode == "shadow" else happened.challenger == challenger
        counts.add(
            assigned=int(mine.sum()) + (missing if plan.mode == "shadow" else 0),
            scored=int(mine.sum()),
            due=int((mine & due).sum()),
            labelled=int((mine & known).sum()),
            mature=int((mine & known & due).sum()),
            delays=np.bincount(part[mine & known & due], minlength=DELAY_PARTS).tolist(),
        )
