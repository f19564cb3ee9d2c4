"""Stepping: a split goes from its first share to the next, each held for some days, while nothing speaks against it.

Each step is a revision of the same trial, by compare-and-set. Which step a trial is on is what its revisions say, and
nothing else: a step that was cut is found, not made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from passerelle.deployment.spec import Deployment, Revisions
from passerelle.errors import DeploymentError
from passerelle.ledger.storage import ledger_folder
from passerelle.loop.rollout import deploy, revisions
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry
from passerelle.state.database import open_state
from passerelle.state.timeline import Event, events, record_once
from passerelle.trial.arriving import are_astray
from passerelle.trial.breaker import LEAST, Answers
from passerelle.trial.verdict import Block, Plan, Verdict

#: Shares are the same when they differ by rounding alone.
_ROUNDING = 1e-9


class Held(NamedTuple):
    """The step that a trial is on."""

    share: float
    #: Since when, and the revision that began it.
    since: datetime
    revision: int
    #: The share of the next step; None on the last.
    next_share: float | None
    #: From when on it may be taken.
    until: datetime


def first_share(plan: Plan) -> float:
    """The share of the units with which a split begins."""
    return plan.steps[0] if plan.steps else plan.share


def held(plan: Plan, made: Sequence[Deployment]) -> Held | None:
    """The step that a trial is on by its revisions, oldest first; None where it has no steps, or is over."""
    if not plan.steps or not made or made[-1].trial != plan.id:
        return None
    share = _share(plan, made[-1])
    first = made[-1]
    for one in reversed(made):  # a revision that only renews, for another target, does not begin the hold anew
        if one.trial != plan.id or abs(_share(plan, one) - share) > _ROUNDING:
            break
        first = one
    following = next((step for step in plan.steps if step > share + _ROUNDING), None)
    until = first.created_at + timedelta(days=plan.hold_days)
    return Held(share, first.created_at, first.revision, following, until)


def of_trial(place: Revisions, plan: Plan) -> list[Deployment]:
    """The newest revisions of an environment, back to the one that began the trial, oldest first."""
    found: list[Deployment] = []
    for number in reversed(place.numbers()):
        found.append(place.get(number))
        if found[-1].trial != plan.id:
            break
    return found[::-1]


def step(
    project: Project,
    registry: Registry,
    plan: Plan,
    *,
    verdict: Verdict,
    blocks: Sequence[Block],
    answers: Answers,
    now: datetime,
) -> bool:
    """Take the next step, if its moment has come and nothing speaks against it; tell once what does.

    True if the workers are to take a revision: the one that was made now, or by an attempt that was cut.
    """
    place = revisions(project, plan.environment)
    made = of_trial(place, plan)
    at = held(plan, made)
    if at is None:
        return False
    current = made[-1]
    if current.revision not in _told(project, plan.environment):
        return True
    if at.next_share is None or now < at.until:
        return False
    against = _against(at, verdict, answers)
    if against is None and are_astray(ledger_folder(project.state, plan.environment), plan, blocks, now=now):
        against = "the units that have come so far do not fit their shares, which chance does not do"
    if against is not None:
        told = f"version {plan.challenger} stays at {_percent(at.share)} of the units: {against}"
        event = Event(at=now, kind="trial", subject=plan.id, sentence=told, details={"share": at.share})
        record_once(open_state(project.state), event)
        return False
    number = plan.steps.index(at.next_share) + 1
    reason = (
        f"version {plan.challenger} goes from {_percent(at.share)} to {_percent(at.next_share)} of the units "
        f"(step {number} of {len(plan.steps)})"
    )
    try:
        deploy(
            project,
            registry,
            plan.challenger,
            environment=plan.environment,
            share=at.next_share,
            reason=reason,
            trial=plan.id,
            after=current.revision,
            now=now,
        )
    except DeploymentError:
        newest = place.current()
        if newest is None or newest.revision == current.revision:
            raise
        return False  # somebody was quicker: the next look finds what they made
    return True


def _told(project: Project, environment: str) -> set[int]:
    told = events(open_state(project.state), kind="deployment", subject=environment, limit=30)
    return {int(event.details.get("revision", 0)) for event in told}


def _against(at: Held, verdict: Verdict, answers: Answers) -> str | None:
    """What speaks against the next step; None if nothing does. The breaker and a verdict have spoken before."""
    failing = [one.watch for one in verdict.guardrails if one.state == "fail"]
    if failing:
        return f"its guardrail {', '.join(failing)} fails"
    if sum(revision >= at.revision for revision in answers.revisions) < LEAST:
        return f"it has answered fewer than {LEAST} events there, too few for anybody to see it fail"
    return None


def _share(plan: Plan, made: Deployment) -> float:
    return next((one.weight for one in made.live if one.version == plan.challenger), 0.0)


def _percent(share: float) -> str:
    return f"{share * 100:g} %"
