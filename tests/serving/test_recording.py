from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from passerelle.errors import ScoringError
from passerelle.ledger.privacy import GIVEN, hash_value
from passerelle.serving.events import Event
from passerelle.serving.recording import read_truth


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def fails_with(message: str) -> Callable[[Any, Any], None]:
    def fail(_: Any) -> Any:
        raise ScoringError(message)

    return lambda _version, scorer: setattr(scorer, "function", fail)


@pytest.mark.parametrize(
    ("privacy", "words", "recorded"),
    [
        (
            {},
            "the model refuses 'Ada' in field 'carrier' (row 0)",
            "the model refuses 'Ada' in field 'carrier' (row 0)",
        ),
        (
            {"plane": "hash"},
            "the model refuses 'Ada' in field 'carrier' (row 0)",
            "error at field 'carrier': its words are not kept, since a column of this project is private",
        ),
        (
            {"plane": "drop", "carrier": "keep"},
            "the model failed: ValueError: could not convert string to float: 'Ada' Lovelace",
            "ValueError: its words are not kept, since a column of this project is private",
        ),
        (
            {"carrier": "hash"},
            "no field 'Ada'",
            "error: its words are not kept, since a column of this project is private",
        ),
        ({"plane": "keep"}, "no 'Ada' here", "no 'Ada' here"),
    ],
)
def test_a_models_words_are_not_kept_where_a_column_is_private(
    house: Any, privacy: dict[str, str], words: str, recorded: str
) -> None:
    house.prepare = fails_with(words)

    async def work() -> None:
        await house.service.apply(house.deployment(1, privacy=privacy))
        sent = Event(inputs={"distance": 1.0, "carrier": "Ada", "plane": None})
        (answer,) = await house.service.predict([sent])
        (record,) = house.memory.records
        assert answer.error == words
        assert (record.status, record.error) == ("failed", recorded)

    run(work())


def test_a_unit_that_the_caller_names_is_hashed_where_a_column_is_private_and_stays_with_its_variant(
    house: Any,
) -> None:
    units = [f"ada-{number}" for number in range(50)]

    async def recorded(revision: int, privacy: dict[str, str]) -> list[tuple[str, int]]:
        variants = (house.variant(1, weight=0.5), house.variant(2, weight=0.5))
        await house.service.apply(house.deployment(revision, *variants, privacy=privacy))
        house.memory.records.clear()
        inputs = {"distance": 1.0, "carrier": "UA", "plane": None}
        await house.service.predict([Event(unit=unit, inputs=inputs) for unit in units])
        return [(record.unit, record.version) for record in house.memory.records]

    async def work() -> None:
        raw = await recorded(1, {"plane": "keep"})
        hidden = await recorded(2, {"plane": "drop"})
        assert [unit for unit, _ in raw] == units
        assert [unit for unit, _ in hidden] == [hash_value(unit, GIVEN, "salt") for unit in units]
        assert [version for _, version in hidden] == [version for _, version in raw]
        assert {version for _, version in raw} == {1, 2}
        await house.service.apply(house.deployment(3, privacy={"plane": "drop"}))
        house.memory.records.clear()
        await house.service.predict([Event(id="e1", inputs={"distance": 1.0, "carrier": "UA", "plane": None})])
        assert [(one.id, one.unit) for one in house.memory.records] == [("e1", "e1")]

    run(work())


@pytest.mark.parametrize(
    ("task", "value", "kept"),
    [
        ("binary", True, True),
        ("binary", 1.0, 1),
        ("multiclass", np.int64(3), 3),
        ("multiclass", "merlot", "merlot"),
        ("regression", 3, 3),
        ("regression", 3.0, 3.0),
        ("regression", np.float64(0.5), 0.5),
        ("regression", 2**70, 2.0**70),
    ],
)
def test_an_outcome_is_kept_as_json_writes_it(task: Any, value: object, kept: object) -> None:
    found = read_truth(task, value)
    assert (type(found), found) == (type(kept), kept)


@pytest.mark.parametrize(
    ("task", "value"),
    [
        ("binary", 1.5),
        ("binary", None),
        ("multiclass", math.nan),
        ("multiclass", 10**400),
        ("regression", math.inf),
        ("regression", True),
        ("regression", "3"),
        ("regression", 10**400),
    ],
)
def test_what_cannot_be_an_outcome_is_said(task: Any, value: object) -> None:
    with pytest.raises(ValueError, match="is not a class: a string" if task != "regression" else "not a finite number"):
        read_truth(task, value)
