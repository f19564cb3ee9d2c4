"""The verb that sends events at a chosen rate."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from passerelle.cli.group import AS_JSON, main, project_of, show, working

if TYPE_CHECKING:
    from passerelle.load.injectors import Progress as Now


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second.")
@click.option(
    "--warp", type=click.FloatRange(0, min_open=True), help="Replay the events' own times, so many times as fast."
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="For so long; else FILE once.")
@click.option("--to", "url", help="Of the endpoint; else the project's own: http://HOST:PORT.")
@click.option("--yes-to", "confirmed", metavar="HOST[:PORT]", help="Needed to send anywhere but to this machine.")
@click.option("--token-from", "variable", metavar="VARIABLE", help="The environment variable that holds a token.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Events in a request.")
@click.option("--poisson", is_flag=True, help="Send at random moments whose mean rate is --rate.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of --poisson: the same moments each time.")
@click.option(
    "--connections", type=click.IntRange(1, 500), default=64, show_default=True, help="The most that are used."
)
@AS_JSON
@click.pass_context
def inject(
    context: click.Context,
    file: Path,
    *,
    rate: float | None,
    warp: float | None,
    seconds: float | None,
    url: str | None,
    confirmed: str | None,
    variable: str | None,
    batch: int,
    seed: int,
    connections: int,
    poisson: bool,
    as_json: bool,
) -> None:
    """Send the events of FILE to a running endpoint, each when it is due.

    FILE holds JSON lines of events, rows of the model's fields, or rows of the main table. What is sent is recorded
    like any other event. Latency runs from the due moment, so that a stall is seen. Ctrl-C ends with the report so far.

    Exit code 1 unless every request was answered and every event in it.
    """
    from passerelle.load.events import is_events, read_events
    from passerelle.load.injectors import inject as send
    from passerelle.load.plan import at_rate, at_warp
    from passerelle.load.target import find_target

    if rate is not None and warp is not None:
        raise click.UsageError("one of the two: --rate requests a second, or --warp times as fast as they happened")
    if rate is None and warp is None:
        raise click.UsageError("say how fast: --rate requests a second, or --warp times as fast as they happened")
    if poisson and rate is None:
        raise click.UsageError("--poisson needs a --rate")
    token = None if variable is None else os.environ.get(variable, "")
    if token == "":
        raise click.UsageError(f"the environment variable {variable} holds no token")
    if url is None:
        serving = project_of(context).serving
        url = f"http://{serving.host}:{serving.port}"
    target = find_target(url, confirmed=confirmed, token=token is not None)
    if is_events(file):  # as they are sent: no project is needed
        events = read_events(file)
    else:
        from passerelle.loop.injecting import events_to_send

        events = events_to_send(working(context, "looks"), file, environment="production")
    if rate is not None:
        plan = at_rate(events, rate, size=batch, seconds=seconds, seed=seed if poisson else None)
    else:
        plan = at_warp(events, cast("float", warp), size=batch, seconds=seconds)
    with _drawn() as on_progress:
        done = send(target, plan, token=token, connections=connections, on_progress=on_progress)
    show(done, as_json=as_json, text=done.lines())
    if not done.clean:
        context.exit(1)


@contextmanager
def _drawn() -> Iterator[Callable[[Now], None] | None]:
    """A bar on a terminal's stderr, drawn by the injector between requests: a thread of its own would disturb it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task("", total=None)

        def draw(now: Now) -> None:
            said = f"{now.sent:,} sent, {now.answered:,} answered, {now.failed:,} failed, {now.waiting:,} waiting"
            bar.update(task, total=now.due, completed=now.sent, description=said)
            bar.refresh()

        yield draw
