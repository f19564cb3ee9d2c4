"""Trying: a challenger is put beside the champion, and the verdict on it becomes a revision, or a person's decision.

The order of a verdict: its row → the revision after the one that the trial made, by compare-and-set → observed on every
worker, if an endpoint runs → aliases → timeline. Each is found before it is made again, so that all of it can be cut
anywhere and done again. A revision that a person made in the meantime stands: the trial ends, and changes nothing.
"""

from __future__ import annotations

import math
from datetime import datetime

import sqlalchemy as sa

from passerelle.deployment.spec import Deployment, Revisions, environment_folder
from passerelle.errors import DeploymentError, StateError
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.watermarks import delta_versions
from passerelle.loop.asking import ask, page
from passerelle.loop.rollout import PRODUCTION, deploy, reconcile, revisions
from passerelle.loop.stepping import first_share, step
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry, Version
from passerelle.serving.observation import is_alive, observed, wait_observed
from passerelle.state.database import open_state
from passerelle.state.lease import lease
from passerelle.state.timeline import Event, record_once
from passerelle.trial import trials
from passerelle.trial.breaker import breaks, broken_verdict, count_of, last_answers, look_since
from passerelle.trial.evidence import close_blocks
from passerelle.trial.failing import failing
from passerelle.trial.judging import digest, judge, set_aside
from passerelle.trial.planning import make_plan, reference_loss
from passerelle.trial.verdict import Record

_LEASE = "trial"
_WAIT_S = 60.0
_OBSERVED_S = 20.0


def begin(
    project: Project,
    registry: Registry,
    version: int,
    *,
    environment: str = PRODUCTION,
    salt: str | None = None,
    again: bool = True,
    now: datetime,
) -> Record | None:
    """Put a version beside the champion as the project's [trial] says, and begin its trial; the trial.

    A trial that is going on ends first, and the newer takes its place by one revision. Without a champion the version
    answers alone at once (``salt`` is the first revision's); then, and for the champion itself, there is no trial.
    Without ``again``, as the loop asks, a version whose trial was begun before and is over stays as it is.
    Raises DeploymentError if the version cannot be deployed, if it may not be tried again, or if nothing is known of
    the champion's loss.
    """
    with lease(project.state, _LEASE, wait_s=_WAIT_S):
        engine = open_state(project.state)
        left = trials.current(engine, environment)
        if left is not None and left.plan.challenger == version:
            return left
        if left is not None and left.status == "decided" and project.loop.approval == "automatic":
            left = _execute(project, registry, left, now=now)
        current = revisions(project, environment).current()
        if current is None:
            reason = f"version {version}, the first: there is no champion to try it against"
            deploy(project, registry, version, environment=environment, reason=reason, salt=salt, now=now)
            reconcile(project, registry)
            return None
        champion = current.champion
        if champion.version == version:
            return None
        if not again:
            _refuse_again(project, environment, version)
        begun = current.trial == f"{environment}-{version}-{current.revision}"  # by an attempt that was cut
        known = _reference(project, registry.get(champion.version), environment, now)
        plan = make_plan(
            project,
            environment=environment,
            champion=registry.get(champion.version),
            challenger=version,
            revision=current.revision if begun else current.revision + 1,
            reference=known[0],
            reference_source=known[1],
            now=now,
        )
        if left is not None and left.status != "ended":
            _set_aside(project, engine, left, f"version {version} takes its place", now=now)
        if not begun:
            how = "in shadow" if plan.mode == "shadow" else f"on {first_share(plan) * 100:.3g}% of the units"
            deploy(
                project,
                registry,
                version,
                environment=environment,
                share=first_share(plan) if plan.mode == "split" else 1.0,
                shadow=plan.mode == "shadow",
                reason=f"version {version} is tried {how} against version {champion.version}",
                trial=plan.id,
                after=current.revision,
                now=now,
            )
        reconcile(project, registry)
        record = trials.start(engine, plan)
        try:
            _wait_observed(project, environment)  # last: what a worker misses meanwhile is filled in later
        except DeploymentError as error:
            told = f"not every worker takes part in the trial yet: {error}"
            record_once(engine, Event(at=now, kind="trial", subject=plan.id, sentence=told))
        return record


