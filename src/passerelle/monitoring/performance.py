"""Performance: the loss of a day's mature predictions, against what the model expected of itself and earlier days.

A day may be hard without anything being wrong, and a model that says so is no worse for it. So what is watched is the
*excess*: the day's mean loss less the loss that the model's own probabilities expect. For numbers, which expect
nothing, it is the logarithm of the day's mean loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.monitoring.alerts import Finding
from passerelle.monitoring.control import e_value, gather, prediction_p
from passerelle.monitoring.measuring import Figures
from passerelle.monitoring.tolerance import STAKES, Agreement, bet, is_dispersed, tolerated

#: A day is compared with at most so many earlier days, without those that an alarm was about: a season.
TRAILING = 90
#: The fewest such days before a day is judged.
FEWEST = 5
#: A day less probable than this is out of control: only such a day raises an alarm, and it keeps an alert open. While
#: none is open it stays in the reference: rare days are part of what is ordinary, and a reference without them would
#: find the next rare day too improbable.
OUT_OF_CONTROL = 0.01
#: An alarm is said to have begun with the first of the days before it that are less probable than this.
UNLIKELY = 0.05
#: An alarm needs a mean loss of at least this many times the reference's: what is smaller calls nobody.
WORSE = 1.25
#: An alert closes after so many days in control in a row.
QUIET_DAYS = 2
#: What goes on for so many days that could be judged is how it is now: the alert closes, these days are the reference.
LASTING_DAYS = 14
#: A day with fewer rows than this share of the usual is shown and not judged; so is one with fewer than so many.
_USUAL_SHARE = 0.1
_FEWEST_ROWS = 20
#: A day whose outcomes came for less than this share of what is usual is blind: the loss says nothing any more.
_BLIND = 0.5


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A day against the days before it."""

    #: What is compared; None if the day cannot be judged.
    excess: float | None
    #: Probability of such a day after the earlier ones, and evidence gathered since the last alarm.
    p: float | None = None
    evidence: float = 0.0
    #: False if it is improbable; None if it was not judged (too few rows, or too few days before it).
    in_control: bool | None = None
    #: Mean loss of the reference's days, and how many they are.
    reference: float | None = None
    reference_days: int = 0
    #: Did it raise an alarm? Is one still going on after it? Days in control in a row, up to it.
    alarm: bool = False
    going_on: bool = False
    quiet: int = 0
    #: Judged days since the alarm, while it goes on; does the reference begin anew with them, up to this day?
    lasting: int = 0
    settled: bool = False
    #: True if outcomes stopped coming.
    blind: bool = False
    #: Where [monitoring] tolerance judges rows: the mean loss that is tolerated, and the sums of its bets (tolerance).
    tolerated: float | None = None
    sums: tuple[float, ...] = ()
    #: Is it one of the days that the run held out?
    held_out: bool = False


