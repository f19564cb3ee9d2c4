"""Service: latency, errors and silence of the endpoint, by what its workers count; machine time.

The workers' counts only grow, until the endpoint starts again. A look takes what they grew by since the look before;
a look that would see too little leaves it to the next one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from passerelle.monitoring.alerts import Finding

#: Where the supervisor has its workers count, below an environment's folder.
MEASURES = "measures"
#: A look at latency and errors waits for so many requests (events), and needs so many bad ones for an alert.
FEWEST = 100
FEWEST_BAD = 10
#: Of the requests, which latency is judged.
QUANTILE = 0.99
#: Silence is judged against its own past once so many days are known, and until then after so long.
KNOWN_DAYS = 7
UNKNOWN_MINUTES = 24 * 60.0
#: An alert on silence waits at least so long, and twice the longest silence that was usual.
LEAST_MINUTES = 60.0
_TIMES = 2.0
#: An alert on latency or errors is over after so many looks in a row that find nothing: what comes and goes calls once.
CALM_LOOKS = 5
#: Between two looks no more than this counts as silence: while nobody looked, the endpoint may have been stopped, too.
_MOST_BETWEEN_S = 900.0
_PREDICT = "/predict"
_REFUSED, _FAILED = 400, 500


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What the endpoint counted."""

    #: Live events by status: scored, failed, timed_out.
    events: dict[str, float] = {}
    #: Requests for predictions: refused (4xx), failed (5xx), answered.
    requests: dict[str, float] = {}
    #: Upper bound in seconds (text; +Inf is the last) → requests for predictions that took no longer.
    seconds: dict[str, float] = {}
    #: The files that its workers count in, each by name and inode: all are others once the endpoint started again.
    files: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Live events."""
        return sum(self.events.values())


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What looks leave for the next one."""

    #: The counts up to which latency and errors were judged.
    latency: Counts = Counts()
    errors: Counts = Counts()
    #: The counts at the last look, and when that was (machine time).
    last: Counts = Counts()
    at: datetime | None = None
    #: Seconds without an event, as far as somebody looked. None before the first event.
    silent_s: float | None = None
    #: Watch → looks in a row that found nothing wrong.
    calm: dict[str, int] = {}


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """A day's latency; of the last look that saw enough requests."""

    requests: int
    p50_ms: float
    p99_ms: float
    slow: int
    #: Requests of the day, in all looks.
    day_requests: int


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """A day's errors; of the last look that saw enough."""

    events: int
    failed: int
    timed_out: int
    requests: int
    requests_refused: int
    requests_failed: int
    #: The larger of the two shares: of the events, of the requests.
    percent: float
    #: Events and bad ones of the day, in all looks.
    day_events: int
    day_bad: int


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """A day's longest silence, in minutes; an alert's own does not count."""

    longest_minutes: float


def read_counts(environment: Path) -> Counts | None:
    """What an environment's endpoint counted since it started; None if none runs that counts here."""
    folder = environment / MEASURES
    if not folder.is_dir():
        return None
    try:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=os.fspath(folder))  # type: ignore[no-untyped-call]
        samples = [sample for family in registry.collect() for sample in family.samples]
        files = tuple(sorted(f"{path.name}:{path.stat().st_ino}" for path in folder.glob("counter_*.db")))
    except (OSError, ValueError):  # it stops just now, or starts
        return None
    events: dict[str, float] = {}
    requests: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for sample in samples:
        labels = sample.labels
        if sample.name == "passerelle_events_total" and labels["role"] == "live":
            events[labels["status"]] = events.get(labels["status"], 0.0) + sample.value
        elif sample.name == "passerelle_requests_total" and labels["route"] == _PREDICT:
            kind = _kind(int(labels["code"]))
            requests[kind] = requests.get(kind, 0.0) + sample.value
        elif sample.name == "passerelle_request_seconds_bucket" and labels["route"] == _PREDICT:
            seconds[labels["le"]] = seconds.get(labels["le"], 0.0) + sample.value
    return Counts(events=events, requests=requests, seconds=seconds, files=files)


