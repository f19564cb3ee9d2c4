"""Tick: the steps that the loop takes at each look, in their order; each may be cut anywhere and taken again.

What a step finds made it does not make again, so none needs to know whether an earlier attempt was cut. An error that
was foreseen ends the step, not the tick: it is told once, and the step is taken again at the next tick.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from passerelle.data.bucket import fetch
from passerelle.data.contract import contract_path
from passerelle.data.handout import count_mature
from passerelle.data.landing import inbox, ingest
from passerelle.data.table import Snapshot, snapshot
from passerelle.errors import (
    BundleError,
    DataError,
    DeploymentError,
    KilledError,
    LedgerError,
    PasserelleError,
    RegistryError,
    SettingsError,
    StateError,
    StoreError,
)
from passerelle.loop import gathering
from passerelle.loop.decide import Decision, Gain, expected_gain, is_harmless, should_retrain
from passerelle.loop.gaps import fill_gaps
from passerelle.loop.jobs import runner_of
from passerelle.loop.provenance import code_digest, run_key
from passerelle.loop.signing import sign
from passerelle.loop.train import is_lasting, registry_of, train
from passerelle.loop.trying import advance, begin
from passerelle.monitoring.alerts import find_alerts
from passerelle.monitoring.channels import deliver
from passerelle.monitoring.watching import watch
from passerelle.monitoring.windows import read_windows
from passerelle.project.settings import METRICS, Project
from passerelle.state import runs
from passerelle.state.database import open_state
from passerelle.state.timeline import Event, record_once
from passerelle.trial import trials

#: Alerts of these say that the model may not fit the world any more.
_STALE = ("performance", "score_drift", "input_drift")
#: How often a process of one run may be killed until the training gives up, and is begun anew after the cool-down.
_KILLS = 3

#: What was counted last, of what; see _count_once.
_counted: dict[str, Any] = {}


class Landed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the inbox."""

    #: A sentence for each delivery.
    deliveries: tuple[str, ...]
    #: Why the first of those that wait could not be read.
    problem: str | None


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """The trial that was going on, and its verdict if it has one by now."""

    trial: str | None = None
    verdict: str | None = None


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a training of the loop."""

    #: The moment of the tick that began it.
    now: datetime
    #: None: no version was made.
    version: int | None = None
    #: The trial that was begun with it; None for a version that answers at once, as the first does.
    trial: str | None = None
    #: Why no version was made, or why it is not tried.
    problem: str | None = None


def land(project: Project, *, now: datetime) -> Landed:
    """1. Fetch what is new in the bucket; ingest what is new in the inbox. What cannot be read stops nothing else."""
    said: list[str] = []
    problem = None
    try:
        fetch(project)
    except (DataError, StoreError) as error:
        problem = str(error)
    for path in inbox(project):
        try:
            said += [one.sentence for one in ingest(project, [path], now=now)]
        except DataError as error:
            problem = problem or str(error)
    return Landed(deliveries=tuple(said), problem=problem)


def gather(project: Project, environment: str, *, now: datetime) -> int:
    """2. Ask the writers to seal what they hold, and move it into the ledger's tables; how many segments that were.

    Raises LedgerError if a place elsewhere cannot be read, when all others have been moved; see gathering.
    """
    found = gathering.gather(project, environment, now=now)
    if found.problem is not None:
        raise LedgerError(found.problem)
    return 0 if found.compaction is None else found.compaction.segments


def fill(project: Project, environment: str, *, now: datetime) -> int:
    """3. Score what a shadow lacks of days that close now; how many scores that were."""
    return fill_gaps(project, environment, now=now)


def judge(project: Project, environment: str, *, key: Ed25519PrivateKey | None = None, now: datetime) -> Tried:
    """4. Close the trial's blocks, judge, execute the verdict or ask a person; sign what has ended."""
    found = None
    if trials.current(open_state(project.state), environment) is not None:  # the registry takes long to open
        found = advance(project, registry_of(project), environment=environment, now=now)
    sign(project, environment, key=key, now=now)
    if found is None:
        return Tried()
    return Tried(trial=found.plan.id, verdict=None if found.verdict is None else found.verdict.kind)


def look(project: Project, environment: str, *, now: datetime) -> tuple[str, ...]:
    """5. Measure the windows that have closed, open and close alerts; those that changed."""
    return tuple(one.id for one in watch(project, environment, now=now))


def send(project: Project, *, now: datetime) -> dict[str, Any]:
    """6. Send the messages that are due, whether or not watching could be done; the timeline says which failed."""
    deliver(project, now=now)
    return {}


def decide(project: Project, environment: str, *, now: datetime) -> Decision:
    """7. Retrain or not. Cheap where nothing was delivered since the newest run: no row is read then."""
    taken = snapshot(project)
    if not {project.data.main, project.data.outcomes} <= taken.tables.keys():
        return Decision(retrain=False, reason="nothing to learn from has been delivered yet")
    engine = open_state(project.state)
    attempts = runs.all(engine)
    sealed = [run for run in attempts if run.status == "sealed" and "snapshot" in run.details]
    newest = sealed[-1] if sealed else None
    if newest is not None and newest.details["snapshot"] == taken.tables:
        return Decision(retrain=False, reason="nothing was delivered since the newest run")
    latest = attempts[-1] if attempts else None
    if latest is not None and latest.details.get("lasting") and _same(latest, taken.tables, project):
        reason = f"the newest run was of this very data and code, and came to nothing: {latest.details['reason']}"
        return Decision(retrain=False, reason=reason)
    harmful, harmless = _stale(engine, environment)
    mature = _count_once(project, taken, now=now)
    return should_retrain(
        learnt=None if newest is None else int(newest.details["outcomes"]),
        mature=mature,
        share=project.loop.retrain_share,
        last_attempt=None if latest is None else latest.started_at,
        cooldown_hours=project.loop.cooldown_hours,
        alerts=harmful,
        harmless=harmless,
        gain=_gain(project, sealed, mature),
        now=now,
    )


