"""Targets: the current revision of an environment is brought to its targets, and found there at each tick.

The revision is the truth, wherever it answers: a target that cannot be reached changes nothing of it. What went wrong
stands on the timeline, once, and is tried again at the next tick, or by ``passerelle deploy``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from passerelle.bundle.keys import trusted
from passerelle.deployment.applying import (
    Applied,
    apply_deployment,
    no_target,
    open_target,
    packages_of,
    target_to_look_at,
)
from passerelle.deployment.package import surplus
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import Observed, Plan, Step
from passerelle.errors import DeploymentError, PasserelleError, SettingsError
from passerelle.loop.rollout import kept_at, revisions
from passerelle.loop.whereabouts import forget_where, left_behind, note_where, place_of, refuse_moved
from passerelle.names import load
from passerelle.project.settings import FILE, Project
from passerelle.project.targets import Cloud
from passerelle.state.database import open_state
from passerelle.state.lease import LeaseError, lease
from passerelle.state.timeline import Event, events, record

KIND = "target"
_WAIT_S = 5.0

#: Hears of each step before it is taken: the target's name, the step's number from 1, how many there are, the step.
OnStep = Callable[[str, int, int, Step], None]


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one target."""

    target: str
    #: None: it could not be done.
    applied: Applied | None = None
    problem: str | None = None
    #: What the command line ends with.
    exit_code: int = 0

    @property
    def sentence(self) -> str:
        """For a person."""
        if self.applied is None:
            return f"{self.target}: {self.problem}"
        done, number = len(self.applied.plan.steps), self.applied.observed.revision
        what = "nothing is left" if number is None else f"revision {number} answers"
        return f"{self.target}: {what}, after {done} steps." if done else f"{self.target}: {what}; nothing was to do."


def names_of(project: Project, environment: str, target: str | None = None) -> tuple[str, ...]:
    """The targets of an environment, or the one that is named.

    Raises SettingsError for an unknown target, or one of another environment.
    """
    there = tuple(name for name, one in project.targets.items() if one.environment == environment)
    if target is None or target in there:
        return there if target is None else (target,)
    if target in project.targets:
        other = project.targets[target].environment
        raise SettingsError(f"target {target!r} is for {other}, not for {environment}: say --to {other}.")
    raise SettingsError(no_target(project, target))


def plan_for(project: Project, deployment: Deployment | None, name: str) -> Plan:
    """What an apply would do; nothing is changed. Raises what bring would tell before it changes anything.

    PlanError for what the target or its image cannot do, before the target is asked; SettingsError as refuse_moved
    and place_of.
    """
    refuse_moved(project, name)
    asked: tuple[str, ...] = ()
    with target_to_look_at(project, name) as target:
        if deployment is not None:
            refuse_unfit(project, deployment)
            target.refuse(deployment)
            asked = _asked(project, name)
        place_of(project, name, target)
        plan = target.plan(deployment, target.observe(project.targets[name].environment))
    return msgspec.structs.replace(plan, notes=(*plan.notes, *asked))


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What there is at a target, and what is not as its environment's current revision wants it."""

    environment: str
    #: The environment's current revision; None: nothing is deployed.
    wanted: int | None
    observed: Observed
    #: What a deploy would do, or why it would not; empty: all is as it is wanted.
    due: tuple[str, ...]


def status(project: Project, name: str) -> Status:
    """Look at a target; nothing is changed there, nor here.

    Raises TargetError if it cannot be reached, and as refuse_moved and place_of do.
    """
    refuse_moved(project, name)
    due: tuple[str, ...] = ()
    with target_to_look_at(project, name) as target:
        place_of(project, name, target)
        environment = project.targets[name].environment
        current, observed = revisions(project, environment).current(), target.observe(environment)
        if current is not None and not _removed(project, name).exists():
            try:
                steps = target.plan(current, observed).steps
                due = tuple(f"{step.act} {step.resource.kind} {step.resource.name}" for step in steps)
            except PasserelleError as error:
                due = (str(error),)
    return Status(
        environment=environment, wanted=None if current is None else current.revision, observed=observed, due=due
    )


