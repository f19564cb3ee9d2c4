from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from passerelle.errors import BundleError, DeploymentError, LedgerError, ScoringError
from passerelle.ledger.records import Outcome, Prediction
from passerelle.ledger.segments import frame
from passerelle.schema import Column, RowsError, Schema
from passerelle.serving.events import Answer, Event, TruthSent
from passerelle.serving.service import LedgerOffError, NotReadyError, Recorded

UA = {"distance": 250, "carrier": "UA", "plane": None}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def event(distance: float = 250, **changes: Any) -> Event:
    return Event(**{"inputs": {**UA, "distance": distance}, **changes})


async def settle(service: Any) -> None:
    """Let what was left for after the answer end."""
    while service._tasks:
        await asyncio.gather(*service._tasks)


def test_an_event_is_answered_and_recorded_as_the_design_says(house: Any) -> None:
    async def work() -> None:
        before = datetime.now(UTC)
        deployment = house.deployment(1, trial="trial-1", unit="carrier")
        await house.service.apply(deployment)
        at = datetime(2013, 2, 3, 4, tzinfo=UTC)
        answers = await house.service.predict([event(750, id="mine", at=at)])
        assert answers == [Answer(id="mine", prediction=True, probability=0.75, version=1, revision=1)]
        (record,) = house.memory.records
        assert before <= record.received_at <= datetime.now(UTC)
        assert record == Prediction(
            id="mine",
            unit="UA",
            role="live",
            status="scored",
            revision=1,
            version=1,
            digest=deployment.variants[0].digest,
            trial="trial-1",
            probability=1.0,
            inputs={"distance": 750, "carrier": "UA", "plane": None},
            output=(0.75,),
            event_at=at,
            received_at=record.received_at,
            latency_ms=record.latency_ms,
        )

    run(work())


def test_ids_units_and_times_come_from_where_they_are_said(house: Any) -> None:
    schema = Schema(
        columns=(*house_schema(), Column(name="seen", kind="timestamp"), Column(name="tail", kind="number"))
    )

    async def work() -> None:
        variant = house.variant(1, schema=schema)
        await house.service.apply(house.deployment(1, variant, unit="tail", time="seen"))
        inputs = {**UA, "seen": "2013-02-03T04:00:00-05:00", "tail": 5.0}
        await house.service.predict(
            [
                Event(inputs=inputs),
                Event(inputs={**inputs, "tail": 5.5}, unit=7),
                Event(inputs=inputs, unit="N1", at=datetime(2013, 1, 1, tzinfo=UTC)),
            ]
        )
        records = house.memory.records
        assert [record.unit for record in records] == ["5", "7", "N1"]
        assert [record.event_at.isoformat() for record in records] == [
            "2013-02-03T09:00:00+00:00",
            "2013-02-03T09:00:00+00:00",
            "2013-01-01T00:00:00+00:00",
        ]
        assert len({record.id for record in records}) == 3
        assert all(len(record.id) == 32 for record in records)

    run(work())


def house_schema() -> tuple[Column, ...]:
    return (
        Column(name="distance", kind="number", minimum=0),
        Column(name="carrier", kind="string"),
        Column(name="plane", kind="string", nullable=True),
    )


def test_without_a_unit_or_a_time_the_id_and_the_moment_of_receipt_stand_in(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1))
        await house.service.predict([event()])
        (record,) = house.memory.records
        assert record.unit == record.id
        assert record.event_at == record.received_at

    run(work())


