import asyncio
import json
import multiprocessing
import os
import struct
import subprocess
import sys
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from compacting import compact_often
from deltalake import DeltaTable
from making import outcome, prediction

from passerelle.errors import LedgerError
from passerelle.ledger import compaction, tables
from passerelle.ledger.compaction import Compaction, compact
from passerelle.ledger.segments import Writer, record
from passerelle.ledger.storage import LocalStorage
from passerelle.ledger.views import ask, damage, totals

NOW = datetime(2013, 3, 1, tzinfo=UTC)
#: Every third step keeps the test short; 1 passes too.
STRIDE = 1 if os.environ.get("PASSERELLE_SOAK") else 3


def write(folder: Path, *records: object, slot: str = "worker-0") -> None:
    asyncio.run(record(LocalStorage(folder), records, slot=slot))


def test_what_is_moved_is_what_was_recorded(tmp_path: Path) -> None:
    assert compact(tmp_path, now=NOW) == Compaction()
    write(
        tmp_path,
        prediction(
            "a",
            at_s=1,
            inputs={"x": float("nan"), "name": "é"},
            output=(0.1, 0.9),
            trial="t",
            probability=0.5,
            latency_ms=7.5,
        ),
        outcome("a", "late", at_s=2),
        prediction("b", at_s=3, status="failed", output=None, error="why", role="shadow", version=2, revision=4),
    )
    assert compact(tmp_path, now=NOW) == Compaction(segments=1, predictions=2, outcomes=1)
    table = DeltaTable(tmp_path / "predictions").to_pyarrow_table()
    assert table.schema.equals(tables.SCHEMAS["predictions"])
    first, second = table.to_pylist()
    assert first == {
        "id": "a",
        "unit": "a",
        "role": "live",
        "status": "scored",
        "revision": 1,
        "version": 1,
        "digest": "d" * 64,
        "trial": "t",
        "probability": 0.5,
        "inputs": '{"x":null,"name":"é"}',
        "output": [0.1, 0.9],
        "error": None,
        "event_at": datetime(2013, 2, 1, 0, 0, 0, tzinfo=UTC),
        "received_at": datetime(2013, 2, 1, 0, 0, 1, tzinfo=UTC),
        "latency_ms": 7.5,
        "writer": first["writer"],
        "sequence": 1,
        "position": 0,
    }
    assert (second["id"], second["output"], second["error"], second["position"]) == ("b", None, "why", 2)
    [row] = DeltaTable(tmp_path / "outcomes").to_pyarrow_table().to_pylist()
    assert (row["id"], row["value"], row["position"]) == ("a", '"late"', 1)
    assert LocalStorage(tmp_path).names() == []
    assert compact(tmp_path, now=NOW) == Compaction()


def test_a_living_writers_segment_waits_and_a_dead_ones_is_sealed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    write(tmp_path, prediction("a"), slot="dead")
    dead = storage.claim("dead")
    dead.append(b"")
    dead.release()

    async def run() -> None:
        writer = Writer(storage, slot="living", mode="durable")
        await writer.append([prediction("b")])
        assert compact(tmp_path, now=NOW).predictions == 1
        assert [name.slot for name in storage.names()] == ["living"]
        assert totals(tmp_path).predictions == 2
        await writer.append([prediction("c")])
        await writer.close()

    asyncio.run(run())
    assert compact(tmp_path, now=NOW).predictions == 2


def test_segments_after_an_open_one_wait() -> None:
    names = [
        compaction.SegmentName(writer=writer, sequence=sequence, sealed=sealed)
        for writer, sequence, sealed in [("a.1", 1, True), ("a.1", 2, False), ("a.1", 3, True), ("b.1", 7, True)]
    ]
    assert [(name.writer, name.sequence) for name in compaction.settled(names)] == [("a.1", 1), ("b.1", 7)]


def test_a_segment_that_comes_back_is_not_added_again(tmp_path: Path) -> None:
    write(tmp_path, prediction("a"), outcome("a"))
    [name] = LocalStorage(tmp_path).names()
    path = tmp_path / "segments" / name.file
    data = path.read_bytes()
    compact(tmp_path, now=NOW)
    path.write_bytes(data)
    assert totals(tmp_path).uncompacted == 0
    assert compact(tmp_path, now=NOW) == Compaction(segments=1, repeated=1)
    assert DeltaTable(tmp_path / "predictions").to_pyarrow_table().num_rows == 1
    assert DeltaTable(tmp_path / "outcomes").to_pyarrow_table().num_rows == 1
    assert not path.exists()


