import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from making import START as MADE
from making import outcome, prediction

from passerelle.ledger.compaction import compact
from passerelle.ledger.position import Position
from passerelle.ledger.records import Outcome, Prediction, Record
from passerelle.ledger.segments import Writer, record
from passerelle.ledger.storage import LocalStorage
from passerelle.ledger.watermarks import delta_versions, open_until, read_position
from passerelle.monitoring.maturity import closed, read_arrivals, read_day

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
NOW = datetime(2013, 3, 1, tzinfo=UTC)


def asked(id: str, hours: float, **changes: object) -> Prediction:  # noqa: A002  (the record's own word)
    """A prediction whose event was so many hours after START, received at once."""
    at = MADE + hours * HOUR
    return prediction(id, **({"event_at": at, "received_at": at} | changes))


def known(id: str, hours: float, *, value: object) -> Outcome:  # noqa: A002  (the record's own word)
    return msgspec.structs.replace(outcome(id), value=value, known_at=MADE + hours * HOUR, received_at=NOW)


RECORDS: list[Record] = [
    asked("a", 1),
    asked("a", 1, role="shadow", version=2, output=(0.5,)),
    asked("b", 23.9),
    asked("c", 5, status="failed", output=None),
    asked("tomorrow", 24),
    asked("yesterday", -0.1),
    # A repeat of an id on another day counts where the first record is, here and there.
    asked("repeat", 2),
    asked("repeat", 26, received_at=MADE + 26 * HOUR),
    asked("first-before", -2),
    asked("first-before", 3, received_at=MADE + 3 * HOUR),
    # In force at event_at + 36 h: the one known last among those known by then.
    known("a", 10, value=False),
    known("a", 36.9, value=True),
    known("a", 37.1, value="too late"),
    known("b", 60, value="too late"),
    known("c", 41, value=True),
]


