"""The verb that shows alerts, and tries the channels."""

from __future__ import annotations

import click

from passerelle.cli.group import AS_JSON, TO, main, project_of, show
from passerelle.clock import system_clock


@main.command()
@click.option("--open", "open_only", is_flag=True, help="Only those that are not over.")
@click.option("--test", is_flag=True, help="Send a test message to each channel instead, and say what came of it.")
@TO
@AS_JSON
@click.pass_context
def alerts(context: click.Context, environment: str, *, open_only: bool, test: bool, as_json: bool) -> None:
    """Show what is wrong, and what was.

    Each alert with the day it is about, what to do, and when it was over. With --test, exit code 1 if a channel failed.
    """
    from passerelle.monitoring.alerts import find_alerts, lines_of
    from passerelle.monitoring.channels import try_channels
    from passerelle.state.database import open_state

    project = project_of(context)
    if test:
        tried = try_channels(project, now=system_clock())
        none = "No channel: name environment variables with their addresses in [alerts] channels of passerelle.toml."
        lines = [f"{name}: {problem or 'the test message was accepted.'}" for name, problem in tried.items()]
        show(tried, as_json=as_json, text=lines or [none])
        if any(tried.values()):
            context.exit(1)
        return
    found = find_alerts(open_state(project.state), environment, open_only=open_only)
    nothing = f"Nothing is wrong in {environment}." if open_only else f"There was no alert in {environment}."
    show(found, as_json=as_json, text=[line for alert in found for line in lines_of(alert)] or [nothing])
