"""Volume: how many events a day had, against the same days of the weeks before. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np

from passerelle.monitoring.alerts import Finding

#: A day is compared with the same weekday of so many weeks before, of which it needs so many.
WEEKS = 4
FEWEST_DAYS = 2
#: The fewest events that must be usual.
FEWEST_EVENTS = 50
_SAME = tuple(timedelta(weeks=weeks) for weeks in range(1, WEEKS + 1))


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """A day's events, against what is usual."""

    #: Live events, each once.
    events: int
    #: What is usual on such a day: a median; None while there are too few days, or events are rare.
    usual: float | None = None
    #: Is it usual by less than the threshold's factor? None if it was not judged.
    normal: bool | None = None
    #: True if few events come on any day of these weeks: there is nothing to compare, and nothing is wrong.
    rare: bool = False


def judge(earlier: Sequence[tuple[datetime, Counted]], start: datetime, events: int, *, factor: float) -> Counted:
    """A day after the earlier ones, oldest first; the very first counts for nothing: it began in its middle."""
    # An unusual day is no reference.
    recent = [(day, one.events) for day, one in earlier[1:] if start - day <= _SAME[-1] and one.normal is not False]
    same = [count for day, count in recent if start - day in _SAME]
    if len(same) < FEWEST_DAYS:
        return Counted(events=events)
    usual = float(np.median(same))
    if usual < FEWEST_EVENTS:
        few = float(np.median([count for _, count in recent])) < FEWEST_EVENTS
        return Counted(events=events, usual=usual, rare=few)
    return Counted(events=events, usual=usual, normal=usual / factor <= events <= usual * factor)


def finding(counted: Counted, start: datetime) -> Finding:
    """What a counted day means for the alert, in words."""
    details = {"events": counted.events, "usual": counted.usual}
    if counted.rare:
        sentence = f"few events come in a day by now ({counted.usual:,.0f} or so), too few to compare days."
        return Finding(state="quiet", sentence=sentence, day=start)
    if counted.normal is None or counted.usual is None:
        return Finding(state="unsure", day=start)
    name = f"{start:%Y-%m-%d}"
    usual = f"{counted.usual:,.0f} are usual on such a day"
    events = f"{counted.events:,} event{'' if counted.events == 1 else 's'}"
    if counted.normal:
        return Finding(state="quiet", sentence=f"{name} had {events}, and {usual}.", day=start)
    few = "only " if counted.events < counted.usual else ""
    sentence = f"{name} had {few}{events}, and {usual}."
    return Finding(
        state="firing",
        sentence=sentence,
        day=start,
        details=details,
        alone=counted.events > counted.usual,  # no silence makes more of them
    )
