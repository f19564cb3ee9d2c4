from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passerelle.errors import ScoringError
from passerelle.schema import Columns
from passerelle.serving.batching import QUEUE_ROWS, Batcher, OverloadedError, Scored


def rows(*distances: float) -> Columns:
    return {"distance": np.array(distances, dtype=float)}


def batcher(scorer: Any, *, deadline_s: float = 2.0) -> Batcher:
    return Batcher(scorer, turn=asyncio.Lock(), deadline_s=deadline_s)


def run(work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


def test_what_arrives_while_a_batch_is_scored_is_the_next_batch(formula: Any) -> None:
    async def work() -> None:
        scorer = formula()
        scorer.gate.clear()
        one = batcher(scorer)
        first = asyncio.create_task(one.score(rows(100), 1))
        await asyncio.sleep(0.01)
        rest = [asyncio.create_task(one.score(rows(distance), 1)) for distance in (200, 300, 400)]
        await asyncio.sleep(0.01)
        assert [len(batch["distance"]) for batch in scorer.batches] == [1]
        scorer.gate.set()
        assert await first == [Scored("scored", (0.1,))]
        assert await asyncio.gather(*rest) == [[Scored("scored", (share,))] for share in (0.2, 0.3, 0.4)]
        assert [list(batch["distance"]) for batch in scorer.batches] == [[100], [200, 300, 400]]

    run(work)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bad=st.sets(st.integers(0, 40)),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=8),
)
def test_only_the_rows_that_make_a_batch_fail_have_failed(formula: Any, bad: set[int], sizes: list[int]) -> None:
    """Whatever the requests and wherever the poison, each row gets its own answer."""

    def function(columns: Columns) -> np.ndarray:
        if set(columns["distance"]) & bad:
            raise ScoringError("poison")
        return (columns["distance"] / 1000).reshape(-1, 1)

    async def work() -> None:
        one = batcher(formula(function))
        starts = np.cumsum([0, *sizes])
        parts = [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=False)]
        found = await asyncio.gather(*(one.score(rows(*part), len(part)) for part in parts))
        for part, scored in zip(parts, found, strict=True):
            assert scored == [
                Scored("failed", None, "poison") if row in bad else Scored("scored", (row / 1000,)) for row in part
            ]

    run(work)


def poison(columns: Columns) -> np.ndarray:
    if 7 in columns["distance"]:
        raise ScoringError("distance 7 divides by zero")
    return (columns["distance"] / 1000).reshape(-1, 1)


def test_one_poison_row_among_many_costs_few_calls(formula: Any) -> None:
    async def work() -> None:
        scorer = formula(poison)
        scored = await batcher(scorer).score(rows(*range(256)), 256)
        assert [number for number, one in enumerate(scored) if one.status == "failed"] == [7]
        assert scored[7].error == "distance 7 divides by zero"
        assert len(scorer.batches) == 17  # the whole, then two halves at each of eight levels

    run(work)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_never_leaves(formula: Any, value: float) -> None:
    async def work() -> None:
        scorer = formula(lambda _: np.array([[0.5], [value]]))
        good, bad = await batcher(scorer).score(rows(1, 2), 2)
        assert good == Scored("scored", (0.5,))
        assert (bad.status, bad.output) == ("failed", None)
        assert bad.error == f"the model answered with [{value}], which is not finite"

    run(work)


@pytest.mark.parametrize("shape", [(3, 1), (2,), (2, 1, 1)])
def test_an_answer_of_another_shape_is_a_failure(formula: Any, shape: tuple[int, ...]) -> None:
    async def work() -> None:
        scored = await batcher(formula(lambda _: np.zeros(shape))).score(rows(1, 2), 2)
        assert {one.status for one in scored} == {"failed"}
        assert "shape" in str(scored[0].error)

    run(work)


def test_a_scorer_that_raises_what_it_should_not_fails_its_rows_alone(formula: Any) -> None:
    def function(columns: Columns) -> np.ndarray:
        if 13 in columns["distance"]:
            raise ZeroDivisionError
        return np.full((len(columns["distance"]), 1), 0.5)

    async def work() -> None:
        scored = await batcher(formula(function)).score(rows(12, 13, 14), 3)
        assert [one.status for one in scored] == ["scored", "failed", "scored"]
        assert scored[1].error == "ZeroDivisionError in the scorer"

    run(work)


def test_a_row_that_is_late_has_timed_out_and_is_not_scored_afterwards(formula: Any) -> None:
    async def work() -> None:
        scorer = formula()
        scorer.gate.clear()
        one = batcher(scorer, deadline_s=0.05)
        found = await asyncio.gather(one.score(rows(1), 1), one.score(rows(2, 3), 2))
        late = Scored("timed_out", None, "the model did not answer within 0.05 s")
        assert found == [[late], [late, late]]
        waiting = asyncio.create_task(one.score(rows(4), 1))  # behind the batch that hangs
        assert await waiting == [late]
        scorer.gate.set()
        assert await one.score(rows(500), 1) == [Scored("scored", (0.5,))]
        assert [list(batch["distance"]) for batch in scorer.batches] == [[1, 2, 3], [500]]

    run(work)


def test_a_scorer_that_times_out_times_out_its_rows_and_is_not_asked_again(formula: Any) -> None:
    def function(_: Columns) -> np.ndarray:
        raise TimeoutError

    async def work() -> None:
        scorer = formula(function)
        scored = await batcher(scorer).score(rows(1, 2, 3), 3)
        assert [one.status for one in scored] == ["timed_out"] * 3
        assert len(scorer.batches) == 1

    run(work)


def test_halving_a_batch_that_fails_ends_at_its_deadline(formula: Any) -> None:
    """Each call takes 20 ms and fails: without the deadline 64 rows would be tried in 127 calls."""

    def function(_: Columns) -> np.ndarray:
        time.sleep(0.02)
        raise ScoringError("broken")

    async def work() -> None:
        scorer = formula(function)
        one = batcher(scorer, deadline_s=0.1)
        assert {scored.status for scored in await one.score(rows(*range(64)), 64)} == {"timed_out"}
        await asyncio.sleep(0.1)
        tried = len(scorer.batches)
        await asyncio.sleep(0.3)
        assert len(scorer.batches) == tried < 20

    run(work)


def test_the_queue_is_bounded_and_a_full_one_says_so(formula: Any) -> None:
    async def work() -> None:
        scorer = formula()
        scorer.gate.clear()
        one = batcher(scorer)
        first = asyncio.create_task(one.score(rows(0), 1))
        await asyncio.sleep(0.01)
        full = asyncio.create_task(one.score(rows(*[100.0] * QUEUE_ROWS), QUEUE_ROWS))
        await asyncio.sleep(0.01)
        assert not one.has_room(1)
        with pytest.raises(OverloadedError, match="send this request again"):
            await one.score(rows(1), 1)
        scorer.gate.set()
        assert len(await full) == QUEUE_ROWS
        assert await first == [Scored("scored", (0.0,))]
        assert one.has_room(QUEUE_ROWS)

    run(work)


def test_two_revisions_of_one_scorer_take_turns_and_are_not_mixed(formula: Any) -> None:
    async def work() -> None:
        scorer, turn = formula(), asyncio.Lock()
        old, new = (Batcher(scorer, turn=turn, deadline_s=2.0) for _ in range(2))
        jobs = [one.score(rows(base + number), 1) for number in range(20) for one, base in ((old, 0), (new, 100))]
        await asyncio.gather(*jobs)
        assert len(scorer.batches) == 2
        assert all(len({distance >= 100 for distance in batch["distance"]}) == 1 for batch in scorer.batches)

    run(work)
