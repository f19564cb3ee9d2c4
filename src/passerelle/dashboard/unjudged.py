"""Unjudged: why no alert may say nothing, where the days could not be judged. Pure."""

from __future__ import annotations

from statistics import median

from passerelle.dashboard.reading import Seen
from passerelle.dashboard.words import counted
from passerelle.monitoring.windows import Window

#: What monitoring needs of a day before it judges its loss, in mature events; and its inputs, in events.
LOSS_ROWS = 20
INPUT_ROWS = 50
#: How many days it compares a day's loss with, at least.
LOSS_DAYS = 5
#: What is judged now is seen on the newest of these days.
_RECENT = 7


def unjudged(seen: Seen) -> str | None:
    """Why the quiet says nothing, if it does not: no version answers, or the newest days could not be judged."""
    if seen.current is None:
        return "no version answers yet, so nothing is watched"
    windows = seen.windows.get("performance", ())
    if not windows:
        return "the loss is not judged yet: no day is mature"
    mature = sum(1 for one in windows if rows_of(one))
    newest = windows[-_RECENT:]
    rows = [count for one in newest if (count := rows_of(one))]
    if not rows:
        return f"the loss is not judged{': no outcomes of late' if mature else ' yet: no mature day has an outcome'}"
    if any(one.value.get("in_control", True) is not None for one in newest):
        return None
    return f"the loss is not judged{_too_few(seen, int(median(rows)))}"


def _too_few(seen: Seen, usual: int) -> str:
    """What there are too few of: events a day, or days before."""
    if usual < LOSS_ROWS:
        inputs = [rows_of(one) for one in seen.windows.get("input_drift", ())[-_RECENT:]]
        too = f" ({INPUT_ROWS} for the inputs)" if inputs and median(inputs) < INPUT_ROWS else ""
        return f": {counted(usual, 'event')} a day, {LOSS_ROWS} are needed{too}"
    enough = sum(1 for one in seen.windows["performance"] if rows_of(one) >= LOSS_ROWS)
    if enough > LOSS_DAYS:
        return ": far fewer outcomes a day than were usual"
    return f" yet: {counted(enough, 'mature day')}, and it takes {LOSS_DAYS} to compare with"


def rows_of(window: Window) -> int:
    """How many events a day was measured on."""
    return int(window.value.get("rows") or 0)
