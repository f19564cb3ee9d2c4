"""Verbs of production: deploy, serve, score, outcomes, and what was recorded."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from passerelle.cli.group import AS_JSON, TO, main, project_of, refuse_unknown, show
from passerelle.clock import system_clock


@main.command()
@click.argument("version", type=int)
@TO
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Of the units, beside the rest.")
@click.option("--shadow", is_flag=True, help="Only score it beside the version that answers.")
@click.option("--reason", help="Why, in one sentence; kept with the revision.")
@AS_JSON
@click.pass_context
def deploy(
    context: click.Context,
    version: int,
    environment: str,
    share: float,
    reason: str | None,
    *,
    shadow: bool,
    as_json: bool,
) -> None:
    """Make VERSION answer in an environment.

    A new revision, which a running endpoint obeys within a second. What answers is the champion; with --share or
    --shadow the version is put beside it.
    """
    from passerelle.loop.rollout import deploy as put
    from passerelle.loop.rollout import reconcile
    from passerelle.loop.train import registry_of

    project = project_of(context)
    registry = registry_of(project)
    now = system_clock()
    made = put(project, registry, version, environment=environment, share=share, shadow=shadow, reason=reason, now=now)
    reconcile(project, registry)
    show(made, as_json=as_json, text=f"{environment} is at revision {made.revision}: {made.reason}.")


@main.command()
@TO
@click.option("--reason", help="Why, in one sentence; kept with the revision.")
@AS_JSON
@click.pass_context
def rollback(context: click.Context, environment: str, reason: str | None, *, as_json: bool) -> None:
    """Go back to what answered before: a new revision."""
    from passerelle.loop.rollout import reconcile, roll_back
    from passerelle.loop.train import registry_of

    project = project_of(context)
    made = roll_back(project, environment=environment, reason=reason, now=system_clock())
    reconcile(project, registry_of(project))
    show(made, as_json=as_json, text=f"{environment} is at revision {made.revision}: {made.reason}.")


@main.command()
@TO
@click.option("--host", help="Address to listen on; else serving.host.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on, 0 for any that is free; else serving.port."
)
@click.option("--workers", type=click.IntRange(1), help="Processes behind the port; else serving.workers.")
@click.pass_context
def serve(context: click.Context, environment: str, host: str | None, port: int | None, workers: int | None) -> None:
    """Answer events over HTTP until Ctrl-C: /predict, /outcomes, /docs."""
    from passerelle.serving.supervisor import serve as run

    run(project_of(context), environment, host=host, port=port, workers=workers)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help=".csv, .jsonl, .parquet"
)
@TO
@AS_JSON
@click.pass_context
def score(context: click.Context, file: Path, out: Path, environment: str, *, as_json: bool) -> None:
    """Score the rows of FILE without an endpoint, into the same ledger."""
    from passerelle.loop.score import score_file

    scored = score_file(project_of(context), file, out, environment=environment)
    again = f" {scored.repeated:,} were recorded before: the first counts." if scored.repeated else ""
    show(scored, as_json=as_json, text=f"{scored.rows:,} rows scored into {out}, {scored.failed:,} failed.{again}")


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@TO
@AS_JSON
@click.pass_context
def outcomes(context: click.Context, file: Path, environment: str, *, as_json: bool) -> None:
    """Record the truth: FILE has the key (or id), the target, known_at."""
    from passerelle.loop.outcomes import record_outcomes

    counts = record_outcomes(project_of(context), file, environment=environment, now=system_clock())
    show(
        counts,
        as_json=as_json,
        text=f"{counts.recorded:,} outcomes recorded, {counts.unknown:,} of unknown predictions.",
    )


@main.command()
@click.option("--compact", is_flag=True, help="First move what is written ahead into the Delta tables.")
@click.option("--last", type=click.IntRange(1), default=10, show_default=True, help="How many predictions to show.")
@click.option("--sql", help="Ask a question of the views predictions, outcomes, truths, judged, orphans.")
@TO
@AS_JSON
@click.pass_context
def ledger(
    context: click.Context, environment: str, last: int, sql: str | None, *, compact: bool, as_json: bool
) -> None:
    """Look at predictions and their truth."""
    from passerelle.ledger.storage import ledger_folder
    from passerelle.loop.looking import look

    project = project_of(context)
    if not ledger_folder(project.state, environment).exists():
        refuse_unknown(project, environment)
    seen = look(project, environment, last=last, sql=sql, compact=compact, now=system_clock())
    show(seen, as_json=as_json, text=seen.lines())


@main.command()
@click.argument("unit")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
@click.pass_context
def forget(context: click.Context, unit: str, *, yes: bool, as_json: bool) -> None:
    """Erase UNIT (a customer) from ledgers and data; it cannot be undone."""
    from passerelle.loop.looking import forget_unit

    project = project_of(context)
    if not yes:
        click.confirm(f"Erase {unit!r} from every ledger and table of {project.name}?", abort=True)
    erased = forget_unit(project, unit, now=system_clock())
    show(erased, as_json=as_json, text=[f"{place}: {sentence}" for place, sentence in erased.items()])


@main.command()
@click.argument("name")
@click.option(
    "--scope", type=click.Choice(["predict", "label", "read", "admin"]), multiple=True, help="What it may do."
)
@click.option("--days", type=click.IntRange(1), default=365, show_default=True, help="Until it expires.")
@click.option("--revoke", is_flag=True, help="Forget the token of this name instead.")
@click.pass_context
def token(context: click.Context, name: str, scope: tuple[Any, ...], days: int, *, revoke: bool) -> None:
    """Make a token called NAME for the endpoint and print it, once."""
    from passerelle.serving.tokens import make_token, revoke_token, tokens_path

    path = tokens_path(project_of(context).state)
    if revoke:
        revoke_token(path, name)
        return
    if not scope:
        raise click.UsageError("say what the token may do: --scope predict, --scope label, --scope read or admin")
    now = system_clock()
    click.echo(make_token(path, name=name, scopes=scope, created_at=now, expires_at=now + timedelta(days=days)))
