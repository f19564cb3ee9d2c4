"""The page of drift: how far the inputs and scores of each day are from those before, field by field. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal

import msgspec
import numpy as np

from passerelle.bundle.profile import Categorical, Field, Hidden, Numeric, Profile
from passerelle.dashboard.reading import Seen
from passerelle.dashboard.unjudged import rows_of
from passerelle.dashboard.words import capital, counted, day, figure, listed
from passerelle.monitoring.rules import rule_of
from passerelle.monitoring.streams import coarse
from passerelle.monitoring.windows import Window

#: Days that the page can be asked for; the first is shown if nothing is asked.
SPANS = (90, 28, 365)
#: The most fields that the chart shows: those with the most evidence.
MOST_FIELDS = 30
#: The most histograms, and bars in one.
_MOST_HISTOGRAMS = 6
_BARS = 20
_NAMES = 12
_WATCHES: tuple[Literal["input_drift", "score_drift"], ...] = ("input_drift", "score_drift")


class FieldDrift(msgspec.Struct, frozen=True, kw_only=True):
    """A field's evidence, day by day."""

    name: str
    of: Literal["inputs", "scores"]
    #: The strongest of its streams, on each of the page's days; None where the day was not judged, or the field did not
    #: exist.
    evidence: tuple[float | None, ...]
    #: The largest of these, and its day; None where there is none.
    most: float | None
    most_day: datetime | None
    #: Evidence at which this stream would raise the alarm alone: the rule's threshold times the number of streams.
    alone: float
    #: Population stability index on the newest day that has one.
    stability: float | None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A rule's day: what decides."""

    start: datetime
    rows: int
    #: Mean evidence over all streams; None for a day that was not judged.
    mean: float | None
    alarm: bool
    #: The fields that an alarm names, the strongest first.
    named: tuple[str, ...]


