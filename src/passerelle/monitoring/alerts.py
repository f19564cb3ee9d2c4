"""Alerts: a rule that fired opens one, which stays until the rule is quiet, and closes; each names its next action.

One cause is one message: a page that joins an open one (see grouping) calls nobody again. It is told once nothing that
was told covers it any more, so that a page is never left unsaid. A silenced watch (see silences) is told afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from passerelle.decoding import prepared
from passerelle.monitoring.grouping import Began, joins, place_of
from passerelle.monitoring.rules import WatchRule
from passerelle.monitoring.silences import is_silenced
from passerelle.project.settings import Watch
from passerelle.state import tables
from passerelle.state.timeline import Event, record

_FORM = "%Y%m%dT%H%M%S"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert, open or closed."""

    #: <environment>-<watch>-<the day, else the moment, that opened it>: found before it is made.
    id: str
    environment: str
    watch: Watch
    #: page: somebody is called; ticket: it stands on the timeline and the dashboard.
    level: Literal["page", "ticket"]
    #: The control plane's clock.
    opened_at: datetime
    #: None while it is open.
    closed_at: datetime | None = None
    #: The first and the last day (its start, event time) that it is about; None for rules of machine time.
    first_day: datetime | None = None
    last_day: datetime | None = None
    #: What is wrong, with the figures.
    sentence: str
    #: What to do now.
    action: str
    #: Values of JSON, for programs and charts.
    details: dict[str, Any] = {}
    #: The id of the first alert of its cause; empty for one that stands for itself, or is that first one.
    group: str = ""
    #: Nothing else explains it: it joins no other, and no other joins it.
    alone: bool = False
    #: False for a page that calls nobody as yet: it joined one that was told, or is silenced.
    told: bool = True
    #: Somebody sees to it: since when, who, and what they say.
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    note: str = ""

    @property
    def cause(self) -> str:
        """The same for all alerts of one cause: the id of the first of them."""
        return self.group or self.id

    @property
    def began(self) -> Began:
        """When what it is about began."""
        return Began(watch=self.watch, at=self.first_day or self.opened_at, by_day=self.first_day is not None)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule says of a window: firing opens an alert or keeps it open, quiet closes it, unsure does neither."""

    state: Literal["firing", "quiet", "unsure"]
    #: What is wrong (firing) or why it is over (quiet), with the figures, for people.
    sentence: str = ""
    #: The day (its start) that it is about; None for rules of machine time.
    day: datetime | None = None
    #: The day on which it began, if that is an earlier one.
    began: datetime | None = None
    details: dict[str, Any] = {}
    #: Nothing else explains it; see Alert.
    alone: bool = False


def lines_of(alert: Alert) -> list[str]:
    """An alert, for a person."""
    until = f"closed {alert.closed_at:%Y-%m-%d %H:%M}" if alert.closed_at else "OPEN"
    lines = [f"{alert.opened_at:%Y-%m-%d %H:%M}  {alert.level:6}  {until:23}  {alert.sentence}"]
    if alert.acknowledged_at is not None:
        note = f": {alert.note}" if alert.note else "."
        lines.append(f"    {alert.acknowledged_by} sees to it since {alert.acknowledged_at:%Y-%m-%d %H:%M}{note}")
    return lines if alert.closed_at else [*lines, f"    Next: {alert.action}"]


def grouped(alerts: Iterable[Alert]) -> list[tuple[Alert, ...]]:
    """Alerts by their cause, in the order in which the causes showed: the first one, then the others of that cause."""
    found: dict[str, list[Alert]] = {}
    for alert in sorted(alerts, key=lambda one: (one.opened_at, bool(one.group), one.id)):
        found.setdefault(alert.cause, []).append(alert)
    return [tuple(alerts) for alerts in found.values()]


def find_alerts(engine: sa.Engine, environment: str, *, open_only: bool = False) -> list[Alert]:
    """An environment's alerts, oldest first."""
    query = sa.select(tables.alerts.c.value).where(tables.alerts.c.environment == environment)
    if open_only:
        query = query.where(tables.alerts.c.closed_at.is_(None))
    with engine.connect() as connection:
        values = connection.execute(query.order_by(tables.alerts.c.opened_at, tables.alerts.c.id)).scalars().all()
    return [msgspec.convert(value, prepared(Alert)) for value in values]


