"""Service: the one path that every event takes, whatever door it came through.

validate → unit → variant → scored in that variant's batch → appended to the ledger → answered. Shadows are scored
after the answer, and recorded as predictions of their own. A request sees one revision from its first line to its
last; a new revision is made ready beside it and swapped in between two requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Protocol

import msgspec

from passerelle.deployment.spec import Deployment
from passerelle.errors import PasserelleError, ServingError
from passerelle.ledger.records import Outcome, Prediction, Record
from passerelle.project.settings import LedgerMode
from passerelle.schema import MAX_ISSUES, Columns, Issue, RowsError
from passerelle.serving.active import Active, Lane, Loaded, OpenScorer, key_of, load, rows_of
from passerelle.serving.batching import OverloadedError, Scored
from passerelle.serving.events import Answer, Event, TruthSent, answer, refuse_repeats
from passerelle.serving.measures import Measures
from passerelle.serving.recording import Fact, fact_of, read_truth, record_of, unknown_classes

_log = logging.getLogger(__name__)


class NotReadyError(ServingError):
    """No revision is loaded yet: look at /ready for the reason; passerelle deploy makes one."""


class LedgerOffError(ServingError):
    """The ledger is off in this deployment, so an outcome would be lost: deploy with ledger = "durable"."""


class Recorder(Protocol):
    """Where records go: passerelle.ledger.segments.Writer, or a test's own."""

    async def append(self, records: Sequence[Record]) -> object:
        """Return when the records are as safe as the mode promises. LedgerError if they are not."""

    async def close(self) -> None:
        """Make what was appended durable, and give the slot back."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A revision that could not be loaded, and why."""

    revision: int
    reason: str


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request's outcomes."""

    recorded: int
    #: Of these, how many are a class that the model never saw; absent if none is.
    unknown_classes: int | msgspec.UnsetType = msgspec.UNSET


