"""The verbs trial replay and trial record: what an auditor asks, and takes away."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from passerelle.cli.group import AS_JSON, TO, show, working
from passerelle.cli.trying import trial

if TYPE_CHECKING:
    from passerelle.project.settings import Project


@trial.command()
@click.argument("id_", metavar="[ID]", required=False)
@click.option(
    "--record",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of passerelle trial record, instead of what the state keeps.",
)
@TO
@AS_JSON
@click.pass_context
def replay(context: click.Context, id_: str | None, file: Path | None, environment: str, *, as_json: bool) -> None:
    """Recompute the verdict of the trial ID (else the newest) from the ledger alone, and verify its signature.

    Each day is read again as the ledger was then, and judged again. Exit code 1 if the verdict is not the one that was
    kept, or if what was signed is missing, was changed, or was signed by a key that the project does not trust.
    """
    from passerelle.trial.replaying import replay as recompute
    from passerelle.trial.replaying import replay_file

    if file is not None and id_ is not None:
        raise click.UsageError("name a trial or give --record FILE, not both: the file says which trial it is of.")
    data = None if file is None else file.read_bytes()  # before the folder changes
    project = working(context, "looks")
    replayed = recompute(project, _named(project, id_, environment)) if data is None else replay_file(project, data)
    days = "day" if replayed.blocks == 1 else "days"
    same = f"The same from the ledger alone, over {replayed.blocks} {days}." if replayed.same else "It is NOT the same:"
    text = [replayed.recomputed.sentence, same, *replayed.differences, replayed.signature.sentence]
    show(replayed, as_json=as_json, text=text)
    if not (replayed.same and replayed.signature.good):
        context.exit(1)


@trial.command()
@click.argument("id_", metavar="[ID]", required=False)
@click.option("--out", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="A file, else the screen.")
@TO
@click.pass_context
def record(context: click.Context, id_: str | None, out: Path | None, environment: str) -> None:
    """Write the signed record of the trial ID (else the newest), for an auditor: JSON.

    Plan, verdict, what was done, the block table, the public key and the signature over all of it. passerelle trial
    replay --record FILE verifies it against the ledger.
    """
    from passerelle.state.database import open_state
    from passerelle.trial import trials
    from passerelle.trial.signing import file_of

    target = None if out is None else out.absolute()  # before the folder changes
    project = working(context, "looks")
    engine = open_state(project.state)
    name = _named(project, id_, environment)
    found = trials.find(engine, name)
    if found is None:
        known = ", ".join(trials.identifiers(engine)) or "none"
        raise click.UsageError(f"there is no trial {name!r}: the trials are {known}.")
    data = file_of(found, trials.table(engine, name))
    if target is None:
        click.echo(data, nl=False)
        return
    draft = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    draft.write_bytes(data)
    draft.replace(target)
    click.echo(f"The record of trial {name} is in {out}.")


def _named(project: Project, id_: str | None, environment: str) -> str:
    """The trial that is meant: the newest, if none is named."""
    from passerelle.state.database import open_state
    from passerelle.trial import trials

    if id_ is not None:
        return id_
    found = trials.history(open_state(project.state), environment)
    if not found:
        raise click.UsageError(f"there was no trial in {environment} yet: passerelle trial start VERSION.")
    return found[-1].plan.id
