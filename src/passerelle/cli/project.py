"""Verbs of a project: make it, check it, tell people about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from passerelle.cli.group import AS_JSON, main, show, working
from passerelle.clock import system_clock


@main.command()
@click.argument("name")
@click.option(
    "--task",
    type=click.Choice(["binary", "multiclass", "regression"]),
    default="binary",
    show_default=True,
    help="What is predicted.",
)
@click.option(
    "--language", type=click.Choice(["en", "fr"]), default="en", show_default=True, help="Of the scoping note."
)
@click.option("--time/--no-time", default=True, show_default=True, help="Do the events have a time?")
@click.pass_context
def new(context: click.Context, name: str, task: Any, language: Any, *, time: bool) -> None:
    """Make a project that works as it is, to put your own things in."""
    from passerelle.bundle.keys import own_key, public_hex, trust
    from passerelle.project.scaffold import create

    folder = context.obj / name
    paths = create(folder, name, task=task, language=language, time=time, today=system_clock().date())
    trust(folder / ".passerelle", public_hex(own_key()))
    click.echo(f"Made {folder} with {len(paths)} files. Next:\n  cd {folder}\n  passerelle ingest && passerelle train")


@main.command()
@AS_JSON
@click.pass_context
def check(context: click.Context, *, as_json: bool) -> None:
    """Say what does not fit, without running the notebook."""
    from passerelle.loop.checking import check_project

    project = working(context, "looks")
    found = check_project(project, now=system_clock())
    show(found, as_json=as_json, text=[f"{what}: {sentence}" for what, sentence in found.items()])


@main.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="cadrage.html",
    show_default=True,
    help="The page.",
)
@click.pass_context
def note(context: click.Context, out: Path) -> None:
    """Render the scoping note, with the present state of its plan."""
    from passerelle.loop.facts import render_note

    out.write_text(render_note(working(context, "looks"), now=system_clock()), encoding="utf-8")
    click.echo(f"Wrote {out}.")


@main.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def report(context: click.Context, out: Path) -> None:
    """Gather in OUT the newest run's notebook and report, and the note."""
    from passerelle.loop.facts import gather_report

    for path in gather_report(working(context, "looks"), out, now=system_clock()):
        click.echo(f"Wrote {path}.")