class VariantState(msgspec.Struct, frozen=True, kw_only=True):
    """A variant as /ready shows it."""

    version: int
    mode: str
    weight: float
    #: Of its scorer: inline or process.
    kind: str
    #: ready, or scoring while a batch is in flight.
    state: str


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What /ready shows."""

    ready: bool
    project: str | None = None
    environment: str | None = None
    revision: int | None = None
    trial: str | None = None
    variants: tuple[VariantState, ...] = ()
    #: A newer revision that could not be loaded, and why.
    problem: Problem | None = None


class Service:
    """An endpoint's answers, in one event loop. ``apply`` is called by whoever watches the revisions.

    ``timed``: the ledger is told how long each answer took; False where nobody waits for one.
    """

    def __init__(
        self,
        *,
        open_scorer: OpenScorer,
        open_recorder: Callable[[Deployment], Recorder],
        deadline_s: float,
        measures: Measures | None = None,
        timed: bool = True,
    ) -> None:
        self.measures = measures or Measures()
        self.problem: Problem | None = None
        self._open_scorer = open_scorer
        self._open_recorder = open_recorder
        self._deadline_s = deadline_s
        self._timed = timed
        self._active: Active | None = None
        #: By where and how they record.
        self._recorders: dict[tuple[str | None, LedgerMode], Recorder] = {}
        self._applying = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def active(self) -> Active:
        """The revision that answers. Raises NotReadyError before the first."""
        if self._active is None:
            raise NotReadyError(self.problem.reason if self.problem else None)
        return self._active

    @property
    def revision(self) -> int | None:
        """Its number; None before the first."""
        return self._active.deployment.revision if self._active else None

    def state(self) -> State:
        """What /ready shows."""
        if self._active is None:
            return State(ready=False, problem=self.problem)
        deployment = self._active.deployment
        return State(
            ready=True,
            project=deployment.project,
            environment=deployment.environment,
            revision=deployment.revision,
            trial=deployment.trial,
            variants=tuple(
                VariantState(
                    version=lane.variant.version,
                    mode=lane.variant.mode,
                    weight=lane.variant.weight if lane.variant.mode == "live" else 0.0,
                    kind=lane.loaded.scorer.kind,
                    state="scoring" if lane.loaded.turn.locked() else "ready",
                )
                for lane in self._active.lanes.values()
            ),
            problem=self.problem,
        )

    async def apply(self, deployment: Deployment) -> None:
        """Load a revision beside the one that answers, swap, and close what is not needed any more.

        Scorers of unchanged variants are kept. If it cannot be loaded the old revision keeps answering, the reason
        is in ``problem``, and PasserelleError is raised.
        """
        async with self._applying:
            old = self._active
            kept = {lane.loaded.key: lane.loaded for lane in old.lanes.values()} if old else {}
            try:
                loaded = await self._load(deployment, kept)
                try:
                    new = Active(deployment, loaded, deadline_s=self._deadline_s, measures=self.measures)
                    self._recorder(deployment)
                except BaseException:
                    await _close({one.key: one for one in loaded.values() if one.key not in kept}.values())
                    raise
            except PasserelleError as error:
                self.refuse(deployment.revision, str(error))
                raise
            self._active, self.problem = new, None
            self.measures.revision.set(deployment.revision)
            self.measures.refused.set(0)
            if old is not None:
                wanted = {one.key for one in loaded.values()}
                self._spawn(_retire(old, [one for key, one in kept.items() if key not in wanted]))

    def refuse(self, revision: int, reason: str) -> None:
        """Show that a revision could not be loaded, and why; what answers goes on."""
        self.problem = Problem(revision=revision, reason=reason)
        self.measures.refused.set(revision)

    async def predict(self, events: Sequence[Event]) -> list[Answer]:
        """An answer to each event, in order, when their records are as safe as the ledger's mode promises.

        Raises RowsError (nothing was recorded), NotReadyError, OverloadedError, LedgerError (nothing is acknowledged).
        """
        active = self.active
        active.enter()
        try:
            return await self._predict(active, events)
        finally:
            active.leave()

    async def record(self, truths: Sequence[TruthSent]) -> Recorded:
        """Record outcomes. Raises RowsError if a value is not possible, LedgerError, NotReadyError.

        Whether their predictions exist is not asked: the ledger keeps those that it cannot place, and counts them. So
        with classes that the model never saw: they are the truth all the same.
        """
        active = self.active
        if active.deployment.ledger == "off":
            raise LedgerOffError
        issues: list[Issue] = []
        received_at = datetime.now(UTC)
        outcomes: list[Outcome] = []
        for row, truth in enumerate(truths):
            try:
                value = read_truth(active.manifest.task, truth.value)
            except ValueError as error:
                issues.append(Issue(row=row, field="value", reason=str(error)))
                continue
            known_at = truth.known_at.astimezone(UTC)
            outcomes.append(Outcome(id=truth.id, value=value, known_at=known_at, received_at=received_at))
        if issues:
            raise RowsError(issues[:MAX_ISSUES])
        await self._append(active.deployment, outcomes)
        self.measures.outcomes.inc(len(outcomes))
        unknown = unknown_classes(active.manifest, (outcome.value for outcome in outcomes))
        return Recorded(recorded=len(outcomes), unknown_classes=unknown or msgspec.UNSET)

    async def close(self) -> None:
        """Let what is in flight end, then close the scorers and the ledger."""
        active, self._active = self._active, None
        if active is not None:
            await active.drained()
            await _close({lane.loaded.key: lane.loaded for lane in active.lanes.values()}.values())
        await asyncio.gather(*self._tasks)
        for recorder in self._recorders.values():
            await recorder.close()

    async def _predict(self, active: Active, events: Sequence[Event]) -> list[Answer]:
        received_at, started_s = datetime.now(UTC), monotonic()
        refuse_repeats([event.id for event in events])
        read = active.read([event.inputs for event in events])
        facts = [fact_of(event, active.deployment, row, received_at) for row, event in enumerate(events)]
        chosen = [active.router.choose(fact.unit) for fact in facts]
        parts: dict[int, list[int]] = {}
        for row, (variant, _) in enumerate(chosen):
            parts.setdefault(variant.version, []).append(row)
        scored, took_ms = await _score(active, parts, read, len(events), started_s=started_s)
        records = [
            record_of(
                active.deployment,
                variant,
                event,
                fact,
                one,
                probability=probability,
                latency_ms=self._latency_ms(one, took_ms[variant.version]),
            )
            for event, fact, (variant, probability), one in zip(events, facts, chosen, scored, strict=True)
        ]
        await self._append(active.deployment, records)
        for lane in active.shadows:
            active.enter()
            self._spawn(self._shadow(active, lane, events, facts, read))
        return [
            _answer(active, fact.id, variant.version, one)
            for fact, (variant, _), one in zip(facts, chosen, scored, strict=True)
        ]

    async def _load(self, deployment: Deployment, kept: dict[Any, Loaded]) -> dict[int, Loaded]:
        wanted = {key_of(variant, deployment): variant for variant in deployment.variants}
        ready = await asyncio.gather(
            *(
                load(variant, deployment, open_scorer=self._open_scorer, deadline_s=self._deadline_s)
                for key, variant in wanted.items()
                if key not in kept
            ),
            return_exceptions=True,
        )
        loaded = {one.key: one for one in ready if isinstance(one, Loaded)}
        if failed := [one for one in ready if isinstance(one, BaseException)]:
            await _close(loaded.values())
            raise failed[0]
        return {variant.version: (kept | loaded)[key_of(variant, deployment)] for variant in deployment.variants}

    def _latency_ms(self, scored: Scored, took_ms: float) -> float | None:
        """As the ledger keeps it. What timed out has waited for the deadline, even if it was killed before."""
        if not self._timed:
            return None
        return max(took_ms, 1000 * self._deadline_s) if scored.status == "timed_out" else took_ms

    def _recorder(self, deployment: Deployment) -> Recorder | None:
        if deployment.ledger == "off":
            return None
        key = deployment.ledger_at, deployment.ledger
        if key not in self._recorders:
            self._recorders[key] = self._open_recorder(deployment)
        return self._recorders[key]

    async def _append(self, deployment: Deployment, records: Sequence[Record]) -> None:
        recorder = self._recorder(deployment)
        if recorder is not None:
            await recorder.append(records)
        counts = Counter((r.version, r.role, r.status) for r in records if isinstance(r, Prediction))
        for (version, role, status), number in counts.items():
            self.measures.events.labels(str(version), role, status).inc(number)

    async def _shadow(
        self,
        active: Active,
        lane: Lane,
        events: Sequence[Event],
        facts: Sequence[Fact],
        read: dict[int, Columns],
    ) -> None:
        started_s = monotonic()
        try:
            scored = await active.score_shadow(lane, [event.inputs for event in events], read)
            took_ms = _since_ms(started_s)
            # Late here is the haste of a busy endpoint, which must not count against the shadow.
            records = [
                record_of(active.deployment, lane.variant, event, fact, one, latency_ms=self._latency_ms(one, took_ms))
                for event, fact, one in zip(events, facts, scored, strict=True)
                if one.status != "timed_out"
            ]
            if records:
                await self._append(active.deployment, records)
            if len(records) < len(events):
                self._dropped(lane, len(events) - len(records), "they came too late")
        except PasserelleError as error:
            self._dropped(lane, len(events), str(error))
        finally:
            active.leave()

    def _dropped(self, lane: Lane, rows: int, why: str) -> None:
        """The answers are given: the control plane finds the gaps, and fills them."""
        self.measures.shadow_dropped.labels(str(lane.variant.version)).inc(rows)
        _log.warning("version %s: %d shadow scores were dropped: %s", lane.variant.version, rows, why)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _score(
    active: Active, parts: dict[int, list[int]], read: dict[int, Columns], rows: int, *, started_s: float
) -> tuple[list[Scored], dict[int, float]]:
    """What became of each row, and the milliseconds until each version had answered; ``parts``: which rows it has."""
    lanes = active.lanes
    if not all(lanes[version].batcher.has_room(len(part)) for version, part in parts.items()):
        raise OverloadedError  # before any of them is scored: the request is refused whole
    took_ms: dict[int, float] = {}

    async def answers(version: int, columns: Columns, count: int) -> list[Scored]:
        found = await lanes[version].batcher.score(columns, count)
        took_ms[version] = _since_ms(started_s)
        return found

    if len(parts) == 1:
        version = next(iter(parts))
        return await answers(version, read[version], rows), took_ms
    results = await asyncio.gather(
        *(answers(version, rows_of(read[version], part), len(part)) for version, part in parts.items())
    )
    scored = {
        row: one
        for part, result in zip(parts.values(), results, strict=True)
        for row, one in zip(part, result, strict=True)
    }
    return [scored[row] for row in range(rows)], took_ms


def _since_ms(started_s: float) -> float:
    return round(1000 * (monotonic() - started_s), 3)


def _answer(active: Active, id: str, version: int, scored: Scored) -> Answer:  # noqa: A002  (the caller's word)
    revision = active.deployment.revision
    if scored.output is None:
        late = True if scored.status == "timed_out" else msgspec.UNSET
        return Answer(id=id, error=scored.error or "", timed_out=late, version=version, revision=revision)
    return answer(active.manifest, scored.output, id=id, version=version, revision=revision)


async def _retire(old: Active, unused: Sequence[Loaded]) -> None:
    await old.drained()
    await _close(unused)


async def _close(loaded: Iterable[Loaded]) -> None:
    for one in loaded:
        try:
            await one.scorer.close()
        except Exception:  # noqa: BLE001  (the others are to be closed all the same)
            _log.exception("a scorer did not close")
