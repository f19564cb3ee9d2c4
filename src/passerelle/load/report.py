"""Report: what an injection did and how the endpoint answered, and whether the figures can be believed. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

#: The injector keeps up if 99 % of its requests left at most this late, or by this share of the endpoint's own p99.
LAG_MS, LAG_SHARE = 2.0, 0.1
#: Of one processor: an injector that works more than this has no time left to be punctual.
BUSY = 0.9
#: Fewer requests, or a shorter time, say nothing of whose figures they are: making the first connection takes a while.
FEW_REQUESTS, SHORT_S = 100, 1.0


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Quantiles in milliseconds, each the time of a real request (nearest rank); None if there was none."""

    p50: float | None
    p90: float | None
    p99: float | None
    p99_9: float | None
    max: float | None


class Injected(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of the endpoint, what it answered, and what the injector itself was worth."""

    to: str
    #: Requests that were due, and those that were sent; fewer if it was ended early or they were given up unsent.
    due: int
    sent: int
    #: Requests answered with status 200, and the events in them; of these, the events that got an error each.
    answered: int
    events: int
    failed_events: int
    #: In one request; the last of a pass may hold fewer.
    events_a_request: int
    #: Why a request was not answered → how often ...
    errors: dict[str, int]
    #: ... and what was said the first time.
    said: dict[str, str]
    #: Requests due in a second, by the schedule; None if all were due at once.
    asked_per_s: float | None
    #: Requests answered in a second, from the first due moment to the last answer or the schedule's end.
    answered_per_s: float
    seconds: float
    #: Of requests that were answered or given up (these with the time they had waited by then), from the due moment.
    latency_ms: Latency
    #: The same from the moment of sending: what a client that waits for each answer would have seen.
    service_ms: Latency
    #: Requests that found every connection taken when they were due, and the longest that one waited for it.
    late: int
    longest_wait_ms: float
    connections: int
    #: From the due moment to the moment at which the injector attended to the request: its own part of the latency.
    lag_ms: Latency
    #: The share of one processor that the injector used.
    busy: float
    #: How often the file's events were gone through.
    passes: int
    #: Was it ended by hand?
    cut_short: bool
    #: Why these figures say more about the injector than about the endpoint; none if they can be believed, and none
    #: where that cannot be judged: fewer than 100 requests or than 1 s, or no answer.
    doubts: tuple[str, ...]
    #: Is there enough to judge by?
    judged: bool

    @property
    def clean(self) -> bool:
        """Was every request that was sent answered, and every event in it?"""
        return not self.errors and not self.failed_events

    def lines(self) -> list[str]:
        """The report as text."""
        return list(_lines(self))


def quantiles(seconds: Sequence[float]) -> Latency:
    """Quantiles by nearest rank: the smallest value that so many are not above.

    >>> quantiles([0.001 * number for number in range(1, 1001)])
    Latency(p50=500.0, p90=900.0, p99=990.0, p99_9=999.0, max=1000.0)
    >>> quantiles([]).max is None
    True
    """
    ordered = sorted(seconds)

    def at(share: float) -> float | None:
        if not ordered:
            return None
        return round(ordered[max(0, math.ceil(round(share * len(ordered), 9)) - 1)] * 1000, 3)

    return Latency(p50=at(0.5), p90=at(0.9), p99=at(0.99), p99_9=at(0.999), max=at(1.0))


def can_judge(*, sent: int, answered: int, seconds: float) -> bool:
    """Is there enough to judge by?

    >>> can_judge(sent=100, answered=1, seconds=1.0), can_judge(sent=99, answered=99, seconds=60.0)
    (True, False)
    """
    return answered > 0 and sent >= FEW_REQUESTS and seconds >= SHORT_S


def doubts(*, lag_ms: Latency, latency_ms: Latency, busy: float) -> tuple[str, ...]:
    """Why figures say more about the injector than about the endpoint.

    >>> slow = quantiles([0.005])
    >>> doubts(lag_ms=slow, latency_ms=slow, busy=0.5)
    ("1 % of the requests left 5.0 ms late or more, by the injector's own fault",)
    >>> doubts(lag_ms=slow, latency_ms=quantiles([0.2]), busy=0.5)
    ()
    """
    found = []
    lag, latency = lag_ms.p99, latency_ms.p99
    if lag is not None and lag > LAG_MS and (latency is None or lag > LAG_SHARE * latency):
        found.append(f"1 % of the requests left {lag:,.1f} ms late or more, by the injector's own fault")
    if busy > BUSY:
        found.append(f"the injector used {busy:.0%} of its processor")
    return tuple(found)


def _lines(one: Injected) -> Iterator[str]:
    asked = "all at once" if one.asked_per_s is None else f"{one.asked_per_s:,.1f}/s"
    by_hand = ", ended by hand" if one.cut_short else ""
    yield f"to         {one.to}"
    yield f"requests   {one.due:,} due, {one.sent:,} sent, {one.answered:,} answered in {one.seconds:,.1f} s{by_hand}"
    yield f"rate       {one.answered_per_s:,.1f}/s answered of {asked} asked"
    again = f"; the file was gone through {one.passes} times" if one.passes > 1 else ""
    failed = f"{one.failed_events:,} failed"
    yield f"events     {one.events:,} answered, {one.events_a_request} to a request, {failed}{again}"
    for kind, count in sorted(one.errors.items(), key=lambda item: -item[1]):
        first = f": {one.said[kind]}" if one.said.get(kind) else ""
        yield f"errors     {count:,} {kind}{first}"
    if not one.errors:
        yield "errors     none"
    waited = (
        f"{one.late:,} found all {one.connections} connections taken, and waited {one.longest_wait_ms:,.1f} ms at most"
    )
    yield f"late       {waited if one.late else 'none'}"
    yield ""
    yield f"{'milliseconds':<28}{'p50':>10}{'p90':>10}{'p99':>10}{'p99.9':>10}{'max':>10}"
    yield _row("latency, from the due moment", one.latency_ms)
    yield _row("from the moment of sending", one.service_ms)
    yield _row("the injector's own lag", one.lag_ms)
    yield ""
    if not one.answered:
        yield "Nothing was answered: there are no figures to judge."
    elif not one.judged:
        yield (
            f"Too short to say whose figures these are: {one.sent:,} requests in {one.seconds:,.1f} s "
            f"({FEW_REQUESTS} and {SHORT_S:g} s are needed)."
        )
    elif one.doubts:
        yield f"Do not believe these figures: {'; '.join(one.doubts)}. Ask for less, or inject from another machine."
    else:
        yield f"The injector kept up ({one.busy:.0%} of a processor): these figures are the endpoint's."


def _row(name: str, one: Latency) -> str:
    cells = (one.p50, one.p90, one.p99, one.p99_9, one.max)
    return f"{name:<28}" + "".join(f"{'-' if cell is None else f'{cell:,.2f}':>10}" for cell in cells)