@pytest.mark.parametrize(
    ("changes", "output", "prediction", "probability"),
    [
        ({"classes": ("on time", "late")}, [0.5], "late", 0.5),
        ({"classes": ("on time", "late")}, [0.49], "on time", 0.49),
        ({"task": "multiclass", "classes": ("a", "b", "c")}, [0.2, 0.5, 0.3], "b", {"a": 0.2, "b": 0.5, "c": 0.3}),
        ({"task": "multiclass", "classes": (1, 2)}, [0.7, 0.3], 1, {"1": 0.7, "2": 0.3}),
        ({"task": "regression", "classes": ()}, [-3.25], -3.25, None),
    ],
)
def test_each_task_is_answered_in_its_own_words(
    house: Any, changes: dict[str, Any], output: list[float], prediction: Any, probability: Any
) -> None:
    house.prepare = lambda _, scorer: setattr(scorer, "function", lambda _: np.array([output]))

    async def work() -> None:
        await house.service.apply(house.deployment(1, house.variant(1, **changes)))
        (answer,) = await house.service.predict([event(id="a")])
        expected = {} if probability is None else {"probability": probability}
        assert answer == Answer(id="a", prediction=prediction, version=1, revision=1, **expected)

    run(work())


def test_a_request_with_an_invalid_event_is_refused_whole_and_not_recorded(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1))
        with pytest.raises(RowsError) as caught:
            await house.service.predict(
                [event(), Event(inputs={"distance": -1, "carrier": 5, "extra": 1}), event(float("nan"))]
            )
        assert [(issue.row, issue.field, issue.reason) for issue in caught.value.issues] == [
            (1, "extra", "is not a field of this model"),
            (1, "distance", "-1.0 is below 0, the smallest possible value"),
            (1, "carrier", "5 is not a string"),
            (1, "plane", "is missing: send null if it is not known"),
            (2, "distance", "nan is not a finite number: send null if it is not known"),
        ]
        with pytest.raises(RowsError, match="also the id of row 0"):
            await house.service.predict([event(id="a"), event(id="a")])
        assert house.memory.records == []
        assert house.scorers[1][0].batches == []

    run(work())


def test_only_the_poison_row_fails_and_it_is_recorded_with_the_reason(house: Any) -> None:
    house.fails_on(666)

    async def work() -> None:
        await house.service.apply(house.deployment(1))
        answers = await house.service.predict([event(100, id="a"), event(666, id="b"), event(300, id="c")])
        assert [answer.prediction for answer in answers if answer.id != "b"] == [False, False]
        assert answers[1] == Answer(id="b", error="distance 666 divides by zero", version=1, revision=1)
        assert [(r.id, r.status, r.output, r.error) for r in house.memory.records] == [
            ("a", "scored", (0.1,), None),
            ("b", "failed", None, "distance 666 divides by zero"),
            ("c", "scored", (0.3,), None),
        ]

    run(work())


def test_units_keep_their_variant_and_the_record_has_its_probability(house: Any) -> None:
    house.prepare = lambda version, scorer: setattr(
        scorer, "function", lambda columns: np.full((len(columns["distance"]), 1), version / 10)
    )

    async def work() -> None:
        variants = (house.variant(1, weight=0.75), house.variant(2, weight=0.25))
        await house.service.apply(house.deployment(1, *variants, unit="carrier"))
        units = [f"unit-{number}" for number in range(400)]
        for _ in range(2):
            answers = await house.service.predict([event(unit=unit) for unit in units])
            assert all(answer.probability == answer.version / 10 for answer in answers)
        records = house.memory.records
        assert [record.version for record in records[:400]] == [record.version for record in records[400:]]
        assert {(record.version, record.probability) for record in records} == {(1, 0.75), (2, 0.25)}
        assert 60 <= sum(record.version == 2 for record in records[:400]) <= 140

    run(work())


def test_a_shadow_is_scored_after_the_answer_and_recorded_as_one(house: Any) -> None:
    async def work() -> None:
        shadow = house.variant(2, weight=0.0, mode="shadow")
        await house.service.apply(house.deployment(1, house.variant(1), shadow))
        house.scorers[2][0].gate.clear()
        answers = await house.service.predict([event(250, id="a"), event(500, id="b")])
        assert [answer.version for answer in answers] == [1, 1]  # answered while the shadow hangs
        assert [record.role for record in house.memory.records] == ["live", "live"]
        house.scorers[2][0].gate.set()
        await settle(house.service)
        shadows = [record for record in house.memory.records if record.role == "shadow"]
        assert [(r.id, r.version, r.probability, r.output) for r in shadows] == [
            ("a", 2, 1.0, (0.25,)),
            ("b", 2, 1.0, (0.5,)),
        ]
        text = house.service.measures.exposition().decode()
        assert 'passerelle_events_total{role="shadow",status="scored",version="2"} 2.0' in text

    run(work())


