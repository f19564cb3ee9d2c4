"""The verbs that a delivery chain runs: each of its steps is ``passerelle ci run JOB``."""

from __future__ import annotations

import click

from passerelle.cli.group import AS_JSON, main, on_cell, project_of, show
from passerelle.clock import system_clock


@main.group()
def ci() -> None:
    """Run the delivery chain's jobs, as its service does.

    Each works in a fresh clone on a machine of its own: what jobs have in common lies in PASSERELLE_STATE_URL,
    PASSERELLE_REGISTRY_URI and PASSERELLE_STORE. Without these the chain only trains, gates and reports.
    """


@ci.command("list")
@AS_JSON
def list_(*, as_json: bool) -> None:
    """Say which jobs there are, and what each does."""
    from passerelle.loop.chain import JOBS

    show(JOBS, as_json=as_json, text=[f"{name:18} {job.sentence}" for name, job in JOBS.items()])


@ci.command()
@click.argument("job")
@AS_JSON
@click.pass_context
def run(context: click.Context, job: str, *, as_json: bool) -> None:
    """Run JOB. Exit code 3 if a check refuses: data, skew, parity, gate."""
    from passerelle.loop.chain import run_job

    done = run_job(job, project_of(context), now=system_clock(), on_step=on_cell)
    show(done, as_json=as_json, text=done.lines)