def _refuse_again(project: Project, environment: str, version: int) -> None:
    """Raise DeploymentError if a trial of the version was begun by a revision, and the current one is not its own."""
    place = revisions(project, environment)
    made = [place.get(number) for number in place.numbers()]
    current = made[-1]
    trials_of_it = [one.trial for one in made if (one.trial or "").rpartition("-")[0] == f"{environment}-{version}"]
    if trials_of_it and current.trial not in trials_of_it:
        raise DeploymentError(
            f"revision {current.revision} was made ({current.reason}) when its trial {trials_of_it[-1]} had begun: it "
            f"stands. passerelle trial start {version} tries it all the same."
        )


def advance(project: Project, registry: Registry, *, environment: str = PRODUCTION, now: datetime) -> Record | None:
    """Close the blocks that can be closed, judge, and do what the verdict says, or ask a person; None: no trial."""
    engine = open_state(project.state)
    record = trials.current(engine, environment)
    if record is None:
        return None
    if record.status == "running":
        record = _judged(project, registry, engine, record, now=now)
    if record.status != "decided":
        return record
    broken = record.verdict is not None and record.verdict.kind == "BROKEN"
    if project.loop.approval == "human" and not broken and not _is_over(project, record):
        return _waited(project, registry, engine, record, now=now)
    return execute(project, registry, record, now=now)


def execute(project: Project, registry: Registry, record: Record, *, now: datetime) -> Record:
    """Do what a trial's verdict says: PROMOTE lets the challenger answer alone, everything else the champion.

    Raises DeploymentError if the version cannot be deployed, or a worker did not take the revision: do it again.
    """
    with lease(project.state, _LEASE, wait_s=_WAIT_S):
        return _execute(project, registry, record, now=now)


def approve(project: Project, registry: Registry, *, environment: str = PRODUCTION, now: datetime) -> Record:
    """Execute the verdict that waits for a person. Raises StateError if none does."""
    return execute(project, registry, _waiting(project, environment), now=now)


def refuse(project: Project, registry: Registry, *, environment: str = PRODUCTION, now: datetime) -> Record:
    """End the trial whose verdict waits for a person, and keep the champion.

    Raises StateError if none waits, or if it was executed already.
    """
    with lease(project.state, _LEASE, wait_s=_WAIT_S):
        return _keep(project, registry, _waiting(project, environment), why="a person refused the verdict", now=now)


def stop(project: Project, registry: Registry, *, environment: str = PRODUCTION, now: datetime) -> Record:
    """End the trial that is going on, undecided, and keep the champion.

    Raises StateError if there is none, or if it had a verdict that was executed already.
    """
    with lease(project.state, _LEASE, wait_s=_WAIT_S):
        engine = open_state(project.state)
        record = trials.current(engine, environment)
        if record is None:
            raise StateError(f"no trial is going on in {environment}: passerelle trial start VERSION begins one.")
        if record.status == "running":
            record = _undecided(project, engine, record, "a person stopped the trial", now=now)
        return _keep(project, registry, record, why="a person stopped the trial", now=now)


