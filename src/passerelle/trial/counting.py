"""Counting: what a day's events say besides their losses: coverage and delay, stages of traffic, guardrails, clusters.

Pure. Labels that depend on the score: the events of the highest tenth of the day's scores stand beside as many others,
spread over the same day, and so do those of the lowest tenth. Each pair says whether one of the two alone has its
outcome; neighbouring pairs share one value, so that one bad day cannot say more than ten of them do.

Latency: what holds a model up (a restart, a full disk) holds up all events of those seconds, so that they are one
observation: of the events received in one minute the first counts, whoever answered it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerelle.project.settings import Guardrail
from passerelle.trial.comparing import Array, Compared, Losses, challenger_chances, invalid, only, scores_of
from passerelle.trial.counts import DELAY_PARTS, Arm, Clusters, Stage, Tally
from passerelle.trial.verdict import Plan

_TENTH = 0.1
_HALF = 0.5
#: The most values that a day has of either end of the scores.
_PARTS = 10
_MICROSECONDS_A_MINUTE = 60_000_000
_MICROSECONDS_AN_HOUR = 3_600_000_000
_DECIMALS = 9


class Delays(NamedTuple):
    """When outcomes came."""

    #: As microseconds since 1970.
    known_us: Array
    #: In which part of the horizon.
    part: Array


def arms_of(plan: Plan, compared: Compared, losses: Losses) -> tuple[Arm, Arm]:
    """Champion's and challenger's events; ``losses`` are those of the labelled ones, in order."""
    part = delays_of(plan, compared).part

    def arm(mine: Array, capped: Array) -> Arm:
        labelled = mine & compared.known
        return Arm(
            events=int(mine.sum()),
            labelled=int(labelled.sum()),
            capped=int(capped.sum()) if plan.cap is not None else 0,
            delays=tuple(np.bincount(part[labelled], minlength=DELAY_PARTS).tolist()),
        )

    if compared.beside is not None:
        both = np.ones(len(compared.known), dtype=bool)
        return arm(both, losses.capped[0]), arm(both, losses.capped[1])
    known, cut = compared.challenger[compared.known], losses.capped[0]
    if len(cut) < len(known):  # nothing was compared
        cut = np.zeros(len(known), dtype=bool)
    return arm(~compared.challenger, cut[~known]), arm(compared.challenger, cut[known])


def delays_of(plan: Plan, compared: Compared) -> Delays:
    """When each event's outcome was known; 0 where it was not."""
    known_us = np.asarray(pc.cast(compared.rows["known_at"], pa.int64()).fill_null(0), dtype=np.int64)
    late = (known_us - compared.at_us) / (plan.horizon_hours * _MICROSECONDS_AN_HOUR)
    return Delays(known_us, np.clip((late * DELAY_PARTS).astype(np.int64), 0, DELAY_PARTS - 1))


def stages_of(plan: Plan, arrivals: pa.Table, labelled: Array) -> tuple[Stage, ...]:
    """The units that came, by the challenger's share then; () where it always was the plan's. ``labelled``: which."""
    challenger, shares = arrival_shares(plan, arrivals)
    if not np.abs(shares - plan.share).max(initial=0.0) > 10**-_DECIMALS:
        return ()
    return tuple(
        Stage(
            share=share,
            units=_two(challenger[shares == share]),
            labelled=_two(challenger[(shares == share) & labelled]),
        )
        for share in np.unique(shares).tolist()
    )


def arrival_shares(plan: Plan, arrivals: pa.Table) -> tuple[Array, Array]:
    """Of each unit that came: did the challenger answer it first, and the challenger's share then."""
    challenger = np.asarray(pc.equal(arrivals["version"], plan.challenger), dtype=bool)
    chance = np.asarray(arrivals["probability"], dtype=np.float64)
    return challenger, np.round(np.where(challenger, chance, 1 - chance), _DECIMALS)


def guards_of(plan: Plan, compared: Compared, arrivals: pa.Table | None) -> tuple[tuple[Tally, ...], ...]:
    """The tallies of each guardrail of the plan, over the day's events, labelled or not.

    With ``arrivals``, the units that came first on this day, only the first event of each: what a unit does again is no
    new evidence, and in a split its version is no new draw.
    """
    if not plan.guardrails:
        return ()
    if arrivals is not None:
        units = compared.units.combine_chunks()
        first = np.zeros(len(units), dtype=bool)
        first[np.unique(np.asarray(units.dictionary_encode().indices), return_index=True)[1]] = True
        compared = only(compared, first & np.asarray(pc.is_in(units, value_set=arrivals["unit"].combine_chunks())))
    return tuple(_tallies(plan, compared, guardrail) for guardrail in plan.guardrails)


