"""The verb that lives a recorded period of a project."""

from __future__ import annotations

from pathlib import Path

import click

from passerelle.cli.group import AS_JSON, main, show
from passerelle.clock import system_clock


@main.command()
@click.argument("example", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), default="tour-report", help="Its folder."
)
@click.option("--workers", type=click.IntRange(1), help="Processes of the endpoint; else serving.workers.")
@AS_JSON
@click.pass_context
def tour(context: click.Context, example: Path, out: Path, workers: int | None, *, as_json: bool) -> None:
    """Live a recorded period of a project.

    Through the real parts: train on all deliveries but the last, answer that one, tell the outcomes.

    Cut short, even by kill -9, the same command goes on where it was.
    """
    from passerelle.tour import live

    lived = live(context.obj / example, out, workers=workers, now=system_clock)
    show(lived, as_json=as_json, text=lived.lines())
    if not lived.holds:
        context.exit(1)
