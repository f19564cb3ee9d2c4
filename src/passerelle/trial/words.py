"""Words: a verdict in one sentence that a manager can read, with its figures. Pure."""

from __future__ import annotations

import math
from datetime import datetime

import msgspec

from passerelle.project.settings import Loss
from passerelle.project.triable import DAYS_OF_A_WEEK, FEWEST_WEEKS
from passerelle.trial.cautions import NOTABLE_AUTOCORRELATION, NOTABLE_EFFECT, Cautions
from passerelle.trial.guarding import guarded_words
from passerelle.trial.refusing import SELECTIVE_TOLERANCE, Why
from passerelle.trial.verdict import Guarding, Kind, Plan, Verdict

#: How losses are called.
LOSSES: dict[Loss, str] = {
    "brier": "Brier",
    "log_loss": "log loss",
    "zero_one": "share of errors",
    "squared": "squared error",
    "absolute": "absolute error",
}
#: Failures of the challenger, and answers that are missing, are said beyond this share of the events.
_NOTABLE_SHARE = 0.01
#: Coverage is said below this share of events with an outcome.
_NOTABLE_COVERAGE = 0.9


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a verdict's sentence is made of; see Verdict."""

    estimate: float | None
    lower: float | None
    upper: float | None
    promote_evidence: float
    rollback_evidence: float
    cautions: Cautions
    #: Days with evidence, mature events in them, and days that have closed.
    days: int
    rows: int
    closed: int
    #: Weeks with evidence, in a trial of weeks; and units (rows), in one of units (rows).
    weeks: int | None
    observations: int
    #: Of these events, how many the challenger failed on.
    failed: int
    #: Events that are not compared, since one of the two answers was not there.
    unpaired: int
    #: Units of the champion and of the challenger, in a split.
    units: tuple[int, int]
    #: Of these, those that had an outcome on their first day.
    labelled: tuple[int, int]
    #: Of what makes it INVALID: each share of the challenger that was in force, and how many of these units came then.
    shares: dict[float, int]
    #: What makes it INVALID.
    refused: Why | None
    #: See Verdict.
    capped: tuple[float, float] | None
    coverage: tuple[float, float] | None
    guards: tuple[Guarding, ...]
    #: When a verdict is expected; None: not before the trial's end.
    expected: datetime | None


def sentence(plan: Plan, kind: Kind, figures: Figures, *, reason: str | None = None) -> str:
    """The verdict in words. ``reason`` says why somebody ended a trial that had not decided."""
    champion = f"version {plan.champion}"
    said = f"{_compared(plan, figures)}{_caution(plan, figures)}{_failures(plan, figures)}{_counts(figures)}"
    if kind == "PROMOTE":
        worse = " It is proven slightly worse, within the margin." if (figures.lower or 0) > 0 else ""
        chance = f"a challenger worse than the margin would be promoted with probability {plan.alpha:.0%} at most."
        return f"PROMOTE: {said}; {_percent(chance)}{worse}"
    if kind == "ROLL_BACK":
        than = "the champion" if plan.rollback_above == 0 else "the margin"
        than += " in anything" if plan.guardrails else ""
        chance = f"a challenger no worse than {than} would be rolled back with probability {plan.alpha:.0%} at most."
        return f"ROLL BACK: {said}; {_percent(chance)}"
    if kind == "INVALID":
        return _invalid(plan, figures)
    if kind == "INCONCLUSIVE":
        why = reason or f"{figures.closed} days have passed without a proof in either direction"
        stays = "" if "a person made revision" in why else f"; {champion} stays"  # what a person made stands
        return f"INCONCLUSIVE: {why}; {said}{stays}."
    return f"KEEP GOING: {said}; {_missing(plan, figures)}."


def measured(plan: Plan, verdict: Verdict) -> list[str]:
    """A line for each thing that a verdict has measured beside the difference; [] where there is nothing yet."""
    lines = []
    if verdict.autocorrelation is not None:
        block = "week" if plan.unit == "week" else "day"
        lines.append(f"autocorrelation of the {block}s' means: {verdict.autocorrelation:+.2f}")
    if verdict.design_effect is not None:
        what = "units" if plan.unit == "unit" else "events"
        lines.append(f"design effect: {verdict.design_effect:.1f} {what} say as much as one independent one")
    if verdict.better_unit is not None:
        lines.append(f'the unit of evidence flatters: say evidence = "{verdict.better_unit}" in the next trial')
    for said, shares in (("outcomes in time", verdict.coverage), ("losses cut at the cap", verdict.capped)):
        if shares is not None:
            one, other = (_percent(f"{share:.1%}") for share in shares)
            lines.append(f"{said}: {one} (version {plan.champion}), {other} (version {plan.challenger})")
    return [*lines, *(f"guardrail, {guarded_words(guarding)}" for guarding in verdict.guardrails)]


def _invalid(plan: Plan, figures: Figures) -> str:
    """Why nothing can be concluded, and where to look."""
    champion, challenger = f"version {plan.champion}", f"version {plan.challenger}"
    stays = f"nothing is concluded and {champion} stays"
    if figures.refused == "selective":
        tolerance = _percent(f"{SELECTIVE_TOLERANCE:.0%}")
        return (
            "INVALID: whether an event has an outcome depends on the score that it was given (the highest or the "
            f"lowest tenth differs from the others by more than {tolerance}, which chance does not do): what is "
            f"labelled is no fair sample of what {challenger} would meet: {stays}. Look for answers that decide "
            "whether the truth is ever known, and for outcomes that come late."
        )
    by_outcome = figures.refused == "labelled"
    units = figures.labelled if by_outcome else figures.units
    total = max(1, sum(units))
    which = "units whose outcomes came in time" if by_outcome else "units"
    got = f"{_percent(f'{units[1] / total:.1%}')} of {total:,} {which}"
    look = "why one version's outcomes come late" if by_outcome else "callers that change their unit or lose answers"
    return (
        f"INVALID: {challenger} got {got} instead of {_percent(_wanted(plan, figures))}, which chance does not do: "
        f"{stays}. Look for {look}."
    )


