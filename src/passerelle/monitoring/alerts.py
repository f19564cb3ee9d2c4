"""Alerts: a rule that fired opens one, which stays until the rule is quiet, and closes; each names its next action."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from passerelle.decoding import prepared
from passerelle.monitoring.rules import WatchRule
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


def lines_of(alert: Alert) -> list[str]:
    """An alert, for a person."""
    until = f"closed {alert.closed_at:%Y-%m-%d %H:%M}" if alert.closed_at else "OPEN"
    lines = [f"{alert.opened_at:%Y-%m-%d %H:%M}  {alert.level:6}  {until:23}  {alert.sentence}"]
    return lines if alert.closed_at else [*lines, f"    Next: {alert.action}"]


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
    table = tables.alerts
    query = sa.select(table.c.value).where(
        table.c.environment == environment, table.c.watch == watch, table.c.closed_at.is_(None)
    )
    value = connection.execute(query).scalars().first()
    return None if value is None else msgspec.convert(value, prepared(Alert))


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
        another = alert is not None and alert.details.get("newest") != finding.details.get("newest")
        if alert is not None and another:  # another delivery was put aside: whoever knew of the first must hear of it
            _close(connection, alert, "another was put aside since.", now=now, channels=channels)
        if alert is None or another:
            return _open(connection, environment, rule, finding, now=now, channels=channels)
        more = msgspec.structs.replace(
            alert, last_day=finding.day or alert.last_day, sentence=finding.sentence, details=finding.details
        )
        _write(connection, more)
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
    )
    found = connection.execute(sa.select(tables.alerts.c.id).where(tables.alerts.c.id == alert.id)).one_or_none()
    if found is not None:
        return None  # it was opened by this very day or moment, and is over
    connection.execute(
        tables.alerts.insert().values(
            id=alert.id, environment=environment, watch=rule.watch, level=alert.level, opened_at=now, value={}
        )
    )
    _write(connection, alert)
    tell(connection, alert, "opened", f"{alert.level}: {alert.sentence}", now=now, channels=channels)
    return alert


def _close(connection: sa.Connection, alert: Alert, reason: str, *, now: datetime, channels: tuple[str, ...]) -> Alert:
    closed = msgspec.structs.replace(alert, closed_at=now)
    _write(connection, closed)
    tell(connection, closed, "closed", f"over: {reason}", now=now, channels=channels)
    return closed


def _write(connection: sa.Connection, alert: Alert) -> None:
    connection.execute(
        tables.alerts.update()
        .where(tables.alerts.c.id == alert.id)
        .values(closed_at=alert.closed_at, value=msgspec.to_builtins(alert))
    )


def tell(
    connection: sa.Connection,
    alert: Alert,
    what: Literal["opened", "closed"],
    sentence: str,
    *,
    now: datetime,
    channels: tuple[str, ...],
) -> None:
    """Say on the timeline that an alert opened or closed and, if it is a page, put a message out for each channel."""
    details = {"alert": alert.id, "watch": alert.watch, "level": alert.level, "state": what}
    record(connection, Event(at=now, kind="alert", subject=alert.id, sentence=sentence, details=details))
    if alert.level != "page":
        return
    title = f"{alert.environment}: {alert.watch}" + (" is over" if what == "closed" else "")
    body = sentence if what == "closed" else f"{alert.sentence}\nNext: {alert.action}"
    for channel in dict.fromkeys(channels):
        connection.execute(
            tables.outbox.insert().values(
                id=f"{alert.id}-{what}-{channel}", at=now, channel=channel, title=title, body=body, tries=0
            )
        )
