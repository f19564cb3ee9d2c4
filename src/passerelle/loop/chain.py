"""Chain: the jobs of a delivery chain, each for a machine that is made for it and thrown away after it.

What the jobs must have in common lies outside of them: the state on PostgreSQL, the versions in a registry, the files
in a store. A job that works on them holds one lease on all three. Without the three a job checks, tests, trains, and
reports, and nothing of it lasts but its pages.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow.parquet as pq

from passerelle.bundle.keys import KEY_VARIABLE
from passerelle.data.bucket import fetch
from passerelle.data.contract import load_contract
from passerelle.data.landing import inbox, ingest
from passerelle.data.table import read_conformed
from passerelle.errors import DataError, PasserelleError, SettingsError, StoreError
from passerelle.load.injectors import inject
from passerelle.load.plan import at_rate
from passerelle.load.report import Injected
from passerelle.load.target import find_target
from passerelle.loop import rollout
from passerelle.loop.attempt import PROBLEM, attempt, in_order
from passerelle.loop.checking import check_project
from passerelle.loop.facts import gather_report
from passerelle.loop.identity import identify
from passerelle.loop.injecting import events_to_send
from passerelle.loop.jobs import runner_of
from passerelle.loop.shared import NEEDED, Way, at_work, shared_at
from passerelle.loop.targets import bring, has, keep_brought, names_of
from passerelle.loop.tick import decide
from passerelle.loop.train import registry_of, train
from passerelle.loop.trying import advance, begin
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry
from passerelle.serving.endpoint import start_endpoint
from passerelle.state.database import open_state
from passerelle.trial import trials

#: Where the newest version answers first.
STAGING = "staging"
#: Where a job leaves its pages, and finds those of the job before it.
PAGES = Path("report")

#: An endpoint of staging that runs somewhere: smoke and load are sent there, else to one on this machine.
_STAGING_URL = "PASSERELLE_STAGING_URL"
_STAGING_TOKEN = "PASSERELLE_STAGING_TOKEN"  # noqa: S105  (a variable's name)

_PLACES = f"{', '.join(NEEDED[:-1])} and {NEEDED[-1]}"
_ALONE = (
    f"Nothing is shared: without {_PLACES}, and for a change that is only proposed, this job's work ends with this "
    "machine: train, gate and report, no more."
)
#: Steps of a tick that the job judge leaves to the job retrain.
_NOT_JUDGED = ("ingest", "decide")
#: Jobs that make nothing for the others: what staging records of them is thrown away with the machine.
_LOOKING = ("report", "smoke", "load")
#: Names of variables that the chain's definitions hand on.
_OURS = ("PASSERELLE_", "AWS_ROLE_ARN", "AZURE_", "GOOGLE_")
_ROWS = 500
_SMOKE_EVENTS, _SMOKE_PER_S = 20, 20.0
_LOAD_PER_S, _LOAD_S = 50.0, 5.0


class JobError(PasserelleError):
    """A job of the chain failed: its lines say what was seen."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a job did."""

    job: str
    #: Did it work on what all jobs share, or on this machine alone?
    shared: bool
    #: For people.
    lines: tuple[str, ...]
    #: What went wrong beside that: the job fails.
    problems: tuple[str, ...] = ()
    #: For programs.
    details: dict[str, Any] = {}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job of the chain, as it is defined here."""

    #: For people, in one sentence.
    sentence: str
    #: Does it work on what is shared: not at all, where it can, or only so?
    shares: Literal["never", "if it can", "always"]
    #: Variables that it reads besides those of sharing.
    reads: tuple[str, ...] = ()


#: Name → what it does, in the order of the chain.
JOBS = {
    "check": Job(sentence="settings, contract and notebook fit each other", shares="never"),
    "test": Job(sentence="the project's own tests pass", shares="never"),
    "train": Job(
        sentence="deliveries (bucket, inbox) are accepted, the notebook runs, parity and gate; pages in report/",
        shares="if it can",
        reads=(KEY_VARIABLE,),
    ),
    "report": Job(sentence="the newest run's pages are in report/", shares="if it can"),
    "deploy-staging": Job(
        sentence="the newest version answers in staging, and at its targets", shares="always", reads=(KEY_VARIABLE,)
    ),
    "smoke": Job(sentence="staging answers real rows", shares="always", reads=(_STAGING_URL, _STAGING_TOKEN)),
    "load": Job(
        sentence=f"staging answers {_LOAD_PER_S:.0f} requests a second for {_LOAD_S:.0f} s",
        shares="always",
        reads=(_STAGING_URL, _STAGING_TOKEN),
    ),
    "deploy-production": Job(
        sentence="the newest version is tried against production's champion, or answers if it is the first, and so at "
        "its targets",
        shares="always",
        reads=(KEY_VARIABLE,),
    ),
    "retrain": Job(
        sentence="new deliveries are accepted, and the model is trained if they are enough",
        shares="if it can",
        reads=(KEY_VARIABLE,),
    ),
    "judge": Job(
        sentence="production's ledger is gathered, days close, the verdict is executed, alerts are sent; its targets "
        "follow",
        shares="always",
        reads=(KEY_VARIABLE,),
    ),
    "rollback": Job(
        sentence="production, and its targets, go back to what answered before",
        shares="always",
        reads=(KEY_VARIABLE,),
    ),
}


def run_job(name: str, project: Project, *, now: datetime, on_step: Callable[[int, int, str], None] | None) -> Done:
    """Run a job on this machine. Raises SettingsError if it is none, or if a variable that it needs is not set.

    Whatever the work itself raises comes through: GateError from train, DeploymentError from a deploy.
    """
    job = JOBS.get(name)
    if job is None:
        raise SettingsError(f"there is no job {name!r}: the jobs are {', '.join(JOBS)}.")
    if job.shares == "never":
        return _check(project, now) if name == "check" else _test(project)
    _unset_empty()
    where = shared_at()
    if where is None and job.shares == "always":
        raise SettingsError(
            f"{name} works on what the jobs share, and this one shares nothing: set {_PLACES}. "
            "Without them the chain only trains, gates and reports."
        )
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(identify(Path(folder), os.environ) if where is not None else {})
        way: Way = "looks" if name in _LOOKING else "hurries" if name == "rollback" else "works"
        with at_work(project, way) as told:
            done = _run(name, project, now, on_step, shared=where is not None)
    lines = (told or _ALONE, *done.lines)
    if done.problems:  # after all else that it did has been kept
        raise JobError("\n".join((*lines, *done.problems)))
    return msgspec.structs.replace(done, lines=lines)


def _run(
    name: str,
    project: Project,
    now: datetime,
    on_step: Callable[[int, int, str], None] | None,
    *,
    shared: bool,
) -> Done:
    environment = {
        "deploy-staging": STAGING,
        **dict.fromkeys(("deploy-production", "judge", "rollback"), rollout.PRODUCTION),
    }
    signs = name in ("train", "retrain") or bool(names_of(project, environment.get(name, "")))
    if signs and shared and not os.environ.get(KEY_VARIABLE):
        raise SettingsError(
            f"{KEY_VARIABLE} is not set: a version or a package that leaves this machine would be signed by a key of "
            "this machine, which no deployment trusts and nobody has tomorrow."
        )
    if name in ("train", "retrain"):
        made = _train(project, now, on_step, only_if_enough=name == "retrain", shared=shared)
        return msgspec.structs.replace(made, job=name, shared=shared)
    if name == "report":
        return _report(project, now, shared=shared)
    if name in ("smoke", "load"):
        return _send(name, project)
    if name == "judge":
        return _judge(project, rollout.PRODUCTION, now)
    return _deploy(name, project, environment[name], now)


def _unset_empty() -> None:
    """Services set what nobody gave them a value for: to nothing, or (Azure) to its own name, as $(PASSERELLE_KEY)."""
    for name, value in list(os.environ.items()):
        if name.startswith(_OURS) and (not value or value == f"$({name})"):
            del os.environ[name]


def _check(project: Project, now: datetime) -> Done:
    found = check_project(project, now=now)
    lines = tuple(f"{what}: {sentence}" for what, sentence in found.items())
    return Done(job="check", shared=False, lines=lines, details=found)


def _test(project: Project) -> Done:
    command = [sys.executable, "-m", "pytest", "tests"]
    done = subprocess.run(  # noqa: S603  (the project's own tests)
        command, cwd=project.root, capture_output=True, text=True, check=False
    )
    lines = tuple((done.stdout + done.stderr).strip().splitlines())
    if done.returncode:
        raise JobError("\n".join((*lines, f"the project's tests ended with {done.returncode}.")))
    return Done(job="test", shared=False, lines=lines)


def _train(
    project: Project,
    now: datetime,
    on_step: Callable[[int, int, str], None] | None,
    *,
    only_if_enough: bool,
    shared: bool,
) -> Done:
    lines = []
    try:
        fetch(project)
    except StoreError as error:  # a change that is only proposed has no rights there
        if shared:
            raise
        lines.append(f"The bucket was not looked into: {error}")
    deliveries = ingest(project, inbox(project), now=now)
    lines += [f"{one.status:12} {one.sentence}" for one in deliveries]
    if aside := [one for one in deliveries if one.status == "quarantined"]:
        raise DataError(f"{len(aside)} deliveries were put aside, nothing was trained. " + aside[0].sentence)
    if only_if_enough:
        decision = decide(project, rollout.PRODUCTION, now=now)
        lines.append(f"{'Retrain' if decision.retrain else 'Not retrained'}: {decision.reason}.")
        if not decision.retrain:
            return Done(job="", shared=False, lines=tuple(lines), details={"trained": False})
    try:
        # A change that is only proposed has no rights at a target: it trains on this machine.
        runner = runner_of(project) if shared else None
        training = train(project, now=now, on_step=on_step, runner=runner)
    except PasserelleError:  # also when the gate refused: that is when the pages are read
        with contextlib.suppress(PasserelleError):
            gather_report(project, project.root / PAGES, now=now)
        raise
    lines += [f"Wrote {path}." for path in gather_report(project, project.root / PAGES, now=now)]
    details = {"trained": True, "version": training.version, "made": training.made, "metrics": training.metrics}
    return Done(job="", shared=False, lines=(*lines, *training.lines()), details=details)


def _report(project: Project, now: datetime, *, shared: bool) -> Done:
    pages = project.root / PAGES
    # Where nothing is shared, the job that trained hands its pages over.
    paths = gather_report(project, pages, now=now) if shared else sorted(pages.glob("*"))
    missing = {"executed.html", "note.html"} - {path.name for path in paths}
    if missing:
        raise JobError(f"{pages} lacks {', '.join(sorted(missing))}: the job train leaves it for this one.")
    return Done(job="report", shared=shared, lines=tuple(f"Page {PAGES / path.name}" for path in paths))


def _deploy(name: str, project: Project, environment: str, now: datetime) -> Done:
    """A revision, and the environment's targets brought to it. Raises JobError, in their words, if one is not."""
    registry = registry_of(project)
    if name == "rollback":
        said = _go_back(project, registry, now)
    else:
        versions = registry.versions()
        if not versions:
            raise JobError(f"{project.name} has no version yet: the job train makes one.")
        newest = versions[-1].number
        if name == "deploy-staging":
            rollout.deploy(project, registry, newest, environment=STAGING, now=now)
            rollout.reconcile(project, registry)
            said = f"Version {newest} answers in {environment}."
        else:
            said = _try(project, registry, newest, now)
    current = rollout.revisions(project, environment).current()
    assert current is not None  # it was just made, or found
    brought = bring(project, environment, now=now)
    stands = f"{said} {environment} is at revision {current.revision}: {current.reason}."
    lines = (stands, *(one.sentence for one in brought))
    if any(one.exit_code for one in brought):
        raise JobError("\n".join((*lines, "the revision stands: run this job again to bring it there.")))
    details = {"environment": environment, "revision": current.revision, "version": current.champion.version}
    return Done(job=name, shared=True, lines=lines, details=details | {"trial": current.trial})


