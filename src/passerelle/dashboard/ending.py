"""Ending: what was found of a challenger, and what was done about it, which may be something else. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from passerelle.dashboard.words import capital, counted, day
from passerelle.deployment.spec import Deployment
from passerelle.trial.verdict import Record

_DISPLACED = re.compile(r"version (\d+) takes its place")
_UNDONE = "not executed"


def promoted(record: Record, revisions: Sequence[Deployment]) -> bool:
    """Did the trial's own revision let the challenger answer?"""
    made = next((one for one in revisions if one.revision == record.revision), None)
    return made is not None and made.champion.version == record.plan.challenger


def done(record: Record, revisions: Sequence[Deployment]) -> str:
    """What was done about an ended trial: "promoted", "refused by a person", "displaced by version 3"."""
    told = record.execution or ""
    if promoted(record, revisions):
        return "promoted"
    if told.startswith("a person refused"):
        return "refused by a person"
    if told.startswith("a person stopped"):
        return "stopped by a person"
    if record.revision is None:
        newer = _DISPLACED.search(told)
        if newer:
            return f"displaced by version {newer[1]}"
        return "overtaken by a person's revision" if "a person made revision" in told else _UNDONE
    kind = record.verdict.kind if record.verdict else None
    return "rolled back" if kind in ("ROLL_BACK", "INVALID", "BROKEN") else "the champion was kept"


def as_meant(record: Record, revisions: Sequence[Deployment]) -> bool:
    """Was the verdict executed: neither refused, stopped, displaced nor overtaken?"""
    return done(record, revisions) in ("promoted", "rolled back", "the champion was kept")


def undone(record: Record, revisions: Sequence[Deployment]) -> str | None:
    """What was done instead of executing a verdict; None if it was executed, or there was none, or it still waits."""
    if record.status != "ended" or record.verdict is None or as_meant(record, revisions):
        return None
    return done(record, revisions)


def found(record: Record) -> str:
    """What the trial found: "version 2 is no worse than version 1"."""
    plan = record.plan
    told = {
        "PROMOTE": f"version {plan.challenger} is no worse than version {plan.champion}",
        "ROLL_BACK": f"version {plan.challenger} is worse than version {plan.champion}",
        "BROKEN": f"version {plan.challenger} failed, and was taken away by the circuit breaker",
        "INVALID": f"the trial of version {plan.challenger} against version {plan.champion} is not valid",
    }
    undecided = f"version {plan.challenger} against version {plan.champion} stayed undecided"
    return undecided if record.verdict is None else told.get(record.verdict.kind, undecided)


def ending(record: Record, revisions: Sequence[Deployment], *, days: int, now: datetime) -> str:
    """A trial that has ended, in a sentence: what it found, what was done, and when."""
    told = found(record)
    if record.verdict is not None and record.verdict.kind == "PROMOTE" and not promoted(record, revisions):
        told = told.replace(" is no worse", " is proven no worse")
    between = ": " if as_meant(record, revisions) else "; "
    if undone(record, revisions) not in (None, _UNDONE):
        between = f"; the verdict was {_UNDONE}: "
    when = f" on {day(record.ended_at, now=now)}" if record.ended_at else ""
    return capital(f"{told}{between}{done(record, revisions)}{when}, after {counted(days, 'day')} of evidence.")
