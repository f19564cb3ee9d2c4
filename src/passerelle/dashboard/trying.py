"""The pages of trials: what the verdict is, how it came, block by block, and by which plan. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec

from passerelle.dashboard.beside import Beside
from passerelle.dashboard.ending import done, ending, found, undone
from passerelle.dashboard.pages import Waiting, path_page, progress
from passerelle.dashboard.reading import Point, Seen
from passerelle.dashboard.words import capital, counted, day, figure, minute, places
from passerelle.trial.judging import earliest_days
from passerelle.trial.refusing import Fit, fits
from passerelle.trial.verdict import Block, Guarding, Kind, Plan, Record, Verdict
from passerelle.trial.words import LOSSES


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """A trial in the list of all."""

    id: str
    challenger: int
    champion: int
    mode: str
    started_at: datetime
    ended_at: datetime | None
    #: Days with evidence.
    days: int
    #: The verdict; None while it runs, or if it was ended without one.
    kind: Kind | None
    status: str
    #: What was done about it: "promoted", "refused by a person"; None until it has ended.
    done: str | None


class TrialPage(msgspec.Struct, frozen=True, kw_only=True):
    """One trial."""

    sentence: str
    #: The verdict's own sentence, with the figures, without its first word; None before the first block.
    verdict: str | None
    kind: Kind | None
    #: What was done instead of executing the verdict: "refused by a person"; None if it was executed or may be yet.
    undone: str | None
    #: None where nothing has been tried: the sentence says the next command.
    record: Record | None
    #: The plan, for people: name → value.
    plan: dict[str, str]
    #: The day of evidence from which on there may be a verdict, and a band.
    earliest: int = 0
    #: What a rolled back challenger is proven not to be: "worse by at most 0.0042 (Brier per event)".
    worsening: str
    #: Decimal places of differences: two digits of the margin.
    decimals: int
    #: What the trial said after each block.
    points: tuple[Point, ...]
    blocks: tuple[Block, ...]
    #: All trials, newest first.
    past: tuple[Past, ...]
    waiting: Waiting
    #: What must not get worse, as it was said last.
    guardrails: tuple[Guarding, ...] = ()
    #: Of a split: how well the units fit their shares.
    fits: tuple[Fit, ...] = ()
    #: What is for people to look at, and never decides.
    beside: Beside = Beside()


def stages(seen: Seen, record: Record) -> list[tuple[datetime, str]]:
    """When the share of traffic was changed on the way, and to what."""
    mine = [one for one in seen.revisions if one.trial == record.plan.id]
    shares = [
        (one.created_at, next((v.weight for v in one.variants if v.version == record.plan.challenger), 0.0))
        for one in mine
    ]
    return [(at, f"{share:.0%}") for (_, before), (at, share) in pairwise(shares) if share != before]


def table(page: TrialPage) -> list[dict[str, Any]]:
    """The page as a table: a row for each closed day."""
    return [
        {
            "day": block.start,
            "events": block.rows,
            "champion": block.champion_loss,
            "challenger": block.challenger_loss,
            "difference": block.difference,
            "estimate": point.estimate,
            "from": point.lower,
            "to": point.upper,
            "mature_so_far": point.events,
            "without_outcome": block.unlabelled,
            "failed": block.challenger_failed,
        }
        for block, point in zip(page.blocks, page.points, strict=True)
    ]


def trial_page(
    seen: Seen, record: Record | None, said: Verdict | None, points: Sequence[Point], *, now: datetime
) -> TrialPage:
    """A trial's page, with what it says now; without a record, the page says how to begin one."""
    past = tuple(_past(seen, one) for one in reversed(seen.trials))
    if record is None:
        return TrialPage(
            sentence="Nothing has been tried yet: the loop tries each new version beside the champion.",
            verdict=None,
            kind=None,
            undone=None,
            record=None,
            plan={},
            worsening="",
            decimals=4,
            points=(),
            blocks=(),
            past=past,
            waiting=Waiting(),
        )
    blocks = seen.blocks.get(record.plan.id, ())
    waiting = path_page(seen, now=now).waiting
    return TrialPage(
        sentence=_sentence(seen, record, now=now),
        verdict=None if said is None else capital(said.sentence.removeprefix(f"{said.kind.replace('_', ' ')}: ")),
        kind=None if said is None else said.kind,
        undone=undone(record, seen.revisions),
        record=record,
        plan=_plan(record.plan, now=now),
        earliest=earliest_days(record.plan),
        worsening=f"worse by at most {_loss(record.plan, record.plan.rollback_above)}"
        if record.plan.rollback_above
        else "no worse",
        decimals=places(record.plan.margin),
        points=tuple(points),
        blocks=blocks,
        guardrails=() if said is None else said.guardrails,
        fits=fits(record.plan, blocks),
        past=past,
        waiting=waiting if record.plan.id in (waiting.decided, waiting.running) else Waiting(),
    )


