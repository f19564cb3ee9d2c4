"""Backoff: how long to wait before a request that was refused for now is sent again."""

from __future__ import annotations

import random


def backoff_s(attempt: int, *, first_s: float, longest_s: float) -> float:
    """A random wait below a bound that doubles with each attempt, from ``first_s`` at attempt 0 to ``longest_s``.

    Random, so that those who were refused together do not come back together: "jitter", M. Brooker, Exponential backoff
    and jitter, AWS Architecture Blog, 2015; never less than three tenths of the bound, so that a busy server has rest.

    >>> 0.3 <= backoff_s(1, first_s=0.5, longest_s=20) <= 1
    True
    """
    return random.uniform(0.3, 1) * min(first_s * 2.0**attempt, longest_s)  # noqa: S311  (no secret)
