"""The group of verbs, and what they share: finding the project, showing an answer, ending with a foreseen error."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from passerelle.deployment.spec import Revisions, environment_folder
from passerelle.errors import DeploymentError, PasserelleError
from passerelle.names import missing_extra
from passerelle.project.settings import Project, find_project

if TYPE_CHECKING:
    from passerelle.loop.shared import Way

#: The verbs in the order of the path, as --help shows them.
ORDER = (
    *(
        "new",
        "check",
        "ingest",
        "train",
        "versions",
        "import",
        "image",
        "deploy",
        "rollback",
        "target",
        "serve",
        "up",
        "score",
        "outcomes",
    ),
    *("trial", "alerts", "timeline", "inject", "ledger", "forget", "note", "report", "ci", "token", "tour"),
)


class Verbs(click.Group):
    """A group whose verbs end with our message and exit code where an error was foreseen, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb that was asked for. With --json a failure is an object on stdout, besides its sentence."""
        try:
            return super().invoke(ctx)
        except (PasserelleError, ModuleNotFoundError) as error:
            known = missing_extra(error) if isinstance(error, ModuleNotFoundError) else error
            if known is None:
                raise
            click.echo(f"passerelle: {known}", err=True)
            _show_failure(ctx, str(known), known.exit_code)
            ctx.exit(known.exit_code)
        except click.ClickException as error:  # click itself says it on stderr
            _show_failure(ctx, error.format_message(), error.exit_code)
            raise
        except click.Abort:
            told = "it was not confirmed, so nothing was done: the same with --yes does it unasked."
            click.echo(f"passerelle: {told}", err=True)
            _show_failure(ctx, told, 1)
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """The verbs in the order of the path, not of the alphabet."""
        return sorted(self.commands, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


_AS_JSON = "passerelle.as_json"


def _note_json(context: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001  (click's signature)
    context.meta[_AS_JSON] = value
    return value


def _show_failure(context: click.Context, message: str, exit_code: int) -> None:
    if context.meta.get(_AS_JSON):
        show({"error": message, "exit_code": exit_code}, as_json=True, text="")


AS_JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,  # known before another option is refused
    callback=_note_json,
    help="Print JSON for another program.",
)
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


def working(context: click.Context, way: Way = "works") -> Project:
    """The project that the command is run in, for a verb that writes in its state, or that "looks" at it.

    Where machines share its state the verb works on what they share, as the delivery chain's jobs do, until it ends.
    """
    from passerelle.loop.shared import at_work

    @contextmanager
    def work() -> Iterator[Project]:
        project = project_of(context)
        ended: click.exceptions.Exit | None = None
        with at_work(project, way) as told:
            if told is not None:
                click.echo(told, err=True)
            try:
                yield project
            except click.exceptions.Exit as exit_:  # an answer, not a failure: what was done is kept
                ended = exit_
        if ended is not None:
            raise ended

    return context.with_resource(work())


def refuse_unknown(project: Project, environment: str) -> None:
    """Raise DeploymentError where nothing was ever deployed: a slip in the environment's name, most often."""
    wanted = environment_folder(project.state, environment)
    found = sorted(folder.name for folder in wanted.parent.glob("*") if Revisions(folder).numbers())
    if environment not in found:
        known = f"The environments are {', '.join(found)}." if found else "There is no environment yet."
        raise DeploymentError(
            f"nothing is deployed in {environment}: passerelle deploy VERSION --to {environment}. {known}"
        )


def show(value: Any, *, as_json: bool, text: str | Iterable[str]) -> None:
    """Print a value for a program, or its text for a person."""
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode()
    click.echo(text if isinstance(text, str) else "\n".join(text))


def on_cell(number: int, total: int, first_line: str) -> None:
    """Say which cell of the notebook runs."""
    click.echo(f"  cell {number}/{total}  {first_line[:80]}", err=True)
