"""Decide: retrain or not, with the reason in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Retrain, or not."""

    retrain: bool
    #: For people, without a full stop to add.
    reason: str


def should_retrain(
    *,
    learnt: int | None,
    mature: int,
    share: float,
    last_attempt: datetime | None,
    cooldown_hours: float,
    alerts: Sequence[str] = (),
    now: datetime,
) -> Decision:
    """Retrain when there is enough to learn that the newest run did not know, and it is not too soon.

    ``learnt`` are the rows with a mature outcome that the newest run was given (None: there is no run yet), ``mature``
    those that a run would be given now. Enough is ``share`` of ``learnt``; while alerts of performance or drift are
    open (``alerts`` names what they watch), any is enough. ``last_attempt`` is when a run began last, whatever came of
    it: ``cooldown_hours`` must have passed since.

    >>> from datetime import UTC
    >>> noon = datetime(2013, 3, 1, 12, tzinfo=UTC)
    >>> month = dict(share=0.05, last_attempt=noon - timedelta(days=28), cooldown_hours=12, now=noon)
    >>> should_retrain(learnt=27_000, mature=51_000, **month).reason
    '24,000 new mature outcomes, 88.9 % of the 27,000 that the newest run learned from (5 % are enough)'
    >>> should_retrain(learnt=27_000, mature=27_100, **month).retrain
    False
    >>> should_retrain(learnt=27_000, mature=27_100, alerts=["performance"], **month).reason
    '100 new mature outcomes, and an alert is open: performance'
    """
    if mature == 0:
        return Decision(retrain=False, reason="no outcome is mature yet")
    if learnt is None:
        reason = f"{mature:,} mature outcomes, and no run has learned from any"
        return _unless_too_soon(reason, last_attempt, cooldown_hours, now)
    new = mature - learnt
    if new <= 0:
        return Decision(retrain=False, reason="no new mature outcome since the newest run")
    counted = f"{new:,} new mature outcome{'s' if new > 1 else ''}"
    enough = new >= share * learnt
    if not enough and not alerts:
        few = f"{counted}, {_percent(new, learnt)} of the {learnt:,} that the newest run learned from"
        return Decision(retrain=False, reason=f"{few}: {share * 100:.3g} % would be enough")
    if enough:
        reason = f"{counted}, {_percent(new, learnt)} of the {learnt:,} that the newest run learned from "
        reason += f"({share * 100:.3g} % are enough)"
    else:
        reason = f"{counted}, and an alert is open: {', '.join(sorted(set(alerts)))}"
    return _unless_too_soon(reason, last_attempt, cooldown_hours, now)


def _unless_too_soon(reason: str, last_attempt: datetime | None, cooldown_hours: float, now: datetime) -> Decision:
    if last_attempt is not None and now < last_attempt + timedelta(hours=cooldown_hours):
        until = last_attempt + timedelta(hours=cooldown_hours)
        return Decision(retrain=False, reason=f"{reason}; the newest run is too fresh until {until:%Y-%m-%d %H:%M} UTC")
    return Decision(retrain=True, reason=reason)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:,.3g} %" if part < whole else f"{100 * part / whole:,.0f} %"
