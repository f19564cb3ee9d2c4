"""``python -m passerelle``: the same as the command ``passerelle``, and what notebooks ask of it when run by hand."""

from pathlib import Path

import click

from passerelle.cli import main
from passerelle.cli.group import project_of
from passerelle.clock import system_clock


@main.command(hidden=True)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def handout(context: click.Context, folder: Path) -> None:
    """Write what a notebook is given to learn from: training_data asks for it where no run has."""
    from passerelle.data.handout import write_handout
    from passerelle.data.table import snapshot

    project = project_of(context)
    write_handout(project, snapshot(project), now=system_clock(), folder=folder)


if __name__ == "__main__":
    main()
