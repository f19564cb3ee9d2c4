"""Failing: rolls a challenger of a split back when a guardrail fails, before its days have closed.

Errors need no outcome: the bets on them are taken over all events that the ledger holds, closed days or not. Bets are
fixed, and their product does not depend on the order of events: looked at after each tick, over all of them together,
it is a supermartingale of the events as they were received, so that not waiting costs no error. Only a roll-back comes
of it: promotion is of closed days. What was decided can be computed again: the verdict keeps the moment and how far the
ledger was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from passerelle.trial.guarding import guard, guarded_words
from passerelle.trial.judging import set_aside
from passerelle.trial.provisional import open_days
from passerelle.trial.verdict import Block, Plan, Verdict, Watched


def failing(
    folder: Path, plan: Plan, closed: Sequence[Block], *, now: datetime, watched: Watched | None = None
) -> Verdict | None:
    """ROLL_BACK if a guardrail fails over all events up to ``now``; None if none does, and in a shadow, which can wait.

    ``closed`` are blocks that have decided nothing. With ``watched`` the ledger is read as it was then. Raises
    LedgerError.
    """
    if plan.mode != "split" or not plan.guardrails:
        return None
    upto = None if watched is None else watched.position
    days = open_days(folder, plan, closed, now=now, upto=upto)
    found = [guard(plan, [*closed, *days], number) for number in range(len(plan.guardrails))]
    if not days or not any(one.fails_now for one in found):
        return None
    said = "; ".join(guarded_words(one.says) for one in found if one.fails_now)
    who = f"version {plan.challenger} against version {plan.champion}"
    chance = f"a challenger no worse than the champion would be rolled back with probability {plan.alpha:.0%} at most"
    return msgspec.structs.replace(
        set_aside(plan, closed, reason="a guardrail failed"),
        kind="ROLL_BACK",
        decided_by=days[-1].start,
        guardrails=tuple(one.says for one in found),
        watched=watched or Watched(until=now, position=days[-1].position),
        sentence=f"ROLL BACK: {who}, over all events so far, without waiting for outcomes: {said}; "
        f"{chance.replace('%', ' %')}.",
    )