def test_a_failing_shadow_is_recorded_as_failed_and_costs_the_caller_nothing(house: Any) -> None:
    def broken(_: Any) -> Any:
        raise ScoringError("no such column")

    house.prepare = lambda version, scorer: setattr(scorer, "function", broken) if version == 2 else None

    async def work() -> None:
        shadow = house.variant(2, weight=0.0, mode="shadow")
        await house.service.apply(house.deployment(1, house.variant(1), shadow))
        (answer,) = await house.service.predict([event(250)])
        assert answer.probability == 0.25
        await settle(house.service)
        assert [(r.role, r.status, r.error) for r in house.memory.records] == [
            ("live", "scored", None),
            ("shadow", "failed", "no such column"),
        ]

    run(work())


def test_each_version_reads_the_fields_of_its_own_schema(house: Any) -> None:
    fewer = Schema(columns=house_schema()[:2])
    more = Schema(columns=(*house_schema(), Column(name="wind", kind="number")))
    only = Schema(columns=(Column(name="distance", kind="number"), Column(name="gate", kind="string")))

    async def work() -> None:
        variants = (
            house.variant(1, weight=0.5, schema=fewer),
            house.variant(2, weight=0.5, schema=more),
            house.variant(3, weight=0.0, mode="shadow", schema=only),
        )
        await house.service.apply(house.deployment(1, *variants))
        with pytest.raises(
            RowsError
        ) as caught:  # valid for version 1; which version answers is not the caller's matter
            await house.service.predict([event(), Event(inputs={**UA, "wind": 1, "colour": "red"})])
        assert [(issue.row, issue.field, issue.reason) for issue in caught.value.issues] == [
            (0, "wind", "is missing"),
            (1, "colour", "is not a field of any version that is deployed"),
        ]
        events = [Event(inputs={**UA, "wind": 1}, unit=f"u{number}", id=f"{number}") for number in range(20)]
        events.append(Event(inputs={**UA, "wind": 1, "gate": "A1"}, id="with gate"))
        answers = await house.service.predict(events)
        await settle(house.service)
        assert {answer.version for answer in answers} == {1, 2}
        assert {tuple(batch) for batch in house.scorers[1][0].batches} == {("distance", "carrier")}
        assert {tuple(batch) for batch in house.scorers[2][0].batches} == {("distance", "carrier", "plane", "wind")}
        shadows = [record for record in house.memory.records if record.role == "shadow"]
        assert [record.id for record in shadows if record.status == "scored"] == ["with gate"]
        assert {record.error for record in shadows if record.status == "failed"} == {"row 0, field 'gate': is missing"}

    run(work())


def test_private_columns_are_hashed_or_dropped_in_the_record_and_scored_as_they_are(house: Any) -> None:
    async def work() -> None:
        deployment = house.deployment(1, unit="carrier", privacy={"carrier": "hash", "distance": "drop"})
        await house.service.apply(deployment)
        (answer,) = await house.service.predict([event(250)])
        (record,) = house.memory.records
        assert answer.probability == 0.25
        assert set(record.inputs) == {"carrier", "plane"}
        assert record.inputs["carrier"] == record.unit
        assert len(record.unit) == 32

    run(work())


def test_a_number_beyond_64_bits_is_recorded_as_the_model_read_it(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1))
        await house.service.predict([event(2**70), event(5)])
        assert [repr(record.inputs["distance"]) for record in house.memory.records] == [repr(float(2**70)), "5"]
        assert frame(house.memory.records)  # as the ledger writes it

    run(work())


def test_nothing_is_answered_that_the_ledger_could_not_record(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1))
        house.memory.error = LedgerError("the disk is full")
        with pytest.raises(LedgerError, match="the disk is full"):
            await house.service.predict([event()])
        house.memory.error = None
        assert len(await house.service.predict([event()])) == 1
        assert len(house.memory.records) == 1

    run(work())


