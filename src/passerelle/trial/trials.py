"""Trials: what the state keeps of them. Each step is found before it is made, and tells the timeline once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

import msgspec
import sqlalchemy as sa

from passerelle.decoding import prepared
from passerelle.errors import StateError
from passerelle.state import tables
from passerelle.state.database import writing
from passerelle.state.timeline import Event
from passerelle.state.timeline import record as tell
from passerelle.trial.verdict import Block, Plan, Record, Signed, Verdict
from passerelle.trial.words import LOSSES

_NOT_ENDED = ("running", "decided")


def find(engine: sa.Engine, id: str) -> Record | None:  # noqa: A002  (the plan's own word)
    """The trial of this id; None if there is none."""
    with engine.connect() as connection:
        return _find(connection, id)


def current(engine: sa.Engine, environment: str) -> Record | None:
    """The trial of an environment that is running, or decided and not executed yet; None if there is none."""
    left = [record for record in history(engine, environment) if record.status in _NOT_ENDED]
    return left[-1] if left else None


def history(engine: sa.Engine, environment: str) -> list[Record]:
    """Every trial of an environment, oldest first."""
    query = (
        sa.select(tables.trials.c.value)
        .where(tables.trials.c.environment == environment)
        .order_by(tables.trials.c.started_at, tables.trials.c.id)
    )
    with engine.connect() as connection:
        return [_read(value) for value in connection.execute(query).scalars()]


def identifiers(engine: sa.Engine) -> list[str]:
    """The ids of all trials, oldest first."""
    query = sa.select(tables.trials.c.id).order_by(tables.trials.c.started_at, tables.trials.c.id)
    with engine.connect() as connection:
        return list(connection.execute(query).scalars())


def blocks(engine: sa.Engine, id: str) -> list[Block]:  # noqa: A002  (the plan's own word)
    """The closed blocks of a trial, in their order."""
    query = sa.select(tables.blocks.c.value).where(tables.blocks.c.trial == id).order_by(tables.blocks.c.start)
    with engine.connect() as connection:
        return [msgspec.convert(value, prepared(Block)) for value in connection.execute(query).scalars()]


def table(engine: sa.Engine, id: str) -> list[dict[str, Any]]:  # noqa: A002  (the plan's own word)
    """The closed blocks of a trial, in their order, as they were written when each closed: values of JSON."""
    query = sa.select(tables.blocks.c.value).where(tables.blocks.c.trial == id).order_by(tables.blocks.c.start)
    with engine.connect() as connection:
        return list(connection.execute(query).scalars())


def start(target: sa.Engine | sa.Connection, plan: Plan) -> Record:
    """Begin a trial, or find it begun. Given a connection, in its transaction.

    Raises StateError if another trial of the environment has not ended: there is one at a time.
    """
    if isinstance(target, sa.Engine):
        with writing(target) as connection:
            return start(connection, plan)
    found = _find(target, plan.id)
    if found is not None:
        return found
    query = sa.select(tables.trials.c.id).where(
        tables.trials.c.environment == plan.environment, tables.trials.c.status.in_(_NOT_ENDED)
    )
    other = target.execute(query).scalars().first()
    if other is not None:
        raise StateError(f"trial {other} of {plan.environment} has not ended: passerelle trial stop, then try again.")
    record = Record(plan=plan, status="running")
    target.execute(tables.trials.insert().values(**_row(record)))
    shares = ", then ".join(f"{share * 100:.3g}%" for share in plan.steps or (plan.share,))
    how = "in shadow" if plan.mode == "shadow" else f"on {shares} of the units"
    sentence = (
        f"version {plan.challenger} is tried against version {plan.champion} {how}: it may be worse by "
        f"{plan.margin:.4g} ({LOSSES[plan.loss]}) at most, {plan.margin / plan.reference:.1%} of {plan.reference:.4g} "
        f"({plan.reference_source})"
    )
    details = {"trial": plan.id, "champion": plan.champion, "challenger": plan.challenger, "mode": plan.mode}
    tell(target, Event(at=plan.started_at, kind="trial", subject=plan.id, sentence=sentence, details=details))
    return record


def keep(engine: sa.Engine, id: str, block: Block) -> None:  # noqa: A002  (the plan's own word)
    """Keep a closed block; one that is kept already stays as it is."""
    with writing(engine) as connection:
        place = (tables.blocks.c.trial == id) & (tables.blocks.c.start == block.start)
        if connection.execute(sa.select(tables.blocks.c.trial).where(place)).first() is None:
            connection.execute(tables.blocks.insert().values(trial=id, start=block.start, value=_json(block)))


def decide(
    engine: sa.Engine,
    id: str,  # noqa: A002  (the plan's own word)
    verdict: Verdict,
    *,
    at: datetime,
    delta: Mapping[str, int],
    digest: str,
) -> Record:
    """Keep the verdict of a running trial; one that is decided or has ended is answered as it is.

    ``delta`` says which versions the ledger's tables had, ``digest`` is judging.digest's. Raises StateError if there is
    no such trial.
    """
    with writing(engine) as connection:
        record = _get(connection, id)
        if record.status != "running":
            return record
        changes: dict[str, Any] = {"status": "decided", "verdict": verdict, "decided_at": at}
        record = msgspec.structs.replace(
            record, **changes, delta=dict(delta), digest=digest, software=version("passerelle")
        )
        _put(connection, record)
        details = {
            "trial": id,
            "kind": verdict.kind,
            "estimate": verdict.estimate,
            "lower": verdict.lower,
            "upper": verdict.upper,
            "blocks": verdict.blocks,
            "rows": verdict.rows,
        }
        tell(connection, Event(at=at, kind="verdict", subject=id, sentence=verdict.sentence, details=details))
    return record


def end(engine: sa.Engine, id: str, *, at: datetime, revision: int | None, execution: str) -> Record:  # noqa: A002  (the plan's own word)
    """Say what was done with a trial, which is over then; one that has ended is answered as it is.

    Raises StateError if there is no such trial.
    """
    with writing(engine) as connection:
        record = _get(connection, id)
        if record.status == "ended":
            return record
        record = msgspec.structs.replace(record, status="ended", ended_at=at, revision=revision, execution=execution)
        _put(connection, record)
        details = {"trial": id, "revision": revision}
        sentence = f"the trial of version {record.plan.challenger} has ended: {execution}"
        tell(connection, Event(at=at, kind="trial", subject=id, sentence=sentence, details=details))
    return record


def seal(engine: sa.Engine, id: str, signed: Signed) -> None:  # noqa: A002  (the plan's own word)
    """Keep the signature of a trial that has ended; one that is signed stays as it is."""
    with writing(engine) as connection:
        record = _get(connection, id)
        if record.signed is None and record.status == "ended":
            _put(connection, msgspec.structs.replace(record, signed=signed))


def _find(connection: sa.Connection, id: str) -> Record | None:  # noqa: A002  (the plan's own word)
    value = connection.execute(sa.select(tables.trials.c.value).where(tables.trials.c.id == id)).scalar_one_or_none()
    return None if value is None else _read(value)


def _get(connection: sa.Connection, id: str) -> Record:  # noqa: A002  (the plan's own word)
    found = _find(connection, id)
    if found is None:
        raise StateError(f"there is no trial {id!r}: look at passerelle trial status.")
    return found


def _put(connection: sa.Connection, record: Record) -> None:
    connection.execute(tables.trials.update().where(tables.trials.c.id == record.plan.id).values(**_row(record)))


def _row(record: Record) -> dict[str, Any]:
    plan = record.plan
    return {
        "id": plan.id,
        "environment": plan.environment,
        "challenger": plan.challenger,
        "status": record.status,
        "started_at": plan.started_at,
        "value": _json(record),
    }


def _json(value: msgspec.Struct) -> Any:
    return msgspec.to_builtins(value, builtin_types=())


def _read(value: Any) -> Record:
    return msgspec.convert(value, prepared(Record))
