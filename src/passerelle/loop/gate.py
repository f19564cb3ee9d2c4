"""The gate: is a candidate too much worse than the champion, on the same held-out rows, to become a version? Pure."""

from __future__ import annotations

import math

import msgspec

from passerelle.metrics import SCORES


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found, with its reason in one sentence."""

    passed: bool
    #: What was compared.
    metric: str
    candidate: float
    #: The champion's value; None if there is no champion yet.
    champion: float | None
    #: The value that the candidate must not be beyond; None without a champion.
    bound: float | None
    sentence: str


def judge(
    metric: str,
    *,
    candidate: float,
    champion: float | None,
    margin: float,
    refuse_above: float,
    rows: int,
    rival: str = "champion",
) -> GateResult:
    """Refuse only what is worse than the champion by more than ``refuse_above`` margins.

    The margin is a share of the champion's loss; for scores (auc, accuracy) it is in points. Whether a candidate
    inside the bound is really no worse is for a trial to say: the gate only keeps out what is plainly broken.

    ``rival`` is what the other is called: where there is no champion yet, a constant answer takes its place.

    >>> judge("log_loss", candidate=0.52, champion=0.50, margin=0.03, refuse_above=2, rows=7000).sentence
    'log_loss 0.52 on 7,000 held-out rows, champion 0.5: within the bound of 0.53.'
    >>> judge("auc", candidate=0.60, champion=0.70, margin=0.03, refuse_above=2, rows=7000).passed
    False
    """
    place = f"{metric} {candidate:.4g} on {rows:,} held-out rows"
    if not math.isfinite(candidate):
        sentence = f"{place} is not a number: look at the model's answers on the holdout."
        return GateResult(
            passed=False, metric=metric, candidate=candidate, champion=champion, bound=None, sentence=sentence
        )
    if champion is None or not math.isfinite(champion):
        sentence = f"{place}; there is no {rival} to compare with."
        return GateResult(passed=True, metric=metric, candidate=candidate, champion=None, bound=None, sentence=sentence)
    slack = margin * refuse_above
    bound = champion - slack if metric in SCORES else champion * (1 + slack)
    passed = candidate >= bound if metric in SCORES else candidate <= bound
    side = "within the bound" if passed else "beyond the bound"
    sentence = f"{place}, {rival} {champion:.4g}: {side} of {bound:.4g}."
    return GateResult(
        passed=passed, metric=metric, candidate=candidate, champion=champion, bound=bound, sentence=sentence
    )