def test_outcomes_are_recorded_if_they_are_possible(house: Any) -> None:
    known_at = datetime(2013, 2, 2, tzinfo=UTC) - timedelta(hours=1)

    async def work() -> None:
        await house.service.apply(house.deployment(1))
        truths = [
            TruthSent(id="unheard of", value=True, known_at=known_at),
            TruthSent(id="b", value=False, known_at=known_at),
        ]
        assert await house.service.record(truths) == Recorded(recorded=2)
        assert house.memory.records == [
            Outcome(id=truth.id, value=truth.value, known_at=known_at, received_at=house.memory.records[0].received_at)
            for truth in truths
        ]
        with pytest.raises(RowsError) as caught:
            await house.service.record(
                [*truths, *(TruthSent(id="c", value=v, known_at=known_at) for v in (1.5, 2**70))]
            )
        assert [(issue.row, issue.reason) for issue in caught.value.issues] == [
            (2, "1.5 is not a class: a string, an integer of 64 bits or a boolean"),
            (3, "1180591620717411303424 is not a class: a string, an integer of 64 bits or a boolean"),
        ]
        assert len(house.memory.records) == 2
        new = [TruthSent(id="c", value=v, known_at=known_at) for v in (1, "true", 0.0, True)]
        assert await house.service.record(new) == Recorded(recorded=4, unknown_classes=3)
        assert [one.value for one in house.memory.records[2:]] == [1, "true", 0, True]

    run(work())


def test_a_number_is_the_outcome_of_a_regression(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1, house.variant(1, task="regression", classes=())))
        known_at = datetime(2013, 2, 2, tzinfo=UTC)
        assert await house.service.record([TruthSent(id="a", value=3, known_at=known_at)]) == Recorded(recorded=1)
        with pytest.raises(RowsError, match="True is not a finite number"):
            await house.service.record([TruthSent(id="a", value=True, known_at=known_at)])

    run(work())


def test_a_ledger_that_is_off_takes_no_outcomes_and_says_so(house: Any) -> None:
    async def work() -> None:
        await house.service.apply(house.deployment(1, ledger="off"))
        assert len(await house.service.predict([event()])) == 1
        with pytest.raises(LedgerOffError, match="ledger is off"):
            await house.service.record([TruthSent(id="a", value=True, known_at=datetime(2013, 2, 2, tzinfo=UTC))])
        assert house.memory.records == []

    run(work())


def test_before_the_first_revision_nothing_is_answered(house: Any) -> None:
    async def work() -> None:
        with pytest.raises(NotReadyError, match="passerelle deploy"):
            await house.service.predict([event()])
        assert house.service.state().ready is False

    run(work())


def test_versions_that_do_not_predict_the_same_are_not_deployed_together(house: Any) -> None:
    async def work() -> None:
        variants = (house.variant(1, weight=0.5), house.variant(2, weight=0.5, task="regression", classes=()))
        with pytest.raises(DeploymentError, match=r"versions \[1, 2\] do not predict the same classes"):
            await house.service.apply(house.deployment(1, *variants))
        assert [scorer.closed for scorers in house.scorers.values() for scorer in scorers] == [1, 1]

    run(work())


def test_a_bundle_that_is_not_what_the_revision_wants_is_refused(house: Any) -> None:
    async def work() -> None:
        variant = house.variant(1)
        (house.folder / "version-1" / "manifest.json").write_bytes(b"{}")
        with pytest.raises(BundleError, match="damaged"):
            await house.service.apply(house.deployment(1, variant))
        other = house.variant(2)
        changed = (house.folder / "version-2" / "manifest.json").read_bytes().replace(b"flights", b"fleghts")
        (house.folder / "version-2" / "manifest.json").write_bytes(changed)
        with pytest.raises(BundleError, match=r"revision 1 wants .*: restore the bundle, or deploy the version again"):
            await house.service.apply(house.deployment(1, other))
        assert house.scorers == {}

    run(work())
