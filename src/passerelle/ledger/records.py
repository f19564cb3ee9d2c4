"""What the ledger records: predictions and outcomes, as frozen values."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

Role = Literal["live", "shadow"]
Status = Literal["scored", "failed", "timed_out"]
Truth = str | int | float | bool


class Prediction(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="prediction"):
    """One answered event. Of an id the record received first wins (a shadow's: per version); repeats count."""

    #: The caller's id of the event, else ours.
    id: str
    #: Who is randomised: the value of the project's unit column, else the id.
    unit: str
    #: Did the caller get this answer (live), or was it made beside it (shadow)?
    role: Role
    #: Did the model answer?
    status: Status
    #: The deployment's revision that chose the variant.
    revision: int
    #: The version that answered.
    version: int
    #: The digest of its bundle.
    digest: str
    #: The trial that the event belongs to, if one is running.
    trial: str | None = None
    #: The probability with which this unit got this variant (1 for a shadow).
    probability: float = 1.0
    #: The event's fields as they were read (kept, hashed or dropped as the project says).
    inputs: dict[str, Any]
    #: [probability of the positive class], [a probability per class] or [a number]; None if the model failed.
    output: tuple[float, ...] | None = None
    #: Why it failed.
    error: str | None = None
    #: When the event happened, by the caller; received_at where the project has no time column.
    event_at: datetime
    #: When we received it (machine time).
    received_at: datetime
    #: Milliseconds from receipt until the version had answered, by the endpoint's monotonic clock: validation and the
    #: wait for its turn too, not the network and the ledger. A timed_out one's is the deadline at least; a shadow's is
    #: measured beside the serving path. None: nobody waited (a scored file, a gap that was filled), or an older record.
    latency_ms: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="outcome"):
    """The truth about a prediction, as it was known at a moment; a later one with the same id corrects it."""

    #: The prediction's id.
    id: str
    #: The truth: a class as JSON writes it, or a number.
    value: Truth
    #: When it became known, by whoever says it.
    known_at: datetime
    #: When we received it (machine time).
    received_at: datetime


Record = Prediction | Outcome
"""What a segment holds."""