@pytest.fixture(params=["segments", "tables", "both"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The records above, wherever they are kept: the answers are the same."""
    storage = LocalStorage(tmp_path)
    asyncio.run(record(storage, RECORDS[:7], slot="worker-0"))
    if request.param == "both":
        compact(tmp_path, now=NOW)
    asyncio.run(record(storage, RECORDS[7:], slot="worker-1"))
    if request.param == "tables":
        compact(tmp_path, now=NOW)
    return tmp_path


def test_a_day_has_the_first_records_and_the_outcomes_in_force_at_the_horizon(folder: Path) -> None:
    day = read_day(folder, MADE, horizon_hours=36)
    rows = day.rows.to_pylist()
    assert [(row["id"], row["role"], row["version"], row["truth"]) for row in rows] == [
        ("a", "live", 1, "true"),
        ("a", "shadow", 2, "true"),
        ("repeat", "live", 1, None),
        ("c", "live", 1, "true"),
        ("b", "live", 1, None),
    ]
    assert rows[0]["known_at"] == MADE + 36.9 * HOUR
    assert rows[1]["output"] == [0.5]
    assert (rows[3]["status"], rows[3]["output"]) == ("failed", None)
    assert (day.start, day.late) == (MADE, 0)
    before = read_day(folder, MADE - DAY, horizon_hours=36).rows.column("id").to_pylist()
    assert before == ["first-before", "yesterday"]


def test_a_position_reads_the_same_rows_again_whatever_came_since(folder: Path) -> None:
    day = read_day(folder, MADE, horizon_hours=36)
    later: list[Record] = [
        asked("late", 4),  # an event that came late
        known("repeat", 20, value=True),  # an outcome that came late, known in time
        known("a", 36.95, value=False),  # a correction that came late, known in time
        known("a", 90, value=False),  # a correction after the horizon: it would not have counted
        asked("other day", 30),
    ]
    for slot in ("worker-0", "worker-2"):
        asyncio.run(record(LocalStorage(folder), later, slot=slot))
    again = read_day(folder, MADE, horizon_hours=36, upto=day.position)
    assert again.rows.equals(day.rows)
    assert again.late == 6
    compact(folder, now=NOW)
    once_more = read_day(folder, MADE, horizon_hours=36, upto=day.position)
    assert once_more.rows.equals(day.rows)
    assert (once_more.late, once_more.position) == (6, day.position)
    assert read_day(folder, MADE, horizon_hours=36).rows.num_rows == day.rows.num_rows + 1


def test_a_position_is_the_last_record_of_each_writer(folder: Path) -> None:
    position = read_position(folder)
    assert sorted(name.partition(".")[0] for name in position.writers) == ["worker-0", "worker-1"]
    assert sorted(position.writers.values()) == [(1, 6), (1, 7)]
    assert position == read_day(folder, MADE, horizon_hours=36).position
    assert msgspec.json.decode(msgspec.json.encode(position), type=Position) == position


def test_a_position_may_lie_within_a_segment_that_is_still_written(tmp_path: Path) -> None:
    async def go() -> None:
        writer = Writer(LocalStorage(tmp_path), slot="worker-0", mode="durable")
        try:
            await writer.append([asked("a", 1), asked("b", 2)])
            day = read_day(tmp_path, MADE, horizon_hours=36)
            await writer.append([asked("c", 3)])
            again = read_day(tmp_path, MADE, horizon_hours=36, upto=day.position)
            assert again.rows.column("id").to_pylist() == ["a", "b"]
            assert again.late == 1
        finally:
            await writer.close()

    asyncio.run(go())


def test_nothing_was_read_before_the_first_record(tmp_path: Path) -> None:
    assert read_position(tmp_path) == Position()
    assert delta_versions(tmp_path) == {"predictions": 0, "outcomes": 0}
    day = read_day(tmp_path, MADE, horizon_hours=36, upto=Position())
    assert (day.rows.num_rows, day.late) == (0, 0)
    asyncio.run(record(LocalStorage(tmp_path), RECORDS, slot="worker-0"))
    assert read_day(tmp_path, MADE, horizon_hours=36, upto=Position()).rows.num_rows == 0
    compact(tmp_path, now=NOW)
    assert delta_versions(tmp_path) == {"predictions": 1, "outcomes": 1}


def test_a_day_closes_when_its_horizon_has_passed_and_no_writer_is_behind(tmp_path: Path) -> None:
    ripe = MADE + DAY + 36 * HOUR
    assert closed(tmp_path, MADE, horizon_hours=36, now=ripe)
    assert not closed(tmp_path, MADE, horizon_hours=36, now=ripe - timedelta(microseconds=1))

    async def go() -> None:
        writers = [Writer(LocalStorage(tmp_path), slot=f"worker-{number}", mode="durable") for number in range(3)]
        try:
            assert open_until(tmp_path) is None
            await writers[0].append([known("a", 10, value=True)])
            assert open_until(tmp_path) is None, "a writer of outcomes alone holds nothing up"
            await writers[1].append([asked("a", 23.9), asked("b", 2)])
            assert open_until(tmp_path) == MADE + 23.9 * HOUR
            assert not closed(tmp_path, MADE, horizon_hours=36, now=ripe)
            await writers[2].append([asked("c", 40)])
            assert open_until(tmp_path) == MADE + 23.9 * HOUR
            await writers[1].append([asked("d", 24)])
            assert closed(tmp_path, MADE, horizon_hours=36, now=ripe)
        finally:
            for writer in writers:
                await writer.close()

    asyncio.run(go())
    assert open_until(tmp_path) is None, "a sealed segment holds nothing up"


def test_what_is_looked_at_is_near(tmp_path: Path) -> None:
    """A repeat within 31 days is the same event, a later one is another: else each day would read the whole ledger."""
    later = [asked(id_, days * 24 + 1, received_at=NOW) for id_, days in (("near", 30), ("far", 33))]
    records = [asked("near", 1), asked("far", 1), *later, known("far", 33 * 24 + 2, value=True)]
    asyncio.run(record(LocalStorage(tmp_path), records, slot="worker-0"))
    assert read_day(tmp_path, MADE + 30 * DAY, horizon_hours=36).rows.num_rows == 0
    (row,) = read_day(tmp_path, MADE + 33 * DAY, horizon_hours=36).rows.to_pylist()
    assert (row["id"], row["truth"]) == ("far", "true")


def arrivals(folder: Path, trial: str, since: datetime, day: datetime) -> dict[str, int]:
    found = read_arrivals(folder, trial, since, day).to_pylist()
    return {row["unit"]: row["version"] for row in found}


def test_units_are_counted_once_for_the_version_that_answered_first(tmp_path: Path) -> None:
    def answered(id: str, hours: float, unit: str, version: int, trial: str | None = "t") -> Prediction:  # noqa: A002
        return asked(id, hours, unit=unit, version=version, trial=trial)

    records = [
        answered("1", 1, "ann", 1),
        answered("2", 2, "ann", 2),
        answered("3", 3, "bob", 2),
        answered("4", 25, "ann", 1),
        answered("5", 26, "cid", 1),
        answered("6", 27, "dan", 1, trial=None),
        answered("7", -1, "bob", 1),
    ]
    asyncio.run(record(LocalStorage(tmp_path), records, slot="worker-0"))
    assert arrivals(tmp_path, "t", MADE, MADE) == {"ann": 1, "bob": 2}
    assert arrivals(tmp_path, "t", MADE, MADE + DAY) == {"cid": 1}
    assert read_arrivals(tmp_path, "t", MADE, MADE + DAY, upto=Position()).num_rows == 0
