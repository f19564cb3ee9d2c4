"""Records for the ledger's tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle.ledger.records import Outcome, Prediction, Truth

START = datetime(2013, 2, 1, tzinfo=UTC)


def prediction(id: str, *, at_s: float = 0, **changes: Any) -> Prediction:  # noqa: A002  (the record's own word)
    """A prediction that was received ``at_s`` seconds after START."""
    received_at = START + timedelta(seconds=at_s)
    fields = {
        "id": id,
        "unit": id,
        "role": "live",
        "status": "scored",
        "revision": 1,
        "version": 1,
        "digest": "d" * 64,
        "inputs": {"hour": 5, "origin": "EWR", "delay": None, "temp": 37.5},
        "output": (0.25,),
        "event_at": received_at - timedelta(seconds=1),
        "received_at": received_at,
    }
    return Prediction(**(fields | changes))


def outcome(id: str, value: Truth = True, *, at_s: float = 60) -> Outcome:  # noqa: A002, FBT002  (a record)
    """An outcome that was known and received ``at_s`` seconds after START."""
    at = START + timedelta(seconds=at_s)
    return Outcome(id=id, value=value, known_at=at, received_at=at)
