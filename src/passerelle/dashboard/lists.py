"""The pages that list: what happened, what is wrong and was, what was delivered. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from itertools import groupby
from typing import Any

import msgspec

from passerelle.dashboard.pages import Entry, entry
from passerelle.dashboard.reading import Seen
from passerelle.dashboard.unjudged import rows_of, unjudged
from passerelle.dashboard.words import capital, counted, day, listed
from passerelle.data.deliveries import Delivery
from passerelle.data.quarantine import Report
from passerelle.monitoring.alerts import Alert, grouped
from passerelle.monitoring.budget import Budget
from passerelle.monitoring.silences import Silence
from passerelle.state.timeline import Event

#: Entries of the timeline on one page.
MOST = 150
#: With fewer events the stability index says how few they are, not how far the inputs have moved.
STABILITY_ROWS = 200


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of entry, to filter by."""

    name: str
    count: int


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of a day, newest first."""

    day: date
    entries: tuple[Entry, ...]


class TimelinePage(msgspec.Struct, frozen=True, kw_only=True):
    """What happened."""

    sentence: str
    kinds: tuple[Kind, ...]
    #: The kind that is shown alone; None: all.
    kind: str | None
    days: tuple[Day, ...]
    #: How many older entries come before these; 0: none.
    newest: int
    older: int


class DayLoss(msgspec.Struct, frozen=True, kw_only=True):
    """What the champion lost on a day, mature."""

    start: datetime
    loss: float | None
    #: What its own scores expected of that day; None for numbers, which expect nothing.
    expected: float | None
    #: What was usual on the days before; None until enough are known.
    reference: float | None
    rows: int
    #: Is the day part of an alert?
    alerting: bool
    #: The loss that [monitoring] tolerance lets pass, where rows are judged by it; None of days before there was one.
    tolerated: float | None = None
    #: Mean business cost of an event; None where none is declared.
    cost: float | None = None


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """The population stability index of one input, on the last day measured and over the last 28.

    None where the days had too few events to tell.
    """

    name: str
    last: float | None
    most: float | None


class AlertsPage(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, and was."""

    sentence: str
    open: tuple[Alert, ...]
    #: Closed ones, newest first.
    past: tuple[Alert, ...]
    losses: tuple[DayLoss, ...]
    drift: tuple[Drift, ...]
    #: The last day that drift was measured on.
    drift_day: datetime | None
    #: Its events.
    drift_rows: int
    #: The open ones by their cause: the first of it, then what came with it. Newest cause first.
    causes: tuple[tuple[Alert, ...], ...] = ()
    #: Alarms that chance may have raised so far, beside those that came.
    budget: Budget = Budget(families=(), expected=0.0, raised=0)
    #: What is silenced now.
    silences: tuple[Silence, ...] = ()
    #: What became of each alert, by its id, oldest first.
    history: dict[str, tuple[Event, ...]] = {}


class DataPage(msgspec.Struct, frozen=True, kw_only=True):
    """What was delivered."""

    sentence: str
    #: Newest first.
    deliveries: tuple[Delivery, ...]
    inbox: str


class QuarantinePage(msgspec.Struct, frozen=True, kw_only=True):
    """Why a delivery was put aside."""

    sentence: str
    report: Report


def timeline_page(seen: Seen, *, kind: str | None, skip: int, now: datetime) -> TimelinePage:
    """What happened, newest first: ``MOST`` entries after the ``skip`` newest, of one kind or of all."""
    every = list(reversed(seen.events))
    counts = Counter(one.kind for one in every)
    wanted = [one for one in every if kind in (None, one.kind)]
    shown = [entry(one, seen=seen) for one in wanted[skip : skip + MOST]]  # what each leads to is looked for
    if not every:
        sentence = "Nothing has happened yet: put a delivery into the inbox and run passerelle ingest."
    elif not wanted:
        sentence = f"Nothing of the kind {kind!r} has happened."
    else:
        named = "thing" if kind is None else f"thing of the kind {kind!r}"
        many = named.replace("thing", "things", 1)
        have = "has" if len(wanted) == 1 else "have"
        first, last = (day(wanted[place].at, now=now) for place in (-1, 0))
        happened = f"{counted(len(wanted), named, many)} {have} happened"
        sentence = f"{happened} on {last}." if first == last else f"{happened} since {first}, the last on {last}."
    return TimelinePage(
        sentence=sentence,
        kinds=tuple(Kind(name=name, count=count) for name, count in sorted(counts.items())),
        kind=kind,
        days=tuple(Day(day=at, entries=tuple(some)) for at, some in groupby(shown, key=lambda one: one.at.date())),
        newest=skip,
        older=max(len(wanted) - skip - MOST, 0),
    )


def alerts_page(seen: Seen, *, now: datetime) -> AlertsPage:
    """What is open first, then what was, and the days behind it."""
    newest = sorted(seen.alerts, key=lambda alert: alert.opened_at, reverse=True)
    still = tuple(alert for alert in newest if alert.closed_at is None)
    past = tuple(alert for alert in newest if alert.closed_at is not None)
    drift_day, drift_rows, drift = _drift(seen)
    return AlertsPage(
        sentence=_alerts_sentence(still, past, unjudged(seen), now=now),
        open=still,
        past=past,
        losses=losses(seen),
        drift=drift,
        drift_day=drift_day,
        drift_rows=drift_rows,
        causes=tuple(reversed(grouped(still))),
        budget=seen.budget,
        silences=tuple(one for one in seen.silences if now < one.until),
        history=_history(seen),
    )


