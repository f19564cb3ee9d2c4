"""The verbs of a target: status, logs, policies, remove."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from passerelle.cli.group import AS_JSON, main, project_of, show, working
from passerelle.cli.plans import lines, sentence
from passerelle.clock import system_clock

if TYPE_CHECKING:
    from passerelle.deployment.target import Step
    from passerelle.loop.targets import Status


@main.group()
def target() -> None:
    """Look at the targets where deployments are applied, and clear them.

    A target is a [targets.NAME] section of passerelle.toml; passerelle deploy brings revisions there.
    """


@target.command()
@click.argument("name", metavar="[TARGET]", required=False)
@AS_JSON
@click.pass_context
def status(context: click.Context, name: str | None, *, as_json: bool) -> None:
    """Say what answers at TARGET, or at each, and what is not as it should be.

    Exits with 1 if one does not answer by its environment's current revision, or lacks something of it.
    """
    import msgspec

    from passerelle.errors import PasserelleError, SettingsError
    from passerelle.loop.targets import names_of
    from passerelle.loop.targets import status as look
    from passerelle.loop.whereabouts import left_behind

    project = working(context, "looks")
    if name is not None:
        names_of(project, project.targets[name].environment if name in project.targets else "", name)
    found: dict[str, dict[str, Any]] = {}
    said: list[str] = []
    code = 0
    for one in [name] if name is not None else list(project.targets):
        try:
            seen = look(project, one)
        except PasserelleError as error:
            found[one], code = {"error": str(error), "exit_code": error.exit_code}, code or error.exit_code
            said.append(f"{one}, {project.targets[one].environment}: {error}")
            continue
        if seen.due or seen.observed.revision != seen.wanted or seen.observed.state != _wanted_state(seen):
            code = code or 1
        found[one] = msgspec.to_builtins(seen)
        said += _lines(one, seen)
    for one, problem in left_behind(project).items() if name is None else ():
        found[one], code = {"error": problem, "exit_code": SettingsError.exit_code}, code or SettingsError.exit_code
        said.append(f"{one}: {problem}")
    said = said or ["There is no target: passerelle.toml has no [targets.NAME]. An endpoint here follows by itself."]
    show(found, as_json=as_json, text=said)
    context.exit(code)


@target.command()
@click.argument("name", metavar="TARGET")
@click.option("--lines", "count", type=click.IntRange(1, 1000), default=20, help="How many of each container; 20.")
@AS_JSON
@click.pass_context
def logs(context: click.Context, name: str, *, count: int, as_json: bool) -> None:
    """Show what the containers at TARGET wrote last."""
    from passerelle.deployment.applying import last_lines

    found = last_lines(project_of(context), name, count)
    show(found, as_json=as_json, text=list(found) or ["They wrote nothing yet."])


@target.command()
@click.argument("name", metavar="TARGET")
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the files; else policies/ in the project.",
)
@AS_JSON
@click.pass_context
def policies(context: click.Context, name: str, *, out: Path | None, as_json: bool) -> None:
    """Write what TARGET's cloud has to allow to whom: files for its own tools.

    Bucket, names and roles in them are those of passerelle.toml. The page of the cloud says which file is for what.
    """
    from passerelle.deployment.policies import policies as policies_of

    project = project_of(context)
    found = policies_of(project, name)
    into = out or project.root / "policies"
    into.mkdir(parents=True, exist_ok=True)
    for file, text in found.items():
        (into / file).write_text(text, encoding="utf-8")
    paths = [str(into / file) for file in found]
    show(paths, as_json=as_json, text=paths)


@target.command()
@click.argument("name", metavar="TARGET")
@click.option("--plan", "only_plan", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
@click.pass_context
def remove(context: click.Context, name: str, *, only_plan: bool, yes: bool, as_json: bool) -> None:
    """Delete all that is ours at TARGET: its endpoint answers no more.

    The ledger's tables, the bundles and the revisions stay. The loop does not bring the endpoint back; passerelle
    deploy does.
    """
    from passerelle.loop.targets import plan_for
    from passerelle.loop.targets import remove as clear

    project = working(context, "looks" if only_plan else "works")
    if only_plan or not yes:
        plan = plan_for(project, None, name)
        if only_plan:
            show(plan, as_json=as_json, text=lines(plan))
            return
        click.echo("\n".join(lines(plan)), err=True)
        click.confirm(f"Delete all of {project.name} at {name}?", abort=True, err=True)
    brought = clear(project, name, on_step=on_step, now=system_clock())
    show(brought, as_json=as_json, text=brought.sentence)
    context.exit(brought.exit_code)


def on_step(name: str, number: int, steps: int, step: Step) -> None:
    """Say which step is taken."""
    click.echo(f"  {name} {number}/{steps}  {sentence(step)}", err=True)


def _wanted_state(seen: Status) -> str:
    return "absent" if seen.wanted is None else "serving"


def _lines(name: str, seen: Status) -> list[str]:
    observed, wanted, environment = seen.observed, seen.wanted, seen.environment
    there = "no revision of ours answers" if observed.revision is None else f"revision {observed.revision} answers"
    way = f"passerelle deploy --to {environment} --target {name}"
    if wanted is None:
        due = f"nothing is deployed in {environment}"
    elif observed.revision == wanted:
        due = "which is the current one"
    else:
        due = f"revision {wanted} is the current one: {way}"
    said = [f"{name}, {environment}: {observed.state}; {there}, {due}"]
    if observed.problem:
        said.append(f"  problem: {observed.problem}")
    if seen.due and observed.revision == wanted:
        said.append(f"  not as it should be: {'; '.join(seen.due)}: {way}")
    return said + [f"  {one.kind} {one.name}" for one in observed.resources]
