"""Streams: the simulated events that several bars share."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Events of a simulated trial.
EVENTS = 20_000


def zero_one(rng: np.random.Generator, rows: int, *, disagree: float, delta: float) -> Any:
    """Differences of two models' errors: they disagree on a share of the events, and the mean is ``delta``."""
    draw = rng.random(rows)
    worse, better = (disagree + delta) / 2, (disagree - delta) / 2
    return (draw < worse).astype(np.float64) - (draw > 1 - better)


def assigned(rng: np.random.Generator, rows: int, *, share: Any, error: Any, delta: float) -> tuple[Any, Any]:
    """Losses (0/1) and arms of a split: the champion errs at ``error``, the challenger ``delta`` more often."""
    arms = rng.random(rows) < share
    losses = rng.random(rows) < np.where(arms, error + delta, error)
    return losses.astype(np.float64), arms.astype(np.int64)
