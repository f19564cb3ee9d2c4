"""*Now*, as the control plane knows it: always passed as an argument, so that a year can be lived in minutes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from passerelle.errors import PasserelleError

Clock = Callable[[], datetime]
"""Answers the present moment, aware and in UTC. Called by whoever decides something; never by the data plane."""


def system_clock() -> datetime:
    """The machine's time, aware and in UTC.

    >>> system_clock().tzinfo
    datetime.timezone.utc
    """
    return datetime.now(UTC)


def parse_moment(text: str) -> datetime:
    """Read an RFC 3339 moment with its offset; a moment without one is refused, since it could be any of 24.

    >>> parse_moment("2013-01-01T05:00:00-05:00").isoformat()
    '2013-01-01T10:00:00+00:00'
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise PasserelleError(f"{text!r} is not a moment: write it like 2013-01-31T12:00:00Z.") from error
    if moment.tzinfo is None:
        raise PasserelleError(f"{text!r} has no offset from UTC: write {text}Z, or {text}-05:00 and the like.")
    return moment.astimezone(UTC)