def judge(
    earlier: Sequence[tuple[Figures, Judged]],
    day: Figures,
    *,
    false_alarm_every: float,
    agreement: Agreement | None = None,
    losses: NDArray[np.float64] | None = None,
) -> Judged:
    """A day after the earlier ones (in order; the days held out at the run first). Pure.

    An alarm is raised when the evidence reaches ``false_alarm_every`` on a day that is out of control and whose loss is
    WORSE times the reference's; the evidence then begins again. What lasts for LASTING_DAYS becomes the reference.
    With an ``agreement`` it is raised when the rows (``losses``) prove a mean above what is tolerated; where days
    differ by more than their rows explain, by the days as without one, and its share is that by which one is worse.
    """
    before = earlier[-1][1] if earlier else Judged(excess=None)
    as_before = Judged(
        excess=None,
        evidence=before.evidence,
        quiet=before.quiet,
        going_on=before.going_on,
        lasting=before.lasting,
        sums=before.sums,
    )
    if _is_blind([one for one, judged in earlier if not judged.held_out], day):
        return msgspec.structs.replace(as_before, blind=True, alarm=True, going_on=True, quiet=0)
    excess = excess_of(day)
    base = _reference(earlier)
    usual = float(np.median([one.rows for one, _ in base])) if base else 0.0
    if excess is None or day.loss is None or day.rows < max(_FEWEST_ROWS, _USUAL_SHARE * usual):
        return as_before
    if len(base) < FEWEST:
        return msgspec.structs.replace(as_before, excess=excess, reference_days=len(base))
    p, sums = None, None
    agreed = None if agreement is None or losses is None else _agreed(earlier, base, agreement)
    if agreement is not None and agreed is not None and losses is not None:
        reference, days, most = agreed
        sums = bet(
            np.array(before.sums or [before.evidence] * len(STAKES)), losses, most=most, bound=agreement.bound or most
        )
        evidence, in_control, relevant = float(sums.mean()), day.loss <= most, True
    else:
        reference, days, most = float(np.mean([one.loss for one, _ in base if one.loss is not None])), len(base), None
        p = float(prediction_p(np.array([judged.excess for _, judged in base], dtype=np.float64), excess))
        evidence, in_control = float(gather(before.evidence, e_value(p))), p >= OUT_OF_CONTROL
        relevant = day.loss >= (WORSE if agreement is None else 1 + agreement.share) * reference
    alarm = evidence >= false_alarm_every and relevant and not in_control
    quiet = before.quiet + 1 if in_control else 0
    over = before.going_on and quiet >= QUIET_DAYS
    going_on = alarm or (before.going_on and not over)
    lasting = before.lasting + 1 if going_on else 0
    settled = lasting >= LASTING_DAYS
    used = alarm or over or settled  # what has called somebody, or is over, is not used again
    return Judged(
        excess=excess,
        p=p,
        evidence=0.0 if used else evidence,
        in_control=in_control,
        reference=reference,
        reference_days=days,
        alarm=alarm,
        going_on=going_on and not settled,
        quiet=quiet,
        lasting=0 if settled else lasting,
        settled=settled,
        tolerated=most,
        sums=() if used or sums is None else tuple(sums.tolist()),
    )


def _agreed(
    earlier: Sequence[tuple[Figures, Judged]], base: Sequence[tuple[Figures, Judged]], agreement: Agreement
) -> tuple[float, int, float] | None:
    """The reference's mean loss, its days, and the mean that is tolerated; None: days judge, not rows.

    The reference stands: the days held out at the run; what has become how it is; else the first days that there were.
    The ordinary days before (``base``) say whether rows can judge: so it is settled before the day is looked at.
    """
    known = [(one, judged) for one, judged in earlier if judged.excess is not None]
    settled = [place for place, (_, judged) in enumerate(known) if judged.settled]
    if settled:
        chosen = known[: settled[-1] + 1][-LASTING_DAYS:]
    else:
        chosen = [one for one in known if one[1].held_out] or known[:LASTING_DAYS]
    days, ordinary = _measured(chosen), _measured(base)
    if days is None or ordinary is None or is_dispersed(ordinary):
        return None
    told = tolerated(days, agreement)
    return None if told is None else (told[0], len(days), told[1])


def _measured(days: Sequence[tuple[Figures, Judged]]) -> list[tuple[float, float, int]] | None:
    """(mean loss, variance of a row's, rows) of each; None if one was kept before there were variances."""
    found = [(one.loss, one.variance, one.rows) for one, _ in days if one.loss is not None]
    measured = [(loss, variance, rows) for loss, variance, rows in found if variance is not None]
    return measured if len(measured) == len(found) else None


def _reference(earlier: Sequence[tuple[Figures, Judged]]) -> list[tuple[Figures, Judged]]:
    """The days that a day is compared with: no alarming ones, until what alarmed has become how it is."""
    known: list[tuple[Figures, Judged]] = []
    base: list[tuple[Figures, Judged]] = []
    for one in earlier:
        if one[1].excess is None:
            continue
        known.append(one)
        if one[1].settled:
            base = known[-LASTING_DAYS:]
        elif not _is_alarming(one[1]):
            base.append(one)
    return base[-TRAILING:]


