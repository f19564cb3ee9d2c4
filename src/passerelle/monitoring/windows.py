"""Windows: what was measured of an environment, a day at a time, each computed once and kept."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from passerelle.state import tables


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A day's figures."""

    #: From here for 24 h, in event time (for latency, errors and silence: by the control plane's clock).
    start: datetime
    #: What was measured: a Watch, or one of the series beside them that docs/monitoring.md lists.
    watch: str
    #: Values of JSON; docs/monitoring.md says what they mean.
    value: dict[str, Any]


def read_windows(
    target: sa.Engine | sa.Connection,
    environment: str,
    watch: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Window]:
    """The windows of a series, oldest first; those that begin at ``since`` or later, and before ``until``."""
    if isinstance(target, sa.Engine):
        with target.connect() as connection:
            return read_windows(connection, environment, watch, since=since, until=until)
    table = tables.windows
    query = sa.select(table.c.start, table.c.value).where(table.c.environment == environment, table.c.watch == watch)
    if since is not None:
        query = query.where(table.c.start >= since)
    if until is not None:
        query = query.where(table.c.start < until)
    rows = target.execute(query.order_by(table.c.start))
    return [Window(start=row.start, watch=watch, value=row.value) for row in rows]


def newest(target: sa.Engine | sa.Connection, environment: str, watch: str) -> Window | None:
    """The latest window of a series; None before the first."""
    if isinstance(target, sa.Engine):
        with target.connect() as connection:
            return newest(connection, environment, watch)
    table = tables.windows
    query = sa.select(table.c.start, table.c.value).where(table.c.environment == environment, table.c.watch == watch)
    row = target.execute(query.order_by(table.c.start.desc()).limit(1)).one_or_none()
    return None if row is None else Window(start=row.start, watch=watch, value=row.value)


def oldest(target: sa.Engine | sa.Connection, environment: str, watch: str) -> datetime | None:
    """When the first window of a series begins; None before there is one."""
    if isinstance(target, sa.Engine):
        with target.connect() as connection:
            return oldest(connection, environment, watch)
    table = tables.windows
    query = sa.select(table.c.start).where(table.c.environment == environment, table.c.watch == watch)
    return target.execute(query.order_by(table.c.start).limit(1)).scalars().one_or_none()


def has_window(connection: sa.Connection, environment: str, watch: str, start: datetime) -> bool:
    """Was this day measured already?"""
    table = tables.windows
    query = sa.select(table.c.start).where(
        table.c.environment == environment, table.c.watch == watch, table.c.start == start
    )
    return connection.execute(query).one_or_none() is not None


def keep_window(connection: sa.Connection, environment: str, window: Window) -> None:
    """Keep a day's figures, over what was kept of it: only the day of machine time that is not over has any."""
    table = tables.windows
    connection.execute(
        table.delete().where(
            table.c.environment == environment, table.c.watch == window.watch, table.c.start == window.start
        )
    )
    connection.execute(
        table.insert().values(environment=environment, watch=window.watch, start=window.start, value=window.value)
    )
