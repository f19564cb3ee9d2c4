"""The page of versions, side by side: metrics on the holdout, live figures, the gate, where each comes from. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from passerelle.dashboard.ending import done
from passerelle.dashboard.pages import champion, running, since
from passerelle.dashboard.reading import Made, Seen
from passerelle.dashboard.words import capital, counted, day
from passerelle.trial.verdict import Record


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """What a version did on live events: as a challenger in its trial, beside the champion on the same days."""

    trial: str
    loss: str
    #: Mean over the mature rows of the trial.
    own: float | None
    champion: float | None
    against: int
    rows: int


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the page."""

    made: Made
    #: "champion", "challenger", or what became of it, in two or three words.
    standing: str
    #: How it was tried; None if it never was.
    live: Live | None


class VersionsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Versions side by side: the champion first, then the challenger, then the newest."""

    sentence: str
    versions: tuple[Compared, ...]
    #: The names of the metrics, the one that the gate compares first.
    metrics: tuple[str, ...]
    #: What the gate compares.
    gate: str


def versions_page(seen: Seen, *, now: datetime) -> VersionsPage:
    """All versions, side by side."""
    answers = champion(seen.current)
    compared = [_compared(seen, made) for made in reversed(seen.versions)]
    first = {"champion": 0, "challenger": 1}
    compared.sort(key=lambda one: first.get(one.standing, 2))  # stable: the newest first among the rest
    gate = seen.project.metric
    names = {name for made in seen.versions for name in made.metrics}
    return VersionsPage(
        sentence=_sentence(seen, answers.version if answers else None, now=now),
        versions=tuple(compared),
        metrics=tuple(sorted(names, key=lambda name: (name != gate, name))),
        gate=gate,
    )


def _sentence(seen: Seen, answers: int | None, *, now: datetime) -> str:
    if not seen.versions:
        return "There is no version yet: passerelle train makes the first from the notebook and the accepted data."
    count = counted(len(seen.versions), "version")
    is_are = "is" if len(seen.versions) == 1 else "are"
    if answers is None:
        number = seen.versions[-1].number
        return capital(f"{count} {is_are} there, none answers yet: passerelle deploy {number}")
    began = since(seen.revisions)
    when = f" since {day(began, now=now)}" if began else ""
    record = running(seen)
    left = len(seen.versions) - (2 if record else 1)
    others = f"; {counted(left, 'other is', 'others are')} kept" if left > 0 else ""
    tried = f"; version {record.plan.challenger} is its challenger" if record else ""
    return f"Version {answers} is the champion{when}{tried}{others}."


def _compared(seen: Seen, made: Made) -> Compared:
    tried = [one for one in seen.trials if one.plan.challenger == made.number]
    return Compared(
        made=made,
        standing=_standing(seen, made.number, tried[-1] if tried else None),
        live=_live(seen, tried[-1]) if tried else None,
    )


def _standing(seen: Seen, number: int, tried: Record | None) -> str:
    current = seen.current
    answers = champion(current)
    if answers is not None and answers.version == number:
        return "champion"
    if current is not None and number in {variant.version for variant in current.variants}:
        return "challenger"
    answered = any(number in {variant.version for variant in one.live} and len(one.live) == 1 for one in seen.revisions)
    if answered:
        return "former champion"
    if tried is None:
        return "never deployed"
    told = done(tried, seen.revisions)
    if tried.status == "ended" and told.startswith(("refused", "stopped", "displaced")):
        return told
    kinds = {"ROLL_BACK": "rolled back", "INCONCLUSIVE": "undecided", "INVALID": "not valid", "BROKEN": "broke"}
    return kinds.get(tried.verdict.kind, "tried") if tried.verdict else "stopped"


def _live(seen: Seen, record: Record) -> Live | None:
    blocks = [block for block in seen.blocks.get(record.plan.id, ()) if block.rows]
    if not blocks:
        return None
    return Live(
        trial=record.plan.id,
        loss=record.plan.loss,
        own=_mean([(block.challenger_loss, block.rows) for block in blocks]),
        champion=_mean([(block.champion_loss, block.rows) for block in blocks]),
        against=record.plan.champion,
        rows=sum(block.rows for block in blocks),
    )


def _mean(days: list[tuple[float | None, int]]) -> float | None:
    """The mean of the days' losses, each counted by its rows."""
    known = [(loss, rows) for loss, rows in days if loss is not None]
    total = sum(rows for _, rows in known)
    return sum(loss * rows for loss, rows in known) / total if total else None