def _judged(project: Project, registry: Registry, engine: sa.Engine, record: Record, *, now: datetime) -> Record:
    """A running trial after its new blocks: still running, decided, or ended since a person made a revision.

    The breaker is asked first: whatever its losses say, a challenger that fails is not promoted.
    """
    plan = record.plan
    current = revisions(project, plan.environment).current()
    if current is None or current.trial != plan.id:
        with lease(project.state, _LEASE, wait_s=_WAIT_S):
            return _set_aside(project, engine, record, _overtaken(current), now=now)
    folder = ledger_folder(project.state, plan.environment)
    # A shadow has neither a breaker nor steps: nothing is read for it.
    answers = last_answers(folder, plan, since=look_since(now)) if plan.mode == "split" else None
    broken = None if answers is None else breaks(plan, answers)
    if broken is not None:
        blocks = trials.blocks(engine, plan.id)
        verdict = broken_verdict(plan, blocks, broken)
    else:
        blocks = close_blocks(project, record, now=now)
        verdict = judge(plan, blocks, now=now)
        if verdict.kind == "KEEP_GOING":
            verdict = failing(folder, plan, blocks, now=now) or verdict
    if verdict.kind == "KEEP_GOING":
        if answers is None:
            return record
        with lease(project.state, _LEASE, wait_s=_WAIT_S):
            if step(project, registry, plan, verdict=verdict, blocks=blocks, answers=answers, now=now):
                _wait_observed(project, plan.environment)
                reconcile(project, registry)
        return record
    delta = delta_versions(folder)
    return trials.decide(engine, plan.id, verdict, at=now, delta=delta, digest=digest(plan, blocks))


def _waited(project: Project, registry: Registry, engine: sa.Engine, record: Record, *, now: datetime) -> Record:
    """A verdict that waits for a person: ask. A challenger that breaks meanwhile does not wait: it is taken away."""
    plan = record.plan
    broken = None
    if plan.breaker_percent is not None:
        broken = breaks(plan, last_answers(ledger_folder(project.state, plan.environment), plan, since=look_since(now)))
    if broken is None:
        ask(engine, record, project.alerts.channels, now=now)
        return record
    why = f"the circuit breaker set the verdict aside, for {count_of(plan, broken)}"
    page(engine, record, why, project.alerts.channels, now=now)
    with lease(project.state, _LEASE, wait_s=_WAIT_S):
        return _keep(project, registry, record, why=why, now=now)


def _is_over(project: Project, record: Record) -> bool:
    """Has a person decided by now, by a revision: an answer that was cut, or one of their own?"""
    place = revisions(project, record.plan.environment)
    current = place.current()
    return current is None or current.trial != record.plan.id or _made(place, record.plan.id) is not None


def _execute(project: Project, registry: Registry, record: Record, *, now: datetime) -> Record:
    found = trials.find(open_state(project.state), record.plan.id)
    if found is None or found.verdict is None:
        raise StateError(f"trial {record.plan.id} has no verdict yet: nothing can be executed.")
    if found.status == "ended":
        return found
    version = found.plan.challenger if found.verdict.kind == "PROMOTE" else found.plan.champion
    return _conclude(project, registry, found, version, why=found.verdict.kind, now=now)


def _keep(project: Project, registry: Registry, record: Record, *, why: str, now: datetime) -> Record:
    """The champion answers alone, as a person wants it. Raises StateError if the challenger was promoted before."""
    place = revisions(project, record.plan.environment)
    made = _made(place, record.plan.id)
    ended = _conclude(project, registry, record, record.plan.champion, why=why, now=now)
    if made is not None and made.champion.version != record.plan.champion:
        raise StateError(
            f"the verdict was executed already: revision {made.revision} let version {made.champion.version} answer "
            "alone. passerelle rollback brings the champion back."
        )
    return ended


def _conclude(project: Project, registry: Registry, record: Record, version: int, *, why: str, now: datetime) -> Record:
    """The version answers alone, the workers have seen it, the aliases follow, the trial is over.

    What an attempt that was cut has made stands, whatever it was, and is what the trial's end says.
    """
    plan, engine = record.plan, open_state(project.state)
    _page_broken(project, engine, record, now=now)
    place = revisions(project, plan.environment)
    mark = _mark(plan.id)
    made = _made(place, plan.id)
    if made is None:
        current = place.current()
        if current is None or current.trial != plan.id:
            return trials.end(engine, plan.id, at=now, revision=None, execution=_overtaken(current))
        reason = f"{mark}{why}, version {version} answers alone"
        try:
            made = deploy(
                project,
                registry,
                version,
                environment=plan.environment,
                reason=reason,
                after=current.revision,
                now=now,
            )
        except DeploymentError:
            newest = place.current()
            if newest is None or newest.revision == current.revision:
                raise
            return trials.end(engine, plan.id, at=now, revision=None, execution=_overtaken(newest))
    _wait_observed(project, plan.environment)
    reconcile(project, registry)
    execution = f"{made.reason.removeprefix(mark)} from revision {made.revision}"
    return trials.end(engine, plan.id, at=now, revision=made.revision, execution=execution)


