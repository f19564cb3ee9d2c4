"""Recording: what the ledger is told of an event: its id, unit, time, inputs and score; and which outcomes can be."""

from __future__ import annotations

import builtins
import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from passerelle.bundle.manifest import Manifest
from passerelle.deployment.spec import Deployment, Variant
from passerelle.ledger.privacy import GIVEN, hides, protect, protect_unit
from passerelle.ledger.records import Prediction, Truth
from passerelle.project.settings import TaskKind
from passerelle.schema import Issue, RowsError, plain_label
from passerelle.serving.batching import Scored
from passerelle.serving.events import Event

_MAX_INTEGER = 2**63
_SHOWN = 60
#: Names of errors that say nothing of the values.
_KINDS = frozenset(
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
)
_FIELD = re.compile(r"\bfield '([^']*)'")


class Fact(msgspec.Struct, frozen=True):
    """What is known of an event besides its inputs."""

    id: str
    unit: str
    #: The field that the unit is a value of; GIVEN if there is none and the caller said who; None if it is the id.
    column: str | None
    at: datetime
    received_at: datetime


def fact_of(event: Event, deployment: Deployment, row: int, received_at: datetime) -> Fact:
    """Who and when: what the caller says, else the deployment's fields, else the id and the moment of receipt."""
    id = event.id or os.urandom(16).hex()  # noqa: A001  (the word of the record)
    unit = event.unit
    if unit is None and deployment.unit is not None:
        if deployment.unit not in event.inputs:
            reason = f"is missing: the model does not read {deployment.unit!r}, so the event must say its unit itself"
            raise RowsError([Issue(row=row, field="unit", reason=reason)])
        unit = event.inputs[deployment.unit]
    at = event.at
    if at is None and deployment.time is not None:
        at = _moment(event.inputs.get(deployment.time), deployment.time, row)
    at = (at or received_at).astimezone(UTC)
    if unit is None:
        return Fact(id, id, None, at, received_at)
    return Fact(id, _text(unit), GIVEN if deployment.unit is None else deployment.unit, at, received_at)


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
    latency_ms: float | None = None,
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
        error=_recorded_error(scored, event, deployment),
        event_at=fact.at,
        received_at=fact.received_at,
        latency_ms=latency_ms,
    )


def read_truth(task: TaskKind, value: object) -> Truth:
    """An outcome's value as the ledger keeps it, from HTTP or from a file: a class as JSON writes it, or a number.

    A class may be one that the model never saw: see ``unknown_classes``. Raises ValueError, with the reason.

    >>> read_truth("binary", 1.0), read_truth("multiclass", "merlot"), read_truth("regression", 3.0)
    (1, 'merlot', 3.0)
    """
    label = plain_label(value)
    if task != "regression":
        if isinstance(label, str | bool):
            return label
        if isinstance(label, int) and -_MAX_INTEGER <= label < _MAX_INTEGER:
            return label
        raise ValueError(f"{_shown(value)} is not a class: a string, an integer of 64 bits or a boolean")
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return value if isinstance(value, int) and abs(value) < _MAX_INTEGER else float(value)
    raise ValueError(f"{_shown(value)} is not a finite number")


def unknown_classes(manifest: Manifest, values: Iterable[Truth]) -> int:
    """How many of these outcomes, as ``read_truth`` gives them, are a class that the model never saw."""
    if manifest.task == "regression":
        return 0
    known = {(type(label), label) for label in manifest.classes}
    return sum((type(value), value) not in known for value in values)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _recorded_error(scored: Scored, event: Event, deployment: Deployment) -> str | None:
    """Why the model failed, for the ledger: in a project with private columns without its words, which quote values.

    What is left is the kind of the error, if it is one of Python's own, and the event's field that it names.
    """
    error = scored.error
    if scored.status != "failed" or error is None or not hides(deployment.privacy):
        return error
    kinds = [word for word in re.findall(r"\b[A-Z]\w*\b", error) if word in _KINDS]
    fields = [name for name in _FIELD.findall(error) if name in event.inputs]
    kind = kinds[0] if kinds else "error"
    place = f" at field {fields[0]!r}" if fields else ""
    return f"{kind}{place}: its words are not kept, since a column of this project is private"
