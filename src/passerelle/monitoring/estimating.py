"""Estimating: what a day's answers will turn out to lose, before outcomes are known; and how far off that was. Pure.

The loss that probabilities expect is right if they are: so they are first set right by what came true of such answers
on the newest mature days (confidence-based performance estimation; Kivimäki et al. 2024, "Confidence-based estimators
for predictive performance in model monitoring"). It sees a day that is harder than others, and is blind to a world
that has changed behind the same answers: only outcomes show that. So it is a warning, and calls nobody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.metrics import row_losses
from passerelle.monitoring.parts import BINS, Bin
from passerelle.project.settings import Loss, TaskKind

#: Answers are set right by so many mature days, and as they are by fewer than FEWEST.
CALIBRATED_BY = 30
#: Estimates of so many mature days say how far off they are; it takes FEWEST.
PAST = 90
FEWEST = 5
#: A warning is an estimate beyond this many times the reference's loss, and beyond it by so many past errors.
WORSE = 1.25
ERRORS = 2.0
#: A bin of few rows is trusted less: as if so many more had come true as often as was said.
_PRIOR_ROWS = 20


class Estimated(msgspec.Struct, frozen=True, kw_only=True):
    """A day's estimate, as it was made when the day had closed: it is never made again."""

    #: Live answers that were scored, whichever version gave them: those that the loss is measured of later.
    rows: int
    #: What they are expected to lose, in the mean; None without rows.
    loss: float | None
    #: By how much such estimates of mature days were off, in the mean, and how many days these are.
    past_error: float | None = None
    past_days: int = 0
    #: Is the estimate so far above what is usual that its own error does not explain it?
    warning: bool = False


def estimate(
    outputs: NDArray[Any], calibration: Iterable[Bin], *, task: TaskKind, loss: Loss, cap: float | None
) -> float | None:
    """The mean loss that answers of shape (rows, outputs) are expected to have; None without rows, and for numbers.

    ``calibration``: bins of mature days, of two classes; without any, probabilities are taken as they are.

    >>> said = np.array([[0.25], [0.25]])
    >>> estimate(said, (), task="binary", loss="brier", cap=None)
    0.1875
    >>> true_half_of_the_time = [Bin(rows=100_000, score=0.25, positives=50_000)]
    >>> round(estimate(said, true_half_of_the_time, task="binary", loss="brier", cap=None), 3)
    0.312
    """
    if task == "regression" or not len(outputs):
        return None
    values = np.asarray(outputs, dtype=np.float64)
    if task == "binary":
        happens = _set_right(values[:, 0], calibration)
        chances = np.column_stack([1 - happens, happens])
    else:
        chances = values
    of_class = [row_losses(loss, values, np.full(len(values), one), cap=cap) for one in range(chances.shape[1])]
    # Summed exactly: rows come from the ledger in any order.
    return math.fsum((chances * np.column_stack(of_class)).sum(axis=1)) / len(values)


def judge(rows: int, loss: float | None, past: Sequence[tuple[float, float]], *, reference: float | None) -> Estimated:
    """A day's estimate beside what is usual; ``past``: (estimate, measured loss) of the mature days before, in order.

    >>> judge(900, 0.3, [(0.15, 0.16)] * 5, reference=0.16).warning
    True
    """
    recent = past[-PAST:]
    error = math.fsum(abs(one - other) for one, other in recent) / len(recent) if len(recent) >= FEWEST else None
    far = (
        loss is not None
        and reference is not None
        and error is not None
        and loss > WORSE * reference
        and loss > reference + ERRORS * error
    )
    return Estimated(rows=rows, loss=loss, past_error=error, past_days=len(recent), warning=far)


def sentence(found: Estimated, day: str, reference: float) -> str:
    """A warning in words.

    >>> sentence(Estimated(rows=900, loss=0.3, past_error=0.01, past_days=40, warning=True), "2013-02-09", 0.16)[:78]
    'the answers of 2013-02-09 are expected to lose 0.3, and 0.16 is usual; such es'
    """
    return (
        f"the answers of {day} are expected to lose {found.loss or 0:.3g}, and {reference:.3g} is usual; such "
        f"estimates were off by {found.past_error or 0:.2g} on the {found.past_days} mature days before. It is no "
        "alert: only outcomes prove it."
    )


def _set_right(said: NDArray[np.float64], calibration: Iterable[Bin]) -> NDArray[np.float64]:
    """How often it happens where this was said: moved by what bins of the score were off, in the mean."""
    rows, off = np.zeros(BINS), np.zeros(BINS)
    for one in calibration:
        place = min(int(one.score * BINS), BINS - 1)
        rows[place] += one.rows
        off[place] += one.positives - one.rows * one.score
    places = np.clip((said * BINS).astype(np.int64), 0, BINS - 1)
    return np.asarray(np.clip(said + (off / (rows + _PRIOR_ROWS))[places], 0, 1), dtype=np.float64)
