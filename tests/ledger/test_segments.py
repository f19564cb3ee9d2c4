import asyncio
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import START, outcome, prediction

from passerelle.errors import LedgerError
from passerelle.ledger import segments
from passerelle.ledger.records import Record
from passerelle.ledger.segments import Writer, frame, header, read_segment, record
from passerelle.ledger.storage import LocalStorage
from passerelle.testing.storage import MemoryStorage

BATCHES: list[list[Record]] = [
    [prediction("a", at_s=1), prediction("b", at_s=2, output=None, status="failed", error="no such carrier")],
    [outcome("a", "déjà"), outcome("b", 1.5)],
    [prediction("c", inputs={"nested": {"list": [1, None, "x"]}}, trial="t1", probability=0.5)],
]
FRAMES = [frame(batch) for batch in BATCHES]
SEGMENT = header() + b"".join(FRAMES)
#: Where each frame begins.
STARTS = [16, 16 + len(FRAMES[0]), 16 + len(FRAMES[0]) + len(FRAMES[1])]


def before(place: int) -> list[Record]:
    """The records of the frames that end at or before this byte."""
    ends = [*STARTS[1:], len(SEGMENT)]
    return [one for batch, end in zip(BATCHES, ends, strict=True) if end <= place for one in batch]


def held(storage: LocalStorage | MemoryStorage) -> list[Record]:
    found = [read_segment(storage.read(name) or b"") for name in storage.names()]
    assert [damage for _, damage in found] == [None] * len(found)
    return [one for records, _ in found for one in records]


def test_round_trip() -> None:
    assert read_segment(SEGMENT) == ([one for batch in BATCHES for one in batch], None)
    assert read_segment(b"") == ([], None)
    assert read_segment(header()) == ([], None)


def test_a_large_batch_is_several_frames() -> None:
    records = [outcome(str(number)) for number in range(2500)]
    assert [len(whole) for whole in segments.frames(header() + frame(records))] == [1000, 1000, 500]