def _judge(project: Project, environment: str, now: datetime) -> Done:
    """The loop's tick, but for what the job retrain does; then the targets. What fails stops nothing else."""
    if rollout.revisions(project, environment).current() is None:
        return Done(job="judge", shared=True, lines=(f"Nothing is deployed in {environment} yet.",))
    steps = [one for one in in_order(project, environment, now=now) if one[0] not in _NOT_JUDGED]
    details: dict[str, Any] = {}
    problems = []

    def bring_there() -> dict[str, Any]:
        keep_brought(project, environment, key=None, now=now)
        return {}

    for name, act in (*steps, ("targets", bring_there)):
        answer = attempt(project.state, name, act, now)
        if (problem := answer.pop(PROBLEM, None)) is not None:
            problems.append(f"{name}: {problem}")
        details |= answer
    current = rollout.revisions(project, environment).current()
    assert current is not None  # none is ever taken away
    lines = [f"{details.get('segments', 0)} segments gathered, {len(details.get('alerts', ()))} alerts changed."]
    if (trial := trials.find(open_state(project.state), details.get("trial") or "")) is not None:
        lines.append(f"{trial.plan.id} {trial.status}." if trial.verdict is None else trial.verdict.sentence)
    lines.append(f"{environment} is at revision {current.revision}: {current.reason}.")
    details |= {"environment": environment, "revision": current.revision, "version": current.champion.version}
    return Done(job="judge", shared=True, lines=tuple(lines), problems=tuple(problems), details=details)


