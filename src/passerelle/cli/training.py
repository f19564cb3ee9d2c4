"""Verbs from the data to a version: ingest, train, versions, import."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from passerelle.cli.group import AS_JSON, FILES, main, on_cell, show, working
from passerelle.clock import system_clock


@main.command()
@FILES
@click.option("--table", help="The table that the files belong to; else their names say it.")
@click.option("--new-table", is_flag=True, help="The project does not have this table yet: make it.")
@AS_JSON
@click.pass_context
def ingest(
    context: click.Context, files: tuple[Path, ...], table: str | None, *, new_table: bool, as_json: bool
) -> None:
    """Accept or quarantine deliveries.

    FILES, of which a folder is one batch; without any, what is new in the bucket and the inbox. A file's name says its
    table; once a project has tables, a name that says none of them is put aside. Exit code 3 if one was quarantined.
    """
    from passerelle.data.bucket import fetch
    from passerelle.data.landing import inbox
    from passerelle.data.landing import ingest as land

    project = working(context)
    # By hand, in a kernel of another environment, training_data asks this interpreter for the data.
    project.state.mkdir(parents=True, exist_ok=True)
    (project.state / "python").write_text(f"{sys.executable}\n")
    if not files:
        fetch(project)
    deliveries = land(project, list(files) or inbox(project), now=system_clock(), table=table, new_table=new_table)
    hint = "Nothing new in the inbox. What was put aside before is tried again if you name it: passerelle ingest FILE"
    lines = [f"{one.status:12} {one.sentence}" for one in deliveries] or [hint]
    show(deliveries, as_json=as_json, text=lines)
    if any(one.status == "quarantined" for one in deliveries):
        context.exit(3)


@main.command()
@click.option("--again", is_flag=True, help="Run even if this notebook has run on this snapshot before.")
@click.option("--target", help="Have the notebook run as a job of this target; all else is done here.")
@AS_JSON
@click.pass_context
def train(context: click.Context, *, again: bool, target: str | None, as_json: bool) -> None:
    """Run the notebook and make a version of it.

    On the accepted data: run, prove parity, pass the gate, seal, sign, register. Exit code 3 if a check refuses it.
    """
    from passerelle.loop.jobs import runner_of
    from passerelle.loop.train import train as run

    project = working(context)
    runner = runner_of(project, target)
    training = run(project, now=system_clock(), again=again, on_step=on_cell, runner=runner)
    show(training, as_json=as_json, text=training.lines())


@main.command()
@AS_JSON
@click.pass_context
def versions(context: click.Context, *, as_json: bool) -> None:
    """Show the versions and their figures."""
    from passerelle.loop.train import registry_of

    found = registry_of(working(context, "looks")).versions()
    lines = [
        f"{one.number:4}  {','.join(one.aliases) or '-':20} {one.created_at:%Y-%m-%d %H:%M}  "
        + "  ".join(f"{name}={value:.4g}" for name, value in sorted(one.metrics.items()))
        for one in found
    ]
    show(found, as_json=as_json, text=lines or ["No version yet: passerelle train."])


@main.command("import")
@click.argument("source")
@click.option("--trust", is_flag=True, help="Allow that the model's code is run: loading an MLflow model executes it.")
@AS_JSON
@click.pass_context
def import_(context: click.Context, source: str, *, trust: bool, as_json: bool) -> None:
    """Make a version of SOURCE, models:/NAME/VERSION of MLflow or its folder."""
    from passerelle.loop.adopt import import_version

    training = import_version(working(context), source, trust=trust, now=system_clock())
    show(training, as_json=as_json, text=training.lines())
