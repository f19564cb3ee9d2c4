"""Handling: what people do about alerts: see to one, silence a watch; and what is told when a silence is over."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from passerelle.decoding import prepared
from passerelle.errors import StateError
from passerelle.monitoring.alerts import Alert, all_open, opened_body, send, tell, untold, write
from passerelle.monitoring.silences import Silence, keep_silences, read_silences
from passerelle.project.settings import Project, Watch
from passerelle.state import tables
from passerelle.state.database import open_state, writing
from passerelle.state.timeline import Event, record

#: A silence lasts no longer: what is to be silent for good is a rule to turn off.
LONGEST = timedelta(days=30)
_FORM = "%Y%m%dT%H%M%S"


def acknowledge(project: Project, alert_id: str, *, by: str, note: str = "", now: datetime) -> Alert:
    """Say that somebody sees to an open alert; it stays open until its rule is quiet, and others read who does.

    Raises StateError if there is no such alert, or if it is over.
    """
    with writing(open_state(project.state)) as connection:
        alert = _find(connection, alert_id)
        if alert.closed_at is not None:
            raise StateError(f"{alert_id} is over since {alert.closed_at:%Y-%m-%d %H:%M}: there is nothing to see to.")
        seen = msgspec.structs.replace(alert, acknowledged_at=now, acknowledged_by=by, note=note)
        write(connection, seen)
        tell(connection, seen, "acknowledged", f"{by} sees to it{f': {note}' if note else '.'}", now=now)
    return seen


def silence(
    project: Project, environment: str, watch: Watch, *, lasts: timedelta, reason: str, by: str, now: datetime
) -> Silence:
    """Send nothing of a watch for a while; its alerts open and close as ever. A silence before it is replaced.

    Raises StateError if it is not a positive time of LONGEST at most, or without a reason.
    """
    if not timedelta(0) < lasts <= LONGEST:
        raise StateError(
            f"a silence lasts up to {LONGEST.days} days, and {lasts} was asked for: to watch {watch} no more, turn it "
            f'off in passerelle.toml: [[rules]] with watch = "{watch}" and level = "off".'
        )
    if not reason.strip():
        raise StateError("a silence needs a reason, for whoever finds it: --reason 'the machines are moved'.")
    made = Silence(watch=watch, since=now, until=now + lasts, reason=reason.strip(), by=by)
    with writing(open_state(project.state)) as connection:
        others = [one for one in read_silences(connection, environment) if one.watch != watch]
        keep_silences(connection, environment, [*others, made])
        told = f"{watch} is silenced until {made.until:%Y-%m-%d %H:%M} by {by}: {made.reason}"
        _record(connection, environment, watch, "silenced", told, now=now)
    return made


def unsilence(project: Project, environment: str, watch: Watch, *, by: str, now: datetime) -> Silence:
    """End a silence; what still fires is told at once. Raises StateError if the watch is not silenced."""
    with writing(open_state(project.state)) as connection:
        there = read_silences(connection, environment)
        ended = next((one for one in there if one.watch == watch), None)
        if ended is None:
            silent = ", ".join(one.watch for one in there) or "nothing"
            raise StateError(f"{watch} is not silenced in {environment}: {silent} is.")
        _end(connection, project, environment, ended, f"by {by}", now=now)
    return ended


def speak(project: Project, environment: str, *, now: datetime) -> None:
    """End the silences whose time is over, and tell of what still fires and nobody was told of; once a tick."""
    engine = open_state(project.state)
    with engine.connect() as connection:
        over = [one for one in read_silences(connection, environment) if one.until <= now]
        if not over and not untold(connection, environment, now=now):
            return
    with writing(engine) as connection:
        for one in read_silences(connection, environment):
            if one.until <= now:
                _end(connection, project, environment, one, "its time is over", now=now)
        _tell_untold(connection, project, environment, "nobody was told of it yet", now=now)


def _end(
    connection: sa.Connection, project: Project, environment: str, ended: Silence, why: str, *, now: datetime
) -> None:
    keep_silences(connection, environment, [one for one in read_silences(connection, environment) if one != ended])
    still = [one for one in all_open(connection, environment) if one.watch == ended.watch and one.level == "page"]
    told = f"the silence of {ended.watch} has ended ({why})" + (", and it is still firing." if still else ".")
    _record(connection, environment, ended.watch, "unsilenced", told, now=now)
    for one in still:
        if one.opened_at < ended.until:  # what opened later was told as ever
            write(connection, msgspec.structs.replace(one, told=False))
    _tell_ended(connection, project, environment, ended, now=now)
    _tell_untold(
        connection, project, environment, f"the silence of {ended.watch} has ended, and it still fires", now=now
    )


def _tell_ended(
    connection: sa.Connection, project: Project, environment: str, ended: Silence, *, now: datetime
) -> None:
    """Send the end of what was told before the silence, and was over in it."""
    table = tables.alerts
    in_it = sa.and_(table.c.closed_at >= ended.since, table.c.closed_at < ended.until)
    query = sa.select(table.c.value).where(table.c.environment == environment, in_it)
    for value in connection.execute(query.order_by(table.c.closed_at, table.c.id)).scalars().all():
        alert = msgspec.convert(value, prepared(Alert))
        if alert.watch == ended.watch and alert.level == "page" and alert.told and alert.opened_at < ended.since:
            body = f"over since {alert.closed_at:%Y-%m-%d %H:%M}, while {alert.watch} was silenced."
            send(connection, alert, "closed", body, now=now, channels=project.alerts.channels)


def _tell_untold(connection: sa.Connection, project: Project, environment: str, why: str, *, now: datetime) -> None:
    """Send what nobody was told of; one message for each cause."""
    for alert in untold(connection, environment, now=now):
        if not any(one.id == alert.id for one in untold(connection, environment, now=now)):
            continue  # covered by the one before it
        with_it = [one for one in all_open(connection, environment) if one.cause == alert.cause and one.id != alert.id]
        write(connection, msgspec.structs.replace(alert, told=True))
        body = f"{opened_body(alert, with_it)}\n({why[0].upper()}{why[1:]}.)"
        send(connection, alert, f"told-{now.strftime(_FORM)}", body, now=now, channels=project.alerts.channels)
        tell(connection, alert, "told", f"{alert.level}: {alert.sentence} ({why})", now=now)


def _find(connection: sa.Connection, alert_id: str) -> Alert:
    value = connection.execute(
        sa.select(tables.alerts.c.value).where(tables.alerts.c.id == alert_id)
    ).scalar_one_or_none()
    if value is None:
        raise StateError(f"there is no alert {alert_id!r}: passerelle alerts --open names those that are open.")
    return msgspec.convert(value, prepared(Alert))


def _record(
    connection: sa.Connection, environment: str, watch: Watch, state: str, sentence: str, *, now: datetime
) -> None:
    details = {"watch": watch, "state": state}
    event = Event(at=now, kind="alert", subject=f"{environment}-{watch}", sentence=sentence, details=details)
    record(connection, event)
