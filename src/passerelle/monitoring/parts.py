"""Parts of a day's rows: by their score (calibration) and by the values of an input field (slices). Pure."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

#: Calibration is kept in so many bins of the score.
BINS = 20


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Calibration: the rows whose score lies in one of BINS parts of [0, 1] of equal width."""

    rows: int
    #: Mean score, which also says which bin it is, and on how many of the rows it happened.
    score: float
    positives: int


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The rows with one value of an input field."""

    rows: int
    loss: float
    #: Mean business cost; None as in Figures.
    cost: float | None = None


def binned(scores: NDArray[np.float64], happened: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Scores beside what happened, of shape (rows,): mergeable counts, without a row in them.

    >>> [(one.rows, one.positives) for one in binned(np.array([0.01, 0.52, 0.54, 1.0]), np.array([0, 1, 0, 1]) > 0)]
    [(1, 0), (2, 1), (1, 1)]
    """
    place = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    return tuple(
        Bin(
            rows=int((place == number).sum()),
            score=float(scores[place == number].mean()),
            positives=int(happened[place == number].sum()),
        )
        for number in np.unique(place).tolist()
    )
