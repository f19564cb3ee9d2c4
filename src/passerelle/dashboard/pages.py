"""The page of the path now: who answers, what is being tried, what is wrong, what comes next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from passerelle.dashboard.ending import as_meant, done
from passerelle.dashboard.reading import Made, Seen
from passerelle.dashboard.unjudged import unjudged
from passerelle.dashboard.words import capital, counted, day, listed, minute
from passerelle.data.deliveries import Delivery
from passerelle.deployment.spec import Deployment, Variant
from passerelle.monitoring.alerts import Alert
from passerelle.project.triable import DAYS_OF_A_WEEK
from passerelle.state.timeline import Event
from passerelle.trial.judging import earliest_days, first_block
from passerelle.trial.verdict import Block, Record

#: "over" is what ended otherwise than it said: neither good nor wrong.
Standing = Literal["done", "active", "waiting", "over", "wrong"]

_DAY = timedelta(days=1)
_NOTHING = "nothing is wrong"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the timeline."""

    at: datetime
    kind: str
    sentence: str
    #: The page of what it names; None if there is none.
    link: str | None


class Station(msgspec.Struct, frozen=True, kw_only=True):
    """One station of the path, from data to watching."""

    name: str
    standing: Standing
    sentence: str
    link: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What comes next, and what to type if it is somebody's to do."""

    sentence: str
    command: str | None = None


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What a person with an admin token may do now."""

    #: The trial whose verdict waits for a person.
    decided: str | None = None
    #: The trial that may be stopped.
    running: str | None = None
    #: The revision that may be rolled back.
    revision: int | None = None


class PathPage(msgspec.Struct, frozen=True, kw_only=True):
    """The path now."""

    sentence: str
    stations: tuple[Station, ...]
    next: Step
    open: tuple[Alert, ...]
    #: What the loop last said of each of its steps that does not work.
    problems: tuple[Entry, ...]
    latest: tuple[Entry, ...]
    waiting: Waiting
    #: The trial that is running or decided; None.
    trial: str | None
    #: How it goes, in a sentence; None without a trial.
    tried: str | None
    champion: int | None


def champion(deployment: Deployment | None) -> Variant | None:
    """The version that answers most; None before anything does."""
    return None if deployment is None else deployment.champion


def since(revisions: Sequence[Deployment]) -> datetime | None:
    """Since when the champion of the newest revision is it, without a break."""
    versions = [one.champion.version for one in revisions]
    if not versions:
        return None
    first = max((number for number, version in enumerate(versions) if version != versions[-1]), default=-1) + 1
    return revisions[first].created_at


def running(seen: Seen) -> Record | None:
    """The trial that is running, or decided and not executed yet."""
    return next((one for one in reversed(seen.trials) if one.status != "ended"), None)


def problems(seen: Seen) -> tuple[Event, ...]:
    """The loop's steps that failed and have not worked again since, each by its newest event."""
    newest = {event.subject: event for event in seen.events if event.kind == "loop"}
    return tuple(event for event in newest.values() if event.details.get("problem"))


def entry(event: Event, *, seen: Seen) -> Entry:
    """An event of the timeline with a link to what it names."""
    sentence = capital(event.sentence)
    if event.kind == "delivery":
        sentence = sentence.partition("; see ")[0]  # the link leads to the report: nobody needs its path
    return Entry(at=event.at, kind=event.kind, sentence=sentence, link=_link(event, seen=seen))


def progress(record: Record, blocks: Sequence[Block]) -> str:
    """How far a trial is: "day 9 of 14"; after the first possible verdict, "day 21 of 60 at most".

    Only days with evidence count.
    """
    days = sum(1 for block in blocks if block.rows)
    plan, least = record.plan, earliest_days(record.plan)
    return f"day {days} of {least}" if days < least else f"day {days} of {plan.max_days} at most"