def _sentence(seen: Seen, record: Record, *, now: datetime) -> str:
    """Is the challenger really no worse? In one sentence."""
    plan, days = record.plan, _days(seen, record)
    if record.status == "running":
        how_far = progress(record, seen.blocks.get(plan.id, ()))
        return f"Version {plan.challenger} is being tried against version {plan.champion}: {how_far}, undecided."
    if record.status == "ended":
        return ending(record, seen.revisions, days=days, now=now)
    waits = "is being executed" if seen.project.loop.approval == "automatic" else "waits for a person"
    proven = "proven" if record.verdict and record.verdict.kind in ("PROMOTE", "ROLL_BACK") else "decided"
    when = f" on {day(record.decided_at, now=now)}" if record.decided_at else ""
    return capital(f"{found(record)}: {proven}{when} after {counted(days, 'day')} of evidence; {waits}.")


def _days(seen: Seen, record: Record) -> int:
    """Days with evidence: of a verdict, those that it was reached on."""
    if record.verdict is not None:
        return record.verdict.blocks
    return sum(1 for block in seen.blocks.get(record.plan.id, ()) if block.rows)


def _how(plan: Plan) -> str:
    if plan.mode == "shadow":
        return "shadow, on the same events"
    shares = ", then ".join(f"{share:.0%}" for share in plan.steps or (plan.share,))
    return f"a split of {shares} of the units"


def _loss(plan: Plan, value: float) -> str:
    """A loss with what it is counted in."""
    return f"{figure(value)} ({LOSSES[plan.loss]} per event)"


def _plan(plan: Plan, *, now: datetime) -> dict[str, str]:
    of_units = f"a unit's mean over its first {counted(plan.unit_days, 'day')}"
    units = {"day": "a day's mean", "week": "a week's mean", "unit": of_units, "row": "a row"}
    return {
        "Tried by": _how(plan),
        "Compared": f"{LOSSES[plan.loss]} per event" + (f", capped at {figure(plan.cap)}" if plan.cap else ""),
        "Accepted worsening": f"{_loss(plan, plan.margin)}, the margin",
        "Champion's loss": f"{_loss(plan, plan.reference)}, {plan.reference_source}",
        "Unit of evidence": units[plan.unit],
        "First verdict": f"after {counted(earliest_days(plan), 'day')}",
        "Given up": f"after {counted(plan.max_days, 'day')}",
        "Chance of a wrong promotion": f"{plan.alpha:.0%} at most",
        "Rolled back": "if proven worse"
        + (f" by more than {_loss(plan, plan.rollback_above)}" if plan.rollback_above else ""),
        **(
            {}
            if plan.breaker_percent is None
            else {"Taken away at once": f"on more than {plan.breaker_percent:g} % failures among the last answers"}
        ),
        "Truth": f"the outcome in force {figure(plan.horizon_hours)} h after the event",
        "Started": minute(plan.started_at, now=now),
        "Trial": plan.id,
    }


def _past(seen: Seen, record: Record) -> Past:
    return Past(
        id=record.plan.id,
        challenger=record.plan.challenger,
        champion=record.plan.champion,
        mode=record.plan.mode,
        started_at=record.plan.started_at,
        ended_at=record.ended_at,
        days=_days(seen, record),
        kind=record.verdict.kind if record.verdict else None,
        status=record.status,
        done=done(record, seen.revisions) if record.status == "ended" else None,
    )
