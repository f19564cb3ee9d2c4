"""*Now*, as the control plane knows it: always passed as an argument, so that a year can be lived in minutes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Answers the present moment, aware and in UTC. Called by whoever decides something; never by the data plane."""


def system_clock() -> datetime:
    """The machine's time, aware and in UTC.

    >>> system_clock().tzinfo
    datetime.timezone.utc
    """
    return datetime.now(UTC)
