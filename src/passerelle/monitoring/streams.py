"""Streams: the few figures of a field's counts that are compared from day to day. Pure.

For numbers: the mean and the spread of the normal scores that the reference gives each bin, and the distance of the
counts from the reference's; for names the distance and the share of the most frequent one; for both the share that is
missing. Each on a scale on which ordinary days are near normal: shares as angles, spread and distance as logarithms.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from passerelle.bundle.profile import Categorical, Field, Numeric

Floats = NDArray[np.float64]

#: What numbers have, in the order of bin_streams.
OF_NUMBERS = ("level", "spread", "shape")
#: The kinds that are unusual in both directions; a shape is unusual when it is far from the reference.
BOTH = ("level", "spread", "top", "missing")
#: The kinds whose effect is a share of the rows.
SHARES = ("top", "missing")
#: Beyond the reference's ends a value scores as far as half a row in a thousand does.
_LEAST_SHARE = 5e-4
_FURTHEST = float(-ndtri(_LEAST_SHARE))
#: A day of one value (the date itself, say) has no spread: a tenth more keeps its logarithm from running away.
_LEAST_SPREAD = 0.1
_LEAST_DISTANCE = 1e-3


class Stream(msgspec.Struct, frozen=True):
    """One figure of a field on one day."""

    #: What is compared, on a scale on which days are near normal.
    value: float
    #: The same as people read it: standard deviations, a share, a distance between 0 and 1.
    effect: float


def bin_streams(counts: Any, reference: Any) -> tuple[Floats, Floats]:
    """Level, spread and shape of a numeric field: values and effects, each of shape (..., 3).

    ``counts`` has shape (..., bins), ``reference`` (bins,): its counts. NaN where nothing was counted. The level is the
    mean of the bins' normal scores, so a shift in standard deviations of the reference, if that is normal.
    """
    of = np.asarray(counts, dtype=np.float64)
    before = np.asarray(reference, dtype=np.float64)
    before = before / before.sum()
    rows = of.sum(axis=-1, keepdims=True)
    shares = np.divide(of, rows, out=np.full_like(of, np.nan), where=rows > 0)
    scores = normal_scores(before)
    level = shares @ scores
    squares = (shares * (scores - level[..., None]) ** 2).sum(axis=-1)
    spread = np.log(np.hypot(np.sqrt(squares), _LEAST_SPREAD))
    distance = np.abs(np.cumsum(shares - before, axis=-1)).max(axis=-1)
    shape = np.log(np.maximum(distance, _LEAST_DISTANCE))
    return np.stack([level, spread, shape], axis=-1), np.stack([level, spread, distance], axis=-1)


def normal_scores(shares: Floats) -> Floats:
    """The normal score of each bin's middle: what a normal variable would have there."""
    middle = np.cumsum(shares) - shares / 2
    return np.asarray(ndtri(np.clip(middle, _LEAST_SHARE, 1 - _LEAST_SHARE)), dtype=np.float64)


def coarse(reference: Any, bins: int) -> NDArray[np.int64]:
    """For each bin which of so many coarser ones, of about equal shares of the reference, it belongs to: to draw them.

    >>> coarse([1, 1, 1, 1, 4, 0], bins=2).tolist()
    [0, 0, 0, 0, 1, 1]
    """
    before = np.asarray(reference, dtype=np.float64)
    middle = (np.cumsum(before) - before / 2) / before.sum()
    return np.asarray(np.minimum(middle * bins, bins - 1), dtype=np.int64)


def angle(share: Any, rows: Any) -> Floats:
    """A share of so many rows as an angle, whose sampling error is 1/sqrt(rows) whatever the share (Anscombe 1948).

    >>> round(float(angle(0.5, 100)), 4), round(float(angle(0.0, 100)), 4)
    (1.5708, 0.1221)
    """
    part = np.asarray(share, dtype=np.float64) * rows
    return np.asarray(2 * np.arcsin(np.sqrt(np.clip((part + 0.375) / (rows + 0.75), 0, 1))), dtype=np.float64)


def one_row(kinds: Any, mean: Floats, rows: float) -> Floats:
    """How far one row more would move each stream from its mean: no stream is known better than that.

    Of days that never differed (a constant field, a value that is never missing) the spread says nothing: one odd row
    must not alarm, and many must.
    """
    kind = np.asarray(kinds)
    mean = np.where(np.isfinite(mean), mean, 0.0)
    spread = np.log1p((_FURTHEST / np.exp(mean)) ** 2 / rows) / 2
    shape = np.log1p(1 / rows / np.maximum(np.exp(mean), _LEAST_DISTANCE))
    near = np.clip(np.minimum(mean, np.pi - mean), 0.0, np.pi / 2)  # a share of 99 % is missed by 1 %
    share = 2 * np.arcsin(np.sqrt(np.minimum(np.sin(near / 2) ** 2 + 1 / (rows + 0.75), 1.0))) - near
    return np.asarray(
        np.select(
            [kind == "level", kind == "spread", kind == "shape"], [_FURTHEST / rows + 0 * mean, spread, shape], share
        ),
        dtype=np.float64,
    )


def field_streams(day: Field, reference: Field) -> dict[str, Stream]:
    """The streams of a field on a day, by their kind; counts made like the reference's."""
    found: dict[str, Stream] = {}
    counts, before = counts_of(day), shares_of(reference)
    present = int(counts.sum()) if counts is not None else getattr(day, "present", 0)
    if day.missing + present:
        found["missing"] = _share(day.missing, day.missing + present)
    if counts is None or before is None or present == 0:
        return found
    if isinstance(day, Numeric):
        values, effects = bin_streams(counts, before)
        for kind, value, effect in zip(OF_NUMBERS, values.tolist(), effects.tolist(), strict=True):
            found[kind] = Stream(value, effect)
        return found
    distance = float(np.abs(counts / present - before).sum() / 2)
    found["top"] = _share(int(counts[int(np.argmax(before))]), present)
    found["shape"] = Stream(float(np.log(max(distance, _LEAST_DISTANCE))), distance)
    return found


def counts_of(field: Field) -> Floats | None:
    """Counts of what is not missing, in the order of bins or names; None for a field of which none are kept."""
    if isinstance(field, Numeric):
        return np.array(field.counts, dtype=np.float64)
    if isinstance(field, Categorical):
        return np.array([*(field.values[name] for name in sorted(field.values)), field.other], dtype=np.float64)
    return None


def shares_of(field: Field) -> Floats | None:
    """The counts as shares; None where there are none."""
    counts = counts_of(field)
    return None if counts is None or counts.sum() == 0 else counts / counts.sum()


def _share(part: int, whole: int) -> Stream:
    return Stream(float(angle(part / whole, whole)), part / whole)
