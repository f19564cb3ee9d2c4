"""Drifting: are a day's inputs and scores like those of the days before? Pure; from profiles' counts.

Each field gives a few figures a day, its streams. Each stream is compared with its own earlier days (control), and what
is unlikely gathers as evidence, stream by stream; the mean over all streams raises the alarm. So the ordinary
differences between days, and the number of fields, raise none. ``drift`` is the same on plain arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
import numpy as np

from passerelle.bundle.profile import Field, Numeric, Profile
from passerelle.monitoring.alerts import Finding
from passerelle.monitoring.control import e_value, gather_all, mean_of, prediction_p
from passerelle.monitoring.drift import LEARNING
from passerelle.monitoring.streams import BOTH, SHARES, Stream, angle, coarse, field_streams, one_row, shares_of

#: A day with fewer rows is shown and not judged.
FEWEST_ROWS = 50
#: The most streams that an alert names.
NAMED = 5
#: So many bins are those that people know the population stability index of.
_STABILITY_BINS = 20

#: Kind of stream → the smallest change of its effect that matters; what is smaller gathers no evidence.
MATTERS = {"level": 0.1, "spread": math.log(1.1), "shape": 0.1, "top": 0.05, "missing": 0.05}


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that has changed."""

    field: str
    #: level, spread, shape, top or missing.
    kind: str
    #: Its effect on the days before, and on this day.
    before: float
    now: float
    evidence: float


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A day against its baseline."""

    #: The version whose reference profile the counts were made like.
    version: int
    rows: int
    #: "field.kind" → its figure.
    streams: dict[str, Stream]
    #: "field.kind" → evidence gathered since the baseline began, an alarm's day included; empty while one is learned.
    evidence: dict[str, float] = {}
    #: Mean evidence over the streams: what is compared with the threshold.
    mean: float = 0.0
    #: Days of the baseline that this day was compared with.
    baseline_days: int = 0
    #: The baseline begins anew with this day: an alarm, or another version's reference.
    restarts: bool = False
    alarm: bool = False
    #: The streams that an alarm names, the strongest first.
    named: tuple[Named, ...] = ()
    #: Field → population stability index against the reference: shown, never judged.
    stability: dict[str, float] = {}


def input_streams(day: Profile, reference: Profile) -> dict[str, Stream]:
    """The streams of a day's inputs; counts made like the reference's."""
    found: dict[str, Stream] = {}
    for name, field in day.inputs.items():
        for kind, stream in field_streams(field, reference.inputs[name]).items():
            found[f"{name}.{kind}"] = stream
    return found


def score_streams(day: Profile, reference: Profile) -> dict[str, Stream]:
    """The streams of a day's scores."""
    found: dict[str, Stream] = {}
    for number, (field, before) in enumerate(zip(day.scores, reference.scores, strict=True)):
        for kind, stream in field_streams(field, before).items():
            found[f"score {number}.{kind}"] = stream
    return found


def judge(
    earlier: Sequence[Judged],
    streams: Mapping[str, Stream],
    *,
    version: int,
    rows: int,
    stability: Mapping[str, float],
    false_alarm_every: float,
    matters: Mapping[str, float] = MATTERS,
) -> Judged:
    """A day after the earlier ones, oldest first. Pure.

    The baseline is every day since it last began anew; it begins with LEARNING days that are not judged.
    ``false_alarm_every`` holds for all streams together; ``matters`` has the least effect of each kind.
    """
    last = earlier[-1] if earlier else None
    plain = Judged(version=version, rows=rows, streams=dict(streams), stability=dict(stability))
    if last is None or last.version != version:
        return msgspec.structs.replace(plain, restarts=True)
    starts = [place for place, one in enumerate(earlier) if one.restarts]
    base = [one for one in earlier[starts[-1] if starts else 0 :] if one.rows >= FEWEST_ROWS]
    gathered = {} if last.restarts else last.evidence  # what has called somebody is not used again
    kept = msgspec.structs.replace(plain, evidence=gathered, mean=last.mean, baseline_days=len(base))
    if rows < FEWEST_ROWS or len(base) < LEARNING or not streams:
        return kept
    names = sorted(streams)
    kinds = [name.rpartition(".")[2] for name in names]
    everything = [*((one.streams, one.rows) for one in base), (streams, rows)]
    effects = np.array([[_of(found, name).effect for name in names] for found, _ in everything])
    values = np.array([[_of(found, name).value for name in names] for found, _ in everything])
    shares = np.array([kind in SHARES for kind in kinds])
    # Shares from their effect: earlier versions of passerelle kept another value.
    values[:, shares] = angle(effects[:, shares], np.array([[count] for _, count in everything]))
    least = one_row(kinds, mean_of(values[:-1]), rows)
    both = np.array([kind in BOTH for kind in kinds])
    p = prediction_p(values[:-1], values[-1], both=both, least=least)
    before, now = mean_of(effects[:-1]), effects[-1]
    large = np.abs(now - before) >= np.array([matters[kind] for kind in kinds])
    # Evidence below 1 is kept: where a change does not matter, only what speaks for it is cut.
    e = np.where(large, e_value(p), np.minimum(e_value(p), 1.0))
    earlier_sums = [gathered.get(name, 0.0) for name in names]
    sums, mean, alarm, strongest = gather_all(earlier_sums, e, false_alarm_every=false_alarm_every)
    named = [
        Named(
            field=names[place].rpartition(".")[0],
            kind=kinds[place],
            before=float(before[place]),
            now=float(now[place]),
            evidence=float(sums[place]),
        )
        for place in strongest[:NAMED]
    ]
    return msgspec.structs.replace(
        plain,
        evidence=dict(zip(names, sums.tolist(), strict=True)),
        mean=mean,
        baseline_days=len(base),
        restarts=alarm,
        alarm=alarm,
        named=tuple(named),
    )


