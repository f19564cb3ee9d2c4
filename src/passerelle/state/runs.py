"""Runs of the notebook, found by key before they are created: doing the same thing twice makes one run."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from passerelle.errors import StateError
from passerelle.state import tables
from passerelle.state.database import writing

Status = Literal["running", "sealed", "failed", "refused"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of the notebook on a snapshot."""

    #: What makes it this run and no other: of the notebook, the snapshot, the settings.
    key: str
    #: running; sealed (there is a bundle); failed (no answer); refused (by a check or the gate).
    status: Status
    #: 1 the first time; one more each time that it was begun again.
    attempt: int
    #: When the latest attempt began, and ended.
    started_at: datetime
    finished_at: datetime | None
    #: Values of JSON, by whoever finished it.
    details: dict[str, Any]


def begin(engine: sa.Engine, key: str, *, at: datetime) -> Run:
    """Find the run of this key, or make it.

    A sealed run is answered as it is: look at its status. Any other is begun again, with one more attempt: it failed,
    was refused, or its process died (the lease "train" keeps two from running at once).
    """
    with writing(engine) as connection:
        run = _find(connection, key)
        if run is not None and run.status == "sealed":
            return run
        attempt = 1 if run is None else run.attempt + 1
        connection.execute(tables.runs.delete().where(tables.runs.c.key == key))
        connection.execute(
            tables.runs.insert().values(key=key, status="running", attempt=attempt, started_at=at, details={})
        )
    return Run(key=key, status="running", attempt=attempt, started_at=at, finished_at=None, details={})


def finish(engine: sa.Engine, key: str, *, at: datetime, status: Status, details: dict[str, Any]) -> Run:
    """Say how a run ended. Raises StateError for a run that was never begun, or that is sealed already."""
    with writing(engine) as connection:
        run = _find(connection, key)
        if run is None or run.status == "sealed":
            state = "was never begun" if run is None else "is sealed already"
            raise StateError(f"run {key} {state}: it cannot end as {status}.")
        values = {"status": status, "finished_at": at, "details": details}
        connection.execute(tables.runs.update().where(tables.runs.c.key == key).values(**values))
    return msgspec.structs.replace(run, **values)


def get(engine: sa.Engine, key: str) -> Run | None:
    """The run of this key; None if there is none."""
    with engine.connect() as connection:
        return _find(connection, key)


def all(engine: sa.Engine) -> list[Run]:  # noqa: A001  (it is read as runs.all)
    """Every run, in the order in which they were begun."""
    query = sa.select(tables.runs).order_by(tables.runs.c.started_at, tables.runs.c.key)
    with engine.connect() as connection:
        return [Run(**row) for row in connection.execute(query).mappings()]


def _find(connection: sa.Connection, key: str) -> Run | None:
    row = connection.execute(sa.select(tables.runs).where(tables.runs.c.key == key)).mappings().one_or_none()
    return None if row is None else Run(**row)
