"""Counts: what a block keeps of its events besides its evidence, so that a verdict's checks need the ledger no more."""

from __future__ import annotations

import msgspec

#: Delays of outcomes are counted by this many equal parts of the label horizon.
DELAY_PARTS = 10


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One version's events of a day, of those that the trial compares."""

    events: int
    #: Whose outcome was known by the horizon.
    labelled: int
    #: Of these, whose loss was cut at the cap.
    capped: int = 0
    #: The labelled ones by how late their outcome came, in tenths of the horizon.
    delays: tuple[int, ...] = ()


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Of a split whose share was changed on the way: the units that came at one share."""

    #: The challenger's, in force when the trial saw them first.
    share: float
    #: Answered by (champion, challenger); and of these, those with an outcome on this same day.
    units: tuple[int, int]
    labelled: tuple[int, int]


class Clusters(msgspec.Struct, frozen=True, kw_only=True):
    """How alike the rows of one unit are, on one day: the sums of an analysis of variance."""

    #: Units with rows, and the rows; the sum of the squares of the units' rows.
    groups: int
    rows: int
    squared_rows: int
    #: Sums of squares between the units' means, and within the units.
    between: float
    within: float


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """A guardrail's events of a day. In a split, of one share of the challenger."""

    #: None: a shadow, where both were asked the same.
    share: float | None = None
    #: Events; in a shadow each of both versions.
    events: int
    #: On which the challenger (and in a shadow not the champion) did what must not be; and the other way round.
    worse: int
    better: int
    #: Of latency: events that are not among them, since the ledger has no latency of theirs.
    unmeasured: int = 0