def since(before: Counts, now: Counts) -> Counts:
    """What was counted between two looks; all of it, if the endpoint started again in between.

    >>> since(Counts(events={"scored": 5}), Counts(events={"scored": 8, "failed": 1})).events
    {'scored': 3, 'failed': 1.0}
    """
    pairs = ((before.events, now.events), (before.requests, now.requests), (before.seconds, now.seconds))
    fewer = any(new.get(name, 0.0) < value for old, new in pairs for name, value in old.items())
    if fewer or not set(before.files) <= set(now.files):  # a worker that ended leaves its file behind
        return now
    return Counts(
        events=_less(now.events, before.events),
        requests=_less(now.requests, before.requests),
        seconds=_less(now.seconds, before.seconds),
    )


def quantile_s(seconds: Mapping[str, float], share: float) -> float:
    """The time that this share of the requests stayed below, by the buckets; even within a bucket.

    >>> quantile_s({"0.5": 90, "1.0": 100, "+Inf": 100}, 0.95)
    0.75
    """
    bounds = sorted((float(bound), count) for bound, count in seconds.items())
    total = bounds[-1][1] if bounds else 0.0
    low, below = 0.0, 0.0
    for bound, count in bounds:
        if count >= share * total and count > below:
            within = (share * total - below) / (count - below)
            return low if bound == float("inf") else low + within * (bound - low)
        low, below = (bound, count) if bound != float("inf") else (low, below)
    return low


def slower_than(seconds: Mapping[str, float], limit_s: float) -> float:
    """How many requests took longer; even within a bucket, and those beyond the last bound all do."""
    bounds = sorted((float(bound), count) for bound, count in seconds.items())
    total = bounds[-1][1] if bounds else 0.0
    low, below = 0.0, 0.0
    for bound, count in bounds:
        if limit_s <= bound:
            share = 0.0 if bound == float("inf") else (limit_s - low) / (bound - low)
            return total - (below + share * (count - below))
        low, below = bound, count
    return 0.0


def judge_latency(new: Counts, before: Latency | None, *, limit_ms: float) -> tuple[Latency, Finding] | None:
    """What a look sees of latency; None if it sees too few requests, and leaves them to the next."""
    requests = new.seconds.get("+Inf", 0.0)
    if requests < FEWEST:
        return None
    p99_ms = quantile_s(new.seconds, QUANTILE) * 1000
    slow = slower_than(new.seconds, limit_ms / 1000)
    latency = Latency(
        requests=int(requests),
        p50_ms=quantile_s(new.seconds, 0.5) * 1000,
        p99_ms=p99_ms,
        slow=int(slow),
        day_requests=int(requests) + (before.day_requests if before else 0),
    )
    figures = f"{slow:,.0f} of the last {requests:,.0f} requests took longer than {limit_ms:,.0f} ms"
    if p99_ms > limit_ms and slow >= FEWEST_BAD:
        sentence = f"{figures}: one in a hundred takes {p99_ms:,.0f} ms or more, and half {latency.p50_ms:,.0f} ms."
        return latency, Finding(state="firing", sentence=sentence, details=msgspec.to_builtins(latency))
    return latency, Finding(state="quiet" if p99_ms <= limit_ms else "unsure", sentence=f"{figures}.")