def _mark(trial: str) -> str:
    """How the reason of a revision that ends a trial begins."""
    return f"trial {trial}: "


def _made(place: Revisions, trial: str) -> Deployment | None:
    """The revision by which an attempt that was cut ended the trial; None if there is none."""
    for number in reversed(place.numbers()):
        revision = place.get(number)
        if revision.reason.startswith(_mark(trial)):
            return revision
        if revision.trial == trial:
            return None
    return None


def _overtaken(current: Deployment | None) -> str:
    made = "the deployment is gone" if current is None else f"a person made revision {current.revision} meanwhile"
    why = "" if current is None else f" ({current.reason})"
    return f"{made}{why}: it stands, and the trial changes nothing"


def _set_aside(project: Project, engine: sa.Engine, record: Record, why: str, *, now: datetime) -> Record:
    """End a trial without a revision: undecided if it was running; a verdict that waited stays unexecuted."""
    if record.status == "running":
        record = _undecided(project, engine, record, why, now=now)
    _page_broken(project, engine, record, now=now)
    return trials.end(engine, record.plan.id, at=now, revision=None, execution=why)


def _page_broken(project: Project, engine: sa.Engine, record: Record, *, now: datetime) -> None:
    """A trial that the breaker has ended calls a person, whoever brings it to its end; once."""
    if record.verdict is not None and record.verdict.kind == "BROKEN":
        page(engine, record, record.verdict.sentence, project.alerts.channels, now=now)


def _undecided(project: Project, engine: sa.Engine, record: Record, why: str, *, now: datetime) -> Record:
    """The verdict INCONCLUSIVE on what evidence there is."""
    plan = record.plan
    blocks = trials.blocks(engine, plan.id)
    delta = delta_versions(ledger_folder(project.state, plan.environment))
    verdict = set_aside(plan, blocks, reason=why)
    return trials.decide(engine, plan.id, verdict, at=now, delta=delta, digest=digest(plan, blocks))


def _waiting(project: Project, environment: str) -> Record:
    record = trials.current(open_state(project.state), environment)
    if record is None or record.status != "decided":
        raise StateError(f"no verdict waits in {environment}: look at passerelle trial status.")
    return record


def _wait_observed(project: Project, environment: str) -> None:
    """Return when every living worker has taken the current revision; at once if no endpoint runs."""
    folder = environment_folder(project.state, environment)
    current = Revisions(folder).current()
    living = [slot for slot, one in observed(folder).items() if is_alive(one.pid)]
    if current is not None and living:
        wait_observed(folder, current.revision, living, _OBSERVED_S)


def _reference(project: Project, champion: Version, environment: str, now: datetime) -> tuple[float, str]:
    """The champion's mean loss and where it comes from: production's last days, else its holdout."""
    found = reference_loss(project, champion, ledger_folder(project.state, environment), now=now)
    if found is not None:
        return found
    metrics = champion.metrics
    known = {
        "brier": metrics.get("brier"),
        "log_loss": metrics.get("log_loss"),
        "zero_one": 1 - metrics["accuracy"] if "accuracy" in metrics else None,
        "squared": metrics["rmse"] ** 2 if "rmse" in metrics else None,
        "absolute": metrics.get("mae"),
    }[project.loss]
    if known is None or not math.isfinite(known) or known <= 0:
        raise DeploymentError(
            f"nothing is known of the loss ({project.loss}) of version {champion.number}, the champion, so no margin "
            "can be set: record outcomes of its predictions first, then passerelle trial start again."
        )
    return known, "its holdout"
