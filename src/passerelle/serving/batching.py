"""Batching: whatever has arrived while the last batch was being scored is the next one. No timer, so no added wait.

A batch that fails is halved until the rows that make it fail stand alone: only these are recorded as failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.scorer import Scorer
from passerelle.errors import KilledError, ScoringError, ServingError
from passerelle.ledger.records import Status
from passerelle.schema import Columns, take

#: The most rows in one batch (a larger request is a batch of its own).
BATCH_ROWS = 1_000
#: The most rows that may wait for one variant.
QUEUE_ROWS = 10_000

_log = logging.getLogger(__name__)


class OverloadedError(ServingError):
    """More events are waiting than can be answered in time: send this request again in a second."""


class Scored(msgspec.Struct, frozen=True):
    """What became of one row."""

    status: Status
    output: tuple[float, ...] | None = None
    error: str | None = None


class _Job(msgspec.Struct):
    columns: Columns
    rows: int
    deadline: float
    answer: asyncio.Future[list[Scored]]


class Batcher:
    """The rows that wait for one variant of one revision. Used from one event loop.

    ``turn`` is held while a batch is in flight: a scorer that two revisions share sees one batch at a time, of one
    revision. ``on_batch`` is told the rows of each batch.
    """

    def __init__(
        self, scorer: Scorer, *, turn: asyncio.Lock, deadline_s: float, on_batch: Callable[[int], None] = lambda _: None
    ) -> None:
        self._scorer = scorer
        self._turn = turn
        self._deadline_s = deadline_s
        self._on_batch = on_batch
        self._waiting: deque[_Job] = deque()
        self._rows = 0
        self._running: asyncio.Task[None] | None = None
        self._late = Scored("timed_out", None, f"the model did not answer within {deadline_s:g} s")

    def has_room(self, rows: int) -> bool:
        """May these rows still wait? An empty queue takes any request."""
        return self._rows == 0 or self._rows + rows <= QUEUE_ROWS

    async def score(self, columns: Columns, rows: int) -> list[Scored]:
        """What became of each row, in order, by the deadline. Raises OverloadedError if there is no room."""
        if not self.has_room(rows):
            raise OverloadedError
        loop = asyncio.get_running_loop()
        job = _Job(columns, rows, loop.time() + self._deadline_s, loop.create_future())
        self._waiting.append(job)
        self._rows += rows
        if self._running is None:
            self._running = loop.create_task(self._run())
        timer = loop.call_at(job.deadline, self._expire, job)
        try:
            return await job.answer
        finally:
            timer.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting:
                async with self._turn:
                    await self._score_next()
        finally:
            self._running = None

    async def _score_next(self) -> None:
        jobs: list[_Job] = []
        rows = 0
        while self._waiting and (not jobs or rows + self._waiting[0].rows <= BATCH_ROWS):
            job = self._waiting.popleft()
            self._rows -= job.rows
            if not job.answer.done():  # else: it timed out, or its caller is gone
                jobs.append(job)
                rows += job.rows
        if not jobs:
            return
        self._on_batch(rows)
        columns = jobs[0].columns if len(jobs) == 1 else _joined([job.columns for job in jobs])
        scored = await self._score(columns, rows, max(job.deadline for job in jobs))
        start = 0
        for job in jobs:
            if not job.answer.done():
                job.answer.set_result(scored[start : start + job.rows])
            start += job.rows

    async def _score(self, columns: Columns, rows: int, deadline: float) -> list[Scored]:
        try:
            outputs = await self._scorer.score(columns)
            return _read(outputs, rows)
        except (
            KilledError
        ) as error:  # somebody, or want of memory: no fault of the model's, as an answer in time is none
            return [Scored("timed_out", None, str(error))] * rows
        except TimeoutError:
            return [self._late] * rows
        except ScoringError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001  (a scorer that breaks its promise fails its rows, not the endpoint)
            _log.exception("a scorer raised what it should not")
            reason = f"{type(error).__name__} in the scorer"
        if rows == 1:
            return [Scored("failed", None, reason)]
        if asyncio.get_running_loop().time() >= deadline:
            return [self._late] * rows
        half = rows // 2
        first = await self._score(take(columns, slice(None, half)), half, deadline)
        return first + await self._score(take(columns, slice(half, None)), rows - half, deadline)

    def _expire(self, job: _Job) -> None:
        if not job.answer.done():
            job.answer.set_result([self._late] * job.rows)


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _read(outputs: NDArray[Any], rows: int) -> list[Scored]:
    if outputs.ndim != 2 or len(outputs) != rows:  # noqa: PLR2004  (rows by outputs)
        raise ScoringError(f"the model answered with shape {outputs.shape} for {rows} rows.")
    if np.isfinite(outputs).all():
        return [Scored("scored", tuple(row)) for row in outputs.tolist()]
    return [
        Scored("scored", tuple(row))
        if np.isfinite(row).all()
        else Scored("failed", None, f"the model answered with {row}, which is not finite")
        for row in outputs.tolist()
    ]