def _history(seen: Seen) -> dict[str, tuple[Event, ...]]:
    """What the timeline says of each alert, oldest first."""
    told: dict[str, list[Event]] = {}
    for event in seen.events:
        if event.kind == "alert" and isinstance(name := event.details.get("alert"), str):
            told.setdefault(name, []).append(event)
    return {name: tuple(events) for name, events in told.items()}


def alerts_table(page: AlertsPage) -> list[dict[str, Any]]:
    """All alerts as a table, newest first."""
    names = ("id", "watch", "level", "opened_at", "closed_at", "first_day", "last_day", "sentence", "action")
    seen_to = ("cause", "acknowledged_at", "acknowledged_by", "note")
    return [{name: getattr(one, name) for name in (*names, *seen_to)} for one in (*page.open, *page.past)]


def deliveries_table(page: DataPage) -> list[dict[str, Any]]:
    """The deliveries as a table, newest first."""
    return [
        {
            "id": one.id,
            "at": one.at,
            "status": one.status,
            "files": one.files,
            "rows": sum(one.rows.values()),
            "problems": one.problems,
        }
        for one in page.deliveries
    ]


def timeline_table(page: TimelinePage) -> list[dict[str, Any]]:
    """The entries that the page shows as a table."""
    return [
        {"at": one.at, "kind": one.kind, "sentence": one.sentence, "link": one.link}
        for day in page.days
        for one in day.entries
    ]


def losses(seen: Seen) -> tuple[DayLoss, ...]:
    """The champion's mature loss, day by day; a day without outcomes is left out."""
    spans = [
        (alert.first_day, alert.last_day or alert.first_day)
        for alert in seen.alerts
        if alert.first_day is not None and alert.watch == "performance"
    ]
    return tuple(
        DayLoss(
            start=window.start,
            loss=_number(window.value.get("loss")),
            expected=_number(window.value.get("expected")),
            reference=_number(window.value.get("reference")),
            rows=rows_of(window),
            alerting=any(first <= window.start <= last for first, last in spans if last is not None),
            tolerated=_number(window.value.get("tolerated")),
            cost=_number(window.value.get("cost")),
        )
        for window in seen.windows.get("performance", ())
        if _number(window.value.get("loss")) is not None
    )


def data_page(seen: Seen, *, now: datetime) -> DataPage:
    """What was delivered, newest first."""
    accepted = [one for one in seen.deliveries if one.status == "accepted"]
    aside = [one for one in seen.deliveries if one.status == "quarantined"]
    inbox = seen.project.data.inbox
    if not seen.deliveries:
        sentence = f"Nothing has been delivered yet: put files into {inbox}/ and run passerelle ingest."
    else:
        parts = [f"{counted(len(accepted), 'delivery', 'deliveries')} accepted"]
        if accepted:
            parts[0] += f", the last on {day(accepted[-1].at, now=now)}"
        put_aside = f"{len(aside)} put aside" if aside else "none put aside"
        parts.append(put_aside + (f", the last on {day(aside[-1].at, now=now)}" if aside else ""))
        sentence = capital("; ".join(parts)) + "."
    return DataPage(sentence=sentence, deliveries=tuple(reversed(seen.deliveries)), inbox=inbox)


def quarantine_page(report: Report) -> QuarantinePage:
    """Why a delivery was put aside, problem by problem."""
    problems = counted(len(report.problems), "problem")
    was = "was" if len(report.files) == 1 else "were"
    sentence = f"{listed(list(report.files))} {was} put aside, whole, with {problems}: nothing of it was added."
    return QuarantinePage(sentence=sentence, report=report)


def _alerts_sentence(still: Sequence[Alert], past: Sequence[Alert], unjudged: str | None, *, now: datetime) -> str:
    if still:
        first = min(still, key=lambda alert: alert.opened_at)
        are = "alert is" if len(still) == 1 else "alerts are"
        oldest = "" if len(still) == 1 else "the oldest "
        sentence = f"{len(still)} {are} open, {oldest}since {day(first.opened_at, now=now)}"
        return sentence + (f"; {counted(len(past), 'other has', 'others have')} closed." if past else ".")
    if unjudged is not None:
        opened = f"{counted(len(past), 'alert')} opened and closed" if past else "no alert has opened"
        return capital(f"{opened}, but {unjudged}.")
    if past:
        last = max(alert.closed_at for alert in past if alert.closed_at is not None)
        have = "alert has" if len(past) == 1 else "alerts have"
        return f"Nothing is wrong: {len(past)} {have} opened and closed, the last on {day(last, now=now)}."
    return "Nothing is wrong, and nothing has been: no alert has opened."


def _drift(seen: Seen) -> tuple[datetime | None, int, tuple[Drift, ...]]:
    """The last day measured, its events, and the index of each input, largest first."""
    windows = [one for one in seen.windows.get("input_drift", ()) if isinstance(one.value.get("stability"), dict)]
    if not windows:
        return None, 0, ()
    last = windows[-1]
    told: list[dict[str, Any]] = [one.value["stability"] for one in windows[-28:] if rows_of(one) >= STABILITY_ROWS]
    now: dict[str, Any] = last.value["stability"] if rows_of(last) >= STABILITY_ROWS else {}
    found = [
        Drift(
            name=name,
            last=_number(now.get(name)),
            most=max((float(one[name]) for one in told if _number(one.get(name)) is not None), default=None),
        )
        for name, value in last.value["stability"].items()
        if _number(value) is not None
    ]
    found.sort(key=lambda one: (-(one.last or 0.0), -(one.most or 0.0), one.name))
    return last.start, rows_of(last), tuple(found)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