def _stale(engine: sa.Engine, environment: str) -> tuple[list[str], list[str]]:
    """What open alerts watch that say that the model may not fit any more: with harm or unsure, and without harm."""
    found = [one for one in find_alerts(engine, environment, open_only=True) if one.watch in _STALE]
    harmful: list[str] = []
    harmless: list[str] = []
    lossy = any(one.watch == "performance" for one in found)
    for one in found:
        days = [] if lossy else read_windows(engine, environment, "performance", since=one.first_day or one.opened_at)
        calm = one.watch != "performance" and is_harmless([day.value.get("in_control") for day in days])
        (harmless if calm else harmful).append(one.watch)
    return harmful, harmless


def _gain(project: Project, sealed: list[runs.Run], mature: int) -> Gain:
    """What a retraining is expected to bring, by the versions that were made before."""
    cost = project.loop.retrain_cost if project.task.kind == "binary" else None
    figure = METRICS[project.task.kind][0] if cost is None else "cost"
    measured = [(run.details["outcomes"], run.details.get("metrics", {}).get(figure)) for run in sealed]
    points = [(int(rows), float(value)) for rows, value in measured if value is not None and rows]
    return expected_gain(points, mature, figure=figure, cost=cost)


def _count_once(project: Project, taken: Snapshot, *, now: datetime) -> int:
    """count_mature, once for a snapshot and a day of ``now``: it joins all rows, and a tick comes every minute."""
    contract = contract_path(project)
    text = contract.read_bytes() if contract.exists() else None
    key = (project.state, taken.tables, project.task, project.data, text, now.date())
    if _counted.get("key") != key:
        _counted.update(key=key, mature=count_mature(project, taken, now=now))
    return int(_counted["mature"])


def training_key(project: Project) -> str:
    """What a training would be made of now: the snapshot, the code, the settings. The same is not tried twice."""
    return run_key(project, snapshot(project), ())


def _same(run: runs.Run, tables: dict[str, int], project: Project) -> bool:
    return run.details.get("snapshot") == tables and run.details.get("code") == code_digest(project)


def make(
    project: Project,
    id_: str,
    *,
    reason: str,
    now: datetime,
    force_gate: bool,
    key: Ed25519PrivateKey | None,
    on_step: Callable[[int, int, str], None] | None,
) -> Trained:
    """The run of a training: a version, or why there is none for this data and code.

    A run that was killed from outside is taken again, _KILLS times at most. Raises KilledError then, and whatever else
    may be over tomorrow (another process trains, the disk is full, the code has changed since): the training has
    failed, and is begun anew when the loop decides so again.
    """
    if not id_.endswith(training_key(project) + ("-forced" if force_gate else "")):
        raise StateError(
            "the data or the code has changed since this training was decided: the next tick decides anew."
        )
    engine = open_state(project.state)
    sentence = f"the model is trained: {reason}"
    record_once(engine, Event(at=now, kind="decision", subject=id_, sentence=sentence))
    before = _run_of(engine, id_)
    if before is not None and before.details.get("lasting"):
        return Trained(now=now, problem=before.details["reason"])
    while True:
        try:
            training = train(
                project,
                now=now,
                key=key,
                on_step=on_step,
                force_gate=force_gate,
                cause=id_,
                runner=runner_of(project),
            )
        except KilledError:
            ended = _run_of(engine, id_)
            if ended is None or ended.details.get("kills", 0) >= _KILLS:
                raise
        except PasserelleError as error:
            if not is_lasting(error):
                raise
            if _run_of(engine, id_) is None:  # train says it of a run that had begun
                told = f"no version was made: {error}"
                record_once(engine, Event(at=now, kind="run", subject=id_, sentence=told))
            return Trained(now=now, problem=str(error))
        else:
            return Trained(now=now, version=training.version)


def begin_trial(project: Project, environment: str, made: Trained, *, salt: str | None, now: datetime) -> Trained:
    """The trial of a version that was just made, or why there is none: a person may start it then.

    Raises what may be over in a moment, as a lease that somebody holds: it is to be begun again then.
    """
    version = made.version
    if version is None:
        return made
    try:
        registry = registry_of(project)
        record = begin(project, registry, version, environment=environment, salt=salt, again=False, now=now)
    except (BundleError, DeploymentError, RegistryError, SettingsError) as error:
        told = f"version {version} is not tried: {error}"
        record_once(open_state(project.state), Event(at=now, kind="trial", subject=f"version {version}", sentence=told))
        return msgspec.structs.replace(made, problem=told)
    return msgspec.structs.replace(made, trial=None if record is None else record.plan.id)


def is_made(root: Path, training: str) -> bool:
    """Has a training made its version?"""
    run = _run_of(open_state(root / ".passerelle"), training)
    return run is not None and run.status == "sealed"


def _run_of(engine: sa.Engine, training: str) -> runs.Run | None:
    return next((run for run in reversed(runs.all(engine)) if run.details.get("cause") == training), None)
