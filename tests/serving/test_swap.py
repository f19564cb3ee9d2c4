"""A new revision: made ready beside the old one, swapped in between two requests, refused without harm."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from passerelle.errors import LedgerError, PasserelleError, ScoringError
from passerelle.serving.events import Event


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def events(number: int = 1) -> list[Event]:
    return [Event(inputs={"distance": 250, "carrier": "UA", "plane": None}) for _ in range(number)]


def test_twenty_revisions_under_load_fail_no_request_and_mix_no_batch(house: Any) -> None:
    """Each revision's scorer answers with the revision's own number, so that an answer from another shows."""
    house.prepare = lambda version, scorer: setattr(
        scorer, "function", lambda columns: np.full((len(columns["distance"]), 1), version / 1000)
    )
    answered: list[tuple[int, int]] = []

    async def work() -> None:
        await house.service.apply(house.deployment(1, house.variant(1)))
        running = True

        async def client(rows: int) -> None:
            while running:
                answers = await house.service.predict(events(rows))
                assert len({(answer.revision, answer.version) for answer in answers}) == 1
                assert all(answer.probability == answer.version / 1000 for answer in answers)
                answered.append((answers[0].revision, answers[0].version))

        clients = [asyncio.create_task(client(rows)) for rows in (1, 1, 2, 7, 50)]
        for revision in range(2, 21):
            await asyncio.sleep(0.01)
            # Odd revisions keep the version of the one before: its scorer is kept too.
            await house.service.apply(house.deployment(revision, house.variant(revision // 2 + 1)))
        await asyncio.sleep(0.01)
        running = False
        await asyncio.gather(*clients)
        await house.service.close()

    run(work())
    assert {revision for revision, _ in answered} == set(range(1, 21))
    assert all(version == revision // 2 + 1 for revision, version in answered)
    assert {record.revision for record in house.memory.records} == set(range(1, 21))
    assert sorted(house.scorers) == list(range(1, 12))
    assert all(len(scorers) == 1 for scorers in house.scorers.values())
    assert all(scorer.started == scorer.closed == 1 for scorers in house.scorers.values() for scorer in scorers)
    assert house.memory.closed


def test_a_request_in_flight_ends_in_its_own_revision_before_its_scorer_is_closed(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1, house.variant(1)))
        old = house.scorers[1][0]
        old.gate.clear()
        slow = asyncio.create_task(house.service.predict(events()))
        await asyncio.sleep(0.01)
        await house.service.apply(house.deployment(2, house.variant(2)))
        (new,) = await house.service.predict(events())
        assert (new.revision, new.version) == (2, 2)
        await asyncio.sleep(0.01)
        assert old.closed == 0
        old.gate.set()
        (answer,) = await slow
        assert (answer.revision, answer.version) == (1, 1)
        await asyncio.sleep(0.01)
        assert old.closed == 1

    run(work())


def test_a_shadow_in_flight_is_recorded_before_its_scorer_is_closed(house: Any) -> None:
    async def work() -> None:
        shadow = house.variant(2, weight=0.0, mode="shadow")
        await house.service.apply(house.deployment(1, house.variant(1), shadow))
        house.scorers[2][0].gate.clear()
        await house.service.predict(events())
        await house.service.apply(house.deployment(2, house.variant(1)))
        await asyncio.sleep(0.01)
        assert house.scorers[2][0].closed == 0
        house.scorers[2][0].gate.set()
        await asyncio.sleep(0.05)
        assert [(record.role, record.revision) for record in house.memory.records] == [("live", 1), ("shadow", 1)]
        assert house.scorers[2][0].closed == 1
        assert house.scorers[1][0].closed == 0

    run(work())


@pytest.mark.parametrize("failure", [ScoringError("golden row 3 differs"), LedgerError("no such disk")])
def test_a_revision_that_cannot_be_loaded_changes_nothing_and_says_why(house: Any, failure: PasserelleError) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1, house.variant(1)))

        def prepare(version: int, scorer: Any) -> None:
            scorer.start_error = failure if version == 3 else None

        house.prepare = prepare
        bad = house.deployment(
            2, house.variant(1, weight=0.5), house.variant(2, weight=0.25), house.variant(3, weight=0.25)
        )
        with pytest.raises(type(failure), match=str(failure)):
            await house.service.apply(bad)
        state = house.service.state()
        assert (state.ready, state.revision) == (True, 1)
        assert (state.problem.revision, state.problem.reason) == (2, str(failure))
        assert "passerelle_revision_refused 2.0" in house.service.measures.exposition().decode()
        assert house.scorers[1][0].closed == 0
        assert house.scorers[2][0].closed == 1
        assert house.scorers[3][0].closed == 1
        (answer,) = await house.service.predict(events())
        assert answer.revision == 1

        house.prepare = lambda _version, _scorer: None
        await house.service.apply(bad)  # tried again, and it can be loaded now
        assert house.service.state().problem is None
        assert "passerelle_revision_refused 0.0" in house.service.measures.exposition().decode()
        assert house.service.revision == 2

    run(work())


def test_a_changed_trust_opens_the_bundle_anew(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1, trusted_keys=("a" * 64,)))
        await house.service.apply(house.deployment(2, trusted_keys=("b" * 64,)))
        await asyncio.sleep(0.01)
        assert [scorer.closed for scorer in house.scorers[1]] == [1, 0]

    run(work())


def test_closing_waits_for_what_is_in_flight(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1))
        scorer = house.scorers[1][0]
        scorer.gate.clear()
        slow = asyncio.create_task(house.service.predict(events()))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(house.service.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        scorer.gate.set()
        assert len(await slow) == 1
        await closing
        assert (scorer.closed, house.memory.closed, len(house.memory.records)) == (1, True, 1)

    run(work())


def test_a_shadow_that_is_late_leaves_a_gap(house: Any) -> None:
    def late(_: Any) -> Any:
        raise TimeoutError

    house.prepare = lambda version, scorer: setattr(scorer, "function", late) if version == 2 else None

    async def work() -> None:
        shadow = house.variant(2, weight=0.0, mode="shadow")
        await house.service.apply(house.deployment(1, house.variant(1), shadow))
        await house.service.predict(events(2))
        await house.service.close()
        assert [record.role for record in house.memory.records] == ["live", "live"]
        assert 'passerelle_shadow_dropped_total{version="2"} 2.0' in house.service.measures.exposition().decode()

    run(work())
