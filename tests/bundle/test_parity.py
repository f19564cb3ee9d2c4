"""Parity finds what differs, in which company, and says which column to look at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from passerelle.bundle.parity import Parity, Worst, compare, differences, require, set_apart
from passerelle.bundle.scorer import Scorer
from passerelle.errors import ParityError
from passerelle.notebook.submission import Answers
from passerelle.schema import Columns, count, take


class Plain:
    """A scorer that is a function."""

    kind = "inline"

    def __init__(self, function: Callable[[Columns], Any]) -> None:
        self.function = function
        self.sizes: list[int] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def score(self, columns: Columns) -> Any:
        self.sizes.append(count(columns))
        return np.asarray(self.function(columns), dtype=np.float64).reshape(count(columns), -1)


def right(columns: Columns) -> Any:
    return (columns["hour"] + np.nan_to_num(columns["temp"])) / 200


def answers(rows: int = 2500) -> Answers:
    generator = np.random.default_rng(0)
    temp = generator.uniform(0, 100, rows)
    temp[::10] = np.nan
    origin = generator.choice(np.array(["EWR", "JFK", None], dtype=object), rows)
    inputs = {"hour": generator.integers(0, 24, rows), "temp": temp, "origin": origin}
    return Answers(inputs=inputs, outputs=right(inputs).reshape(-1, 1))


def compared(function: Callable[[Columns], Any], **keywords: Any) -> Parity:
    return asyncio.run(compare(Plain(function), answers(), **({"task": "binary"} | keywords)))


def test_equal_is_equal_in_every_company() -> None:
    scorer = Plain(right)
    assert isinstance(scorer, Scorer)
    parity = asyncio.run(compare(scorer, answers(), task="binary"))
    assert parity == Parity(rows=2500, comparisons=2500 + 1400 + 200, max_abs_diff=0.0, flips=0, worst=None)
    assert scorer.sizes == [1000, 1000, 500] + [7] * 200 + [1] * 200
    require(parity, tolerance=0.0)


def test_a_step_that_looks_at_its_neighbours_is_found() -> None:
    def batch_mean(columns: Columns) -> Any:
        return right(columns) + 1e-9 * (len(columns["hour"]) < 5)

    parity = compared(batch_mean)
    assert parity.worst is not None
    assert parity.worst.chunk == 1
    with pytest.raises(ParityError, match=r"row \d+, scored alone, answers 0\.\d+ where the notebook answered 0\.\d+"):
        require(parity, tolerance=1e-12)
    require(parity, tolerance=1e-8)


def test_the_column_at_fault_is_named_by_what_sets_the_rows_apart() -> None:
    def missing_as_one(columns: Columns) -> Any:
        return right(columns | {"temp": np.nan_to_num(columns["temp"], nan=1.0)})

    with pytest.raises(ParityError, match="'temp' is missing in each wrong row and in no right one"):
        require(compared(missing_as_one), tolerance=1e-12)


def test_the_column_at_fault_is_named_by_substituting() -> None:
    def jfk(columns: Columns) -> Any:
        return right(columns) + 0.01 * np.array([value == "JFK" for value in columns["origin"]])

    parity = compared(jfk, reference=Plain(right))
    assert parity.worst is not None
    assert parity.worst.suspect == "'origin': its value 'JFK' alone makes the difference in another row."


def test_no_number_equals_no_number() -> None:
    parity = compared(lambda columns: np.where(columns["hour"] == 3, np.nan, right(columns)))
    assert parity.max_abs_diff == np.inf
    with pytest.raises(ParityError, match="'hour' is 3 in each wrong row"):
        require(parity, tolerance=1.0)
    assert differences(np.zeros((2, 3)), np.zeros((2, 2))).tolist() == [np.inf, np.inf]


def test_flips_are_other_decisions() -> None:
    parity = compared(lambda columns: right(columns) + 0.3, chunks=(1000,))
    outputs = answers().outputs
    assert parity.flips == int(((outputs < 0.5) & (outputs + 0.3 >= 0.5)).sum())
    many = Answers(inputs={"hour": np.array([0, 1])}, outputs=np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]))
    other = Plain(lambda columns: np.array([[0.5, 0.3, 0.2], [0.5, 0.1, 0.4]])[columns["hour"]])
    assert asyncio.run(compare(other, many, task="multiclass", chunks=(10,))).flips == 1


def test_numbers_are_compared_relatively() -> None:
    expected = np.array([[1e9], [0.5]])
    assert differences(expected + 1e-3, expected) == pytest.approx([1e-12, 1e-3], rel=1e-3)
    assert compared(right, task="regression").flips == 0


def test_too_slow_is_told() -> None:
    def late(_: Columns) -> Any:
        raise TimeoutError("the model did not answer 1000 rows within 5 s.")

    with pytest.raises(ParityError, match=r"1000 rows within 5 s\. The model is too slow.*serving\.deadline_ms"):
        compared(late)


def test_rows_set_apart() -> None:
    columns: Columns = {
        "noise": np.arange(6.0),
        "temp": np.array([1.0, 2.0, 90.0, 3.0, 95.0, 4.0]),
    }
    wrong = columns["temp"] > 50
    assert set_apart(columns, wrong) == "'temp' is above 4.0 in each wrong row and in no right one."
    assert set_apart(take(columns, slice(0, 2)), np.array([False, False])) is None
    assert Worst(row=0, chunk=1, expected=(), answered=()).suspect is None
