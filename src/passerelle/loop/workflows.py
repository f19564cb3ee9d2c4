"""Workflows: ticks and trainings as short durable workflows, on DBOS over SQLite, ``<state>/loop.db``.

One process at a time, which holds the lease "loop", launches DBOS; everybody else changes the state, and the next tick
finds it. A tick is one workflow of seven steps, a training another of three; bringing what is wanted to the targets,
for which a cloud may take half an hour, is a third, beside them. None knows of a moment but its argument. Ids are made
of what a workflow is for, so that the same is found and not done again: a tick's of its moment, a training's of the
snapshot and the code. What a killed process left undone is finished, from the step where it was, before anything new
begins.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID

from passerelle.clock import Clock
from passerelle.decoding import prepared
from passerelle.errors import PasserelleError
from passerelle.loop import tick as steps
from passerelle.loop.attempt import PROBLEM, attempt, in_order, tell, tell_well
from passerelle.loop.decide import Decision
from passerelle.loop.rollout import PRODUCTION
from passerelle.loop.targets import keep_brought
from passerelle.project.settings import FILE, STATE_FOLDER, Project, load_project
from passerelle.state.database import sqlite_url
from passerelle.state.lease import LeaseError, lease

DATABASE = "loop.db"

_UNFINISHED = ["PENDING", "ENQUEUED"]
_FAILED = ("ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_LOOK_AGAIN_S = 0.1
#: So many of the newest ticks, and trainings, can be found again; older are forgotten, or the file would grow for ever.
_KEPT = 500


class Ticked(msgspec.Struct, frozen=True, kw_only=True):
    """What a tick did."""

    now: datetime
    #: What became of each new delivery, a sentence each.
    deliveries: tuple[str, ...] = ()
    #: Segments of the ledger that were moved into its tables.
    segments: int = 0
    #: Shadow scores that were filled in.
    filled: int = 0
    #: The trial that was going on when the tick began, and its verdict, if it has one by now.
    trial: str | None = None
    verdict: str | None = None
    #: Ids of the alerts that opened or closed.
    alerts: tuple[str, ...] = ()
    decision: Decision = Decision(retrain=False, reason="the step that decides failed")
    #: What came of the training that the tick began, where it was waited for.
    trained: steps.Trained | None = None
    #: What went wrong, a sentence each; the next tick takes these steps again.
    problems: tuple[str, ...] = ()


class _Hands(msgspec.Struct, frozen=True, kw_only=True):
    """What a workflow needs and no database keeps: of the process that is open."""

    root: Path = Path()
    key: Ed25519PrivateKey | None = None
    on_step: Callable[[int, int, str], None] | None = None
    clock: Clock | None = None
    salt: str | None = None

    @property
    def state(self) -> Path:
        """The project's state folder, also where its settings cannot be read."""
        return self.root / STATE_FOLDER


_hands = _Hands()


