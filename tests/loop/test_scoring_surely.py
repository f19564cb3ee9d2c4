"""A failure counts against a challenger only where a row fails alone, in a fresh process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from passerelle.errors import ScoringError
from passerelle.loop.gaps import ALONE_ROWS, score_surely
from passerelle.schema import Column, Columns, Schema, count
from passerelle.serving.batching import Scored

SCHEMA = Schema(columns=(Column(name="distance", kind="number"),))


class Fragile:
    """A scorer that is broken for good by some rows, as a process is that has died too often."""

    kind = "process"
    opened = 0
    asked = 0

    def __init__(self, breaks: Callable[[float], bool], error: type[Exception]) -> None:
        self.breaks, self.error, self.broken = breaks, error, False
        Fragile.opened += 1

    async def start(self) -> None:
        pass

    async def score(self, columns: Columns) -> Any:
        Fragile.asked += 1
        self.broken = self.broken or any(map(self.breaks, columns["distance"]))
        if self.broken:
            raise self.error("it broke")
        return np.full((count(columns), 1), 0.5)

    async def close(self) -> None:
        pass


def scored(rows: int, breaks: Callable[[float], bool], error: type[Exception] = ScoringError) -> list[str | None]:
    Fragile.opened = Fragile.asked = 0
    inputs = [{"distance": float(number)} for number in range(rows)]
    work = score_surely(inputs, schema=SCHEMA, opened=lambda: Fragile(breaks, error), deadline_s=5.0)
    found: list[Scored | None] = asyncio.run(work)
    return [None if one is None else one.status for one in found]


def test_only_the_row_that_breaks_the_process_pays_for_it() -> None:
    assert scored(30, lambda distance: distance == 3) == ["scored"] * 3 + ["failed"] + ["scored"] * 26
    assert Fragile.opened == 3, "for the batch, for the rows up to the broken one, and for those after it"
    late = scored(30, lambda distance: distance == 3, TimeoutError)
    assert late == ["scored"] * 3 + ["timed_out"] + ["scored"] * 26


def test_a_model_that_answers_nothing_is_believed_soon() -> None:
    assert scored(2500, lambda _: True, TimeoutError) == ["timed_out"] * 2500
    assert Fragile.asked == 3 + ALONE_ROWS


def test_of_many_failures_among_answers_the_rest_is_left_for_another_look() -> None:
    found = scored(100, lambda distance: distance % 2 == 1, TimeoutError)
    known = 2 * ALONE_ROWS
    assert found == ["scored", "timed_out"] * ALONE_ROWS + [None] * (100 - known)
