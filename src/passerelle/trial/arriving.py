"""Arriving: do the units that have come so far fit their shares? Asked of days that are not mature, before a step."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from passerelle.ledger.position import Position
from passerelle.monitoring.maturity import DAY, read_arrivals
from passerelle.trial.counting import arrival_shares
from passerelle.trial.counts import Stage
from passerelle.trial.judging import first_block
from passerelle.trial.refusing import refusal
from passerelle.trial.verdict import Block, Plan


def are_astray(folder: Path, plan: Plan, blocks: Sequence[Block], *, now: datetime) -> bool:
    """Would the trial be INVALID if the days after its closed ``blocks`` had closed? Raises LedgerError.

    Which unit came where is known at once, and waits for no outcome.
    """
    day = blocks[-1].start + DAY if blocks else first_block(plan)
    fresh = []
    while day <= now:
        fresh.append(_arrived(folder, plan, day))
        day += DAY
    return refusal(plan, [*blocks, *fresh]) is not None


def _arrived(folder: Path, plan: Plan, day: datetime) -> Block:
    """A block that holds nothing but the units that came."""
    arrivals = read_arrivals(folder, plan.id, first_block(plan), day)
    arrivals = arrivals.filter(pc.less(arrivals["probability"], 1.0))
    challenger, shares = arrival_shares(plan, arrivals)
    stages = []
    for share in np.unique(shares).tolist():
        mine = challenger[shares == share]
        stages.append(Stage(share=share, units=(int((~mine).sum()), int(mine.sum())), labelled=(0, 0)))
    return Block(
        start=day,
        rows=0,
        difference=None,
        champion_loss=None,
        challenger_loss=None,
        unlabelled=0,
        challenger_failed=0,
        champion_failed=0,
        stages=tuple(stages),
        position=Position(),
    )