class Loop:
    """The loop of one environment, open; see open_loop. Its ticks come one after the other."""

    def __init__(self, environment: str) -> None:
        self._environment = environment
        self._under_way = _unfinished("training")
        self._bringing = _unfinished("targets")
        self._ticks = 0

    def tick(self, now: datetime, *, force_gate: bool = False, wait: bool = True) -> Ticked:
        """Take every step once, for this moment; a tick that was finished before is answered as it was.

        The settings are read again. With ``wait``, a training that the tick finds due is waited for, and what came of
        it is answered; without, it goes on in a thread of its own, and no other begins before it has ended. So it is
        with the targets, which hear of what this tick's verdict has made of the revision.
        ``force_gate`` is a switch of tests; see train.
        """
        if self._ticks % _KEPT == 0:
            _forget_old()
        self._ticks += 1
        self._under_way = [id_ for id_ in self._under_way if self._is_under_way(id_)]
        if wait:
            _wait_for(self._under_way)
        found = _start(f"tick-{self._environment}-{now:%Y%m%dT%H%M%S.%f}", _tick, self._environment, now.isoformat())
        ticked = self._bring(msgspec.convert(found.get_result(), prepared(Ticked)), now, wait=wait)
        if not ticked.decision.retrain:
            return ticked
        try:
            return self._train(ticked, now, force_gate=force_gate, wait=wait)
        except PasserelleError as error:
            tell(_hands.state, "train", str(error), now)
            return msgspec.structs.replace(ticked, problems=(*ticked.problems, f"train: {error}"))

    def _bring(self, ticked: Ticked, now: datetime, *, wait: bool) -> Ticked:
        """Bring the targets what is wanted now; what went wrong, where it was waited for."""
        if wait:
            _wait_for(self._bringing)
        for id_ in self._bringing:
            if _status(id_) in _FAILED and (found := DBOS.get_workflow_status(id_)) is not None:
                tell(
                    _hands.state,
                    "targets",
                    f"an error that was not foreseen: {getattr(found.error, 'name', '')}: {found.error}",
                    now,
                )
        self._bringing = [id_ for id_ in self._bringing if _status(id_) in _UNFINISHED]
        if self._bringing:
            return ticked  # a slow cloud: what is wanted when it has ended is brought then
        id_ = f"targets-{self._environment}-{now:%Y%m%dT%H%M%S.%f}"
        with contextlib.suppress(PasserelleError):  # the tick has told what is wrong with the settings
            if any(one.environment == self._environment for one in load_project(_hands.root / FILE).targets.values()):
                handle = _start(id_, _targets, self._environment, now.isoformat())
                self._bringing.append(id_)
                if wait and (problem := handle.get_result().get(PROBLEM)) is not None:
                    return msgspec.structs.replace(ticked, problems=(*ticked.problems, f"targets: {problem}"))
        return ticked

    def _is_under_way(self, id_: str) -> bool:
        """Does a training still go on? One that has made its version, and failed to begin the trial, does so again."""
        found = DBOS.get_workflow_status(id_)
        if found is not None and found.status in _FAILED and found.input and steps.is_made(_hands.root, id_):
            _start(id_, _training, *found.input["args"])
            return True
        return found is not None and found.status in _UNFINISHED

    def _train(self, ticked: Ticked, now: datetime, *, force_gate: bool, wait: bool) -> Ticked:
        reason = ticked.decision.reason
        if any(_status(id_) in _UNFINISHED for id_ in self._under_way):
            return _not(ticked, f"{reason}; a training is under way")
        project = load_project(_hands.root / FILE)
        try:
            with lease(project.state, "train"):
                pass
        except LeaseError:
            return _not(ticked, f"{reason}; another process trains")
        key = steps.training_key(project) + ("-forced" if force_gate else "")
        id_ = f"train-{self._environment}-{key}"
        made = DBOS.get_workflow_status(id_)
        if made is not None and made.status == "SUCCESS" and _trained(made.output).now != now:
            return _not(ticked, f"{reason}; this data and code were tried before: {_trained(made.output).problem}")
        handle = _start(id_, _training, self._environment, id_, reason, now.isoformat(), force_gate)
        self._under_way.append(id_)
        if not wait:
            return ticked
        return msgspec.structs.replace(ticked, trained=_trained(handle.get_result()))


@contextmanager
def open_loop(
    project: Project,
    *,
    environment: str = PRODUCTION,
    key: Ed25519PrivateKey | None = None,
    on_step: Callable[[int, int, str], None] | None = None,
    clock: Clock | None = None,
    salt: str | None = None,
) -> Iterator[Loop]:
    """The loop, until the block ends; ticks that a killed process left undone are finished first.

    ``key`` signs what is trained (the user's own by default), ``on_step`` hears of each cell of a notebook, ``salt`` is
    the first revision's. With a ``clock`` a trial begins when its training has ended, by that clock; without, training
    stops the clock: at the tick's moment. Raises LeaseError if another process has it open.
    """
    global _hands  # noqa: PLW0603  (DBOS is one per process, and what its workflows need is beside it)
    with lease(project.state, "loop"):
        _hands = _Hands(root=project.root, key=key, on_step=on_step, clock=clock, salt=salt)
        path = project.state / DATABASE
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # kept in the file: one flush per commit
        # No name of the machine and no digest of the code: whoever opens the loop finishes what was cut.
        config = DBOSConfig(
            name="passerelle",
            system_database_url=sqlite_url(path),
            application_version="1",
            executor_id="loop",
            log_level="CRITICAL",
            enable_otlp=False,
            serializer=DBOSPortableJSONSerializer(),  # JSON: nothing is unpickled
        )
        DBOS(config=config)
        try:
            DBOS.launch()
            _wait_for(_unfinished("tick"))
            yield Loop(environment)
        finally:
            DBOS.destroy()
            _hands = _Hands()


