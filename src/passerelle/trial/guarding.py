"""Guarding: is what must not get worse (errors, invalid answers) no worse than its margin? Exact bets on 0/1. Pure.

A guardrail is a loss of 0 or 1 for the first event of each unit, labelled or not: a unit stays with its version, so
that what it does again would be the same draw once more (one that always fails would roll anything back). In a shadow
d = challenger's - champion's; in a split d is 1 / p where the challenger (drawn with the probability p) did it,
-1 / (1 - p) where the champion did, else 0: given the past its mean is the difference of the shares. As in betting, for
a null u the products of 1 + bet (u - d) are supermartingales while the mean is at least u. The bets are fixed, shares
of the largest that can be borne at each share of traffic, so that a day's counts are all that is needed, in any order;
their mean needs no plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from passerelle.trial.comparing import Array
from passerelle.trial.counts import Tally
from passerelle.trial.verdict import Block, Guarding, Plan

#: Bets, as shares of 1 / (the width of what d can be); their products weigh the same.
_SIZES = np.array([0.003, 0.01, 0.03, 0.1, 0.3, 0.9])
_STEPS = 50


class Guarded(NamedTuple):
    """What a guardrail says at each block."""

    #: After how many blocks it is proven within its margin, and proven worse than is borne; None: not.
    passed: int | None
    failed: int | None
    #: Is it proven worse by all blocks together?
    fails_now: bool
    says: Guarding


def guard(plan: Plan, blocks: Sequence[Block], number: int) -> Guarded:
    """The guardrail of this number in the plan.

    Within the margin at alpha, as every other condition of a promotion; worse than is borne (0 in a split, in a shadow
    the margin) at alpha / (2 K) with K guardrails, so that a false roll-back of whatever sort has alpha at most. A
    split is looked at twice, by its closed days and by all events as they come (failing), which are two courses of
    evidence where events come late: each has half of that.
    """
    guardrail = plan.guardrails[number]
    days = [block.guards[number] if number < len(block.guards) else () for block in blocks]
    shares = 2 * len(plan.guardrails) * (2 if plan.mode == "split" else 1)
    needed, needed_below = -math.log(plan.alpha), -math.log(plan.alpha / shares)
    borne = guardrail.margin if plan.mode == "shadow" else 0.0
    above, below = _Counted(days, turned=False), _Counted(days, turned=True)
    passed, failed = above.refuted(guardrail.margin, needed), below.refuted(-borne, needed_below)
    tallies = [tally for day in days for tally in day]
    return Guarded(
        passed,
        failed,
        below.refutes(-borne, needed_below),
        Guarding(
            watch=guardrail.watch,
            margin=guardrail.margin,
            estimate=_estimate(tallies),
            lower=-below.bound(needed_below),
            upper=above.bound(needed),
            events=sum(tally.events for tally in tallies),
            state="fail" if failed is not None else "pass" if passed is not None else "pending",
            limit_ms=guardrail.limit_ms,
            unmeasured=sum(tally.unmeasured for tally in tallies),
        ),
    )


def guarded_words(guarding: Guarding) -> str:
    """A guardrail in words."""
    names = {"errors": "errors", "invalid": "invalid answers", "latency": f"no answer in {guarding.limit_ms or 0:g} ms"}
    without = f" ({guarding.unmeasured:,} events have no latency in the ledger)" if guarding.unmeasured else ""
    if guarding.estimate is None:
        return f"{names[guarding.watch]}: no event yet{without}"
    return (
        f"{names[guarding.watch]} {guarding.estimate:+.2%} ({guarding.lower:+.2%} to {guarding.upper:+.2%}, margin "
        f"{guarding.margin:+.2%}): {guarding.state}{without}"
    ).replace("%", " %")


def all_passed(found: Sequence[Guarded]) -> int | None:
    """After how many blocks every guardrail has passed: 0 where there is none; None while one has not."""
    passed = [one.passed for one in found if one.passed is not None]
    return max(passed, default=0) if len(passed) == len(found) else None


class _Counted:
    """Events up to each day, by share: without, with the challenger's alone, with the champion's; of shape (days,)."""

    def __init__(self, days: Sequence[Sequence[Tally]], *, turned: bool) -> None:
        self._parts: list[tuple[Array, Array, Array, float, float]] = []
        self._days = len(days)
        for share in sorted({tally.share for day in days for tally in day}, key=lambda share: share or 0.0):
            counts = [
                [(tally.events - tally.worse - tally.better, tally.worse, tally.better)]
                for day in days
                for tally in [next((one for one in day if one.share == share), _NOTHING)]
            ]
            without, worse, better = np.cumsum(np.array(counts, dtype=np.float64)[:, 0], axis=0).T
            up, down = _weights(share)
            self._parts.append((without, better, worse, down, up) if turned else (without, worse, better, up, down))

    def refuted(self, null: float, needed: float) -> int | None:
        """After how many days a mean of ``null`` or more is refuted; None if it is not."""
        reached = self._evidence(null) >= needed
        return int(reached.argmax()) + 1 if reached.any() else None

    def refutes(self, null: float, needed: float) -> bool:
        """Is a mean of ``null`` or more refuted by all days together?"""
        return bool(self._days) and bool(self._evidence(null)[-1] >= needed)

    def bound(self, needed: float) -> float:
        """The running upper bound after the last day: the smallest mean that was refuted, at most 1."""
        accepted, refuted = -1.0, 1.0
        if self.refuted(refuted, needed) is None:
            return refuted
        for _ in range(_STEPS):
            middle = (accepted + refuted) / 2
            if self.refuted(middle, needed) is None:
                accepted = middle
            else:
                refuted = middle
        return refuted

    def _evidence(self, null: float) -> Array:
        """Its logarithm after each day."""
        logs = np.zeros((self._days, len(_SIZES)))
        for without, worse, better, up, down in self._parts:
            bets = _SIZES / (up + down)
            logs += without[:, None] * np.log1p(bets * null)
            logs += worse[:, None] * np.log1p(bets * (null - up)) + better[:, None] * np.log1p(bets * (null + down))
        return np.asarray(np.logaddexp.reduce(logs, axis=1) - math.log(len(_SIZES)))


_NOTHING = Tally(events=0, worse=0, better=0)


def _estimate(tallies: Sequence[Tally]) -> float | None:
    events = sum(tally.events for tally in tallies)
    if not events:
        return None
    weighted = [(tally, *_weights(tally.share)) for tally in tallies]
    return math.fsum(tally.worse * up - tally.better * down for tally, up, down in weighted) / events


def _weights(share: float | None) -> tuple[float, float]:
    """What an event counts that the challenger, and that the champion, did alone."""
    return (1.0, 1.0) if share is None else (1 / share, 1 / (1 - share))