def clusters_of(units: pa.ChunkedArray, values: Array) -> Clusters | None:
    """How alike the values of one unit are on this day; None where each value is another unit's."""
    if not len(values):
        return None
    codes = np.asarray(units.combine_chunks().dictionary_encode().indices)
    counts = np.bincount(codes)
    if len(counts) == len(values):
        return None
    means = np.bincount(codes, weights=values) / counts
    return Clusters(
        groups=len(counts),
        rows=len(values),
        squared_rows=int((counts**2).sum()),
        between=float((counts * (means - values.mean()) ** 2).sum()),
        within=float(((values - means[codes]) ** 2).sum()),
    )


def selective_of(plan: Plan, compared: Compared) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """How much more often the highest (the lowest) tenth of the served scores has an outcome than the other events."""
    scores = scores_of(plan, compared.rows)
    scored = np.isfinite(scores)
    return _more_often(scores[scored], compared.known[scored]), _more_often(-scores[scored], compared.known[scored])


def gathered(values: Array, most: int | None) -> Array:
    """The values, or the means of as many neighbours as it takes to have no more than ``most``.

    The mean of neighbours has the same mean, given the past, and the same bounds: what is exact for values is for them.

    >>> gathered(np.array([1.0, 3.0, 5.0, 7.0]), 2).tolist()
    [2.0, 6.0]
    """
    if most is None or len(values) <= most:
        return values
    edges = np.linspace(0, len(values), most + 1).astype(np.int64)
    found: Array = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    return found


def _more_often(scores: Array, known: Array) -> tuple[float, ...]:
    if len(scores) < 2:  # noqa: PLR2004  (a pair)
        return ()
    edge = np.quantile(scores, 1 - _TENTH, method="lower")
    extreme = scores > edge if (scores > edge).any() else scores >= edge
    if extreme.mean() > _HALF:
        return ()  # hardly any other score: there is no end to compare
    ours, others = known[extreme], known[~extreme]
    beside = others[((np.arange(len(ours)) + _HALF) * len(others) / len(ours)).astype(np.int64)]
    return tuple(gathered(ours.astype(np.float64) - beside, _PARTS).tolist())


def _tallies(plan: Plan, compared: Compared, guardrail: Guardrail) -> tuple[Tally, ...]:
    bad = [_bad(plan, side, guardrail) for side in compared.sides]
    counted, unmeasured = np.ones_like(bad[0]), np.zeros_like(bad[0])
    if guardrail.watch == "latency":
        counted, unmeasured = _timed(compared)
    if compared.beside is not None:
        champion, challenger = bad
        return (_tally(None, counted, challenger & ~champion, champion & ~challenger, unmeasured),)
    shares = np.round(challenger_chances(compared), _DECIMALS)
    return tuple(
        _tally(
            share,
            counted & (shares == share),
            bad[0] & compared.challenger,
            bad[0] & ~compared.challenger,
            unmeasured & (shares == share),
        )
        for share in np.unique(shares).tolist()
    )


def _tally(share: float | None, counted: Array, worse: Array, better: Array, unmeasured: Array) -> Tally:
    return Tally(
        share=share,
        events=int(counted.sum()),
        worse=int((counted & worse).sum()),
        better=int((counted & better).sum()),
        unmeasured=int(unmeasured.sum()),
    )


def _bad(plan: Plan, side: pa.Table, guardrail: Guardrail) -> Array:
    """On which events a version did what must not be."""
    if guardrail.watch == "invalid":
        return invalid(plan, side)
    if guardrail.limit_ms is None:
        # What came too late is for latency: what holds a version up is no fault of its own, and one for many events.
        return np.asarray(pc.equal(side["status"], "failed"), dtype=bool)
    # Whoever fails at once is not quick: by the limit there was no answer.
    failed = np.asarray(pc.not_equal(side["status"], "scored"), dtype=bool)
    slow = pc.fill_null(pc.greater(side["latency_ms"], guardrail.limit_ms), fill_value=False)
    late: Array = failed | np.asarray(slow, dtype=bool)
    return late


def _timed(compared: Compared) -> tuple[Array, Array]:
    """Which events count for latency, and which have none in the ledger."""
    measured = np.ones(len(compared.at_us), dtype=bool)
    for side in compared.sides:
        measured &= np.asarray(pc.is_valid(side["latency_ms"]), dtype=bool)
    received_us = np.asarray(pc.cast(compared.rows["received_at"], pa.int64()), dtype=np.int64)
    counted = np.zeros_like(measured)
    [with_time] = np.nonzero(measured)
    counted[with_time[np.unique(received_us[measured] // _MICROSECONDS_A_MINUTE, return_index=True)[1]]] = True
    return counted, ~measured


def _two(challenger: Array) -> tuple[int, int]:
    return int((~challenger).sum()), int(challenger.sum())
