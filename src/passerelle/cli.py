"""The command line: thin verbs. Each finds the project, calls one room, and shows what it answered.

Exit codes: 0 done, 1 something failed, 2 wrong usage or settings, 3 refused by a check (data, skew, parity, gate).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import msgspec

from passerelle.clock import system_clock
from passerelle.errors import PasserelleError
from passerelle.names import missing_extra
from passerelle.project.settings import Project, find_project


class Verbs(click.Group):
    """A group whose verbs end with our message and exit code where an error was foreseen, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb that was asked for."""
        try:
            return super().invoke(ctx)
        except (PasserelleError, ModuleNotFoundError) as error:
            known = missing_extra(error) if isinstance(error, ModuleNotFoundError) else error
            if known is None:
                raise
            click.echo(f"passerelle: {known}", err=True)
            ctx.exit(known.exit_code)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """The verbs in the order of the path, not of the alphabet."""
        return list(self.commands)


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for another program.")
TO = click.option("--to", "environment", default="production", show_default=True, help="The environment.")
FILES = click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="passerelle")
@click.option(
    "-C",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="Run there instead.",
)
@click.pass_context
def main(context: click.Context, folder: str) -> None:
    """From a data scientist's notebook to served, recorded predictions, with proof that they are the notebook's.

    \b
    passerelle new churn            a project that works as it is; put your notebook and data in
    passerelle ingest               accept the deliveries in deliveries/
    passerelle train                run the notebook, prove it, pass the gate, make a version
    passerelle deploy 1             make version 1 answer in production
    passerelle serve                answer events over HTTP
    """  # noqa: D301  (\b is click's sign for "keep these lines")
    os.chdir(folder)
    context.obj = Path()


def project_of(context: click.Context) -> Project:
    """The project that the command is run in."""
    return find_project(context.obj)


def show(value: Any, *, as_json: bool, text: str | Iterable[str]) -> None:
    """Print a value for a program, or its text for a person."""
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()
    click.echo(text if isinstance(text, str) else "\n".join(text))


def on_cell(number: int, total: int, first_line: str) -> None:
    """Say which cell of the notebook runs."""
    click.echo(f"  cell {number}/{total}  {first_line[:80]}", err=True)


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

    project = project_of(context)
    found = check_project(project, now=system_clock())
    show(found, as_json=as_json, text=[f"{what}: {sentence}" for what, sentence in found.items()])


@main.command()
@FILES
@click.option("--table", help="The table that the files belong to; else their names say it.")
@AS_JSON
@click.pass_context
def ingest(context: click.Context, files: tuple[Path, ...], table: str | None, *, as_json: bool) -> None:
    """Accept or quarantine deliveries.

    FILES, of which a folder is one batch; without any, what is new in the inbox. A file's name says its table. Exit
    code 3 if one was quarantined.
    """
    from passerelle.data.landing import inbox
    from passerelle.data.landing import ingest as land

    project = project_of(context)
    # By hand, in a kernel of another environment, training_data asks this interpreter for the data.
    project.state.mkdir(parents=True, exist_ok=True)
    (project.state / "python").write_text(f"{sys.executable}\n")
    deliveries = land(project, list(files) or inbox(project), now=system_clock(), table=table)
    hint = "Nothing new in the inbox. What was put aside before is tried again if you name it: passerelle ingest FILE"
    lines = [f"{one.status:12} {one.sentence}" for one in deliveries] or [hint]
    show(deliveries, as_json=as_json, text=lines)
    if any(one.status == "quarantined" for one in deliveries):
        context.exit(3)


@main.command()
@click.option("--again", is_flag=True, help="Run even if this notebook has run on this snapshot before.")
@AS_JSON
@click.pass_context
def train(context: click.Context, *, again: bool, as_json: bool) -> None:
    """Run the notebook and make a version of it.

    On the accepted data: run, prove parity, pass the gate, seal, sign, register. Exit code 3 if a check refuses it.
    """
    from passerelle.loop.train import train as run

    training = run(project_of(context), now=system_clock(), again=again, on_step=on_cell)
    show(training, as_json=as_json, text=training.lines())


@main.command()
@AS_JSON
@click.pass_context
def versions(context: click.Context, *, as_json: bool) -> None:
    """Show the versions and their figures."""
    from passerelle.loop.train import registry_of

    found = registry_of(project_of(context)).versions()
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

    training = import_version(project_of(context), source, trust=trust, now=system_clock())
    show(training, as_json=as_json, text=training.lines())


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
@click.option("--port", type=int, help="Port to listen on, 0 for any that is free; else serving.port.")
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
    from passerelle.loop.looking import look

    seen = look(project_of(context), environment, last=last, sql=sql, compact=compact, now=system_clock())
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

    out.write_text(render_note(project_of(context), now=system_clock()), encoding="utf-8")
    click.echo(f"Wrote {out}.")


@main.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def report(context: click.Context, out: Path) -> None:
    """Gather in OUT the newest run's notebook and report, and the note."""
    from passerelle.loop.facts import gather_report

    for path in gather_report(project_of(context), out, now=system_clock()):
        click.echo(f"Wrote {path}.")


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