def bring(
    project: Project,
    environment: str,
    *,
    target: str | None = None,
    key: Ed25519PrivateKey | None = None,
    on_step: OnStep | None = None,
    now: datetime,
) -> tuple[Brought, ...]:
    """Bring an environment's current revision to its targets, or to the one that is named.

    The image's registry is asked first. Each is done whatever becomes of the others, and what became of it is told on
    the timeline if it is news. A target that was removed comes back. Raises SettingsError as names_of does,
    DeploymentError if there is no revision.
    """
    names = names_of(project, environment, target)
    current = revisions(project, environment).current()
    if current is None:
        raise DeploymentError(f"nothing is deployed in {environment}: passerelle deploy VERSION --to {environment}.")
    for name in names:
        _removed(project, name).unlink(missing_ok=True)
    behind = left_behind(project, environment) if target is None else {}
    lost = [
        Brought(target=name, problem=problem, exit_code=SettingsError.exit_code) for name, problem in behind.items()
    ]
    brought = [_bring(project, current, name, key, on_step, now, asks=True) for name in names]
    _drop_packages(project, environment)
    return (*brought, *lost)


def keep_brought(project: Project, environment: str, *, key: Ed25519PrivateKey | None, now: datetime) -> None:
    """As bring, for the loop: a target that was removed stays away. Raises DeploymentError, naming what failed."""
    names = [name for name in names_of(project, environment) if not _removed(project, name).exists()]
    current = revisions(project, environment).current() if names else None
    if current is None:
        return
    brought = [_bring(project, current, name, key, None, now) for name in names]
    _drop_packages(project, environment)
    problems = [one.sentence for one in brought if one.problem is not None]
    if problems:
        raise DeploymentError(" ".join(problems))


def has(project: Project, name: str, deployment: Deployment) -> bool | None:
    """Does a target have this revision: as it says itself, or if it is away, as it said last; None: nobody knows."""
    try:
        target = open_target(project, name)
        place_of(project, name, target)
        return target.observe(deployment.environment).revision == deployment.revision
    except PasserelleError:
        told = events(open_state(project.state), kind=KIND, subject=name)
        return any(one.details.get("revision") == deployment.revision for one in told) or None


def remove(
    project: Project, name: str, *, key: Ed25519PrivateKey | None = None, on_step: OnStep | None = None, now: datetime
) -> Brought:
    """Leave nothing at a target; the loop does not bring it back, ``passerelle deploy`` does.

    Raises SettingsError for an unknown target; else what went wrong is answered, and told on the timeline.
    """
    if name not in project.targets:
        names_of(project, "", name)
    mark = _removed(project, name)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return _bring(project, None, name, key, on_step, now)


def _asked(project: Project, name: str) -> tuple[str, ...]:
    """What the registry of a cloud's image says, as notes. Raises PlanError if the image does not fit."""
    settings = project.targets[name]
    if not isinstance(settings, Cloud):
        return ()
    notes: tuple[str, ...] = load("passerelle.deployment.image_facts:ask")(settings.image, settings.architecture)
    return notes


def _removed(project: Project, name: str) -> Path:
    """The mark of a target that a person removed."""
    return project.state / "targets" / f"{name}.removed"