def first_verdict(record: Record, blocks: Sequence[Block]) -> datetime:
    """When the block that may bring the next verdict closes, at the earliest: a day without evidence adds one."""
    plan = record.plan
    least, closed = earliest_days(plan), len(blocks)
    if plan.unit == "week":
        days = max(least, (closed // DAYS_OF_A_WEEK + 1) * DAYS_OF_A_WEEK)
    else:
        without = sum(1 for block in blocks if not block.rows)  # some of a trial of units always are
        days = max(least + max(0, without - (least - plan.min_days)), closed + 1)
    return first_block(plan) + days * _DAY + timedelta(hours=plan.horizon_hours)


def path_page(seen: Seen, *, now: datetime) -> PathPage:
    """The path as it stands: one sentence, six stations, the next step."""
    record = running(seen)
    still = tuple(alert for alert in reversed(seen.alerts) if alert.closed_at is None)
    current = seen.current
    answers = champion(current)
    automatic = seen.project.loop.approval == "automatic"
    return PathPage(
        sentence=_sentence(seen, record, still, now=now),
        stations=_stations(seen, record, still, now=now),
        next=_next(seen, record, still, now=now),
        open=still,
        problems=tuple(entry(event, seen=seen) for event in problems(seen)),
        latest=tuple(entry(event, seen=seen) for event in reversed(seen.events[-6:])),
        waiting=Waiting(
            decided=record.plan.id if record and record.status == "decided" and not automatic else None,
            running=record.plan.id if record and record.status == "running" else None,
            revision=current.revision if current and len({_versions(one) for one in seen.revisions}) > 1 else None,
        ),
        trial=None if record is None else record.plan.id,
        tried=None if record is None else capital(_tried(seen, record)) + ".",
        champion=None if answers is None else answers.version,
    )


def _versions(deployment: Deployment) -> tuple[tuple[int, str, float], ...]:
    return tuple((one.version, one.mode, one.weight) for one in deployment.variants)


def _sentence(seen: Seen, record: Record | None, still: Sequence[Alert], *, now: datetime) -> str:
    answers = champion(seen.current)
    if answers is None:
        there = f"version {seen.versions[-1].number} is made" if seen.versions else "there is no version"
        parts = [f"nothing answers in {seen.environment} yet: {there}"]
    else:
        began = since(seen.revisions)
        when = f" since {day(began, now=now)}" if began else ""
        parts = [f"version {answers.version} answers in {seen.environment}{when}"]
    if record is not None:
        parts.append(_tried(seen, record))
    if answers is not None or still:
        parts.append(_quiet(seen, still))
    if failing := problems(seen):
        steps = listed(sorted(event.subject for event in failing))
        parts = [part for part in parts if part != _NOTHING]
        parts.append(f"the loop does not get on ({steps})")
    return capital("; ".join(parts)) + "."


def _tried(seen: Seen, record: Record) -> str:
    version = f"version {record.plan.challenger}"
    if record.status == "decided" and record.verdict is not None:
        return f"the verdict on {version} is {record.verdict.kind} and {_waits(seen)}"
    return f"{version} is being tried, {progress(record, seen.blocks.get(record.plan.id, ()))}"


def _waits(seen: Seen) -> str:
    return "is being executed" if seen.project.loop.approval == "automatic" else "waits for a person"


def _wrong(still: Sequence[Alert]) -> str:
    if not still:
        return _NOTHING
    names = sorted({alert.watch.replace("_", " ") for alert in still})
    is_are = "is" if len(still) == 1 else "are"
    return f"{counted(len(still), 'alert')} {is_are} open ({listed(names)})"


def _quiet(seen: Seen, still: Sequence[Alert]) -> str:
    """What is wrong; and where the loss is not judged, that no alert says nothing of it."""
    reason = None if seen.current is None else unjudged(seen)
    if reason is None or any(alert.watch == "performance" for alert in still):
        return _wrong(still)
    return f"{_wrong(still)}, and {reason}" if still else f"no alert is open, but {reason}"


def _stations(seen: Seen, record: Record | None, still: Sequence[Alert], *, now: datetime) -> tuple[Station, ...]:
    return (
        _data(seen.deliveries, now=now),
        _run(seen, now=now),
        _version(seen.versions, now=now),
        _trial(seen, record, now=now),
        _production(seen, now=now),
        _watch(seen, still, now=now),
    )


def _data(deliveries: Sequence[Delivery], *, now: datetime) -> Station:
    if not deliveries:
        return Station(name="Data", standing="waiting", sentence="no delivery yet", link="/data")
    last = deliveries[-1]
    standing: Standing = "wrong" if last.status == "quarantined" else "done"
    told = {"quarantined": "put aside", "accepted": "accepted", "landing": "landing"}[last.status]
    sentence = f"{', '.join(last.files)} {told} {day(last.at, now=now)}"
    return Station(name="Data", standing=standing, sentence=sentence, link=f"/data#{last.id}")


def _run(seen: Seen, *, now: datetime) -> Station:
    if not seen.runs:
        return Station(
            name="Run", standing="waiting", sentence="the notebook has not run yet", link="/timeline?kind=run"
        )
    last = seen.runs[-1]
    standings: dict[str, Standing] = {"running": "active", "sealed": "done", "failed": "wrong", "refused": "wrong"}
    told = {"running": "the notebook runs since", "sealed": "sealed", "failed": "failed", "refused": "refused"}
    sentence = f"{told[last.status]} {day(last.finished_at or last.started_at, now=now)}"
    return Station(name="Run", standing=standings[last.status], sentence=sentence, link="/timeline?kind=run")


def _version(versions: Sequence[Made], *, now: datetime) -> Station:
    if not versions:
        return Station(name="Version", standing="waiting", sentence="no version yet", link="/versions")
    last = versions[-1]
    sentence = f"version {last.number}, made {day(last.created_at, now=now)}"
    return Station(name="Version", standing="done", sentence=sentence, link=f"/versions#v{last.number}")


def _trial(seen: Seen, record: Record | None, *, now: datetime) -> Station:
    if record is not None:
        how = f"version {record.plan.challenger} in {'shadow' if record.plan.mode == 'shadow' else 'a split'}"
        told = progress(record, seen.blocks.get(record.plan.id, ()))
        if record.verdict is not None:
            told = f"{record.verdict.kind} {_waits(seen)}"
        return Station(name="Trial", standing="active", sentence=f"{how}, {told}", link="/trial")
    if not seen.trials:
        return Station(name="Trial", standing="waiting", sentence="nothing has been tried yet", link="/trial")
    last = seen.trials[-1]
    ended = f" {day(last.ended_at, now=now)}" if last.ended_at else ""
    standing: Standing = "done" if as_meant(last, seen.revisions) else "over"
    kinds = {
        "PROMOTE": "proven no worse, ",
        "ROLL_BACK": "proven worse, ",
        "BROKEN": "failed, ",
        "INVALID": "not comparable, ",
    }
    told = "" if standing == "done" or last.verdict is None else kinds.get(last.verdict.kind, "undecided, ")
    sentence = f"version {last.plan.challenger}: {told}{done(last, seen.revisions)}{ended}"
    return Station(name="Trial", standing=standing, sentence=sentence, link="/trial")


def _production(seen: Seen, *, now: datetime) -> Station:
    current, answers = seen.current, champion(seen.current)
    name = capital(seen.environment)
    if current is None or answers is None:
        return Station(name=name, standing="waiting", sentence="nothing is deployed", link="/versions")
    others = [one for one in current.variants if one.version != answers.version]
    beside = "".join(
        f"; version {one.version} {'in shadow' if one.mode == 'shadow' else f'for {one.weight:.0%}'}" for one in others
    )
    made = f"revision {current.revision}, {day(current.created_at, now=now)}"
    sentence = f"version {answers.version} answers{beside}; {made}"
    return Station(name=name, standing="done", sentence=sentence, link=f"/versions#v{answers.version}")


def _watch(seen: Seen, still: Sequence[Alert], *, now: datetime) -> Station:
    if still:
        return Station(name="Watch", standing="wrong", sentence=_wrong(still), link="/alerts")
    reason = unjudged(seen)
    told = "no alert so far"
    if seen.alerts:
        told = f"quiet since {day(max(alert.closed_at or alert.opened_at for alert in seen.alerts), now=now)}"
    if reason is not None and seen.current is not None:
        told += f"; {reason}"
    return Station(name="Watch", standing="waiting" if reason else "done", sentence=told, link="/alerts")


def _next(seen: Seen, record: Record | None, still: Sequence[Alert], *, now: datetime) -> Step:
    """What comes next: first what is somebody's to do, then what comes by itself."""
    pages = [alert.watch.replace("_", " ") for alert in still if alert.level == "page"]
    waits = record is not None and record.status == "decided" and seen.project.loop.approval == "human"
    if not seen.deliveries:
        inbox = seen.project.data.inbox
        return Step(sentence=f"Put a delivery into {inbox}/ and accept it.", command="passerelle ingest")
    if not seen.versions:
        return Step(sentence="Run the notebook and make the first version.", command="passerelle train")
    if seen.current is None:
        number = seen.versions[-1].number
        return Step(sentence=f"Let version {number} answer.", command=f"passerelle deploy {number}")
    if waits:
        return Step(sentence="A person approves or refuses the verdict.", command="passerelle trial approve")
    failing = problems(seen)
    if failing or pages:
        what = f"loop, whose step {failing[-1].subject} failed" if failing else f"alert on {pages[0]}"
        return Step(sentence=f"See to the {what}: it says below {'why' if failing else 'what to do'}.")
    return Step(sentence=_coming(seen, record, now=now))


def _coming(seen: Seen, record: Record | None, *, now: datetime) -> str:
    """What comes by itself."""
    if record is None:
        share = f"{seen.project.loop.retrain_share:.0%}"
        return f"The next delivery. While the loop runs, it retrains when mature outcomes have grown by {share}."
    if record.status == "decided":
        return "While the loop runs, it executes the verdict at its next look."
    blocks = seen.blocks.get(record.plan.id, ())
    when = minute(first_verdict(record, blocks), now=now)
    if sum(1 for block in blocks if block.rows) >= earliest_days(record.plan):
        return f"The next day of evidence closes on {when}; each may bring the verdict."
    return f"The first verdict on version {record.plan.challenger} can come on {when}."


def _link(event: Event, *, seen: Seen) -> str | None:
    if event.kind in ("trial", "verdict"):
        trial = event.details.get("trial", event.subject)
        return f"/trials/{trial}" if trial in seen.blocks else None
    if event.kind == "alert":
        known = {alert.id for alert in seen.alerts}
        named = event.details.get("alert", event.subject)
        return f"/alerts#{named}" if named in known else "/alerts"
    if event.kind == "version":
        return f"/versions#v{event.subject}"
    if event.kind == "delivery":
        aside = any(one.id == event.subject and one.status == "quarantined" for one in seen.deliveries)
        return f"/data/quarantine/{event.subject}" if aside else f"/data#{event.subject}"
    return None
