"""The verbs that show what is wrong and what happened: alerts, which also tries the channels, and timeline."""

from __future__ import annotations

import click

from passerelle.cli.group import AS_JSON, TO, main, project_of, refuse_unknown, show, working
from passerelle.clock import system_clock
from passerelle.errors import SettingsError


@main.command()
@click.option("--open", "open_only", is_flag=True, help="Only those that are not over.")
@click.option("--test", is_flag=True, help="Send a test message to each channel instead, and say what came of it.")
@TO
@AS_JSON
@click.pass_context
def alerts(context: click.Context, environment: str, *, open_only: bool, test: bool, as_json: bool) -> None:
    """Show what is wrong, and what was.

    Each alert with its name, when it opened, what to do, and when it was over. With --test, exit code 1 if a channel
    failed, 2 if there is none.
    """
    from passerelle.monitoring.alerts import find_alerts, lines_of
    from passerelle.monitoring.channels import try_channels
    from passerelle.state.database import open_state

    project = project_of(context) if test else working(context, "looks")
    if test:
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
        return
    engine = open_state(project.state)
    found = find_alerts(engine, environment, open_only=open_only)
    if not found and not (open_only and find_alerts(engine, environment)):
        refuse_unknown(project, environment)
    nothing = f"Nothing is wrong in {environment}." if open_only else f"There was no alert in {environment}."
    lines = [
        line for alert in found for line in (f"{alert.watch}  ({alert.id})", *(f"  {line}" for line in lines_of(alert)))
    ]
    show(found, as_json=as_json, text=lines or [nothing])


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
