"""Parts of a day's rows: by their score (calibration) and by the values of an input field (slices). Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.profile import Categorical, Numeric

#: Calibration is kept in so many bins of the score.
BINS = 20
#: The values that are slices of their own: the most frequent of the reference; the rest stand together.
MOST_VALUES = 20
_OTHERS = "others"
_MISSING = "missing"


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


def named(values: Sequence[str | None], field: Numeric | Categorical) -> list[str]:
    """The slice of each value, as the ledger's JSON has it: a number's quarter of the reference, or a value by name.

    Values by name are the most frequent of the reference; all others stand together, missing ones too.

    >>> named(["EWR", "LGA", None], Categorical(values={"EWR": 9, "JFK": 2}, other=0, missing=0))
    ['EWR', 'others', 'missing']
    >>> named(["1", "2.5", "9", "x"], Numeric(edges=(1.0, 2.0, 3.0, 4.0, 5.0), counts=(0, 5, 5, 5, 5, 0), missing=0))
    ['below 2', '2 to 3', '4 and above', 'missing']
    """
    if isinstance(field, Categorical):
        own = set(sorted(field.values, key=lambda one: (-field.values[one], one))[:MOST_VALUES])
        return [_MISSING if one is None else one if one in own else _OTHERS for one in values]
    cuts = quarters(field)
    if not cuts:
        return [_MISSING if _number(one) is None else "all" for one in values]
    said = [f"{cut:.4g}" for cut in cuts]
    if len(set(said)) < len(cuts):
        said = [f"{cut!r}" for cut in cuts]
    names = [f"below {said[0]}", *(f"{low} to {high}" for low, high in pairwise(said)), f"{said[-1]} and above"]
    found = [_number(one) for one in values]
    return [_MISSING if one is None else names[int(np.searchsorted(cuts, one, side="right"))] for one in found]


def quarters(field: Numeric) -> list[float]:
    """Where the reference's quarters meet, at edges of its histogram; fewer where many rows have the same value."""
    total = sum(field.counts)
    if not total:
        return []
    below = np.cumsum(field.counts)[:-1] / total
    chosen = {field.edges[int(np.abs(below - share).argmin())] for share in (0.25, 0.5, 0.75)}
    return sorted(chosen)


def sliced(
    names: Sequence[str], losses: NDArray[np.float64], cost_of: Callable[[NDArray[np.bool_]], float | None]
) -> dict[str, Slice]:
    """The rows of each slice, the largest first; ``cost_of`` says what the rows of a mask cost.

    >>> sliced(["b", "a", "b"], np.array([0.5, 0.0, 1.0]), lambda mine: None)["b"].loss
    0.75
    """
    array = np.array(names, dtype=object)
    values, counts = np.unique(array, return_counts=True)
    found: dict[str, Slice] = {}
    for place in np.argsort(-counts, kind="stable").tolist():
        mine = np.asarray(array == values[place])
        loss = float(losses[mine].mean())
        found[str(values[place])] = Slice(rows=int(counts[place]), loss=loss, cost=cost_of(mine))
    return found


def _number(value: str | None) -> float | None:
    try:
        found = float(value) if value is not None else np.nan
    except ValueError:
        return None
    return found if np.isfinite(found) else None