def _go_back(project: Project, registry: Registry, now: datetime) -> str:
    """Roll production back, and end the trial that was going on.

    A roll-back that has not come to each target yet is brought there before another step back is made: a job that
    failed half-way may be run again. A target that is away, and had it, keeps nobody from the next step.
    """
    environment = rollout.PRODUCTION
    current = rollout.revisions(project, environment).current()
    if current is not None and current.rolls_back_to is not None:
        there = {name: has(project, name, current) for name in names_of(project, environment)}
        if behind := [name for name, has_it in there.items() if has_it is False]:
            return f"The last roll-back has not come to {', '.join(behind)} yet, so none was made."
        if unknown := [name for name, has_it in there.items() if has_it is None]:
            return (
                f"{', '.join(unknown)} cannot be asked whether the last roll-back came there, so none was made: to go "
                "further back all the same, passerelle rollback."
            )
    rollout.roll_back(project, reason="rolled back by the delivery chain", now=now)
    rollout.reconcile(project, registry)
    advance(project, registry, environment=environment, now=now)
    return "Rolled back."


def _try(project: Project, registry: Registry, version: int, now: datetime) -> str:
    """Begin the trial of a version in production; a version that was tried before is not tried again."""
    environment = rollout.PRODUCTION
    before = [one for one in trials.history(open_state(project.state), environment) if one.plan.challenger == version]
    if before and before[-1].status == "ended":
        return f"Version {version} was tried before, in {before[-1].plan.id}: what came of it stands."
    record = begin(project, registry, version, environment=environment, again=False, now=now)
    if record is None:
        rollout.renew(project, environment=environment, now=now)  # if its targets are new
        return f"Version {version} answers in {environment}: there is nothing to try it against."
    return f"Trial {record.plan.id} goes on: version {version} against version {record.plan.champion}."


def _send(name: str, project: Project) -> Done:
    """Real rows to staging."""
    if name == "smoke":
        rate, seconds = _SMOKE_PER_S, _SMOKE_EVENTS / _SMOKE_PER_S
    else:
        rate, seconds = _LOAD_PER_S, _LOAD_S
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.parquet"
        found, _ = read_conformed(project, load_contract(project), project.data.main)
        pq.write_table(found.slice(max(0, found.num_rows - _ROWS)), rows)
        events = events_to_send(project, rows, environment=STAGING)
        plan = at_rate(events, rate, seconds=seconds)
        url, token = os.environ.get(_STAGING_URL), os.environ.get(_STAGING_TOKEN) or None
        if url:
            host = url.partition("://")[2].partition("/")[0]
            sent = inject(find_target(url, confirmed=host, token=token is not None), plan, token=token)
        else:
            with start_endpoint(project, STAGING) as endpoint:
                sent = inject(find_target(endpoint.url), plan)
    return _judged(name, sent)


def _judged(name: str, sent: Injected) -> Done:
    if not sent.clean:
        raise JobError("\n".join((*sent.lines(), "staging did not answer every event.")))
    return Done(job=name, shared=True, lines=tuple(sent.lines()), details=msgspec.to_builtins(sent))
