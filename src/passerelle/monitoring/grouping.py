"""Grouping: alerts of one cause are one alert. Pure.

Watches of one chain see the same thing go wrong one after the other: a changed input moves the scores, and these the
loss. An alert that begins together with an open one of its chain joins it; so it is told under that one, and calls
nobody a second time. What began at another time is another matter, however long the first has been open.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from passerelle.project.settings import Watch

#: What goes wrong → the watches that see it, what causes before what follows.
CHAINS: dict[str, tuple[Watch, ...]] = {
    "inputs": ("input_drift", "score_drift", "performance"),
    "traffic": ("silence", "volume"),
    "service": ("errors", "latency"),
}
#: Alerts about days began together if so much lies between their days; those of machine time, between their moments.
DAYS = timedelta(days=2)
MOMENTS = timedelta(hours=1)


class Began(msgspec.Struct, frozen=True, kw_only=True):
    """When something of a watch began."""

    watch: Watch
    #: The day (its start), or the moment.
    at: datetime
    #: False for a moment of machine time.
    by_day: bool


def chain_of(watch: Watch) -> str:
    """The chain of a watch; one that is in none is a chain by itself.

    >>> chain_of("volume"), chain_of("quarantine")
    ('traffic', 'quarantine')
    """
    return next((name for name, watches in CHAINS.items() if watch in watches), watch)


def place_of(watch: Watch) -> int:
    """Its place in its chain: causes come before what follows from them.

    >>> place_of("input_drift"), place_of("performance"), place_of("ledger")
    (0, 2, 0)
    """
    return CHAINS.get(chain_of(watch), (watch,)).index(watch)


def joins(first: Began, second: Began) -> bool:
    """Do two alerts have one cause: are they two watches of one chain, which began together?

    >>> day = datetime(2013, 7, 2)
    >>> joins(Began(watch="input_drift", at=day, by_day=True), Began(watch="performance", at=day + DAYS, by_day=True))
    True
    >>> joins(Began(watch="errors", at=day, by_day=False), Began(watch="latency", at=day + DAYS, by_day=False))
    False
    """
    if first.watch == second.watch or chain_of(first.watch) != chain_of(second.watch):
        return False
    near = DAYS if first.by_day or second.by_day else MOMENTS
    return abs(first.at - second.at) <= near