def test_no_segment_goes_before_its_rows_are_where_they_are_to_last(tmp_path: Path) -> None:
    write(tmp_path, prediction("a"))
    [name] = LocalStorage(tmp_path).names()

    def cannot() -> None:
        assert ask(tmp_path, "SELECT id FROM all_predictions").rows == [("a",)]
        raise LedgerError("the store is away")

    with pytest.raises(LedgerError, match="the store is away"):
        compact(tmp_path, now=NOW, before_delete=cannot)
    assert (tmp_path / "segments" / name.file).exists()
    assert compact(tmp_path, now=NOW) == Compaction(segments=1, repeated=1)


def test_a_segment_is_not_deleted_while_the_file_that_holds_its_rows_is_torn(tmp_path: Path) -> None:
    write(tmp_path, prediction("a"))
    [name] = LocalStorage(tmp_path).names()
    segment = tmp_path / "segments" / name.file
    data = segment.read_bytes()
    compact(tmp_path, now=NOW)
    segment.write_bytes(data)  # as if the power had failed after the commit, before the disk had its file
    [file] = (tmp_path / "predictions").glob("*.parquet")
    whole = file.read_bytes()
    for torn in (b"", whole[:-20], whole[:4] + bytes(20) + whole[24:]):  # the last: a page of the first column
        file.write_bytes(torn)
        with pytest.raises(LedgerError, match=r"cannot be read (.|\n)* Nothing was deleted"):
            compact(tmp_path, now=NOW)
        assert segment.read_bytes() == data
    (tmp_path / "predictions" / "_delta_log" / "00000000000000000001.json").unlink()
    assert compact(tmp_path, now=NOW) == Compaction(segments=1, predictions=1)
    assert ask(tmp_path, "SELECT id FROM all_predictions").rows == [("a",)]


def test_a_damaged_segment_gives_what_is_whole_and_is_kept_aside(tmp_path: Path) -> None:
    write(tmp_path, prediction("a"))
    write(tmp_path, prediction("b"), slot="worker-1")
    name = LocalStorage(tmp_path).names()[0]
    path = tmp_path / "segments" / name.file
    path.write_bytes(path.read_bytes() + b"torn")
    damaged = path.read_bytes()
    assert (totals(tmp_path).predictions, totals(tmp_path).damaged) == (2, 0)
    place = len(damaged) - 4
    reason = f"torn at byte {place} of {len(damaged)}: the last 4 bytes are an unfinished frame"
    assert damage(tmp_path) == (f"{name.file}: {reason}",)
    done = compact(tmp_path, now=NOW)
    assert (done.segments, done.predictions) == (2, 2)
    assert done.damaged == (f"{name.file}: {reason}",)
    assert damage(tmp_path) == ()
    assert totals(tmp_path).damaged == 1
    assert (tmp_path / "damaged" / name.file).read_bytes() == damaged
    note = json.loads((tmp_path / "damaged" / f"{name.file}.json").read_text())
    assert note == {
        "segment": name.file,
        "damage": reason,
        "recovered": {"predictions": 1, "outcomes": 0},
        "compacted_at": "2013-03-01T00:00:00Z",
    }
    assert LocalStorage(tmp_path).names() == []


def test_a_newer_segment_stops_compaction_and_is_kept(tmp_path: Path) -> None:
    write(tmp_path, prediction("a"))
    [name] = LocalStorage(tmp_path).names()
    path = tmp_path / "segments" / name.file
    start = struct.pack("<8sI", b"PSRLEDGR", 9)
    path.write_bytes(start + struct.pack("<I", zlib.crc32(start)) + path.read_bytes()[16:])
    with pytest.raises(LedgerError, match=r"segment worker-0\..*\.seg: this segment has format 9.* upgrade Passerelle"):
        compact(tmp_path, now=NOW)
    assert LocalStorage(tmp_path).names() == [name]


