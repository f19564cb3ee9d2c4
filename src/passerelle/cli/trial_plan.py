"""The verb trial plan: before a trial starts, how long it will take, or why it cannot end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from passerelle.cli.group import AS_JSON, TO, show, working
from passerelle.cli.trying import trial
from passerelle.clock import system_clock

if TYPE_CHECKING:
    from passerelle.loop.forecasting import Outlook
    from passerelle.trial.needs import Mode, Need

_REFUSED = 3


@trial.command()
@TO
@click.option("--margin", type=click.FloatRange(min=0, min_open=True), help="Another margin, as a share of the loss.")
@click.option("--mode", type=click.Choice(["shadow", "split"]), help="Another mode than the project's.")
@click.option("--share", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="Another share in a split.")
@click.option("--per-day", type=click.FloatRange(min=0, min_open=True), help="Other traffic: labels a day.")
@click.option("--max-days", type=click.IntRange(min=2), help="Another last day.")
@AS_JSON
@click.pass_context
def plan(
    context: click.Context,
    environment: str,
    *,
    margin: float | None,
    mode: Mode | None,
    share: float | None,
    per_day: float | None,
    max_days: int | None,
    as_json: bool,
) -> None:
    """Say how many labels and days a trial would need, from what the champion's losses were so far.

    Starts nothing. Ends with 3 where the margin cannot be resolved in time, and says what would.
    """
    from passerelle.loop.forecasting import forecast_trial
    from passerelle.loop.train import registry_of

    project = working(context, "looks")
    found = forecast_trial(
        project,
        registry_of(project),
        environment=environment,
        now=system_clock(),
        margin=margin,
        mode=mode,
        share=share,
        per_day=per_day,
        max_days=max_days,
    )
    show(found, as_json=as_json, text=_lines(found, other_traffic=per_day is not None))
    if found.forecast.refused is not None:
        context.exit(_REFUSED)


def _lines(found: Outlook, *, other_traffic: bool) -> list[str]:
    """A forecast, for a person."""
    forecast = found.forecast
    unit = f"one {forecast.unit}"
    margin = f"margin {found.margin_share:.3g} of its loss, {forecast.margin:.3g} ({found.loss} {found.reference:.3g})"
    lines = [
        f"A trial against version {found.champion} in {found.environment}, in {forecast.mode}: {margin}.",
        f"  From {found.source}; {forecast.per_day:,.0f} labels a day, known within {forecast.horizon_days:.3g} days.",
        f"  shadow  {_needed(forecast.shadow)}",
        f"  split   {_needed(forecast.split)}",
    ]
    if forecast.ratio is not None:
        lines.append(f"  A split needs {forecast.ratio:.1f} times the labels of a shadow.")
    lines.append(f"  For an equal challenger; the evidence of {unit} varies by {forecast.need.deviation:.3g}.")
    lines += [f"  Taken for granted: {assumed}." for assumed in forecast.assumed]
    if other_traffic and forecast.unit in ("day", "week"):
        lines.append(
            f"  Taken for granted: {forecast.unit}s differ by as much at that traffic; of fewer events, by more."
        )
    if forecast.refused is not None:
        lines += [f"REFUSED: {forecast.refused}.", *(f"  Instead: {one}." for one in forecast.instead)]
        if forecast.resolvable is not None:
            share = math.ceil(1000 * forecast.resolvable / found.reference) / 1000
            lines.append(
                f"  As a share of the loss, the least such margin is {share:.3g}: [trial] margin = {share:.3g}."
            )
        return lines
    likely = (
        "" if forecast.need.resolves_90 else f" 90 % of trials would take longer than its {forecast.max_days} days."
    )
    return [*lines, f"Begun now, half of all trials have their verdict by {found.expected:%d %b %Y}.{likely}"]


def _needed(need: Need) -> str:
    if need.labels is None:
        return "more than ten years"
    late = "90 %: more than ten years" if need.labels_90 is None else f"90 %: {need.labels_90:,}, {need.days_90:,} days"
    return f"{need.labels:,} labels, {need.days:,} days ({late})"