@given(st.integers(0, len(SEGMENT) * 8 - 1))
def test_a_flipped_bit_costs_no_frame_before_it_and_invents_nothing(bit: int) -> None:
    data = bytearray(SEGMENT)
    data[bit // 8] ^= 1 << bit % 8
    records, damage = read_segment(bytes(data))
    everything = [one for batch in BATCHES for one in batch]
    if bit // 8 < 16:
        assert (records, damage) == (everything, "its first 16 bytes are torn or damaged")
    else:
        assert records == before(bit // 8)
        start = max(start for start in STARTS if start <= bit // 8)
        assert damage is not None
        assert f"at byte {start} of {len(SEGMENT)}" in damage


@given(st.integers(0, len(SEGMENT)))
def test_a_torn_segment_holds_its_whole_frames(size: int) -> None:
    records, damage = read_segment(SEGMENT[:size])
    assert records == before(size)
    assert (damage is None) == (size in {0, *STARTS, len(SEGMENT)})


@given(st.binary(max_size=200))
def test_garbage_after_a_segment_is_reported_and_invents_nothing(garbage: bytes) -> None:
    records, damage = read_segment(SEGMENT + garbage)
    assert records == [one for batch in BATCHES for one in batch]
    assert (damage is None) == (garbage == b"")


def test_a_newer_segment_is_refused() -> None:
    start = struct.pack("<8sI", b"PSRLEDGR", 2)
    with pytest.raises(LedgerError, match="format 2, and this Passerelle reads 1: upgrade"):
        read_segment(start + struct.pack("<I", zlib.crc32(start)) + FRAMES[0])


def test_a_record_of_a_kind_we_do_not_know_is_damage_and_not_a_guess() -> None:
    payload = segments._encoder.encode([{"record": "verdict", "id": "a"}])
    length = struct.pack("<I", len(payload))
    strange = length + struct.pack("<I", zlib.crc32(length + payload)) + payload
    records, damage = read_segment(header() + FRAMES[0] + strange)
    assert records == BATCHES[0]
    assert damage is not None
    assert damage.startswith(f"unknown record in the frame at byte {STARTS[1]}")


def test_durable_records_are_there_when_append_returns(tmp_path: Path) -> None:
    async def run() -> None:
        storage = LocalStorage(tmp_path)
        writer = Writer(storage, slot="worker-0", mode="durable")
        for number, batch in enumerate(BATCHES):
            await writer.append(batch)
            assert held(storage) == [one for batch in BATCHES[: number + 1] for one in batch]
        await writer.close()
        assert [name.sealed for name in storage.names()] == [True]
        with pytest.raises(LedgerError, match="closed"):
            await writer.append(BATCHES[0])

    asyncio.run(run())


def test_what_waits_together_is_one_append() -> None:
    class Counting(MemoryStorage):
        appends = 0

        def claim(self, slot):  # noqa: ANN001, ANN202  (as the parent)
            claimed = super().claim(slot)
            append = claimed.append

            def counted(data: bytes) -> None:
                self.appends += 1
                append(data)

            claimed.append = counted
            return claimed

    async def run() -> None:
        storage = Counting()
        writer = Writer(storage, slot="worker-0", mode="durable")
        await asyncio.gather(*(writer.append([outcome(str(number))]) for number in range(200)))
        await writer.close()
        assert storage.appends <= 2
        assert [one.id for one in held(storage)] == [str(number) for number in range(200)]

    asyncio.run(run())


def test_off_records_nothing_and_claims_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        writer = Writer(LocalStorage(tmp_path), slot="worker-0", mode="off")
        await writer.append(BATCHES[0])
        await writer.close()

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_async_returns_at_once_flushes_within_its_bound_and_loses_nothing_at_close(tmp_path: Path) -> None:
    async def run() -> None:
        storage = LocalStorage(tmp_path)
        writer = Writer(storage, slot="worker-0", mode="async")
        await writer.append([prediction("a")])
        assert held(storage) == []
        await asyncio.sleep(0.4)
        assert [one.id for one in held(storage)] == ["a"]
        for number in range(50):
            await writer.append([prediction(str(number))])
        await writer.close()
        assert [one.id for one in held(storage)] == ["a", *map(str, range(50))]

    asyncio.run(run())


def test_durable_when_the_disk_is_full_and_when_there_is_room_again() -> None:
    async def run() -> None:
        storage = MemoryStorage()
        writer = Writer(storage, slot="worker-0", mode="durable")
        await writer.append([prediction("a")])
        storage.full = True
        refused = await asyncio.gather(
            *(writer.append([prediction(name)]) for name in ("b", "c")), return_exceptions=True
        )
        assert [type(error) for error in refused] == [LedgerError, LedgerError]
        assert refused[0] is not refused[1]
        storage.full = False
        await writer.append([prediction("d")])
        await writer.close()
        assert [one.id for one in held(storage)] == ["a", "d"]

    asyncio.run(run())


def test_async_keeps_what_the_disk_refuses_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "PENDING_BYTES", 2000)

    async def run() -> None:
        storage = MemoryStorage()
        writer = Writer(storage, slot="worker-0", mode="async")
        storage.full = True
        accepted = [str(number) for number in range(2000 // len(frame([prediction("0")])))]
        for name in accepted:
            await writer.append([prediction(name)])
            await asyncio.sleep(0.05)
        with pytest.raises(LedgerError, match="wait for the disk already"):
            await writer.append([prediction("one too many")])
        assert len(accepted) >= 3
        storage.full = False
        await writer.close()
        assert [one.id for one in held(storage)] == accepted

        writer = Writer(storage, slot="worker-0", mode="async")
        storage.full = True
        await writer.append([prediction("z")])
        with pytest.raises(LedgerError, match=r"bytes of records were lost at the end: .*full"):
            await writer.close()

    asyncio.run(run())


def test_segments_roll_by_size_by_age_and_when_asked() -> None:
    async def run(roll_bytes: int, roll_s: float, *, ask: bool) -> list[bool]:
        storage = MemoryStorage()
        writer = Writer(storage, slot="worker-0", mode="durable", roll_bytes=roll_bytes, roll_s=roll_s)
        await writer.append([prediction("a")])
        if ask:
            storage.wanted.update(storage.names())
        await asyncio.sleep(1.5)
        await writer.append([prediction("b")])
        sealed = [name.sealed for name in storage.names()]
        await writer.close()
        assert [one.id for one in held(storage)] == ["a", "b"]
        return sealed

    async def all_of_them() -> list[list[bool]]:
        return await asyncio.gather(
            run(2**20, 60, ask=False), run(10, 60, ask=False), run(2**20, 0.5, ask=False), run(2**20, 60, ask=True)
        )

    together, by_size, by_age, asked = asyncio.run(all_of_them())
    assert together == [False]
    assert by_size[0] is True
    assert len(by_size) == 2
    assert by_age == [True, False]
    assert asked == [True, False]


def test_a_value_that_cannot_be_written_is_refused_and_harms_nobody_else() -> None:
    async def run() -> None:
        storage = MemoryStorage()
        writer = Writer(storage, slot="worker-0", mode="durable")
        for value in (object(), 2**70, "\ud800"):
            with pytest.raises(LedgerError, match="cannot be written to the ledger"):
                await writer.append([prediction("bad", inputs={"x": value})])
        await writer.append([prediction("good")])
        await writer.close()
        assert [one.id for one in held(storage)] == ["good"]

    asyncio.run(run())


def test_a_cancelled_caller_does_not_stop_the_writer() -> None:
    async def run() -> None:
        storage = MemoryStorage()
        writer = Writer(storage, slot="worker-0", mode="durable")
        caller = asyncio.create_task(writer.append([prediction("a")]))
        await asyncio.sleep(0)
        caller.cancel()
        await writer.append([prediction("b")])
        await writer.close()
        assert [one.id for one in held(storage)] == ["a", "b"]

    asyncio.run(run())


def test_a_taken_slot_is_refused_after_a_short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_CLAIM_S", 0.1)
    storage = MemoryStorage()
    storage.claim("worker-0")
    with pytest.raises(LedgerError, match="'worker-0' belongs to another"):
        Writer(storage, slot="worker-0", mode="durable")


def test_record_writes_once_and_closes(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for batch in BATCHES:
        asyncio.run(record(storage, batch, slot="score"))
    assert held(storage) == [one for batch in BATCHES for one in batch]
    assert [(name.sequence, name.sealed) for name in storage.names()] == [(1, True), (2, True), (3, True)]
    assert held(storage)[0].received_at.timestamp() == START.timestamp() + 1


def test_a_storage_that_raises_what_it_should_not_stops_no_append() -> None:
    class Broken(MemoryStorage):
        def claim(self, slot):  # noqa: ANN001, ANN202  (as the parent)
            claimed = super().claim(slot)

            def fail() -> bool:
                raise OSError("the folder cannot be searched")

            claimed.asked = fail  # type: ignore[method-assign]
            claimed.seal = fail  # type: ignore[assignment, method-assign]
            return claimed

    async def run() -> None:
        writer = Writer(storage, slot="worker-0", mode="durable", roll_bytes=10_000)
        for number in range(100):
            async with asyncio.timeout(2):
                await writer.append([outcome(str(number))])
        async with asyncio.timeout(2):
            await writer.close()

    storage = Broken()
    asyncio.run(run())
    assert len(held(storage)) == 100