class Raised(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm."""

    start: datetime
    of: Literal["inputs", "scores"]
    mean: float | None
    named: tuple[str, ...]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule on drift."""

    of: Literal["inputs", "scores"]
    #: An alarm is raised when the mean evidence reaches it; one false alarm in so many days at most.
    threshold: float
    days: tuple[Measured, ...]
    #: Since the first day: days that were judged, false alarms expected of them at most, alerts raised.
    judged: int
    expected: float
    raised: int


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """A field on one day beside its reference, as shares of what is not missing."""

    name: str
    labels: tuple[str, ...]
    reference: tuple[float, ...]
    day: tuple[float, ...]
    #: Shares of all rows.
    missing_reference: float | None
    missing: float | None


class DriftPage(msgspec.Struct, frozen=True, kw_only=True):
    """How far inputs and scores have moved."""

    sentence: str
    days: tuple[datetime, ...]
    #: How many days were asked for, and may be.
    span: int
    spans: tuple[int, ...]
    rules: tuple[Rule, ...]
    #: Of these days, newest first.
    alarms: tuple[Raised, ...]
    fields: tuple[FieldDrift, ...]
    #: How many fields beyond these there are.
    others: int
    #: The day of the histograms; None where nothing was counted.
    day: datetime | None
    #: The fields that were asked for or named, and have no histogram: no value of them is kept.
    hidden: tuple[str, ...]
    histograms: tuple[Histogram, ...]


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What the histograms are of."""

    start: datetime
    fields: tuple[str, ...]


def choose(seen: Seen, *, asked: date | None, fields: Sequence[str]) -> Chosen | None:
    """The day that was asked for, else the last alarm's, else the last; and its fields. None before there is a day."""
    windows = [one for watch in _WATCHES for one in seen.windows.get(watch, ())]
    if not windows:
        return None
    alarms = [one.start for one in windows if one.value.get("alarm")]
    last = max(one.start for one in windows)
    start = next((one.start for one in windows if one.start.date() == asked), None)
    start = start or (max(alarms) if alarms else last)
    there = [one for one in windows if one.start == start]
    named = [name for one in there for name in _named(one)]
    if not named:
        found = {name: value for one in there for name, value in _strongest(one).items()}
        named = sorted(found, key=lambda name: (-found[name], name))[:3]
    return Chosen(start=start, fields=tuple(dict.fromkeys([*fields, *named]))[:_MOST_HISTOGRAMS])


def drift_page(
    seen: Seen,
    *,
    span: int,
    chosen: Chosen | None,
    counts: Profile | None,
    reference: Profile | None,
    now: datetime,
) -> DriftPage:
    """The last ``span`` days, with the histograms of the chosen day where both counts are known."""
    rules = tuple(_rule(seen, watch) for watch in _WATCHES if seen.windows.get(watch))
    every = sorted({one.start for rule in rules for one in rule.days})
    first = every[-1] - (span - 1) * timedelta(days=1) if every else None
    days = tuple(start for start in every if first is not None and start >= first)
    fields = [one for watch in _WATCHES for one in _fields(seen, watch, days)]
    kept = sorted(fields, key=lambda one: -(one.most or 0.0))[:MOST_FIELDS]
    shown = tuple(one for one in fields if one in kept)
    histograms, hidden = _histograms(chosen, counts, reference)
    within = set(days)
    alarms = [
        Raised(start=one.start, of=rule.of, mean=one.mean, named=one.named)
        for rule in rules
        for one in rule.days
        if one.alarm and one.start in within
    ]
    return DriftPage(
        sentence=_sentence(rules, now=now),
        days=days,
        span=span,
        spans=SPANS,
        rules=tuple(
            msgspec.structs.replace(rule, days=tuple(one for one in rule.days if one.start in within)) for rule in rules
        ),
        alarms=tuple(sorted(alarms, key=lambda one: one.start, reverse=True)),
        fields=shown,
        others=len(fields) - len(shown),
        day=chosen.start if chosen else None,
        hidden=hidden,
        histograms=histograms,
    )


def _rule(seen: Seen, watch: Literal["input_drift", "score_drift"]) -> Rule:
    windows = seen.windows[watch]
    days = tuple(
        Measured(
            start=one.start,
            rows=rows_of(one),
            mean=_mean(one),
            alarm=bool(one.value.get("alarm")),
            named=_named(one),
        )
        for one in windows
    )
    threshold = rule_of(seen.project, watch).threshold or 1.0
    family = next((one for one in seen.budget.families if one.watch == watch), None)
    return Rule(
        of="inputs" if watch == "input_drift" else "scores",
        threshold=threshold,
        days=days,
        judged=family.days or 0 if family else 0,
        expected=family.expected or 0.0 if family else 0.0,
        raised=family.raised if family else 0,
    )


def _fields(seen: Seen, watch: Literal["input_drift", "score_drift"], days: Sequence[datetime]) -> list[FieldDrift]:
    windows = {one.start: one for one in seen.windows.get(watch, ())}
    there = [windows[start] for start in days if start in windows]
    streams = [set(one.value.get("streams") or {}) for one in there]
    names = list(dict.fromkeys(_field(stream) for some in streams for stream in sorted(some)))
    stability: dict[str, float] = next(
        (one.value["stability"] for one in reversed(there) if isinstance(one.value.get("stability"), dict)), {}
    )
    names += [name for name in stability if name not in names]
    strongest = [_strongest(windows[start]) if start in windows else {} for start in days]
    threshold = (rule_of(seen.project, watch).threshold or 1.0) * max((len(some) for some in streams), default=1)
    found = []
    for name in names:
        evidence = tuple(one.get(name) for one in strongest)
        known = [(value, start) for value, start in zip(evidence, days, strict=True) if value is not None]
        most, most_day = max(known, key=lambda pair: pair[0], default=(None, None))
        found.append(
            FieldDrift(
                name=name,
                of="inputs" if watch == "input_drift" else "scores",
                evidence=evidence,
                most=most,
                most_day=most_day,
                alone=threshold,
                stability=stability.get(name),
            )
        )
    return found


def _field(stream: str) -> str:
    return stream.rpartition(".")[0]


def _named(window: Window) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(one["field"]) for one in window.value.get("named") or ()))


def _mean(window: Window) -> float | None:
    judged = window.value.get("evidence") or window.value.get("alarm")
    return _number(window.value.get("mean")) if judged else None


def _strongest(window: Window) -> dict[str, float]:
    """Field → the evidence of its strongest stream; of an alarm's day older states keep those that it names alone."""
    found: dict[str, float] = {}
    named = [(f"{one['field']}.", one["evidence"]) for one in window.value.get("named") or ()]
    for stream, value in [*(window.value.get("evidence") or {}).items(), *named]:
        known = _number(value)
        if known is not None:
            found[_field(stream)] = max(known, found.get(_field(stream), 0.0))
    return found