def _wanted(plan: Plan, figures: Figures) -> str:
    """The share of the units that the challenger should have got."""
    shares = figures.shares
    if len(shares) < 2:  # noqa: PLR2004  (it was changed)
        return f"{next(iter(shares), plan.share):.0%}"
    mean = sum(share * units for share, units in shares.items()) / max(1, sum(shares.values()))
    return f"{mean:.1%} (shares of {min(shares):.0%} to {max(shares):.0%})"


def _compared(plan: Plan, figures: Figures) -> str:
    champion, challenger = f"version {plan.champion}", f"version {plan.challenger}"
    if figures.estimate is None:
        return f"{challenger} and {champion} have no mature event to compare yet"
    digits = _digits(plan, figures)
    word = "less" if figures.estimate < 0 else "more"
    per = "event of a unit" if plan.unit == "unit" else "event"
    band = "no bounds yet"
    if figures.lower is not None and figures.upper is not None:
        level = f"{1 - 2 * plan.alpha:.0%}"
        band = f"{_percent(level)} sequence {figures.lower:+.{digits}f} to {figures.upper:+.{digits}f}"
    over = f"{figures.days} day{'s' if figures.days != 1 else ''} and {figures.rows:,} mature events"
    if plan.unit == "week":
        over = f"{figures.weeks} week{'s' if figures.weeks != 1 else ''}, {over}"
    if plan.unit == "unit":
        over += f" of {figures.observations:,} units"
    return (
        f"{challenger} lost {abs(figures.estimate):.{digits}f} {word} per {per} than {champion} "
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
    needed = plan.min_days if figures.weeks is None else max(FEWEST_WEEKS, math.ceil(plan.min_days / DAYS_OF_A_WEEK))
    have, unit = (figures.days, "days") if figures.weeks is None else (figures.weeks, "weeks")
    if have < needed:
        waits = f"{needed - have} more of the {needed} {unit} that a verdict needs are missing"
    else:
        # With guardrails the loss rolls back at half of alpha: see judging.
        wanted, wanted_below = 1 / plan.alpha, (2 if figures.guards else 1) / plan.alpha
        waits = (
            f"the evidence to promote is {figures.promote_evidence:.2g} of {wanted:.0f}, to roll back "
            f"{figures.rollback_evidence:.2g} of {wanted_below:.0f}"
        )
        if pending := [one.watch for one in figures.guards if one.state != "pass"]:
            waits += f", and guardrails must pass: {', '.join(pending)}"
    if figures.expected is not None:
        return f"{waits}; at this pace a verdict comes around {figures.expected:%d %b %Y}"
    if have < needed or plan.unit in ("row", "unit"):
        return waits
    return f"{waits}; at this pace none comes within the trial's {plan.max_days} days"


def _caution(plan: Plan, figures: Figures) -> str:
    """Where the unit of evidence flatters."""
    found = figures.cautions
    weaker = "they are weaker evidence than they look"
    instead = f'; say evidence = "{found.better_unit}" in the next trial' if found.better_unit is not None else ""
    if plan.unit in ("day", "week"):
        if found.autocorrelation is None or found.autocorrelation < NOTABLE_AUTOCORRELATION:
            return ""
        return (
            f" (its {plan.unit}s resemble the {plan.unit}s before them, autocorrelation {found.autocorrelation:.1f}: "
            f"{weaker}{instead})"
        )
    if found.better_unit is None or found.design_effect is None:
        return ""
    what = "events" if plan.unit == "row" else "units"
    brought = ""
    if found.per_unit is not None and found.per_unit > NOTABLE_EFFECT:
        brought = f"a unit brought {found.per_unit:.1f} events, which are not independent; "
    return f" ({brought}{found.design_effect:.1f} {what} say as much as one: {weaker}{instead})"


def _failures(plan: Plan, figures: Figures) -> str:
    """Where answers are often missing: of the challenger, the cause of its loss; of a pair, what that may hide."""
    said = ""
    if figures.failed > _NOTABLE_SHARE * figures.rows:
        of = f" of {figures.rows:,}" if plan.mode == "shadow" else ""
        said = f"; it failed on {figures.failed:,}{of} events"
    if figures.unpaired > _NOTABLE_SHARE * figures.rows:
        said += f"; {figures.unpaired:,} more events have no pair of answers, which may hide what was hard for one"
    return said


def _counts(figures: Figures) -> str:
    """What was cut and what had no outcome, where it is notable, and what the guardrails say."""
    said = ""
    if figures.capped is not None and max(figures.capped) > 0:
        one, other = (_percent(f"{share:.2%}") for share in figures.capped)
        said += f"; the cap cut {one} of the champion's losses and {other} of the challenger's"
    if figures.coverage is not None and min(figures.coverage) < _NOTABLE_COVERAGE:
        one, other = (_percent(f"{share:.0%}") for share in figures.coverage)
        both = one if one == other else f"{one} (champion) and {other} (challenger)"
        said += f"; {both} of the events had an outcome in time"
    for guarding in figures.guards:
        said += f"; {guarded_words(guarding)}"
    return said


def _percent(text: str) -> str:
    return text.replace("%", " %")
