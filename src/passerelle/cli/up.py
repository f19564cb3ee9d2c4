"""The verb that starts everything."""

from __future__ import annotations

import click

from passerelle.cli.group import main, project_of

PORT = click.IntRange(0, 65535)


@main.command()
@click.option("--port", type=PORT, help="Of the endpoint, 0 for any that is free; else serving.port.")
@click.option(
    "--dashboard-port", type=PORT, default=8701, show_default=True, help="Of the dashboard, 0 for any that is free."
)
@click.option("--workers", type=click.IntRange(1), help="Processes behind the endpoint; else serving.workers.")
@click.option("--no-loop", is_flag=True, help="Only answer and show: nothing is retrained, tried or watched.")
@click.pass_context
def up(context: click.Context, port: int | None, dashboard_port: int, workers: int | None, *, no_loop: bool) -> None:
    """Start endpoint, loop and dashboard, until Ctrl-C.

    Without a first version the loop makes it, and the endpoint starts with the first revision. A part that dies is
    started again; if this process dies, its parts end.
    """
    from passerelle.loop.shared import refuse_shared
    from passerelle.loop.up import up as run

    refuse_shared("up")
    run(
        project_of(context), port=port, dashboard_port=dashboard_port, workers=workers, loop=not no_loop, say=click.echo
    )
