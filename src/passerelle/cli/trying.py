"""The verbs of a trial: start, status, stop, approve, refuse; see trial_plan and trial_record for the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from passerelle.cli.group import AS_JSON, TO, main, refuse_unknown, show, working
from passerelle.clock import system_clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from passerelle.project.settings import Project
    from passerelle.trial.verdict import Block, Plan, Record


@main.group()
def trial() -> None:
    """Try a version against the champion, and act on the verdict.

    The loop does all of it by itself; these are for people.
    """


@trial.command()
@click.argument("version", type=int)
@TO
@AS_JSON
@click.pass_context
def start(context: click.Context, version: int, environment: str, *, as_json: bool) -> None:
    """Try VERSION against the champion, as [trial] in passerelle.toml says.

    A trial that is going on ends first: as INCONCLUSIVE, or with its verdict set aside. Without a champion VERSION
    answers alone at once.
    """
    from passerelle.loop.signing import sign
    from passerelle.loop.train import registry_of
    from passerelle.loop.trying import begin

    project = working(context)
    made = begin(project, registry_of(project), version, environment=environment, now=system_clock())
    sign(project, environment, now=system_clock())
    text = f"Version {version} answers alone in {environment}: there is nothing to try it against."
    show(made, as_json=as_json, text=text if made is None else _lines(made))


@trial.command()
@click.argument("id_", metavar="[ID]", required=False)
@TO
@AS_JSON
@click.pass_context
def status(context: click.Context, id_: str | None, environment: str, *, as_json: bool) -> None:
    """Say how the trial ID stands, or all that there were, newest first.

    Of one that goes on: its evidence so far, what is missing for a verdict, and whether a person is waited for.
    """
    from passerelle.state.database import open_state
    from passerelle.trial import trials
    from passerelle.trial.judging import judge
    from passerelle.trial.words import measured

    project = working(context, "looks")
    engine = open_state(project.state)
    if id_ is None:
        found = trials.history(engine, environment)[::-1]
        if not found:
            refuse_unknown(project, environment)
        lines = [line for one in found for line in _standing(project, one, trials.blocks(engine, one.plan.id))]
        show(found, as_json=as_json, text=lines or [f"No trial yet in {environment}: passerelle trial start VERSION."])
        return
    record = trials.find(engine, id_)
    if record is None:
        known = ", ".join(trials.identifiers(engine)) or "none"
        raise click.UsageError(f"there is no trial {id_!r}: the trials are {known}.")
    blocks = trials.blocks(engine, id_)
    verdict = record.verdict or judge(record.plan, blocks)
    days = [
        f"  {block.start:%Y-%m-%d}  {block.rows:6,} events  "
        + ("no difference can be told" if block.difference is None else f"difference {block.difference:+.4g}")
        for block in blocks
    ]
    show(
        {"trial": record, "verdict": verdict, "blocks": blocks},
        as_json=as_json,
        text=[*_standing(project, record, blocks), *(f"  {line}" for line in measured(record.plan, verdict)), *days],
    )


@trial.command()
@TO
@AS_JSON
@click.pass_context
def stop(context: click.Context, environment: str, *, as_json: bool) -> None:
    """End the trial that is going on, as INCONCLUSIVE; the champion answers alone."""
    from passerelle.loop.signing import sign
    from passerelle.loop.train import registry_of
    from passerelle.loop.trying import stop as end

    project = working(context)
    ended = end(project, registry_of(project), environment=environment, now=system_clock())
    sign(project, environment, now=system_clock())
    show(ended, as_json=as_json, text=_lines(ended))


@trial.command()
@TO
@AS_JSON
@click.pass_context
def approve(context: click.Context, environment: str, *, as_json: bool) -> None:
    """Execute the verdict that waits for a person."""
    from passerelle.loop.signing import sign
    from passerelle.loop.train import registry_of
    from passerelle.loop.trying import approve as execute

    project = working(context)
    done = execute(project, registry_of(project), environment=environment, now=system_clock())
    sign(project, environment, now=system_clock())
    show(done, as_json=as_json, text=_lines(done))


@trial.command()
@TO
@AS_JSON
@click.pass_context
def refuse(context: click.Context, environment: str, *, as_json: bool) -> None:
    """Set the verdict that waits for a person aside; the champion answers alone."""
    from passerelle.loop.signing import sign
    from passerelle.loop.train import registry_of
    from passerelle.loop.trying import refuse as keep

    project = working(context)
    done = keep(project, registry_of(project), environment=environment, now=system_clock())
    sign(project, environment, now=system_clock())
    show(done, as_json=as_json, text=_lines(done))


def _standing(project: Project, record: Record, blocks: Sequence[Block]) -> list[str]:
    """A trial with what it has found so far, and who is to act."""
    from passerelle.deployment.spec import Revisions, environment_folder
    from passerelle.trial.judging import earliest_days, judge

    plan, lines = record.plan, _lines(record)
    if record.status == "running":
        verdict = judge(plan, blocks)
        days = f"{verdict.blocks} day{'' if verdict.blocks == 1 else 's'}"
        stepped = _step(project, plan)
        needed = f"a verdict needs {earliest_days(plan)} days, and comes within {plan.max_days}"
        return [
            *lines,
            *stepped,
            f"  {days} of evidence and {verdict.rows:,} mature events so far; {needed}.",
            f"  {verdict.sentence}",
        ]
    current = Revisions(environment_folder(project.state, plan.environment)).current()
    if record.status == "ended" or current is None or current.trial != plan.id:  # a person's revision has answered
        return lines
    if project.loop.approval == "human":
        to = "" if plan.environment == "production" else f" --to {plan.environment}"
        return [*lines, f"  It waits for you: passerelle trial approve{to} | passerelle trial refuse{to}"]
    return [*lines, "  The loop executes it at its next look (passerelle up)."]


def _step(project: Project, plan: Plan) -> list[str]:
    """Of a split that goes up by steps: where it stands, and when it goes on."""
    from passerelle.loop.rollout import revisions
    from passerelle.loop.stepping import held, of_trial

    at = held(plan, of_trial(revisions(project, plan.environment), plan))
    if at is None:
        return []
    line = f"  It answers {at.share * 100:.3g}% of the units since {at.since:%Y-%m-%d %H:%M} UTC"
    if at.next_share is None:
        return [f"{line}: the last step."]
    return [f"{line}; {at.next_share * 100:.3g}% from {at.until:%Y-%m-%d %H:%M} on, if nothing speaks against it."]


def _lines(record: Record) -> list[str]:
    """A trial, for a person."""
    plan = record.plan
    shares = ", then ".join(f"{share * 100:.3g}%" for share in plan.steps or (plan.share,))
    how = "in shadow" if plan.mode == "shadow" else f"on {shares} of the units"
    who = f"version {plan.challenger} against version {plan.champion} {how}"
    lines = [f"{plan.id}  {record.status}  {who}, since {plan.started_at:%Y-%m-%d %H:%M} UTC"]
    if record.verdict is not None:
        lines.append(f"  {record.verdict.sentence}")
    if record.execution is not None:
        lines.append(f"  {record.execution}")
    return lines