def test_a_table_with_a_newer_protocol_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    write(tmp_path, prediction("a"))
    compact(tmp_path, now=NOW)
    write(tmp_path, prediction("b"))
    log = tmp_path / "predictions" / "_delta_log" / "00000000000000000002.json"
    log.write_text('{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":[],"writerFeatures":[]}}\n')
    for act in (lambda: compact(tmp_path, now=NOW), lambda: totals(tmp_path)):
        with pytest.raises(LedgerError, match="asks for protocol 3/7, and this Passerelle knows 1/2"):
            act()
    assert len(LocalStorage(tmp_path).names()) == 1
    log.write_text('{"protocol":{"minReaderVersion":99,"minWriterVersion":99}}\n')
    with pytest.raises(LedgerError, match="predictions"):
        compact(tmp_path, now=NOW)
    log.write_text("not json")
    with pytest.raises(LedgerError, match=r"cannot be opened .* restore it from a backup"):
        compact(tmp_path, now=NOW)
    log.unlink()
    assert compact(tmp_path, now=NOW).predictions == 1


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_LOCK_S", 0.1)
    with tables.alone(tmp_path), pytest.raises(LedgerError, match="another process is changing the ledger"):
        compact(tmp_path, now=NOW)
    compact(tmp_path, now=NOW)


def test_many_small_files_are_joined_and_old_versions_stay_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_MANY_FILES", 3)
    for number in range(5):
        write(tmp_path, prediction(str(number)), outcome(str(number)))
        compact(tmp_path, now=NOW)
    table = DeltaTable(tmp_path / "predictions")
    assert len(table.file_uris()) == 2
    assert sorted(ask(tmp_path, "SELECT id FROM predictions").rows) == [(str(number),) for number in range(5)]
    assert DeltaTable(tmp_path / "predictions", version=2).to_pyarrow_table().num_rows == 2


def test_new_files_are_put_on_the_disk_before_a_segment_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acts: list[str] = []
    sync, delete = os.fdatasync, LocalStorage.delete

    def synced(file: int) -> None:
        acts.append(Path(f"/proc/self/fd/{file}").readlink().name)
        sync(file)

    def deleted(self: LocalStorage, name: compaction.SegmentName) -> None:
        acts.append("delete")
        delete(self, name)

    write(tmp_path, prediction("a"))
    if not Path("/proc/self/fd").exists():
        pytest.skip("which file a descriptor means is read from /proc")
    monkeypatch.setattr(os, "fdatasync", synced)
    monkeypatch.setattr(LocalStorage, "delete", deleted)
    compact(tmp_path, now=NOW)
    before = set(acts[: acts.index("delete")])
    assert {path.name for path in tables.files_below(tmp_path / "predictions")} - {
        "00000000000000000000.json"
    } <= before


def test_writers_compactors_and_readers_at_once(tmp_path: Path) -> None:
    """Nothing is lost or counted twice by who looks while segments move."""
    storage = LocalStorage(tmp_path)
    compactors = [
        multiprocessing.get_context("spawn").Process(target=compact_often, args=(str(tmp_path),)) for _ in "ab"
    ]

    async def run() -> list[int]:
        writers = [Writer(storage, slot=f"worker-{n}", mode="durable", roll_bytes=20_000) for n in range(3)]
        seen = []
        for number in range(60):
            await asyncio.gather(
                *(
                    writer.append([prediction(f"{place}-{number}-{k}") for k in range(20)])
                    for place, writer in enumerate(writers)
                )
            )
            found = await asyncio.to_thread(totals, tmp_path)
            seen.append(found.predictions - (number + 1) * 60)
            assert found.repeats == 0
        for writer in writers:
            await writer.close()
        return seen

    for process in compactors:
        process.start()
    seen = asyncio.run(run())
    for process in compactors:
        process.join()
    assert [process.exitcode for process in compactors] == [0, 0]
    assert seen == [0] * 60
    compact(tmp_path, now=NOW)
    assert DeltaTable(tmp_path / "predictions").to_pyarrow_table().num_rows == 3600


def test_killed_at_any_step_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    for number in range(2):
        write(folder, prediction(f"a{number}"), outcome(f"a{number}"))
        write(folder, prediction(f"b{number}"), slot="worker-1")
    last = LocalStorage(folder).names()[-1]
    path = folder / "segments" / last.file
    path.write_bytes(path.read_bytes() + b"torn")
    script = Path(__file__).with_name("crashing.py")
    done = subprocess.run(
        [sys.executable, script, folder, str(STRIDE)], capture_output=True, text=True, check=True, timeout=200
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["killed"] for one in found] == [True] * (len(found) - 1) + [False]
    for one in found:
        assert (one["before"], one["after"]) == ([4, 2], [4, 2]), one
        assert (one["left"], one["damaged"]) == (0, 1), one
    # Killed before the commit, between the commit and the deletion, and among the deletions.
    assert {one["repeated"] for one in found} > {0, 4}
