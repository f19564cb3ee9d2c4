"""Course: what a sequential test said after each observation; and the arithmetic that all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

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


def numbers(name: str, given: ArrayLike) -> NDArray[np.float64]:
    """An array of shape (n,) of finite numbers. Raises ValueError, with the place of the first that is none.

    >>> numbers("losses", [0.5, float("nan")])
    Traceback (most recent call last):
    ValueError: losses[1] is nan: leave out events without an outcome
    """
    values = np.asarray(given, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"{name} has the shape {values.shape}: one number for each observation is wanted")
    if not np.isfinite(values).all():
        place = int(np.isfinite(values).argmin())
        raise ValueError(f"{name}[{place}] is {values[place]}: leave out events without an outcome")
    return values


def check(
    *,
    margin: float,
    alpha: float,
    rollback_above: float,
    bounds: tuple[float, float] | None = None,
    planned_n: int | None = None,
) -> None:
    """Raise ValueError for arguments of a test that cannot be, with what they were.

    >>> check(margin=0.02, alpha=5, rollback_above=0.0)
    Traceback (most recent call last):
    ValueError: alpha is 5: a probability between 0 and 1 is wanted, such as 0.05
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}: a probability between 0 and 1 is wanted, such as 0.05")
    if not (math.isfinite(margin) and math.isfinite(rollback_above)):
        raise ValueError(f"margin is {margin} and rollback_above {rollback_above}: numbers are wanted")
    if planned_n is not None and planned_n < 1:
        raise ValueError(f"planned_n is {planned_n}: one event at least is wanted")
    if bounds is None:
        return
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"the bounds are {low} and {high}: two numbers are wanted, the smaller first")
    for name, null in (("margin", margin), ("rollback_above", rollback_above)):
        if not low < null < high:
            raise ValueError(f"{name} is {null}: between the bounds, {low} and {high}, there is something to prove")