def excess_of(day: Figures) -> float | None:
    """What is compared: mean loss less the expected one; for numbers the logarithm of the mean loss; None without rows.

    >>> excess_of(Figures(rows=900, unlabelled=0, failed=0, loss=0.25, expected=0.125))
    0.125
    """
    if day.loss is None:
        return None
    return math.log(max(day.loss, 1e-12)) if day.expected is None else day.loss - day.expected


def began(earlier: Sequence[tuple[datetime, Judged]], start: datetime) -> datetime:
    """The day on which what alarms at ``start`` began: the first of the unlikely days up to it, without a gap."""
    for day, judged in reversed(earlier):
        if judged.p is None or judged.p >= UNLIKELY or start - day != timedelta(days=1):
            break
        start = day
    return start


def finding(judged: Judged, day: Figures, start: datetime, *, before: Judged, since: datetime | None = None) -> Finding:
    """What a judged day means for the alert, in words; ``since`` is the day on which it began."""
    details = {"loss": day.loss, "expected": day.expected, "rows": day.rows, "unlabelled": day.unlabelled}
    details |= {"reference": judged.reference, "evidence": judged.evidence, "p": judged.p}
    name = f"{start:%Y-%m-%d}"
    if judged.blind:
        total = day.rows + day.unlabelled
        sentence = (
            f"outcomes stopped coming: {day.rows:,} of the {total:,} predictions of {name} had one when their horizon "
            "had passed, so nothing can be said of the model."
        )
        return Finding(state="firing", sentence=sentence, day=start, details={**details, "blind": True}, alone=True)
    if _is_alarming(judged):
        text = _sentence(judged, day, name)
        if since is not None and since < start:
            text += f" It began on {since:%Y-%m-%d}."
        return Finding(state="firing", sentence=text, day=start, began=since, details=details)
    if judged.settled:
        sentence = (
            f"the loss has not come back in {LASTING_DAYS} days, so this is how it is now: {_loss(day.loss)} on "
            f"{name}, where {_loss(judged.reference)} was ordinary. Later days are compared with these."
        )
        return Finding(state="quiet", sentence=sentence, day=start)
    if before.going_on and not judged.going_on:
        as_ever = "as on other days" if judged.tolerated is None else "within what is tolerated"
        sentence = f"the loss is {as_ever} again: {_loss(day.loss)} on {name}, {QUIET_DAYS} such days in a row."
        return Finding(state="quiet", sentence=sentence, day=start)
    return Finding(state="unsure", day=start)


def _sentence(judged: Judged, day: Figures, name: str) -> str:
    itself = "" if day.expected is None else f"; its own scores expected {_loss(day.expected)} of that day"
    paid = "" if day.cost is None else f" It cost {day.cost:.3g} an event, in the unit of [costs]."
    if judged.tolerated is not None:
        return (
            f"the model lost {_loss(day.loss)} on {name} ({day.rows:,} predictions), and {_loss(judged.tolerated)} is "
            f"tolerated: a reference of {judged.reference_days} days ({_loss(judged.reference)}), and what "
            f"[monitoring] tolerance adds to it{itself}.{paid}"
        )
    times = f", {day.loss / judged.reference:.1f} times as much as" if day.loss and judged.reference else ", not as"
    return (
        f"the model lost {_loss(day.loss)} on {name} ({day.rows:,} predictions){times} on the "
        f"{judged.reference_days} ordinary days before ({_loss(judged.reference)}){itself}.{paid}"
    )


def _loss(value: float | None) -> str:
    return "nothing known" if value is None else f"{value:.3g}"


def _is_alarming(judged: Judged) -> bool:
    """Is it a day that an alarm is about? It is then no reference for later days."""
    return judged.going_on and judged.in_control is False


def _is_blind(earlier: Sequence[Figures], day: Figures) -> bool:
    """Did outcomes come for less than half of what is usual?"""
    shares = [one.rows / (one.rows + one.unlabelled) for one in earlier[-TRAILING:] if one.rows + one.unlabelled > 0]
    total = day.rows + day.unlabelled
    if len(shares) < FEWEST or total < _FEWEST_ROWS:
        return False
    return day.rows / total < _BLIND * float(np.median(shares))
