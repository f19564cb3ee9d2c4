"""What happened to a project, one sentence at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from passerelle.state.database import writing
from passerelle.state.tables import timeline


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened."""

    #: When, by the control plane's clock: aware.
    at: datetime
    #: What sort of thing: "delivery", "run", "version", "deployment", "verdict", "alert" ...
    kind: str
    #: What it happened to: a delivery's id, a run's key, a version.
    subject: str
    #: For people, without a full stop to add: "flights-2013-01.csv accepted: 27,004 rows of flights."
    sentence: str
    #: For programs: values of JSON.
    details: dict[str, Any] = {}


def record(target: sa.Engine | sa.Connection, event: Event) -> None:
    """Add an event; given a connection, in its transaction, so that a fact and its sentence go together."""
    row = msgspec.structs.asdict(event)
    if isinstance(target, sa.Connection):
        target.execute(timeline.insert().values(**row))
        return
    with writing(target) as connection:
        connection.execute(timeline.insert().values(**row))


def record_once(engine: sa.Engine, event: Event) -> None:
    """Add an event, unless it is what was said last of its kind and subject: a step that is taken again says nothing.

    The moment is not compared.
    """
    last = (
        sa.select(timeline.c.sentence)
        .where(timeline.c.kind == event.kind, timeline.c.subject == event.subject)
        .order_by(timeline.c.id.desc())
        .limit(1)
    )
    with writing(engine) as connection:
        if connection.execute(last).scalar_one_or_none() != event.sentence:
            record(connection, event)


def events(
    engine: sa.Engine, *, kind: str | None = None, subject: str | None = None, limit: int | None = None
) -> list[Event]:
    """The events in the order of their time, oldest first; with ``limit``, only the newest so many."""
    query = sa.select(timeline).order_by(timeline.c.at.desc(), timeline.c.id.desc()).limit(limit)
    if kind is not None:
        query = query.where(timeline.c.kind == kind)
    if subject is not None:
        query = query.where(timeline.c.subject == subject)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return [Event(**{name: value for name, value in row.items() if name != "id"}) for row in reversed(rows)]