def find_open(connection: sa.Connection, environment: str, watch: Watch) -> Alert | None:
    """The open alert of a watch; None if there is none."""
    return next((alert for alert in all_open(connection, environment) if alert.watch == watch), None)


def all_open(connection: sa.Connection, environment: str) -> list[Alert]:
    """An environment's open alerts, oldest first."""
    table = tables.alerts
    query = sa.select(table.c.value).where(table.c.environment == environment, table.c.closed_at.is_(None))
    values = connection.execute(query.order_by(table.c.opened_at, table.c.id)).scalars()
    return [msgspec.convert(value, prepared(Alert)) for value in values]


def settle(
    connection: sa.Connection,
    environment: str,
    rule: WatchRule,
    finding: Finding,
    *,
    now: datetime,
    channels: tuple[str, ...] = (),
) -> Alert | None:
    """Do what a finding asks for, in the caller's transaction: the alert, its sentence on the timeline, its messages.

    Pages go to the channels, tickets do not. Returns the alert if it opened or closed now; None otherwise.
    """
    alert = find_open(connection, environment, rule.watch)
    if finding.state == "firing" and rule.level != "off":
        newest = finding.details.get("newest")
        another = alert is not None and newest is not None and newest not in alert.details.get("deliveries", ())
        if alert is not None and another:  # another delivery was put aside: whoever knew of the first must hear of it
            _close(connection, alert, "another was put aside since.", now=now, channels=channels)
        if alert is None or another:
            return _open(connection, environment, rule, finding, now=now, channels=channels)
        more = msgspec.structs.replace(
            alert,
            level="page" if rule.level == "page" else "ticket",  # the rule may have been changed since
            action=rule.action,
            last_day=finding.day or alert.last_day,
            sentence=finding.sentence,
            details=finding.details,
        )
        write(connection, more)
        return None
    if alert is None or (finding.state != "quiet" and rule.level != "off"):
        return None
    reason = finding.sentence if finding.state == "quiet" else "the rule was turned off."
    return _close(connection, alert, reason, now=now, channels=channels)


def _open(
    connection: sa.Connection,
    environment: str,
    rule: WatchRule,
    finding: Finding,
    *,
    now: datetime,
    channels: tuple[str, ...],
) -> Alert | None:
    moment = f"{finding.day:%Y-%m-%d}" if finding.day else now.strftime(_FORM)
    alert = Alert(
        id=f"{environment}-{rule.watch}-{moment}",
        environment=environment,
        watch=rule.watch,
        level="page" if rule.level == "page" else "ticket",
        opened_at=now,
        first_day=finding.began or finding.day,
        last_day=finding.day,
        sentence=finding.sentence,
        action=rule.action,
        details=finding.details,
        alone=finding.alone,
    )
    found = connection.execute(sa.select(tables.alerts.c.id).where(tables.alerts.c.id == alert.id)).one_or_none()
    if found is not None:
        return None  # it was opened by this very day or moment, and is over
    others = all_open(connection, environment)
    near = [one for one in others if not (alert.alone or one.alone) and joins(alert.began, one.began)]
    group = near[0].cause if near else ""
    with_it = [one for one in others if one.cause == group]
    silenced = is_silenced(connection, environment, alert.watch, now=now)
    covered = any(one.level == "page" and one.told for one in near)
    alert = msgspec.structs.replace(alert, group=group, told=alert.level == "page" and not (silenced or covered))
    connection.execute(
        tables.alerts.insert().values(
            id=alert.id, environment=environment, watch=rule.watch, level=alert.level, opened_at=now, value={}
        )
    )
    write(connection, alert)
    told = f"{alert.level}: {alert.sentence}"
    if group:
        told += f" It began together with {group}" + (", and calls nobody again." if covered else ".")
    if silenced:
        told += f" {alert.watch} is silenced: nothing is sent."
    tell(connection, alert, "opened", told, now=now)
    if alert.told:
        send(connection, alert, "opened", opened_body(alert, with_it), now=now, channels=channels)
    elif covered:
        _name_in_waiting(connection, [*with_it, alert])
    return alert


