"""Events and answers as JSON: what a caller sends and gets, decoded strictly; a fault is named by row and field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from passerelle.bundle.manifest import Label, Manifest
from passerelle.decoding import prepared
from passerelle.errors import ServingError
from passerelle.ledger.records import Truth
from passerelle.schema import Issue, RowsError

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

_PLACE = re.compile(r"^(?P<reason>.*?)(?: - at `\$(?:\.(?:events|outcomes)\[(?P<row>\d+)\])?\.?(?P<field>[^`]*)`)?$")


class BodyError(ServingError):
    """The request's body is not JSON: send {"inputs": {...}}, or {"events": [{"inputs": {...}}, ...]}."""


class TooManyRowsError(ServingError):
    """The request holds more events than one request may: send them in several requests."""


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event to be answered."""

    #: The caller's id; ours where it is not given. A second event of the same id is answered, and counted as a repeat.
    id: Id | None = None
    #: Who is randomised; else the deployment's unit field, else the id.
    unit: Annotated[str, msgspec.Meta(min_length=1)] | int | None = None
    #: When it happened; else the deployment's time field, else when it was received.
    at: Moment | None = None
    #: Field → value, as the schema says.
    inputs: dict[str, Any]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What an event is answered with: a prediction, or the reason why there is none."""

    id: str
    #: The likeliest class (for binary: the positive one from a probability of one half), or the number.
    prediction: Label | float | UnsetType = UNSET
    #: Of the positive class; per class for multi-class; absent for a number.
    probability: float | dict[str, float] | UnsetType = UNSET
    #: Why the model did not answer.
    error: str | UnsetType = UNSET
    #: True if it did not answer by its deadline.
    timed_out: bool | UnsetType = UNSET
    version: int
    revision: int


class TruthSent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One outcome as a caller sends it."""

    #: The prediction's id.
    id: Id
    #: A class as JSON writes it, or a number.
    value: Truth
    #: When it became known.
    known_at: Moment


class _Events(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Id | None = None
    unit: Annotated[str, msgspec.Meta(min_length=1)] | int | None = None
    at: Moment | None = None
    inputs: dict[str, Any] | UnsetType = UNSET
    events: list[Event] | UnsetType = UNSET


class _Truths(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Id | UnsetType = UNSET
    value: Truth | UnsetType = UNSET
    known_at: Moment | UnsetType = UNSET
    outcomes: list[TruthSent] | UnsetType = UNSET


T = TypeVar("T")

_EVENTS = msgspec.json.Decoder(prepared(_Events))
_TRUTHS = msgspec.json.Decoder(prepared(_Truths))


def read_events(body: bytes, *, max_rows: int) -> tuple[list[Event], bool]:
    """The events of a request, and whether it was written as many.

    Raises BodyError if it is not JSON (NaN, Infinity and too deep nesting are not), TooManyRowsError, and RowsError
    with the row, the field and the reason.

    >>> events, many = read_events(b'{"inputs": {"hour": 5}}', max_rows=10)
    >>> events[0].inputs, many
    ({'hour': 5}, False)
    """
    sent = decode(_EVENTS, body)
    if sent.events is UNSET:
        if sent.inputs is UNSET:
            raise fault(0, "inputs", 'is missing: send {"inputs": {...}}, or {"events": [{"inputs": {...}}, ...]}')
        return [Event(id=sent.id, unit=sent.unit, at=sent.at, inputs=sent.inputs)], False
    if sent.inputs is not UNSET or sent.id is not None or sent.unit is not None or sent.at is not None:
        raise fault(0, "events", "stands beside the fields of a single event: send the one or the other")
    check_count(len(sent.events), max_rows, "events")
    return sent.events, True


def read_truths(body: bytes, *, max_rows: int) -> list[TruthSent]:
    """The outcomes of a request; raises as read_events does."""
    sent = decode(_TRUTHS, body)
    single = {name: getattr(sent, name) for name in ("id", "value", "known_at")}
    if sent.outcomes is UNSET:
        for name, value in single.items():
            if value is UNSET:
                raise fault(0, name, 'is missing: send {"id", "value", "known_at"}, or {"outcomes": [...]}')
        return [TruthSent(**single)]
    if any(value is not UNSET for value in single.values()):
        raise fault(0, "outcomes", "stands beside the fields of a single outcome: send the one or the other")
    check_count(len(sent.outcomes), max_rows, "outcomes")
    return list(sent.outcomes)


def answer(manifest: Manifest, output: tuple[float, ...], *, id: str, version: int, revision: int) -> Answer:  # noqa: A002  (the caller's word)
    """A model's output in the words of its task."""
    if manifest.task == "regression":
        return Answer(id=id, prediction=output[0], version=version, revision=revision)
    if manifest.task == "binary":
        label = manifest.classes[output[0] >= 0.5]  # noqa: PLR2004  (the likelier of two)
        return Answer(id=id, prediction=label, probability=output[0], version=version, revision=revision)
    likeliest = max(range(len(output)), key=output.__getitem__)
    return Answer(
        id=id,
        prediction=manifest.classes[likeliest],
        probability={label_text(label): share for label, share in zip(manifest.classes, output, strict=True)},
        version=version,
        revision=revision,
    )


def label_text(label: Label) -> str:
    """A class as a key in JSON.

    >>> label_text(True), label_text("late"), label_text(3)
    ('true', 'late', '3')
    """
    return label if isinstance(label, str) else msgspec.json.encode(label).decode()


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """A body as the decoder reads it; raises as read_events does."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        named = b"NaN" in body or b"Infinity" in body
        hint = "NaN and Infinity are not JSON, send null instead" if named else "see /docs for an example"
        raise BodyError(f"the body is not JSON that can be read ({error}): {hint}.") from error


def invalid(error: msgspec.ValidationError, row: int | None = None) -> RowsError:
    """What msgspec found wrong, by row and field."""
    found = _PLACE.match(str(error))
    reason, place, field = found.group("reason", "row", "field") if found else (str(error), None, None)
    if unknown := re.match(r"Object (contains unknown|missing required) field `(.*)`$", reason):
        field = unknown[2]
        reason = "is not a key here" if unknown[1] == "contains unknown" else "is missing"
    field = (field or "body").removesuffix("[...]")
    return fault(int(place or 0) if row is None else row, field, reason[0].lower() + reason[1:])


def check_count(rows: int, max_rows: int, name: str) -> None:
    """Raise RowsError if there are no rows, TooManyRowsError if there are more than ``max_rows``."""
    if rows == 0:
        raise fault(0, name, "is empty: send at least one")
    if rows > max_rows:
        raise TooManyRowsError(
            f"the request holds {rows} {name}, and {max_rows} are the most: send them in several requests."
        )


def refuse_repeats(ids: Sequence[str | None]) -> None:
    """Raise RowsError if an id stands twice in one request."""
    seen: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name is not None and seen.setdefault(name, row) != row:
            raise fault(row, "id", f"{name!r} is also the id of row {seen[name]}: give each event its own")


def fault(row: int, field: str, reason: str) -> RowsError:
    """One thing that is wrong with a request."""
    return RowsError([Issue(row=row, field=field, reason=reason)])
