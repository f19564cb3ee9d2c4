"""Decide: retrain or not, with the reason in one sentence. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np

#: A drift does no harm once the loss of so many of its newest days in a row was in control.
CALM_DAYS = 2
#: A learning curve has two unknowns: fewer versions say nothing of it.
FEWEST_VERSIONS = 3


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Retrain, or not."""

    retrain: bool
    #: For people, without a full stop to add.
    reason: str


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """What a retraining is expected to bring, and what it costs."""

    #: What the curve is of: "log_loss", "rmse", or "cost" in the unit of [costs].
    figure: str
    #: The expected improvement of that figure per event; None if it is not known.
    per_event: float | None
    #: Why it is not known, or of how many versions the curve is.
    basis: str
    #: What a retraining costs, in the unit of ``figure``; None: not declared, or not comparable with it.
    cost: float | None = None


def expected_gain(points: Sequence[tuple[int, float]], mature: int, *, figure: str, cost: float | None = None) -> Gain:
    """What ``mature`` rows bring after those of the last point, by the curve loss = a + b / sqrt(rows). Pure.

    ``points`` are past versions, oldest first: rows learnt, and the loss on their own holdout. Least squares; known
    from FEWEST_VERSIONS of different sizes on, and where the curve falls with more rows. Holdouts are of different
    days, which the curve takes for chance.

    >>> expected_gain([(100, 0.3), (400, 0.25), (2500, 0.22)], 10_000, figure="log_loss").per_event.__round__(6)
    0.01
    """
    if len({rows for rows, _ in points}) < FEWEST_VERSIONS:
        basis = f"{len(points)} version{'' if len(points) == 1 else 's'} measured, {FEWEST_VERSIONS} are needed"
        return Gain(figure=figure, per_event=None, basis=basis, cost=cost)
    steepness = np.array([1 / math.sqrt(rows) for rows, _ in points])
    losses = np.array([loss for _, loss in points])
    apart = steepness - steepness.mean()
    slope = float((apart * losses).sum() / (apart**2).sum())
    if slope <= 0:
        basis = f"the holdouts of {len(points)} versions do not show that more rows help"
        return Gain(figure=figure, per_event=None, basis=basis, cost=cost)
    per_event = slope * (1 / math.sqrt(points[-1][0]) - 1 / math.sqrt(max(mature, points[-1][0])))
    return Gain(figure=figure, per_event=per_event, basis=f"{len(points)} versions", cost=cost)


def is_harmless(in_control: Sequence[bool | None]) -> bool:
    """Does performance say that a drift does no harm? Of the days since it began, by their loss; None: not judged.

    >>> is_harmless([False, True, True]), is_harmless([True]), is_harmless([True, True, None])
    (True, False, False)
    """
    newest = in_control[-CALM_DAYS:]
    return len(newest) == CALM_DAYS and all(one is True for one in newest)


def should_retrain(
    *,
    learnt: int | None,
    mature: int,
    share: float,
    last_attempt: datetime | None,
    cooldown_hours: float,
    alerts: Sequence[str] = (),
    harmless: Sequence[str] = (),
    gain: Gain | None = None,
    now: datetime,
) -> Decision:
    """Retrain when there is enough to learn that the newest run did not know, and it is not too soon.

    ``learnt`` are the rows with a mature outcome that the newest run was given (None: there is no run yet), ``mature``
    those that a run would be given now. Enough is ``share`` of ``learnt``; while alerts of performance or of drift that
    may do harm are open (``alerts`` names what they watch), any is enough. Open ones of drift without harm
    (``harmless``) are only told. Where ``gain`` is known and has a cost, the gain of as many events as are new must
    reach it, unless an alert is open: the curve knows nothing of a world that has changed. ``last_attempt`` is when a
    run began last, whatever came of it: ``cooldown_hours`` must have passed since.

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
        calm = f"; drift without harm to the loss: {', '.join(sorted(set(harmless)))}" if harmless else ""
        return Decision(retrain=False, reason=f"{few}: {share * 100:.3g} % would be enough{calm}")
    if enough:
        reason = f"{counted}, {_percent(new, learnt)} of the {learnt:,} that the newest run learned from "
        reason += f"({share * 100:.3g} % are enough)"
    else:
        reason = f"{counted}, and an alert is open: {', '.join(sorted(set(alerts)))}"
    if gain is not None:
        reason += f"; {_in_words(gain, new)}"
        if _is_too_dear(gain, new) and not alerts:
            return Decision(retrain=False, reason=reason)
    return _unless_too_soon(reason, last_attempt, cooldown_hours, now)


def _unless_too_soon(reason: str, last_attempt: datetime | None, cooldown_hours: float, now: datetime) -> Decision:
    if last_attempt is not None and now < last_attempt + timedelta(hours=cooldown_hours):
        until = last_attempt + timedelta(hours=cooldown_hours)
        return Decision(retrain=False, reason=f"{reason}; the newest run is too fresh until {until:%Y-%m-%d %H:%M} UTC")
    return Decision(retrain=True, reason=reason)


def _is_too_dear(gain: Gain, events: int) -> bool:
    return gain.per_event is not None and gain.cost is not None and gain.per_event * events < gain.cost


def _in_words(gain: Gain, events: int) -> str:
    if gain.per_event is None:
        return f"the expected gain is not known ({gain.basis})"
    said = f"by the learning curve of {gain.basis} they bring {gain.per_event:.2g} of {gain.figure} per event"
    if gain.cost is None:
        return said
    return f"{said}, {gain.per_event * events:,.4g} over as many events again, and a retraining costs {gain.cost:,.4g}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:,.3g} %" if part < whole else f"{100 * part / whole:,.0f} %"
