"""Course: what a sequential test said after each observation; and the arithmetic that all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import msgspec
from numpy.typing import NDArray

_LARGEST = 1e250


class Course(msgspec.Struct, frozen=True, kw_only=True, eq=False, dict=True):
    """A test of "no worse than the margin" and of "worse than rollback_above", watched from its first observation.

    Both tests go on to the end, each as if the other had not stopped it: whoever decides looks at ``promoted_at``
    first.
    """

    #: The first observation (from 1) after which the challenger is proven no worse than the margin; None: never.
    promoted_at: int | None
    #: The first observation (from 1) after which it is proven worse than rollback_above; None: never.
    rolled_back_at: int | None
    #: The e-values that decide at 1 / alpha: of rows the largest that was reached, of days the one after the last.
    promote_evidence: float
    rollback_evidence: float
    #: Finds the lower and the upper bounds; called when they are first looked at, for they cost more than the verdict.
    find_bounds: Callable[[], tuple[NDArray[Any], NDArray[Any]]]

    @cached_property
    def lower(self) -> NDArray[Any]:
        """After each observation, the running lower bound of the (1 - 2 alpha) confidence sequence of the mean."""
        return self._bounds[0]

    @cached_property
    def upper(self) -> NDArray[Any]:
        """After each observation, the running upper bound."""
        return self._bounds[1]

    @cached_property
    def _bounds(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.find_bounds()


def evidence(logarithm: float) -> float:
    """An e-value from its logarithm, as a number that JSON can hold.

    >>> evidence(0.0), evidence(1e9)
    (1.0, 1e+250)
    """
    return min(math.exp(min(logarithm, 700.0)), _LARGEST)