@DBOS.workflow(name="tick")
def _tick(environment: str, now: str) -> dict[str, Any]:
    """The steps of a tick, each recorded when it is done. Answers a Ticked, as JSON."""
    at = datetime.fromisoformat(now)
    try:
        project = load_project(_hands.root / FILE)
    except PasserelleError as error:
        tell(_hands.state, "settings", str(error), at)
        return _json(Ticked(now=at, problems=(f"settings: {error}",)))
    tell_well(_hands.state, "settings", at)
    problems: list[str] = []

    done: dict[str, Any] = {"now": now}

    def take(name: str, act: Callable[[], dict[str, Any]]) -> None:
        answer: dict[str, Any] = DBOS.run_step({"name": name}, attempt, project.state, name, act, at)
        problem = answer.pop(PROBLEM, None)
        if problem is not None:
            problems.append(f"{name}: {problem}")
        done.update(answer)

    for name, act in in_order(project, environment, key=_hands.key, now=at):
        take(name, act)
    return done | {"problems": problems}


@DBOS.workflow(name="targets")
def _targets(environment: str, now: str) -> dict[str, Any]:
    """Bring what is wanted to the targets. Answers the problem, if there is one."""
    return _brought(environment, datetime.fromisoformat(now))


def _brought(environment: str, at: datetime) -> dict[str, Any]:
    state = _hands.state

    def act() -> dict[str, Any]:
        keep_brought(load_project(_hands.root / FILE), environment, key=_hands.key, now=at)
        return {}

    found: dict[str, Any] = DBOS.run_step({"name": "targets"}, attempt, state, "targets", act, at)
    return found


@DBOS.workflow(name="training")
def _training(environment: str, id_: str, reason: str, now: str, force_gate: bool) -> dict[str, Any]:  # noqa: FBT001  (DBOS passes by place)
    """A run and, if it makes a version, its trial, also at the targets. Answers a Trained, as JSON."""
    at = datetime.fromisoformat(now)
    made: dict[str, Any] = DBOS.run_step({"name": "train"}, _make, id_, reason, at, force_gate)
    if made["version"] is None:
        return made
    begun: dict[str, Any] = DBOS.run_step({"name": "begin"}, _begin, environment, made, at)
    _brought(environment, at)
    return begun


def _make(id_: str, reason: str, at: datetime, force_gate: bool) -> dict[str, Any]:  # noqa: FBT001  (DBOS passes by place)
    made = steps.make(
        load_project(_hands.root / FILE),
        id_,
        reason=reason,
        now=at,
        force_gate=force_gate,
        key=_hands.key,
        on_step=_hands.on_step,
    )
    tell_well(_hands.state, "train", at)
    return _json(made)


def _begin(environment: str, made: dict[str, Any], at: datetime) -> dict[str, Any]:
    project = load_project(_hands.root / FILE)
    moment = _hands.clock() if _hands.clock else at
    return _json(
        steps.begin_trial(
            project, environment, msgspec.convert(made, prepared(steps.Trained)), salt=_hands.salt, now=moment
        )
    )


def _json(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found


def _trained(value: Any) -> steps.Trained:
    return msgspec.convert(value, prepared(steps.Trained))


def _not(ticked: Ticked, reason: str) -> Ticked:
    return msgspec.structs.replace(ticked, decision=Decision(retrain=False, reason=reason))


def _start(id_: str, workflow: Callable[..., Any], *arguments: Any) -> Any:
    """Start a workflow, or find it; one that failed, by an error that may be over, is begun anew."""
    if _status(id_) in _FAILED:
        DBOS.delete_workflows([id_])
    with SetWorkflowID(id_):
        return DBOS.start_workflow(workflow, *arguments)


def _status(id_: str) -> str | None:
    found = DBOS.get_workflow_status(id_)
    return None if found is None else found.status


def _unfinished(name: str) -> list[str]:
    return [one.workflow_id for one in DBOS.list_workflows(name=name, status=_UNFINISHED, load_output=False)]


def _forget_old() -> None:
    ended = ["SUCCESS", *_FAILED]
    for name in ("tick", "training", "targets"):
        old = DBOS.list_workflows(
            name=name, status=ended, sort_desc=True, offset=_KEPT, load_input=False, load_output=False
        )
        DBOS.delete_workflows([one.workflow_id for one in old])


def _wait_for(ids: list[str]) -> None:
    for id_ in ids:
        with contextlib.suppress(Exception):  # what failed is begun anew by whoever asks for it again
            DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=_LOOK_AGAIN_S)
