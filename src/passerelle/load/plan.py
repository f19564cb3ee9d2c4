"""Plan: an injection as it is meant, made before the first request is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from passerelle.load.events import Request, gather, in_order
from passerelle.load.schedule import constant, poisson, warped
from passerelle.serving.events import Event


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which request is due when."""

    #: Seconds from the beginning, a request each, in order.
    due: Sequence[float]
    #: At least so many requests; the rest is not sent.
    requests: Iterable[Request]
    #: How long the schedule lasts, in seconds.
    span_s: float
    #: In one request; the last of a pass may hold fewer.
    events_a_request: int
    #: How often the events are gone through, the last time perhaps in part.
    passes: int


def at_rate(
    events: Sequence[Event], rate: float, *, size: int = 1, seconds: float | None = None, seed: int | None = None
) -> Plan:
    """``rate`` requests of ``size`` events each second: all events once, or again and again for so many seconds.

    With a ``seed`` the moments are random (Poisson), the same for the same seed.
    """
    a_pass = -(-len(events) // size)
    requests = a_pass if seconds is None else None
    if seed is None:
        due = constant(rate, requests=requests, seconds=seconds)
        span_s = seconds or len(due) / rate
    else:
        due = poisson(rate, seed=seed, requests=requests, seconds=seconds)
        span_s = seconds or (due[-1] if due else 0.0)
    return _plan(events, due, span_s, size)


def at_warp(events: Sequence[Event], factor: float, *, size: int = 1, seconds: float | None = None) -> Plan:
    """The events in the order of their own times, ``factor`` times as fast: all of them, or the first seconds' worth.

    A request of several events is due when the last of them has happened. Raises DataError if an event has no time.
    """
    ordered, moments = in_order(events, size=size)
    due = warped(moments, factor, seconds=seconds)
    return _plan(ordered, due, due[-1] if due else 0.0, size)


def _plan(events: Sequence[Event], due: Sequence[float], span_s: float, size: int) -> Plan:
    a_pass = max(1, -(-len(events) // size))
    return Plan(
        due=due,
        requests=gather(events, size=size),
        span_s=span_s,
        events_a_request=size,
        passes=-(-len(due) // a_pass),
    )
