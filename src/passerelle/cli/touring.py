"""The verb that lives a recorded period of a project."""

from __future__ import annotations

from pathlib import Path

import click

from passerelle.cli.group import AS_JSON, main, show


@main.command()
@click.argument("project", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="tour-report",
    show_default=True,
    help="Its folder.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes of the endpoint; else serving.workers.")
@click.option("--months", type=click.IntRange(2), help="Live only the first so many deliveries; else all of them.")
@click.option("--stay", is_flag=True, help="Then go on serving what was lived, with its dashboard, until Ctrl-C.")
@AS_JSON
@click.pass_context
def tour(
    context: click.Context,
    project: Path,
    out: Path,
    workers: int | None,
    months: int | None,
    *,
    stay: bool,
    as_json: bool,
) -> None:
    """Live a recorded period of a project.

    Through the real parts: the first delivery trains, the events of the others are answered when they were due, their
    outcomes follow, and the loop retrains, tries, promotes or refuses. The project needs dated events and outcomes.

    Cut short, even by kill -9, the same command goes on where it was.
    """
    from passerelle.tour.living import live
    from passerelle.tour.saying import Saying

    with Saying() as saying:
        lived = live(context.obj / project, out, workers=workers, months=months, saying=saying)
    show(lived, as_json=as_json, text=[*lived.lines(), f"{out / 'report.html'} shows it."])
    if stay:
        from passerelle.loop.up import up
        from passerelle.project.settings import FILE, load_project

        up(load_project(out / "project" / FILE), say=click.echo)
    if not lived.holds:
        context.exit(1)
