"""Applying: a deployment is brought to a target, step by step, and what is there then is compared with what was wanted.

Nothing is remembered between two attempts: each begins by asking what is there, so that one that was killed anywhere is
taken up by the next. Retries of a single request are the adapters'.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from passerelle.bundle.keys import own_key, throwaway_key
from passerelle.deployment.package import Package, pack
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import DriftError, Logs, Observed, Plan, Step, Target, TargetError
from passerelle.errors import SettingsError
from passerelle.names import ADAPTERS, load
from passerelle.project.settings import FILE, Project

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: Hears of each step before it is taken: its number from 1, how many there are, the step.
OnStep = Callable[[int, int, Step], None]


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, and what is there now."""

    plan: Plan
    #: Seen after the last step.
    observed: Observed


def open_target(project: Project, name: str, key: Ed25519PrivateKey | None = None) -> Target:
    """The target of a name in the project's settings; ``key`` signs what travels to it: the user's own by default.

    Raises SettingsError for a name that [targets] has not, MissingExtraError if its cloud's library is not installed.
    """

    def packed(deployment: Deployment) -> Package:
        return pack(project, deployment, key=key or own_key(), into=packages_of(project, deployment.environment))

    return _open(project, name, packed)


@contextmanager
def target_to_look_at(project: Project, name: str) -> Iterator[Target]:
    """As open_target, to ask what is there and what would be done: nothing is kept here, nor signed by the user's key.

    What would travel is packed in a folder that goes with the block, by a key that nobody trusts: the digest is of what
    would be signed, and a signature is as long as any other.
    """
    with tempfile.TemporaryDirectory(prefix="passerelle-") as folder:
        key = throwaway_key()
        yield _open(project, name, lambda deployment: pack(project, deployment, key=key, into=Path(folder)))


def packages_of(project: Project, environment: str) -> Path:
    """Where what travels to the targets of an environment is packed."""
    return project.state / "packages" / environment


def _open(project: Project, name: str, pack_: Callable[[Deployment], Package]) -> Target:
    settings = project.targets.get(name)
    if settings is None:
        raise SettingsError(no_target(project, name))
    target: Target = load(ADAPTERS[str(settings.__struct_config__.tag)])(name, settings, project, pack=pack_)
    return target


def no_target(project: Project, name: str) -> str:
    """What is said of a target that the settings do not have."""
    if not project.targets:
        return f"there is no target {name!r}, and no other yet: add [targets.{name}] to {FILE}."
    known = ", ".join(project.targets)
    return f"there is no target {name!r}: the targets are {known}. Name one of them, or add [targets.{name}] to {FILE}."


def apply_deployment(
    target: Target, deployment: Deployment | None, environment: str, on_step: OnStep | None = None
) -> Applied:
    """Bring a target to a deployment, or to nothing (None): refuse, observe, plan, take each step, observe, compare.

    Raises PlanError for what the target cannot express, before anything is changed; TargetError for a step that was not
    done: those before it stay, and the next attempt goes on from there. DriftError if the target, after every step was
    taken, is not what was wanted: it rolled back by itself, or ignored a change.
    """
    if deployment is not None:
        target.refuse(deployment)
    plan = target.plan(deployment, target.observe(environment))
    for number, step in enumerate(plan.steps, 1):
        if on_step is not None:
            on_step(number, len(plan.steps), step)
        target.apply(step)
    after = target.observe(environment)
    _compare(target, deployment, plan, after)
    return Applied(plan=plan, observed=after)


def last_lines(project: Project, name: str, lines: int) -> tuple[str, ...]:
    """What the containers at a target wrote last. Raises TargetError if its log cannot be read from here."""
    target = open_target(project, name)
    settings = project.targets[name]
    if not isinstance(target, Logs):
        kind = str(settings.__struct_config__.tag)
        raise TargetError(
            f"{name}: the log of a target of kind {kind} is not read from here: look where its platform keeps it."
        )
    return target.logs(settings.environment, lines)


def _compare(target: Target, deployment: Deployment | None, plan: Plan, after: Observed) -> None:
    """Raise DriftError, saying what is there and what was wanted, if they differ."""
    where = f"{plan.target} ({plan.environment})"
    if deployment is None:
        if after.state != "absent" or after.resources:
            left = ", ".join(f"{one.kind} {one.name}" for one in after.resources) or "an endpoint"
            raise DriftError(f"{where}: everything was deleted, and {left} is there all the same: remove it again.")
        return
    number = deployment.revision
    if after.state == "changing":
        raise TargetError(f"{where}: the endpoint still changes though it was waited for: deploy again in a while.")
    if after.state != "serving" or after.revision != number:
        there = f"revision {after.revision} answers" if after.revision is not None else f"it is {after.state}"
        why = f" It says: {after.problem}." if after.problem else ""
        raise DriftError(
            f"{where}: revision {number} was applied, and {there}: the target rolled back by itself, or somebody "
            f"changed it meanwhile.{why} Find out why, then deploy again, or passerelle rollback."
        )
    undone = target.plan(deployment, after).steps
    if undone:
        ignored = ", ".join(f"{step.act} {step.resource.kind} {step.resource.name}" for step in undone)
        raise DriftError(
            f"{where}: revision {number} answers, and what was done is not there: {ignored}. The target ignored it: "
            "compare with passerelle deploy --plan, and correct the settings it does not take."
        )