def _bring(  # noqa: PLR0917  (one act, from three doors)
    project: Project,
    deployment: Deployment | None,
    name: str,
    key: Ed25519PrivateKey | None,
    on_step: OnStep | None,
    now: datetime,
    *,
    asks: bool = False,
) -> Brought:
    def heard(number: int, steps: int, step: Step) -> None:
        if deployment is not None:
            note_where(project, name, place)  # before anything is there
        if on_step is not None:
            on_step(name, number, steps, step)

    environment = project.targets[name].environment
    place: dict[str, str] = {}
    try:
        refuse_moved(project, name)
        notes = _asked(project, name) if asks else ()
        with lease(project.state, f"target-{name}", wait_s=_WAIT_S):
            if deployment is not None:  # who had the lease before may have brought a newer one
                deployment = revisions(project, environment).current()
                if deployment is None:  # to a target None means: leave nothing
                    raise DeploymentError(f"the revisions of {environment} are gone: restore {project.state}.")
            refuse_unfit(project, deployment)
            target = open_target(project, name, key)
            if deployment is not None:
                target.refuse(deployment)  # before anything is asked
            place |= place_of(project, name, target)
            applied = apply_deployment(target, deployment, environment, heard)
    except (PasserelleError, OSError) as error:
        code = error.exit_code if isinstance(error, PasserelleError) else 1
        brought = Brought(target=name, problem=str(error), exit_code=code)
        what = "could not be removed" if deployment is None else f"does not have revision {deployment.revision}"
        _tell(project, name, f"target {name} {what}: {error}", now, problem=True)
        return brought
    if deployment is None:
        forget_where(project, name)
    else:
        note_where(project, name, place)
    plan = msgspec.structs.replace(applied.plan, notes=(*applied.plan.notes, *notes))
    brought = Brought(target=name, applied=msgspec.structs.replace(applied, plan=plan))
    number = applied.observed.revision
    _tell(
        project, name, f"target {brought.sentence}", now, problem=False, done=bool(applied.plan.steps), revision=number
    )
    return brought


def _drop_packages(project: Project, environment: str) -> None:
    """Drop what was packed for an environment, but not what is wanted or answers; only while nobody brings anything."""
    into, names = packages_of(project, environment), names_of(project, environment)
    if not surplus(into):
        return
    with ExitStack() as held:
        try:
            for name in names:
                held.enter_context(lease(project.state, f"target-{name}"))
        except LeaseError:
            return  # what is being brought there may be any of these; there is a next time
        current = revisions(project, environment).current()
        keep = set() if current is None else {current.revision}
        for name in names:
            told = (one.details.get("revision") for one in events(open_state(project.state), kind=KIND, subject=name))
            keep |= set([number for number in told if number is not None][-1:])
        for old in surplus(into, keep):
            shutil.rmtree(old, ignore_errors=True)


def refuse_unfit(project: Project, deployment: Deployment | None) -> None:
    """Raise DeploymentError for a revision that is not to be signed and sent.

    One that was made before its environment had these targets, or that trusts a key which this project does not: it may
    have come from a store that others can write to.
    """
    if deployment is None:
        return
    foreign = sorted(set(deployment.trusted_keys) - set(trusted(project.state)))
    if foreign:
        raise DeploymentError(
            f"revision {deployment.revision} trusts the key {foreign[0][:12]}…, which this project does not: find out "
            "who made it; passerelle deploy VERSION makes one that trusts this project's keys."
        )
    at, auth = kept_at(project, deployment.environment)
    if (deployment.ledger_at, deployment.auth) != (at, auth):
        raise DeploymentError(
            f"revision {deployment.revision} keeps its ledger at {deployment.ledger_at or 'this machine'} (auth: "
            f"{deployment.auth}), and {FILE} says {at or 'this machine'} (auth: {auth}) now: passerelle deploy --to "
            f"{deployment.environment} makes a revision that does."
        )


def _tell(
    project: Project,
    name: str,
    sentence: str,
    now: datetime,
    *,
    problem: bool,
    done: bool = True,
    revision: int | None = None,
) -> None:
    """Say it if it is news: a problem once, that something was done, that it works again."""
    engine = open_state(project.state)
    told = events(engine, kind=KIND, subject=name, limit=1)
    failing = bool(told and told[-1].details.get("problem"))
    same = bool(told) and told[-1].sentence == sentence
    if same if problem else not (done or failing):
        return
    details = {"problem": problem, "revision": revision}
    record(engine, Event(at=now, kind=KIND, subject=name, sentence=sentence, details=details))
