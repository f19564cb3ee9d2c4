"""Verbs of production: deploy, serve, score, outcomes, and what was recorded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from passerelle.cli.group import AS_JSON, TO, main, project_of, refuse_unknown, show, working
from passerelle.cli.targets import on_step
from passerelle.clock import system_clock

if TYPE_CHECKING:
    from passerelle.deployment.spec import Deployment
    from passerelle.project.settings import Project


TARGET = click.option("--target", help="Of the environment's targets, only this one.")


@main.command()
@click.argument("version", type=int, required=False)
@TO
@click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Of the units, beside the rest.")
@click.option("--shadow", is_flag=True, help="Only score it beside the version that answers.")
@click.option("--reason", help="Why, in one sentence; kept with the revision.")
@TARGET
@click.option("--plan", "only_plan", is_flag=True, help="Change nothing: only say what would be done at the targets.")
@AS_JSON
@click.pass_context
def deploy(
    context: click.Context,
    version: int | None,
    environment: str,
    *,
    share: float,
    reason: str | None,
    target: str | None,
    shadow: bool,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Make VERSION answer in an environment.

    A new revision, which a running endpoint obeys within a second, and which is brought to the environment's targets.
    What answers is the champion; with --share or --shadow the version is put beside it. Without VERSION the current
    revision is brought to the targets again; where there is none yet, the champion of production. --target alone says
    the environment, too.
    """
    from click.core import ParameterSource

    from passerelle.loop.rollout import deploy as put
    from passerelle.loop.rollout import renew, revisions
    from passerelle.loop.targets import names_of
    from passerelle.loop.train import registry_of

    if version is None and (shadow or share != 1 or reason):
        raise click.UsageError("--share, --shadow and --reason are about a VERSION: name it.")
    project = working(context, "looks" if only_plan else "works")
    if target in project.targets and context.get_parameter_source("environment") is ParameterSource.DEFAULT:
        environment = project.targets[target].environment
    names_of(project, environment, target)
    now = system_clock()
    if version is None and target is not None and revisions(project, environment).current() is None:
        champion = registry_of(project).alias("champion")
        version = None if champion is None else champion.number
    if version is None:
        made = renew(project, environment=environment, draft=only_plan, now=now)
    else:
        made = put(
            project,
            registry_of(project),
            version,
            environment=environment,
            share=share,
            shadow=shadow,
            reason=reason,
            draft=only_plan,
            now=now,
        )
    if only_plan:
        _show_plans(project, made, target, as_json=as_json)
        return
    _bring(context, project, made, target, as_json=as_json)


@main.command()
@TO
@click.option("--reason", help="Why, in one sentence; kept with the revision.")
@AS_JSON
@click.pass_context
def rollback(context: click.Context, environment: str, reason: str | None, *, as_json: bool) -> None:
    """Go back to what answered before: a new revision."""
    from passerelle.loop.rollout import roll_back

    project = working(context, "hurries")
    made = roll_back(project, environment=environment, reason=reason, now=system_clock())
    answering = " and ".join(f"version {one.version}" for one in made.live)
    _bring(context, project, made, None, as_json=as_json, more=[f"Answering again: {answering}."])


def _bring(
    context: click.Context,
    project: Project,
    made: Deployment,
    target: str | None,
    *,
    as_json: bool,
    more: Sequence[str] = (),
) -> None:
    """Tell of a revision, and bring it to its targets; the exit code is the first that could not be done's."""
    import msgspec

    from passerelle.loop.rollout import reconcile
    from passerelle.loop.targets import bring
    from passerelle.loop.train import registry_of

    reconcile(project, registry_of(project))
    brought = bring(project, made.environment, target=target, on_step=on_step, now=system_clock())
    text = [f"{made.environment} is at revision {made.revision}: {made.reason}.", *more]
    show(
        msgspec.to_builtins(made) | {"targets": msgspec.to_builtins(brought)},
        as_json=as_json,
        text=[*text, *(one.sentence for one in brought)],
    )
    context.exit(next((one.exit_code for one in brought if one.exit_code), 0))


def _show_plans(project: Project, made: Deployment, target: str | None, *, as_json: bool) -> None:
    import msgspec

    from passerelle.cli.plans import lines
    from passerelle.loop.targets import names_of, plan_for

    plans = [plan_for(project, made, name) for name in names_of(project, made.environment, target)]
    text = [f"{made.environment} would be at revision {made.revision}: {made.reason}. Nothing was changed."]
    if not plans:
        text.append(f"{made.environment} has no target: an endpoint of this machine follows by itself.")
    show(
        msgspec.to_builtins(made) | {"plans": msgspec.to_builtins(plans)},
        as_json=as_json,
        text=[*text, *(line for plan in plans for line in lines(plan))],
    )


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

    project = project_of(context)
    if os.environ.get("PASSERELLE_STORE"):  # else what only serves need not have what follows
        from passerelle.loop.shared import refuse_lost_ledger

        refuse_lost_ledger(project, environment)
    run(project, environment, host=host, port=port, workers=workers)


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

    scored = score_file(working(context), file, out, environment=environment)
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

    counts = record_outcomes(working(context), file, environment=environment, now=system_clock())
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
    """Look at predictions and their truth.

    Where a target's store keeps them, what lies there is moved here first; exit code 1: it could not be read.
    """
    from passerelle.ledger.storage import ledger_folder
    from passerelle.loop.looking import look

    project = working(context)
    if not ledger_folder(project.state, environment).exists():
        refuse_unknown(project, environment)
    seen = look(project, environment, last=last, sql=sql, compact=compact, now=system_clock())
    show(seen, as_json=as_json, text=seen.lines())
    context.exit(0 if seen.unread is None else 1)


@main.command()
@click.argument("unit")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
@click.pass_context
def forget(context: click.Context, unit: str, *, yes: bool, as_json: bool) -> None:
    """Erase UNIT (a customer) from ledgers and data; it cannot be undone."""
    from passerelle.loop.looking import forget_unit

    project = working(context, "erases")
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
