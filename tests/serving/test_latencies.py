"""How long each answer took, as the ledger keeps it. Told by gates and sums; the clock judges no more than that."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from test_real_bundle import sealed
from test_service import event, run, settle

from passerelle.bundle.keys import public_hex, throwaway_key
from passerelle.errors import KilledError
from passerelle.ledger.compaction import compact
from passerelle.ledger.records import Prediction
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask
from passerelle.serving.endpoint import start_endpoint
from passerelle.serving.service import Service

HELD_S = 0.2


def halves(house: Any) -> list[Any]:
    return [house.variant(version, weight=0.5) for version in (1, 2)]


def test_each_version_of_a_request_has_its_own_time(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1, *halves(house)))
        [slow] = house.scorers[2]
        slow.gate.clear()
        asked = asyncio.ensure_future(house.service.predict([event(id=f"e{one}") for one in range(40)]))
        await asyncio.sleep(HELD_S)
        assert house.scorers[1][0].in_flight == 0, "the first has answered"
        slow.gate.set()
        await asked
        took = {version: {r.latency_ms for r in house.memory.records if r.version == version} for version in (1, 2)}
        [one], [other] = took[1], took[2]
        assert 0 < one < other
        assert other >= 1000 * HELD_S - 1

    run(work())


def test_the_wait_for_ones_turn_is_part_of_it(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1))
        [scorer] = house.scorers[1]
        scorer.gate.clear()
        first = asyncio.ensure_future(house.service.predict([event(id="first")]))
        await asyncio.sleep(0.01)
        second = asyncio.ensure_future(house.service.predict([event(id="second")]))
        await asyncio.sleep(HELD_S)
        scorer.gate.set()
        await asyncio.gather(first, second)
        assert len(scorer.batches) == 2, "the second waited while the first was scored"
        assert all(record.latency_ms >= 1000 * HELD_S - 20 for record in house.memory.records)

    run(work())


@pytest.mark.parametrize("killed", [False, True])
def test_what_timed_out_took_the_deadline_at_least(house: Any, killed: bool) -> None:  # noqa: FBT001  (a parameter)
    deadline_s = 0.1

    def kill(_: Any) -> Any:
        raise KilledError("somebody ended its process")

    house.prepare = lambda _version, scorer: setattr(scorer, "function", kill)

    async def work() -> None:
        service = Service(open_scorer=house.open, open_recorder=lambda _: house.memory, deadline_s=deadline_s)
        await service.apply(house.deployment(1))
        if not killed:
            house.scorers[1][0].gate.clear()
        [answer] = await service.predict([event(id="late")])
        assert answer.timed_out is True
        [record] = house.memory.records
        assert record.status == "timed_out"
        assert record.latency_ms >= 1000 * deadline_s
        house.scorers[1][0].gate.set()

    run(work())


def test_a_failure_has_a_time_and_the_answer_does_not_show_it(house: Any) -> None:
    house.fails_on(13)

    async def work() -> None:
        await house.service.apply(house.deployment(1))
        [failed] = await house.service.predict([event(13, id="bad")])
        [record] = house.memory.records
        assert (record.status, record.latency_ms > 0) == ("failed", True)
        assert msgspec.json.decode(msgspec.json.encode(failed)).keys() == {"id", "error", "version", "revision"}
        [whole] = await house.service.predict([event(500, id="good")])
        assert msgspec.json.encode(whole) == (
            b'{"id":"good","prediction":true,"probability":0.5,"version":1,"revision":1}'
        )

    run(work())


def test_a_shadows_time_begins_after_the_answer(house: Any) -> None:
    async def work() -> None:
        shadow = house.variant(2, weight=0.0, mode="shadow")
        await house.service.apply(house.deployment(1, house.variant(1), shadow))
        house.scorers[2][0].gate.clear()
        started = time.monotonic()
        await house.service.predict([event(id="a")])
        await asyncio.sleep(HELD_S)
        house.scorers[2][0].gate.set()
        await settle(house.service)
        all_ms = 1000 * (time.monotonic() - started)
        live, beside = sorted(house.memory.records, key=lambda record: record.role)
        assert beside.latency_ms >= 1000 * HELD_S - 1
        assert live.latency_ms + beside.latency_ms <= all_ms, "one after the other"

    run(work())


def test_where_nobody_waits_there_is_no_time(house: Any) -> None:
    async def work() -> None:
        service = Service(open_scorer=house.open, open_recorder=lambda _: house.memory, deadline_s=2.0, timed=False)
        shadow = house.variant(2, weight=0.0, mode="shadow")
        await service.apply(house.deployment(1, house.variant(1), shadow))
        await service.predict([event(id="a")])
        await settle(service)
        assert [record.latency_ms for record in house.memory.records] == [None, None]

    run(work())


def test_a_slow_challenger_of_a_real_endpoint_is_slow_in_the_ledger(land: Any, tmp_path: Path) -> None:
    """Two fitted models behind two workers, in a split; one of them sleeps."""

    class Sleepy(LogisticRegression):  # type: ignore[misc]  (scikit-learn has no types)
        def predict_proba(self, X: Any) -> Any:  # noqa: N803  (scikit-learn's name)
            time.sleep(0.2)
            return super().predict_proba(X)

    frame = pd.DataFrame({"hour": np.arange(24), "wind": np.linspace(0.0, 20.0, 24)})
    key, late = throwaway_key(), frame["hour"] > 11
    variants = []
    for version, model in enumerate((LogisticRegression(), Sleepy()), 1):
        (tmp_path / str(version)).mkdir()
        one = sealed(tmp_path / str(version), land, model.fit(frame, late), frame, key)
        variants.append(msgspec.structs.replace(one, version=version, weight=0.5))
    land.deploy(1, variants=tuple(variants), trusted_keys=(public_hex(key),), trial="production-2-1")

    def ask_of(url: str, number: int) -> int:
        event = {"id": f"e{number}", "inputs": {"hour": number % 24, "wind": 3.5}}
        reply = httpx.post(f"{url}/predict", json=event, timeout=30)
        assert reply.json().keys() == {"id", "prediction", "probability", "version", "revision"}
        return int(reply.json()["version"])

    with start_endpoint(land.project, "production", workers=2) as endpoint, ThreadPoolExecutor(4) as callers:
        said = list(callers.map(lambda number: ask_of(endpoint.url, number), range(40)))
    assert set(said) == {1, 2}
    records = [one for one in land.records() if isinstance(one, Prediction)]
    assert [one.version for one in sorted(records, key=lambda one: int(one.id[1:]))] == said
    took = {version: [one.latency_ms for one in records if one.version == version] for version in (1, 2)}
    assert min(took[2]) >= 200 > min(took[1]) > 0
    folder = ledger_folder(land.project.state, "production")
    compact(folder, now=records[0].received_at)
    sql = "SELECT version, min(latency_ms), max(latency_ms) FROM predictions GROUP BY ALL ORDER BY ALL"
    assert ask(folder, sql).rows == [(version, min(took[version]), max(took[version])) for version in (1, 2)]
