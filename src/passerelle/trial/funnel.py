"""Funnel: what becomes of a trial's events, version by version, from the request to the mature outcome. For people."""

from __future__ import annotations

import msgspec


class FunnelArm(msgspec.Struct, frozen=True, kw_only=True):
    """One version's events."""

    version: int
    #: Events that it had to answer: in a shadow every one of the trial.
    assigned: int
    #: Of these: answered with a score (in a shadow by both: only pairs are compared).
    scored: int
    #: Of these: whose label horizon has passed by now.
    due: int
    #: Of the scored, due or not: whose outcome is known by now, and by its horizon.
    labelled: int
    #: Of the labelled: due too, so that they count.
    mature: int
    #: Of the scored that are due, the share whose outcome was known after so many tenths of the horizon (ten shares).
    known_after: tuple[float, ...]

    @property
    def coverage(self) -> float | None:
        """The share of the due that have an outcome; None while none is due."""
        return self.mature / self.due if self.due else None


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the events since a trial's first whole day."""

    #: Live events of the environment, of the trial or not.
    requests: int
    champion: FunnelArm
    challenger: FunnelArm
