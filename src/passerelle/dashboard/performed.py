"""The page of performance: the mature loss by day, what is tolerated, the days that are not due, calibration. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from passerelle.dashboard.calibrating import Calibration, Coming
from passerelle.dashboard.later import Found
from passerelle.dashboard.lists import DayLoss, losses
from passerelle.dashboard.reading import Seen
from passerelle.dashboard.unjudged import unjudged
from passerelle.dashboard.words import capital, counted, day, figure
from passerelle.decoding import prepared
from passerelle.monitoring.estimating import Estimated
from passerelle.monitoring.parts import Slice
from passerelle.monitoring.performance import WORSE
from passerelle.monitoring.windows import Window
from passerelle.trial.words import LOSSES

SPANS = (90, 28, 365)


class SliceLoss(msgspec.Struct, frozen=True, kw_only=True):
    """The rows with one value of a field, over the days that are shown."""

    field: str
    value: str
    rows: int
    #: Mean loss, and mean business cost (None where none is declared).
    loss: float
    cost: float | None


class PerformancePage(msgspec.Struct, frozen=True, kw_only=True):
    """How good the answers were."""

    sentence: str
    span: int
    spans: tuple[int, ...]
    #: "Brier"
    loss: str
    days: tuple[DayLoss, ...]
    #: An alarm needs a loss of at least so many times the usual.
    worse: float
    #: From here on outcomes are not due yet; None before there is a mature day.
    not_due: datetime | None
    now: datetime
    #: What is expected of the days that are not due: estimates that were kept; of the others by their own scores, and
    #: nothing while that is computed.
    coming: tuple[Coming, ...]
    calibration: Calibration | None
    #: there, computing or failed; and why it failed. "none" for numbers, of which there is no calibration.
    calibrated: str
    reason: str
    #: By the fields that [monitoring] slices names, most rows first: for people to look at, no alert is raised of them.
    slices: tuple[SliceLoss, ...] = ()


def performance_page(
    seen: Seen, *, span: int, calibrated: Found | None, coming: Found | None, now: datetime
) -> PerformancePage:
    """The last ``span`` days."""
    every = losses(seen)
    newest = every[-1].start if every else None
    days = tuple(one for one in every if newest is not None and one.start > newest - timedelta(days=span))
    windows = seen.windows.get("performance", ())
    tolerance = seen.project.monitoring.tolerance
    there: Calibration | None = calibrated.value if calibrated and calibrated.standing == "there" else None
    return PerformancePage(
        sentence=_sentence(seen, every, now=now),
        span=span,
        spans=SPANS,
        loss=LOSSES[seen.project.loss],
        days=days,
        worse=WORSE if tolerance is None else 1 + tolerance,
        not_due=windows[-1].start + timedelta(days=1) if windows else None,
        now=now,
        coming=_coming(seen, coming.value if coming and coming.standing == "there" else ()),
        calibration=there if there is not None and there.rows else None,
        calibrated=calibrated.standing if calibrated else "none",
        reason=calibrated.reason if calibrated else "",
        slices=sliced([one for one in windows if days and one.start >= days[0].start]),
    )


def _coming(seen: Seen, own: Sequence[Coming]) -> tuple[Coming, ...]:
    """The days that are not due: their estimate, where one was kept; else what their own scores expect."""
    mature = [one.start for one in seen.windows.get("performance", ())]
    kept: dict[datetime, Coming] = {}
    for window in seen.windows.get("estimated", ()):
        if not mature or window.start <= mature[-1]:
            continue
        try:
            found = msgspec.convert(window.value, prepared(Estimated))
        except msgspec.ValidationError:  # of a later version of passerelle
            continue
        if found.loss is not None:
            kept[window.start] = Coming(
                start=window.start, expected=found.loss, past_error=found.past_error, warning=found.warning
            )
    found_of = {one.start: one for one in own} | kept
    return tuple(found_of[start] for start in sorted(found_of))


def sliced(windows: Sequence[Window]) -> tuple[SliceLoss, ...]:
    """The slices of some days together, by field; none of days that were measured before there were slices."""
    found: dict[tuple[str, str], list[Slice]] = {}
    for window in windows:
        try:
            kept = msgspec.convert(window.value.get("slices", {}), prepared(dict[str, dict[str, Slice]]))
        except msgspec.ValidationError:  # of a later version of passerelle
            continue
        for field, values in kept.items():
            for value, one in values.items():
                found.setdefault((field, value), []).append(one)
    summed = []
    for (field, value), some in found.items():
        rows = sum(one.rows for one in some)
        if rows == 0:
            continue
        dear = [(one.rows, one.cost) for one in some if one.cost is not None]
        cost = sum(n * each for n, each in dear) / sum(n for n, _ in dear) if dear else None
        loss = sum(one.rows * one.loss for one in some) / rows
        summed.append(SliceLoss(field=field, value=value, rows=rows, loss=loss, cost=cost))
    return tuple(sorted(summed, key=lambda one: (one.field, -one.rows, one.value)))


def table(page: PerformancePage) -> list[dict[str, Any]]:
    """The page as a table: a row for each mature day."""
    return [
        {
            "day": one.start,
            "events": one.rows,
            "loss": one.loss,
            "usual": one.reference,
            "expected": one.expected,
            "alert": one.alerting,
            "tolerated": one.tolerated,
            "cost": one.cost,
        }
        for one in page.days
    ]


def _sentence(seen: Seen, every: tuple[DayLoss, ...], *, now: datetime) -> str:
    reason = unjudged(seen)
    if not every:
        return capital(f"{reason or 'no outcomes yet'}.")
    last = every[-1]
    usual = f", where {figure(last.reference)} is usual" if last.reference is not None else ""
    told = f"the model lost {figure(last.loss)} on {day(last.start, now=now)}, the last mature day{usual}"
    odd = sum(one.alerting for one in every)
    since = f"{counted(odd, 'day')} out of the ordinary since {day(every[0].start, now=now)}"
    return capital(f"{told}; {reason or since}.")
