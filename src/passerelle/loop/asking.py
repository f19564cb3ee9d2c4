"""Asking: what of a trial calls for a person: a verdict that waits, a challenger that the circuit breaker took away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from passerelle.state import tables
from passerelle.state.database import writing
from passerelle.state.timeline import Event, events
from passerelle.state.timeline import record as tell
from passerelle.trial.verdict import Record

_ASKED = "approval"
_BROKE = "breaker"


def ask(engine: sa.Engine, record: Record, channels: Sequence[str], *, now: datetime) -> None:
    """Ask a person once: on the timeline, and by a message to each channel, which goes out with those of alerts."""
    plan, verdict = record.plan, record.verdict
    if verdict is None or events(engine, kind=_ASKED, subject=plan.id, limit=1):
        return
    sentence = (
        f"the verdict on version {plan.challenger} is {verdict.kind}, and waits for a person: "
        "passerelle trial approve, or passerelle trial refuse"
    )
    event = Event(
        at=now, kind=_ASKED, subject=plan.id, sentence=sentence, details={"trial": plan.id, "kind": verdict.kind}
    )
    _send(engine, event, channels, title=f"{plan.environment}: a verdict waits", body=f"{sentence}\n{verdict.sentence}")


def page(engine: sa.Engine, record: Record, sentence: str, channels: Sequence[str], *, now: datetime) -> None:
    """Call a person once: the breaker has taken a challenger away."""
    plan = record.plan
    if events(engine, kind=_BROKE, subject=plan.id, limit=1):
        return
    event = Event(
        at=now, kind=_BROKE, subject=plan.id, sentence=f"page: {sentence}", details={"trial": plan.id, "level": "page"}
    )
    body = (
        f"{sentence}\nVersion {plan.champion} answers alone from the next revision on.\n"
        f"Next: passerelle trial status {plan.id}, and look at why version {plan.challenger} fails."
    )
    _send(engine, event, channels, title=f"{plan.environment}: circuit breaker", body=body)


def _send(engine: sa.Engine, event: Event, channels: Sequence[str], *, title: str, body: str) -> None:
    """Tell the timeline, and each channel with the messages of alerts: together, or not at all."""
    with writing(engine) as connection:
        tell(connection, event)
        for channel in dict.fromkeys(channels):
            id_ = f"{event.subject}-{event.kind}-{channel}"
            connection.execute(
                tables.outbox.insert().values(id=id_, at=event.at, channel=channel, title=title, body=body, tries=0)
            )
