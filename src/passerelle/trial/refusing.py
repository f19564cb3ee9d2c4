"""Refusing: what makes a trial INVALID: units that do not go where they should, outcomes that are no fair sample. Pure.

The evidence of each is a nonnegative martingale while nothing is wrong, so that one may look after every block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.trial.ratio import log_evidence
from passerelle.trial.verdict import Block, Plan

#: The probability that a split whose units go where they should is ever called INVALID.
RATIO_ALPHA = 0.001
#: The probability that outcomes which depend on the score by no more than the tolerance are ever called selective.
SELECTIVE_ALPHA = 0.001
#: So much more often (less often) may the events of the highest scores have an outcome than the others.
SELECTIVE_TOLERANCE = 0.1
#: The bets on that difference, which lies in [-1, 1]; their products weigh the same.
_BETS = np.array([0.02, 0.06, 0.15, 0.45])
#: Two ends of the scores, two directions.
_SIDES = 4

Why = Literal["assigned", "labelled", "selective"]


class Refusal(NamedTuple):
    """Why nothing can be concluded."""

    #: After how many blocks.
    blocks: int
    why: Why


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """How well the arms of a split fit their shares."""

    #: Units that came, or of these the ones that had an outcome on their first day.
    which: Literal["assigned", "labelled"]
    #: Of (champion, challenger).
    units: tuple[int, int]
    #: Of the units, how many the challenger should have: where the share was changed, the mean of those in force.
    expected: float | None
    #: Logarithm (base 10) of the evidence that they do not fit, the most so far, and where it makes the trial INVALID.
    evidence: float
    refused_at: float


def refusal(plan: Plan, blocks: Sequence[Block]) -> Refusal | None:
    """The first block after which nothing can be concluded; None while all is well.

    In a split the units that came must fit the share, and so must those whose outcomes came too: outcomes that one arm
    lacks bias what is compared. In both modes, whether an outcome exists must not hang on the score that was served:
    the challenger would be judged on what the champion let happen.
    """
    found = []
    if plan.mode == "split":
        assigned = _astray(plan, blocks, labelled=False)
        labelled = _astray(plan, blocks, labelled=True)
        found += [Refusal(at, "assigned") for at in [assigned] if at is not None]
        found += [Refusal(at, "labelled") for at in [labelled] if at is not None]
    if (at := _selective(blocks)) is not None:
        found.append(Refusal(at, "selective"))
    return min(found, key=lambda one: one.blocks, default=None)  # of equals the first


def fits(plan: Plan, blocks: Sequence[Block]) -> tuple[Fit, ...]:
    """What a split's test of its shares says after these blocks: of all units, and of those with an outcome."""
    found: list[Fit] = []
    which: tuple[Literal["assigned", "labelled"], ...] = ("assigned", "labelled")
    for one in which if plan.mode == "split" else ():
        at = [units_at_shares(plan, block, labelled=one == "labelled") for block in blocks]
        counts = [(share, *units) for day in at for share, units in day.items()]
        total = sum(champion + challenger for _, champion, challenger in counts)
        wanted = sum(share * (champion + challenger) for share, champion, challenger in counts)
        evidence = _ratio_evidence(plan, blocks, labelled=one == "labelled")
        found.append(
            Fit(
                which=one,
                units=(sum(champion for _, champion, _ in counts), sum(challenger for *_, challenger in counts)),
                expected=wanted / total if total else None,
                evidence=float(evidence.max(initial=0.0)) / math.log(10),
                refused_at=-math.log10(RATIO_ALPHA),
            )
        )
    return tuple(found)


def units_at_shares(plan: Plan, block: Block, *, labelled: bool) -> dict[float, tuple[int, int]]:
    """Challenger's share → units of (champion, challenger) that came at it on this day."""
    if block.stages:
        return {stage.share: stage.labelled if labelled else stage.units for stage in block.stages}
    return {plan.share: (block.labelled_units or (0, 0)) if labelled else block.units}


def _astray(plan: Plan, blocks: Sequence[Block], *, labelled: bool) -> int | None:
    """After how many blocks the arms of a split do not fit their shares; None if they do.

    Each share that was in force has a test of its own; their product is one test of all (each starts when its share
    does, and has the mean 1 until then).
    """
    alarms = _ratio_evidence(plan, blocks, labelled=labelled) >= -math.log(RATIO_ALPHA)
    return int(alarms.argmax()) + 1 if alarms.any() else None


def _ratio_evidence(plan: Plan, blocks: Sequence[Block], *, labelled: bool) -> NDArray[np.float64]:
    """Its logarithm after each block."""
    days = [units_at_shares(plan, block, labelled=labelled) for block in blocks]
    total = np.zeros(len(blocks))
    for share in sorted({share for day in days for share in day}):
        units = np.cumsum([day.get(share, (0, 0)) for day in days], axis=0)
        total += log_evidence([units[:, 0], units[:, 1]], [1 - share, share])
    return total


def _selective(blocks: Sequence[Block]) -> int | None:
    """After how many blocks outcomes are proven to depend on the score; None if they are not.

    A bet on each of the day's differences d, in [-1, 1]: the product of 1 + bet (d - tolerance) is a nonnegative
    supermartingale while the mean of d, given the past, is no more than the tolerance (as in betting); so for -d.
    """
    first = None
    for end in (0, 1):
        for sign in (1.0, -1.0):
            logs = np.zeros(len(_BETS))
            for number, block in enumerate(blocks, 1):
                parts = np.array(block.selective[end] if block.selective is not None else ())
                logs = logs + np.log1p(np.multiply.outer(_BETS, sign * parts - SELECTIVE_TOLERANCE)).sum(axis=1)
                if np.logaddexp.reduce(logs) - math.log(len(_BETS)) >= -math.log(SELECTIVE_ALPHA / _SIDES):
                    first = number if first is None else min(first, number)
                    break
    return first
