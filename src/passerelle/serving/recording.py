"""Recording: what the ledger is told of an event: its id, unit, time, inputs and score; and which outcomes can be."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from typing import Any

import msgspec

from passerelle.bundle.manifest import Manifest
from passerelle.deployment.spec import Deployment, Variant
from passerelle.ledger.privacy import protect, protect_unit
from passerelle.ledger.records import Prediction
from passerelle.schema import Issue, RowsError
from passerelle.serving.batching import Scored
from passerelle.serving.events import Event

_MAX_INTEGER = 2**63


class Fact(msgspec.Struct, frozen=True):
    """What is known of an event besides its inputs."""

    id: str
    unit: str
    #: The field that the unit is a value of; None if it is the id.
    column: str | None
    at: datetime
    received_at: datetime


def fact_of(event: Event, deployment: Deployment, row: int, received_at: datetime) -> Fact:
    """Who and when: what the caller says, else the deployment's fields, else the id and the moment of receipt."""
    id = event.id or os.urandom(16).hex()  # noqa: A001  (the word of the record)
    unit = event.unit
    if unit is None and deployment.unit is not None:
        unit = event.inputs.get(deployment.unit)
    at = event.at
    if at is None and deployment.time is not None:
        at = _moment(event.inputs.get(deployment.time), deployment.time, row)
    at = (at or received_at).astimezone(UTC)
    if unit is None:
        return Fact(id, id, None, at, received_at)
    return Fact(id, _text(unit), deployment.unit, at, received_at)


def _recordable(inputs: dict[str, Any]) -> dict[str, Any]:
    """A number beyond 64 bits as the float that the model was given: the ledger's integers end there."""
    if any(type(value) is int and not -_MAX_INTEGER <= value < _MAX_INTEGER for value in inputs.values()):
        return {
            name: float(value) if type(value) is int and abs(value) >= _MAX_INTEGER else value
            for name, value in inputs.items()
        }
    return inputs


def _text(unit: Any) -> str:
    if isinstance(unit, str):
        return unit
    if isinstance(unit, float) and unit.is_integer():
        unit = int(unit)  # 5 and 5.0 are one unit
    return msgspec.json.encode(unit).decode()


def _moment(value: Any, field: str, row: int) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None:
        raise RowsError([Issue(row=row, field=field, reason=f"{value!r} is not a moment: it says when the event was")])
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # a date: its midnight in UTC


def record_of(
    deployment: Deployment,
    variant: Variant,
    event: Event,
    fact: Fact,
    scored: Scored,
    *,
    probability: float = 1.0,
) -> Prediction:
    """The record of one score, with its private fields as the deployment wants them."""
    privacy, salt = deployment.privacy, deployment.salt
    return Prediction(
        id=fact.id,
        unit=protect_unit(fact.unit, fact.column, privacy, salt),
        role=variant.mode,
        status=scored.status,
        revision=deployment.revision,
        version=variant.version,
        digest=variant.digest,
        trial=deployment.trial,
        probability=probability,
        inputs=protect(_recordable(event.inputs), privacy, salt=salt),
        output=scored.output,
        error=scored.error,
        event_at=fact.at,
        received_at=fact.received_at,
    )


def refuse_truth(manifest: Manifest, value: Any) -> str | None:
    """Why a value cannot be an outcome of this model; None if it can."""
    if manifest.task == "regression":
        fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return None if fine else f"{value!r} is not a number"
    if any(type(value) is type(label) and value == label for label in manifest.classes):
        return None
    classes = ", ".join(msgspec.json.encode(label).decode() for label in manifest.classes)
    return f"{value!r} is not one of the classes {classes}"
