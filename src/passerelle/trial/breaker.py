"""Breaker: takes a challenger away that fails, outside of all statistics: a count of its last answers, at every look.

It asks for no proof and waits for no outcome. What it counted can be counted again: a verdict BROKEN keeps how far the
ledger was read. The answers of all workers and clouds are in the ledger, and a tick reads it after compaction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from passerelle.ledger.position import Position
from passerelle.monitoring.maturity import REPEATS, read_newest
from passerelle.trial.judging import set_aside
from passerelle.trial.verdict import Block, Broken, Plan, Verdict

#: So many of the challenger's last answers are looked at, of as many units, and from so many on the breaker speaks.
LAST = 100
LEAST = 20


class Answers(NamedTuple):
    """The challenger's last answers, newest first."""

    #: The revision that each was asked by.
    revisions: tuple[int, ...]
    failed: tuple[bool, ...]
    #: From when on, in event time, they were looked for, and how far the ledger was read.
    since: datetime
    position: Position


def last_answers(folder: Path, plan: Plan, *, since: datetime, upto: Position | None = None) -> Answers:
    """What the challenger answered last, in the ledger ``folder``. Raises LedgerError."""
    rows, position = read_newest(folder, plan.id, plan.challenger, since=since, most=LAST, upto=upto)
    columns = (rows.column(name).to_pylist() for name in ("status", "output"))
    failed = tuple(is_failure(status, output) for status, output in zip(*columns, strict=True))
    return Answers(tuple(rows.column("revision").to_pylist()), failed, since, position)


def look_since(now: datetime) -> datetime:
    """Answers to older events are not looked at, so that a look costs no more as the ledger grows."""
    return now - REPEATS


def is_failure(status: str, output: Sequence[float] | None) -> bool:
    """Did the model fail, or answer with what is no finite number? What came too late may be the machine's fault.

    >>> is_failure("failed", None), is_failure("timed_out", None), is_failure("scored", [math.nan])
    (True, False, True)
    """
    return status == "failed" or not all(map(math.isfinite, output or ()))


def breaks(plan: Plan, answers: Answers) -> Broken | None:
    """What breaks: more failures among the last answers than the plan bears; None if they do not, or are too few."""
    count, failed = len(answers.failed), sum(answers.failed)
    if plan.breaker_percent is None or count < LEAST or failed * 100 <= plan.breaker_percent * count:
        return None
    return Broken(answers=count, failed=failed, since=answers.since, position=answers.position)


def recount(folder: Path, plan: Plan, broken: Broken) -> Broken | None:
    """What the breaker would count again, of the ledger as it was read then. Raises LedgerError."""
    return breaks(plan, last_answers(folder, plan, since=broken.since, upto=broken.position))


def broken_verdict(plan: Plan, blocks: Sequence[Block], broken: Broken) -> Verdict:
    """BROKEN, after these closed blocks, which had decided nothing."""
    undecided = set_aside(plan, blocks, reason="the breaker")
    sentence = f"BROKEN: {count_of(plan, broken)}; version {plan.champion} stays. This is no proof, it is a fuse."
    return msgspec.structs.replace(undecided, kind="BROKEN", sentence=sentence, breaker=broken)


def count_of(plan: Plan, broken: Broken) -> str:
    """The count in words."""
    return (
        f"version {plan.challenger} failed on {broken.failed} of its last {broken.answers} answers, and more than "
        f"{plan.breaker_percent:g} % takes a challenger away at once"
    )
