"""Words: a verdict in one sentence that a manager can read, with its figures. Pure."""

from __future__ import annotations

import math
from datetime import datetime

import msgspec

from passerelle.project.settings import Loss
from passerelle.trial.verdict import Kind, Plan

#: How losses are called.
LOSSES: dict[Loss, str] = {
    "brier": "Brier",
    "log_loss": "log loss",
    "zero_one": "share of errors",
    "squared": "squared error",
    "absolute": "absolute error",
}
_NOTABLE = 0.4
_NOTABLE_PER_UNIT = 1.2
#: Failures of the challenger, and answers that are missing, are said beyond this share of the events.
_NOTABLE_SHARE = 0.01


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a verdict's sentence is made of; see Verdict."""

    estimate: float | None
    lower: float | None
    upper: float | None
    promote_evidence: float
    rollback_evidence: float
    autocorrelation: float | None
    #: Days with evidence, mature events in them, and days that have closed.
    days: int
    rows: int
    closed: int
    #: Of these events, how many the challenger failed on.
    failed: int
    #: Events that are not compared, since one of the two answers was not there.
    unpaired: int
    #: Units of the champion and of the challenger, in a split.
    units: tuple[int, int]
    #: Of these, those that had an outcome on their first day; and whether it is only their shares that do not fit.
    labelled: tuple[int, int]
    assigned_fit: bool
    #: Events of each unit, in a split by rows.
    per_unit: float | None
    #: When a verdict is expected; None: not before the trial's end.
    expected: datetime | None


def sentence(plan: Plan, kind: Kind, figures: Figures, *, reason: str | None = None) -> str:
    """The verdict in words. ``reason`` says why somebody ended a trial that had not decided."""
    champion, challenger = f"version {plan.champion}", f"version {plan.challenger}"
    said = f"{_compared(plan, figures)}{_caution(figures)}{_failures(plan, figures)}"
    if kind == "PROMOTE":
        worse = " It is proven slightly worse, within the margin." if (figures.lower or 0) > 0 else ""
        chance = f"a challenger worse than the margin would be promoted with probability {plan.alpha:.0%} at most."
        return f"PROMOTE: {said}; {_percent(chance)}{worse}"
    if kind == "ROLL_BACK":
        than = "the champion" if plan.rollback_above == 0 else "the margin"
        chance = f"a challenger no worse than {than} would be rolled back with probability {plan.alpha:.0%} at most."
        return f"ROLL BACK: {said}; {_percent(chance)}"
    if kind == "INVALID":
        units = figures.labelled if figures.assigned_fit else figures.units
        total = max(1, sum(units))
        which = "units whose outcomes came in time" if figures.assigned_fit else "units"
        got = f"{_percent(f'{units[1] / total:.1%}')} of {total:,} {which}"
        look = (
            "why one version's outcomes come late"
            if figures.assigned_fit
            else "callers that change their unit or lose answers"
        )
        return (
            f"INVALID: {challenger} got {got} instead of {_percent(f'{plan.share:.0%}')}, which chance does not do: "
            f"nothing is concluded and {champion} stays. Look for {look}."
        )
    if kind == "INCONCLUSIVE":
        why = reason or f"{figures.closed} days have passed without a proof in either direction"
        stays = "" if "a person made revision" in why else f"; {champion} stays"  # what a person made stands
        return f"INCONCLUSIVE: {why}; {said}{stays}."
    return f"KEEP GOING: {said}; {_missing(plan, figures)}."


def _compared(plan: Plan, figures: Figures) -> str:
    champion, challenger = f"version {plan.champion}", f"version {plan.challenger}"
    if figures.estimate is None:
        return f"{challenger} and {champion} have no mature event to compare yet"
    digits = _digits(plan, figures)
    word = "less" if figures.estimate < 0 else "more"
    band = "no bounds yet"
    if figures.lower is not None and figures.upper is not None:
        level = f"{1 - 2 * plan.alpha:.0%}"
        band = f"{_percent(level)} sequence {figures.lower:+.{digits}f} to {figures.upper:+.{digits}f}"
    over = f"{figures.days} day{'s' if figures.days != 1 else ''} and {figures.rows:,} mature events"
    return (
        f"{challenger} lost {abs(figures.estimate):.{digits}f} {word} per event than {champion} "
        f"({LOSSES[plan.loss]}; {band}, margin {plan.margin:+.{digits}f}) over {over}"
    )


def _digits(plan: Plan, figures: Figures) -> int:
    """Decimals: two figures of the margin, and more where a bound would look like the margin."""
    fewest = max(0, 1 - math.floor(math.log10(plan.margin)))
    bounds = [bound for bound in (figures.lower, figures.upper) if bound is not None]
    for digits in range(fewest, fewest + 4):
        if all(f"{bound:.{digits}f}" != f"{plan.margin:.{digits}f}" for bound in bounds):
            return digits
    return fewest


def _missing(plan: Plan, figures: Figures) -> str:
    """What a trial that goes on still waits for."""
    if figures.days < plan.min_days:
        waits = f"{plan.min_days - figures.days} more of the {plan.min_days} days that a verdict needs are missing"
    else:
        needed = f"{1 / plan.alpha:.0f}"
        waits = (
            f"the evidence to promote is {figures.promote_evidence:.2g} of {needed}, to roll back "
            f"{figures.rollback_evidence:.2g} of {needed}"
        )
    if figures.expected is not None:
        return f"{waits}; at this pace a verdict comes around {figures.expected:%d %b %Y}"
    if figures.days < plan.min_days or plan.unit == "row":
        return waits
    return f"{waits}; at this pace none comes within the trial's {plan.max_days} days"


def _caution(figures: Figures) -> str:
    if figures.per_unit is not None and figures.per_unit > _NOTABLE_PER_UNIT:
        return (
            f" (a unit brought {figures.per_unit:.1f} events, which are not independent: "
            "they are weaker evidence than they look)"
        )
    if figures.autocorrelation is None or figures.autocorrelation < _NOTABLE:
        return ""
    return (
        f" (its days resemble the days before them, autocorrelation {figures.autocorrelation:.1f}: "
        "they are weaker evidence than they look)"
    )


def _failures(plan: Plan, figures: Figures) -> str:
    """Where answers are often missing: of the challenger, the cause of its loss; of a pair, what that may hide."""
    said = ""
    if figures.failed > _NOTABLE_SHARE * figures.rows:
        of = f" of {figures.rows:,}" if plan.mode == "shadow" else ""
        said = f"; it failed on {figures.failed:,}{of} events"
    if figures.unpaired > _NOTABLE_SHARE * figures.rows:
        said += f"; {figures.unpaired:,} more events have no pair of answers, which may hide what was hard for one"
    return said


def _percent(text: str) -> str:
    return text.replace("%", " %")
