"""Ours: the public functions of the package, as the bars test them."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.statistics.frame import Methods
from passerelle.monitoring import drift
from passerelle.monitoring.tolerance import beyond
from passerelle.trial import blocks, paired, ratio, split


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
)