def judge_errors(new: Counts, before: Errors | None, *, limit_percent: float) -> tuple[Errors, Finding] | None:
    """What a look sees of errors; None if it sees too little, and leaves it to the next."""
    events, requests = new.total, sum(new.requests.values())
    if max(events, requests) < FEWEST:
        return None
    failed, late = new.events.get("failed", 0.0), new.events.get("timed_out", 0.0)
    refused, broken = new.requests.get("refused", 0.0), new.requests.get("failed", 0.0)
    of_events = 100 * (failed + late) / events if events else 0.0
    of_requests = 100 * (refused + broken) / requests if requests else 0.0
    percent = max(of_events, of_requests)
    errors = Errors(
        events=int(events),
        failed=int(failed),
        timed_out=int(late),
        requests=int(requests),
        requests_refused=int(refused),
        requests_failed=int(broken),
        percent=percent,
        day_events=int(events) + (before.day_events if before else 0),
        day_bad=int(failed + late) + (before.day_bad if before else 0),
    )
    if of_events >= of_requests:
        bad = failed + late
        figures = f"the model failed on {failed:,.0f} of the last {events:,.0f} events and was too slow for {late:,.0f}"
    else:
        bad = refused + broken
        figures = (
            f"of the last {requests:,.0f} requests {refused:,.0f} were refused, as the caller's fault, and "
            f"{broken:,.0f} failed"
        )
    if percent > limit_percent and bad >= FEWEST_BAD:
        sentence = f"{figures}: {percent:.1f} %, where {limit_percent:g} % may be."
        return errors, Finding(state="firing", sentence=sentence, details=msgspec.to_builtins(errors))
    return errors, Finding(state="quiet" if percent <= limit_percent else "unsure", sentence=f"{figures}.")


def calm_down(looked: Looked, watch: str, found: Finding) -> tuple[Looked, Finding]:
    """A finding of latency or errors that ends an alert only after CALM_LOOKS quiet ones in a row."""
    looks = looked.calm.get(watch, 0) + 1 if found.state == "quiet" else 0
    kept = msgspec.structs.replace(looked, calm=looked.calm | {watch: looks})
    early = found.state == "quiet" and looks < CALM_LOOKS
    return kept, msgspec.structs.replace(found, state="unsure") if early else found


def look_on(looked: Looked, now: Counts | None, *, at: datetime) -> Looked:
    """The seconds without an event after one more look, at a moment of machine time.

    Silence goes on while nothing is counted, an endpoint that is not there included; what passes between two looks
    counts up to a quarter of an hour.
    """
    new = since(looked.last, now).total if now is not None else 0.0
    if new > 0:
        silent: float | None = 0.0
    elif looked.silent_s is None or looked.at is None:
        silent = looked.silent_s
    else:
        silent = looked.silent_s + min(max((at - looked.at).total_seconds(), 0.0), _MOST_BETWEEN_S)
    return msgspec.structs.replace(looked, last=looked.last if now is None else now, at=at, silent_s=silent)


def allowed_minutes(days: Sequence[Silence], threshold: float | None) -> float:
    """How long silence may last: the threshold, or by the longest silences of earlier days.

    >>> allowed_minutes([Silence(longest_minutes=300.0)] * 7, None), allowed_minutes([], 30.0)
    (600.0, 30.0)
    """
    if threshold is not None:
        return threshold
    if len(days) < KNOWN_DAYS:
        return UNKNOWN_MINUTES
    return max(LEAST_MINUTES, _TIMES * max(day.longest_minutes for day in days))


def judge_silence(looked: Looked, *, allowed: float) -> Finding:
    """Has it been silent for longer than may be?"""
    if looked.silent_s is None:
        return Finding(state="unsure")
    minutes = looked.silent_s / 60
    if minutes > allowed:
        sentence = f"no event has come for {_span(minutes)}; up to {_span(allowed)} are expected."
        return Finding(state="firing", sentence=sentence, details={"minutes": minutes, "allowed": allowed})
    return Finding(state="quiet" if looked.silent_s == 0 else "unsure", sentence="events come again.")


def _span(minutes: float) -> str:
    if minutes >= 180:  # noqa: PLR2004  (three hours)
        return f"{minutes / 60:,.1f} hours"
    return "1 minute" if round(minutes) == 1 else f"{minutes:,.0f} minutes"


def _kind(code: int) -> str:
    return "failed" if code >= _FAILED else "refused" if code >= _REFUSED else "answered"


def _less(now: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0.0) for name, value in now.items()}
