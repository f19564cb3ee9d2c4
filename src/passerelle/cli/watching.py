"""The verbs that show what is wrong and what happened: alerts, which also handles them, and timeline."""

from __future__ import annotations

import getpass
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from click.core import ParameterSource

from passerelle.cli.group import AS_JSON, TO, main, project_of, refuse_unknown, show, working
from passerelle.clock import system_clock
from passerelle.errors import SettingsError
from passerelle.project.settings import Project, Watch

if TYPE_CHECKING:
    from passerelle.monitoring.alerts import Alert
    from passerelle.monitoring.channels import Undelivered
    from passerelle.monitoring.silences import Silence

WATCH = click.argument("watch", type=click.Choice(get_args(Watch)))
ALERT = click.argument("alert")


class _Duration(click.ParamType[timedelta]):
    """90m, 4h, 2d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Called by click."""
        found = re.fullmatch(r"([0-9]{1,6})([mhd])", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no duration: say 90m, 4h or 2d.", param, ctx)
        unit = {"m": "minutes", "h": "hours", "d": "days"}[found[2]]
        return timedelta(**{unit: int(found[1])})


@main.group(invoke_without_command=True)
@click.option("--open", "open_only", is_flag=True, help="Only those that are not over.")
@click.option("--test", is_flag=True, help="Send a test message to each channel instead, and say what came of it.")
@TO
@AS_JSON
@click.pass_context
def alerts(context: click.Context, environment: str, *, open_only: bool, test: bool, as_json: bool) -> None:
    """Show what is wrong, and what was.

    Each alert with its name, when it opened, what to do, and when it was over; those of one cause together. Then what
    is silenced, which messages have not arrived, and how many false alarms are expected beside how many came. With
    --test, exit code 1 if a channel failed, 2 if there is none.
    """
    if context.invoked_subcommand is not None:
        _refuse_before(context)
        return
    from passerelle.monitoring.alerts import find_alerts
    from passerelle.monitoring.budget import budget_of, lines_of
    from passerelle.monitoring.channels import undelivered
    from passerelle.monitoring.silences import read_silences
    from passerelle.state.database import open_state

    if test:
        _test(context, as_json=as_json)
        return
    project = working(context, "looks")
    engine = open_state(project.state)
    found = find_alerts(engine, environment, open_only=open_only)
    if not found and not (open_only and find_alerts(engine, environment)):
        refuse_unknown(project, environment)
    with engine.connect() as connection:
        silent = read_silences(connection, environment)
    budget = budget_of(engine, project, environment)
    nothing = f"Nothing is wrong in {environment}." if open_only else f"There was no alert in {environment}."
    lines = _listed(found) or [nothing]
    lines += [f"Silenced: {_until(one)}" for one in silent]
    kept = undelivered(engine, now=system_clock())
    lines += [_kept(one) for one in kept]
    if not open_only and any(one.days or one.raised for one in budget.families):
        lines += lines_of(budget)
    values = {"alerts": found, "silences": silent, "undelivered": kept, "budget": budget}
    show(values, as_json=as_json, text=lines)


def _refuse_before(context: click.Context) -> None:
    """Refuse the list's own options before a verb, which would not see them: ``alerts --to staging silence``."""
    for option in context.command.params:
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            verb = context.invoked_subcommand
            said = option.opts[0]
            raise click.UsageError(
                f"{said} stands before {verb}: say it after, passerelle alerts {verb} ... {said} ..."
            )


def _test(context: click.Context, *, as_json: bool) -> None:
    from passerelle.monitoring.channels import try_channels

    project = project_of(context)
    if not project.alerts.channels:
        raise SettingsError(
            "no channel is configured, so pages reach nobody: put a channel's address (mailto://..., slack://..., "
            "https://...) into an environment variable, OPERATIONS_CHANNEL say, and name that in passerelle.toml: "
            'channels = ["OPERATIONS_CHANNEL"] below [alerts].'
        )
    tried = try_channels(project, now=system_clock())
    lines = [f"{name}: {problem or 'the test message was accepted.'}" for name, problem in tried.items()]
    show(tried, as_json=as_json, text=lines)
    if any(tried.values()):
        context.exit(1)


def _listed(found: Sequence[Alert]) -> list[str]:
    """Alerts by their cause: the first one, and those that joined it below it."""
    from passerelle.monitoring.alerts import grouped, lines_of

    lines = []
    for group in grouped(found):
        for number, alert in enumerate(group):
            before, name = ("", f"{alert.watch}  ({alert.id})") if number == 0 else ("    ", "")
            name = name or f"began together: {alert.watch}  ({alert.id})"
            lines += [f"{before}{name}", *(f"{before}  {line}" for line in lines_of(alert))]
    return lines


def _kept(one: Undelivered) -> str:
    waiting = f"{one.waiting} {'message waits' if one.waiting == 1 else 'messages wait'}" if one.waiting else ""
    given_up = f"{one.given_up} {'was' if one.given_up == 1 else 'were'} given up" if one.given_up else ""
    return f"Undelivered to {one.channel}: {' and '.join(part for part in (waiting, given_up) if part)}: {one.problem}"


def _until(one: Silence) -> str:
    return f"{one.watch} until {one.until:%Y-%m-%d %H:%M} by {one.by}: {one.reason}"


@alerts.command()
@ALERT
@click.option("--note", default="", help="What you know or do, for others.")
@AS_JSON
@click.pass_context
def ack(context: click.Context, alert: str, *, note: str, as_json: bool) -> None:
    """Say that you see to ALERT (its name, as passerelle alerts shows it).

    It stays open until its rule is quiet; others read who sees to it, and since when.
    """
    from passerelle.monitoring.handling import acknowledge

    seen = acknowledge(working(context), alert, by=_me(), note=note, now=system_clock())
    show(seen, as_json=as_json, text=f"{seen.acknowledged_by} sees to {seen.id}.")


@alerts.command()
@WATCH
@click.option("--for", "lasts", type=_Duration(), required=True, help="How long: 90m, 4h, 2d; 30 days at most.")
@click.option("--reason", required=True, help="Why, for whoever finds it silent.")
@TO
@AS_JSON
@click.pass_context
def silence(
    context: click.Context, watch: Watch, environment: str, *, lasts: timedelta, reason: str, as_json: bool
) -> None:
    """Send nothing of WATCH for a while: before work that is planned.

    Its alerts open and close as ever. What still fires when the time is over is told then.
    """
    from passerelle.monitoring.handling import silence as begin

    project = _known(context, environment)
    made = begin(project, environment, watch, lasts=lasts, reason=reason, by=_me(), now=system_clock())
    text = f"Nothing is sent of {_until(made)}. passerelle alerts unsilence {watch} ends it."
    show(made, as_json=as_json, text=text)


@alerts.command()
@WATCH
@TO
@AS_JSON
@click.pass_context
def unsilence(context: click.Context, watch: Watch, environment: str, *, as_json: bool) -> None:
    """End the silence of WATCH; what still fires is told at once."""
    from passerelle.monitoring.handling import unsilence as end

    ended = end(_known(context, environment), environment, watch, by=_me(), now=system_clock())
    show(ended, as_json=as_json, text=f"{watch} is not silenced any more.")


@alerts.command()
@ALERT
@TO
@AS_JSON
@click.pass_context
def normal(context: click.Context, alert: str, environment: str, *, as_json: bool) -> None:
    """Say that what ALERT is about is how it is now: it closes.

    For drift and performance: the days since it began are what later days are compared with.
    """
    from passerelle.monitoring.marking import mark_normal

    marked = mark_normal(_known(context, environment), environment, alert, system_clock(), by=_me())
    show(marked, as_json=as_json, text=f"{marked.id} is how it is now: later days are compared with its days.")


@alerts.command()
@ALERT
@TO
@AS_JSON
@click.pass_context
def incident(context: click.Context, alert: str, environment: str, *, as_json: bool) -> None:
    """Say that ALERT was an incident: it closes, and its days are compared with nothing.

    For drift and performance. What goes on after those days alarms anew.
    """
    from passerelle.monitoring.marking import mark_incident

    marked = mark_incident(_known(context, environment), environment, alert, system_clock(), by=_me())
    show(marked, as_json=as_json, text=f"{marked.id} was an incident: its days are left out.")


@alerts.command("export")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--dashboard", default="127.0.0.1:8701", show_default=True, help="host:port, where it is scraped.")
@TO
@AS_JSON
@click.pass_context
def export_rules(context: click.Context, folder: Path, dashboard: str, environment: str, *, as_json: bool) -> None:
    """Write the same rules for Prometheus and Alertmanager into FOLDER.

    passerelle.rules.yml, prometheus.yml (what to scrape) and alertmanager.yml (the channels, without a secret: each
    says where to put it).
    """
    from passerelle.monitoring.export import export

    project = working(context, "looks")
    refuse_unknown(project, environment)
    written = export(project, environment, folder, dashboard=dashboard, now=system_clock())
    show(written, as_json=as_json, text=[f"{path}" for path in written])


def _known(context: click.Context, environment: str) -> Project:
    project = working(context)
    refuse_unknown(project, environment)
    return project


def _me() -> str:
    """Who runs this, by the system's name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have none
        return "somebody"


@main.command()
@click.option("--kind", help="Only of this kind: delivery, run, version, deployment, trial, verdict, alert ...")
@click.option("--limit", type=click.IntRange(1), default=30, show_default=True, help="How many, the newest.")
@AS_JSON
@click.pass_context
def timeline(context: click.Context, kind: str | None, limit: int, *, as_json: bool) -> None:
    """Show what happened to the project, a line each, the newest last.

    When (UTC), its kind, what it happened to, and the sentence; of all environments.
    """
    from passerelle.state.database import open_state
    from passerelle.state.timeline import events

    engine = open_state(project_of(context).state)
    found = events(engine, kind=kind, limit=limit)
    lines = [
        f"{one.at:%Y-%m-%d %H:%M}  {one.kind:10}  {one.subject}: {' '.join(one.sentence.split())}" for one in found
    ]
    nothing = "Nothing has happened yet."
    if not found and kind is not None:
        known = ", ".join(sorted({one.kind for one in events(engine)})) or "nothing at all"
        nothing = f"Nothing of the kind {kind!r} has happened yet; what has: {known}."
    show(found, as_json=as_json, text=lines or [nothing])