def _close(connection: sa.Connection, alert: Alert, reason: str, *, now: datetime, channels: tuple[str, ...]) -> Alert:
    closed = msgspec.structs.replace(alert, closed_at=now)
    write(connection, closed)
    tell(connection, closed, "closed", f"over: {reason}", now=now)
    if alert.level != "page" or not alert.told or is_silenced(connection, alert.environment, alert.watch, now=now):
        return closed
    body = f"over: {reason}"
    for one in untold(connection, alert.environment, now=now):
        if one.cause == alert.cause:  # whoever hears that it is over must hear what is not
            body += f"\nNot over: {one.watch} ({one.id}): {one.sentence}\nNext: {one.action}"
            write(connection, msgspec.structs.replace(one, told=True))
    send(connection, closed, "closed", body, now=now, channels=channels)
    return closed


def untold(connection: sa.Connection, environment: str, *, now: datetime) -> list[Alert]:
    """The open pages that nobody was told of: of their cause none that was told is open, and they are not silenced."""
    still = all_open(connection, environment)
    told = {one.cause for one in still if one.level == "page" and one.told}
    return [
        one
        for one in still
        if one.level == "page"
        and not one.told
        and one.cause not in told
        and not is_silenced(connection, environment, one.watch, now=now)
    ]


def write(connection: sa.Connection, alert: Alert) -> None:
    """Keep an alert as it is now."""
    connection.execute(
        tables.alerts.update()
        .where(tables.alerts.c.id == alert.id)
        .values(closed_at=alert.closed_at, value=msgspec.to_builtins(alert))
    )


def tell(connection: sa.Connection, alert: Alert, what: str, sentence: str, *, now: datetime) -> None:
    """Say on the timeline what became of an alert: opened, closed, told, acknowledged."""
    details = {"alert": alert.id, "watch": alert.watch, "level": alert.level, "state": what}
    details |= {"group": alert.group} if alert.group else {}
    record(connection, Event(at=now, kind="alert", subject=alert.id, sentence=sentence, details=details))


def send(
    connection: sa.Connection, alert: Alert, what: str, body: str, *, now: datetime, channels: tuple[str, ...]
) -> None:
    """Put a message out for each channel."""
    title = _title([alert]) + (" is over" if what == "closed" else "")
    for channel in dict.fromkeys(channels):
        connection.execute(
            tables.outbox.insert().values(
                id=f"{alert.id}-{what}-{channel}", at=now, channel=channel, title=title, body=body, tries=0
            )
        )


def opened_body(alert: Alert, others: Iterable[Alert]) -> str:
    """The message of an alert, with the others of its cause; the action of the one that causes the others comes first.

    What others there are began together: that one causes the other is likely, and not proven.
    """
    cause = min([alert, *others], key=lambda one: (place_of(one.watch), one.opened_at))
    lines = [alert.sentence]
    lines += [f"Began together: {one.watch} ({one.id}): {one.sentence}" for one in others]
    lines.append(f"Next: {cause.action}")
    return "\n".join(lines if cause is alert else [*lines, f"Then: {alert.action}"])


def _name_in_waiting(connection: sa.Connection, group: Sequence[Alert]) -> None:
    """Name an alert that joins in the message of its cause, as long as no channel was offered it."""
    table = tables.outbox
    for first in group:
        if first.level == "page" and first.told:
            body = opened_body(first, [one for one in group if one.id != first.id])
            waiting = table.c.id.startswith(f"{first.id}-opened-", autoescape=True)
            unsent = sa.and_(waiting, table.c.sent_at.is_(None), table.c.tries == 0)
            connection.execute(table.update().where(unsent).values(title=_title(group), body=body))


def _title(group: Iterable[Alert]) -> str:
    """What a message is headed by, as in ``production: errors, latency``: what causes comes first."""
    ordered = sorted(group, key=lambda one: place_of(one.watch))
    return f"{ordered[0].environment}: {', '.join(one.watch for one in ordered)}"
