"""Routing: which live variant answers a unit. Pure: the same unit, salt and weights give the same variant everywhere.

A unit is hashed to a point in [0, 1); the live variants lie on that line one after the other, oldest version first,
each as long as its weight. Between two variants, as in every trial, growing one weight by d moves exactly the share d
of the units, and moves none back; with more than two, a weight that grows in the middle also shifts its neighbours.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from itertools import accumulate

from passerelle.deployment.spec import Deployment, Variant

_BITS = 53  # what a float holds exactly: the point is never rounded up to 1


def position(unit: str, salt: str) -> float:
    """Where a unit lies in [0, 1): the first 53 bits of the BLAKE2b-64 of salt, a zero byte, and unit.

    >>> position("N14228", "salt")
    0.027407297988015444
    """
    digest = hashlib.blake2b(salt.encode() + b"\0" + unit.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / (1 << _BITS)


class Router:
    """The live variants of one revision, laid along [0, 1)."""

    def __init__(self, deployment: Deployment) -> None:
        self._salt = deployment.salt
        self._variants = sorted(deployment.live, key=lambda variant: variant.version)
        # The last end is left out: whatever rounding does to the sum, the last variant takes the rest.
        self._ends = list(accumulate(variant.weight for variant in self._variants))[:-1]

    def choose(self, unit: str) -> tuple[Variant, float]:
        """The variant that answers this unit, and the probability with which a unit gets it."""
        if not self._ends:
            return self._variants[0], 1.0
        chosen = self._variants[bisect_right(self._ends, position(unit, self._salt))]
        return chosen, chosen.weight
