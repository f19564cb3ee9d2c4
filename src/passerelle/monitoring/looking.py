"""Looking: one look at the endpoint's counts, kept whole with the alerts that it opens or closes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from passerelle.clock import Clock
from passerelle.decoding import prepared
from passerelle.deployment.spec import environment_folder
from passerelle.monitoring import service
from passerelle.monitoring.alerts import Alert, find_open, settle
from passerelle.monitoring.maturity import floor_day
from passerelle.monitoring.rules import rule_of
from passerelle.monitoring.windows import Window, keep_window, newest, read_windows
from passerelle.project.settings import Project, Watch
from passerelle.state.database import writing

#: The series of the counts at the last look: one window, at the beginning of time, that each look writes over.
LOOKED = "looked"
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
_SILENCE_DAYS = timedelta(days=14)


def look(project: Project, environment: str, engine: sa.Engine, *, now: datetime, machine: Clock) -> list[Alert | None]:
    """Look at latency, errors and silence once, in one transaction. ``now`` names the day that the figures stand at."""
    counts = service.read_counts(environment_folder(project.state, environment))
    today = floor_day(now)
    with writing(engine) as connection:
        before = newest(connection, environment, LOOKED)
        if before is None and counts is None:
            return []  # no endpoint was ever seen here
        looked = service.Looked() if before is None else msgspec.convert(before.value, prepared(service.Looked))
        changed = []
        if counts is not None:
            looked, more = _judge(connection, project, environment, looked, counts, today=today, now=now)
            changed += more
        looked = service.look_on(looked, counts, at=machine())
        changed.append(_silence(connection, project, environment, looked, today=today, now=now))
        _keep(connection, environment, LOOKED, _ALWAYS, looked)
    return changed


def allowed_silence(connection: sa.Connection, project: Project, environment: str, *, now: datetime) -> float:
    """Minutes that silence may last: the rule's threshold, or by the longest silences of the days before."""
    today = floor_day(now)
    days = [
        msgspec.convert(one.value, prepared(service.Silence))
        for one in read_windows(connection, environment, "silence", since=today - _SILENCE_DAYS)
        if one.start < today
    ]
    return service.allowed_minutes(days, rule_of(project, "silence").threshold)


def _judge(
    connection: sa.Connection,
    project: Project,
    environment: str,
    looked: service.Looked,
    counts: service.Counts,
    *,
    today: datetime,
    now: datetime,
) -> tuple[service.Looked, list[Alert | None]]:
    channels = project.alerts.channels
    changed = []
    rule = rule_of(project, "latency")
    known = _today(connection, environment, "latency", today)
    latency = service.judge_latency(
        service.since(looked.latency, counts),
        msgspec.convert(known, prepared(service.Latency)) if known else None,
        limit_ms=rule.threshold or 1.0,
    )
    if latency is not None:
        looked = msgspec.structs.replace(looked, latency=counts)
        looked, finding = service.calm_down(looked, "latency", latency[1])
        _keep(connection, environment, "latency", today, latency[0])
        changed.append(settle(connection, environment, rule, finding, now=now, channels=channels))
    rule = rule_of(project, "errors")
    known = _today(connection, environment, "errors", today)
    errors = service.judge_errors(
        service.since(looked.errors, counts),
        msgspec.convert(known, prepared(service.Errors)) if known else None,
        limit_percent=rule.threshold or 1.0,
    )
    if errors is not None:
        looked = msgspec.structs.replace(looked, errors=counts)
        looked, finding = service.calm_down(looked, "errors", errors[1])
        _keep(connection, environment, "errors", today, errors[0])
        changed.append(settle(connection, environment, rule, finding, now=now, channels=channels))
    return looked, changed


def _silence(
    connection: sa.Connection,
    project: Project,
    environment: str,
    looked: service.Looked,
    *,
    today: datetime,
    now: datetime,
) -> Alert | None:
    rule = rule_of(project, "silence")
    finding = service.judge_silence(looked, allowed=allowed_silence(connection, project, environment, now=now))
    was_open = find_open(connection, environment, "silence") is not None
    if finding.state != "firing" and not was_open:
        known = _today(connection, environment, "silence", today)
        longest = max((looked.silent_s or 0.0) / 60, known["longest_minutes"] if known else 0.0)
        _keep(connection, environment, "silence", today, service.Silence(longest_minutes=longest))
    return settle(connection, environment, rule, finding, now=now, channels=project.alerts.channels)


def _today(connection: sa.Connection, environment: str, series: Watch, today: datetime) -> dict[str, Any] | None:
    found = newest(connection, environment, series)
    return found.value if found is not None and found.start == today else None


def _keep(connection: sa.Connection, environment: str, series: str, start: datetime, value: msgspec.Struct) -> None:
    keep_window(connection, environment, Window(start=start, watch=series, value=msgspec.to_builtins(value)))
