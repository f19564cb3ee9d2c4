"""Ours: the public functions of the package, as the bars test them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from benchmarks.statistics.frame import Methods
from passerelle.bundle.profile import Categorical, Field, Profile
from passerelle.ledger.position import Position
from passerelle.monitoring import drift, drifting
from passerelle.monitoring.tolerance import beyond
from passerelle.trial import blocks, breaker, paired, ratio, split
from passerelle.trial.verdict import Plan


def cohort(happened_at: Any, known_at: Any, *, horizon: float, now: float) -> Any:
    """The events whose horizon has passed, with an outcome within it, in the order in which they happened.

    As passerelle.monitoring.maturity reads them from the ledger (tests/trial/test_replaying.py: there on real files).
    """
    counts = (happened_at + horizon <= now) & (known_at <= happened_at + horizon)
    order = np.argsort(happened_at, kind="stable")
    return order[counts[order]]


def units(losses: Any, keys: Any) -> tuple[Any, Any]:
    """One value per key: its mean loss, with the place of its first event (whose arm is the key's)."""
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    means = np.bincount(which, weights=losses) / np.bincount(which)
    order = np.argsort(first)
    return means[order], first[order]


def counted(reference: Any, windows: Any, *, false_alarm_every: float) -> list[int]:
    """Days of names and of what is missing, as production judges them; any change matters."""
    everything = dict.fromkeys(drifting.MATTERS, 0.0)
    rows = int(windows[0, 0].sum())
    like = _profile(reference.sum(axis=0))
    days: list[drifting.Judged] = []
    for counts in (*reference, *windows):
        streams = drifting.input_streams(_profile(counts), like)
        if len(days) < len(reference):  # they are given
            days.append(drifting.Judged(version=1, rows=rows, streams=streams, restarts=not days))
        else:
            earlier = days[-120:]  # as many as monitoring.watching reads
            days.append(
                drifting.judge(
                    earlier,
                    streams,
                    version=1,
                    rows=rows,
                    stability={},
                    false_alarm_every=false_alarm_every,
                    matters=everything,
                )
            )
    return [place for place, day in enumerate(days[len(reference) :]) if day.alarm]


def _profile(counts: Any) -> Profile:
    fields: dict[str, Field] = {
        f"field {number}": Categorical(
            values={f"{place:03d}": count for place, count in enumerate(row[:-1])}, other=0, missing=row[-1]
        )
        for number, row in enumerate(counts.tolist())
    }
    return Profile(rows=int(counts[0].sum()), inputs=fields, scores=())


def tripped(failed: Any, *, percent: float) -> int | None:
    """After how many answers the breaker ends the trial, if it looks after each of them.

    It is asked where it can have come to another answer: after a failure, and at the first look of all.
    """
    plan = msgspec.structs.replace(_SPLIT, breaker_percent=percent)
    for at in sorted({breaker.LEAST, *(np.flatnonzero(failed) + 1).tolist()}):
        last = tuple(failed[max(0, at - breaker.LAST) : at][::-1].tolist())
        seen = breaker.Answers(revisions=(1,) * len(last), failed=last, since=_SINCE, position=Position())
        if breaker.breaks(plan, seen) is not None:
            return int(at)
    return None


_SINCE = datetime(2013, 2, 1, tzinfo=UTC)
_SPLIT = Plan(
    id="production-2-2",
    environment="production",
    champion=1,
    challenger=2,
    mode="split",
    share=0.5,
    task="binary",
    classes=(False, True),
    loss="brier",
    cap=None,
    margin=0.01,
    reference=0.2,
    reference_source="made",
    alpha=0.05,
    unit="day",
    min_days=14,
    max_days=60,
    horizon_hours=36.0,
    rollback_above=0.01,
    planned_n=1000,
    started_at=_SINCE,
)
OURS = Methods(
    name="ours",
    paired=paired,
    split=split,
    blocks=blocks,
    ratio=ratio,
    cohort=cohort,
    units=units,
    drift=drift,
    performance=beyond,
    counted=counted,
    breaker=tripped,
)
