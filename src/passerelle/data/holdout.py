"""Which rows are held out: the last days, or, without a time column, a persistent share of the keys. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_RANGE = 2**64


def last_days(times: NDArray[np.datetime64], days: float) -> NDArray[np.bool_]:
    """True for the rows within the last ``days`` before the newest row: their time is after newest - days.

    >>> last_days(np.array(["2013-01-01", "2013-01-09", "2013-01-10"], dtype="datetime64[us]"), 1.5)
    array([False,  True,  True])
    """
    if not len(times):
        return np.zeros(0, dtype=np.bool_)
    moments = times.astype("datetime64[us]")
    span = np.timedelta64(round(days * 86_400_000_000), "us")
    held: NDArray[np.bool_] = moments > moments.max() - span
    return held


def share_of_keys(ids: Sequence[str], share: float) -> NDArray[np.bool_]:
    """True for the rows whose id falls into the share: the same rows whatever else is there, today and next year.

    The first 8 bytes of an id's BLAKE2b digest, as a number, are compared with share * 2^64.

    >>> share_of_keys(["a", "b", "c", "d", "e"], 0.4)
    array([ True, False,  True, False,  True])
    """
    limit = int(share * _RANGE)
    digests = (hashlib.blake2b(one.encode(), digest_size=8).digest() for one in ids)
    return np.fromiter((int.from_bytes(one, "big") < limit for one in digests), dtype=np.bool_, count=len(ids))