def stability_index(day: Field, reference: Field) -> float | None:
    """Population stability index: sum of (share - reference share) ln(share / reference share); None without rows.

    It grows with the number of bins and shrinks with the rows, and has no scale of its own: it is shown, of 20 bins,
    and never calls anybody. Shares are kept above 0.0001.

    >>> one = Numeric(edges=(0.0,), counts=(50, 50), missing=0)
    >>> round(stability_index(Numeric(edges=(0.0,), counts=(80, 20), missing=0), one), 3)
    0.416
    """
    shares, before = shares_of(day), shares_of(reference)
    if shares is None or before is None:
        return None
    if isinstance(reference, Numeric):
        bins = coarse(before, _STABILITY_BINS)
        shares, before = (np.asarray(np.bincount(bins, weights=one), dtype=np.float64) for one in (shares, before))
    now, then = np.maximum(shares, 1e-4), np.maximum(before, 1e-4)
    return float(((now - then) * np.log(now / then)).sum())


def stability_of(day: Profile, reference: Profile) -> dict[str, float]:
    """Each field's population stability index, and each score's."""
    pairs = [(name, field, reference.inputs[name]) for name, field in day.inputs.items()]
    scores = zip(day.scores, reference.scores, strict=True)
    pairs += [(f"score {number}", one, two) for number, (one, two) in enumerate(scores)]
    found = {name: stability_index(one, two) for name, one, two in pairs}
    return {name: round(value, 4) for name, value in found.items() if value is not None}


def _of(streams: Mapping[str, Stream], name: str) -> Stream:
    return streams.get(name, Stream(math.nan, math.nan))


_WORDS = {
    "level": "its level moved by {change:+.2g} standard deviations of the reference",
    "spread": "its spread became {ratio:.2f} times what it was",
    "shape": "its distance from the reference went from {before:.2f} to {now:.2f}",
    "top": "the share of its most frequent value went from {before:.1%} to {now:.1%}",
    "missing": "the share that is missing went from {before:.1%} to {now:.1%}",
}


def finding(judged: Judged, start: datetime, *, what: str) -> Finding:
    """What a judged day means for the alert, in words; ``what`` is "inputs" or "scores"."""
    name = f"{start:%Y-%m-%d}"
    if judged.alarm:
        details = {
            "named": [msgspec.to_builtins(one) for one in judged.named],
            "evidence": judged.mean,
            "version": judged.version,
            "baseline_days": judged.baseline_days,
        }
        return Finding(state="firing", sentence=_sentence(judged, what, name), day=start, details=details)
    if judged.restarts:
        sentence = f"version {judged.version} answers, and its {what} are compared with its own reference from now on."
        return Finding(state="quiet", sentence=sentence, day=start)
    if judged.baseline_days >= LEARNING and judged.evidence:
        sentence = f"the {judged.baseline_days} days up to {name} agree with each other: this is how {what} are now."
        return Finding(state="quiet", sentence=sentence, day=start)
    return Finding(state="unsure", day=start)


def _sentence(judged: Judged, what: str, name: str) -> str:
    parts = [
        f"{one.field}: "
        + _WORDS[one.kind].format(
            change=one.now - one.before, ratio=math.exp(min(one.now - one.before, 50)), before=one.before, now=one.now
        )
        for one in judged.named
    ]
    return (
        f"the {what} of {name} differed from those of the {judged.baseline_days} days before. " + "; ".join(parts) + "."
    )