def _sentence(rules: Sequence[Rule], *, now: datetime) -> str:
    days = [one for rule in rules for one in rule.days]
    if not days:
        return "No day has been measured yet: the loop counts each day's inputs and scores when it has closed."
    judged = [one for one in days if one.mean is not None]
    last = max(one.start for one in days)
    if not judged:
        return f"Drift is not judged yet: {day(last, now=now)} was counted, and 14 days are learned first."
    alarms = [(one, rule.of) for rule in rules for one in rule.days if one.alarm]
    if not alarms:
        first = min(one.start for one in days)
        return f"Nothing has drifted since {day(first, now=now)}: no alarm has been raised."
    newest, of = max(alarms, key=lambda pair: pair[0].start)
    told = f"{counted(len(alarms), 'alarm')} of drift so far, the last on {day(newest.start, now=now)}"
    return capital(f"{told}: the {of} differed from the days before ({listed(list(newest.named[:4]))}).")


def _histograms(
    chosen: Chosen | None, counts: Profile | None, reference: Profile | None
) -> tuple[tuple[Histogram, ...], tuple[str, ...]]:
    if chosen is None or counts is None or reference is None:
        return (), ()
    made, hidden = [], []
    now, before = _all_fields(counts), _all_fields(reference)
    for name in chosen.fields:
        if name not in now or name not in before:
            continue
        histogram = _histogram(name, now[name], before[name])
        if histogram is None:
            hidden.append(name)
        else:
            made.append(histogram)
    return tuple(made), tuple(hidden)


def _all_fields(profile: Profile) -> dict[str, Field]:
    scores: Mapping[str, Field] = {f"score {number}": field for number, field in enumerate(profile.scores)}
    return {**profile.inputs, **scores}


def _histogram(name: str, now: Field, before: Field) -> Histogram | None:
    """None for a field of which no values are kept, or that was counted otherwise than the reference."""
    if isinstance(now, Numeric) and isinstance(before, Numeric) and now.edges == before.edges and any(before.counts):
        labels, then, today = _numeric(now, before)
    elif isinstance(now, Categorical) and isinstance(before, Categorical) and now.values.keys() == before.values.keys():
        labels, then, today = _categorical(now, before)
    else:
        return None
    return Histogram(
        name=name,
        labels=tuple(labels),
        reference=_shares(then),
        day=_shares(today),
        missing_reference=_missing(before),
        missing=_missing(now),
    )


def _numeric(now: Numeric, before: Numeric) -> tuple[list[str], list[float], list[float]]:
    """Bins of about equal shares of the reference, named by where they begin and end."""
    bins = coarse(before.counts, _BARS)
    used = np.unique(bins)
    then = np.bincount(bins, weights=before.counts)[used]
    today = np.bincount(bins, weights=now.counts)[used]
    ends = [-math.inf, *before.edges, math.inf]
    labels = []
    for one in used:
        there = np.flatnonzero(bins == one)
        labels.append(_between(ends[there[0]], ends[there[-1] + 1]))
    return labels, then.tolist(), today.tolist()


def _between(low: float, high: float) -> str:
    if math.isinf(low):
        return f"below {figure(high)}"
    return f"{figure(low)} and more" if math.isinf(high) else f"{figure(low)} to {figure(high)}"


def _categorical(now: Categorical, before: Categorical) -> tuple[list[str], list[float], list[float]]:
    """The names with the most rows, then all others together."""
    names = sorted(before.values, key=lambda name: -(before.values[name] + now.values[name]))
    kept, rest = names[:_NAMES], names[_NAMES:]
    then = [float(before.values[name]) for name in kept] + [before.other + sum(before.values[one] for one in rest)]
    today = [float(now.values[name]) for name in kept] + [now.other + sum(now.values[one] for one in rest)]
    return [*kept, "all others"], then, today


def _shares(counts: Sequence[float]) -> tuple[float, ...]:
    total = sum(counts)
    return tuple(count / total if total else 0.0 for count in counts)


def _missing(field: Field) -> float | None:
    if isinstance(field, Hidden):
        return None
    present = sum(field.counts) if isinstance(field, Numeric) else sum(field.values.values()) + field.other
    return field.missing / (present + field.missing) if present + field.missing else None


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def table(page: DriftPage) -> list[dict[str, Any]]:
    """The page as a table: a row for each field and day that was judged."""
    return [
        {"day": start, "of": field.of, "field": field.name, "evidence": value, "alarm_alone_at": field.alone}
        for field in page.fields
        for start, value in zip(page.days, field.evidence, strict=True)
        if value is not None
    ]
