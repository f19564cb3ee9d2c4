"""Thresholds: refuses one in [[rules]] that is a number as it should be, and by which nothing could be watched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from passerelle.errors import SettingsError

#: Watch → above which number its threshold lies, and what it is.
_ABOVE = {
    "performance": (1.0, "the days between two false alarms, at least"),
    "input_drift": (1.0, "the days between two false alarms, at least"),
    "score_drift": (1.0, "the days between two false alarms, at least"),
    "volume": (1.0, "how many times fewer or more events a day may have than usual"),
}
_PERCENT = 100
_WITHOUT = ("quarantine", "ledger", "loop")


class Ruled(Protocol):
    """What [[rules]] says of one watch, as settings.Rule has it."""

    @property
    def watch(self) -> str:
        """What is watched."""

    @property
    def threshold(self) -> float | None:
        """In the unit of what is watched."""


def refuse_thresholds(rules: Sequence[Ruled], path: Path) -> None:
    """Raise SettingsError for a threshold that is none of its watch."""
    for rule in rules:
        if rule.threshold is None:
            continue
        place = f"{path}: the threshold of {rule.watch!r} in [[rules]] is {rule.threshold:g}"
        if rule.watch in _WITHOUT:
            raise SettingsError(f"{place}, and that rule has none: leave the threshold out.")
        least, meaning = _ABOVE.get(rule.watch, (0.0, ""))
        if rule.threshold <= least:
            raise SettingsError(f"{place}; it is {meaning}: say a number above {least:g}.")
        if rule.watch == "errors" and rule.threshold >= _PERCENT:
            raise SettingsError(f"{place} percent of the events, which nothing exceeds: say less than {_PERCENT}.")
