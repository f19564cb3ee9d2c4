import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from making import outcome, prediction

from passerelle.errors import LedgerError
from passerelle.ledger import compaction, forgetting
from passerelle.ledger.compaction import compact
from passerelle.ledger.forgetting import forget
from passerelle.ledger.privacy import GIVEN, hash_value, protect_unit
from passerelle.ledger.records import Prediction
from passerelle.ledger.segments import Writer, frame, header, record
from passerelle.ledger.storage import LocalStorage
from passerelle.ledger.views import ask, totals

NOW = datetime(2013, 3, 1, tzinfo=UTC)
ADA = "ada.lovelace@example.org"


def of(id: str, unit: str, **changes: object) -> Prediction:  # noqa: A002  (the record's own word)
    return prediction(id, **({"unit": unit, "inputs": {"mail": unit, "hour": 5}} | changes))


def write(folder: Path, *records: object) -> None:
    asyncio.run(record(LocalStorage(folder), records, slot="worker-0"))


def files_with(folder: Path, *texts: str) -> list[str]:
    """Files that hold one of these texts: as they are, or as Parquet's columns once unpacked."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            data += str(pq.read_table(path).to_pydict()).encode() + str(pq.read_metadata(path).to_dict()).encode()
        found += [path.name for text in texts if text.encode() in data]
    return found


def test_a_unit_is_erased_from_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_MANY_FILES", 2)
    for number in range(4):
        write(
            tmp_path,
            of(f"a{number}", ADA),
            of(f"b{number}", "bob"),
            of(f"a{number}", ADA, role="shadow", version=2),
            outcome(f"a{number}", "ada was late"),
            outcome(f"b{number}", "bob was late"),
        )
        if number < 3:
            compact(tmp_path, now=NOW)
    DeltaTable(tmp_path / "predictions").create_checkpoint()
    assert len(files_with(tmp_path, ADA)) >= 4
    done = forget(tmp_path, ADA, unit_column="mail", salt="s")
    assert (done.predictions, done.outcomes, done.damaged, done.remains) == (8, 4, (), ())
    assert str(done) == "8 predictions and 4 outcomes erased"
    assert files_with(tmp_path, ADA, "ada was late") == []
    assert sorted(ask(tmp_path, "SELECT id, unit FROM all_predictions").rows) == [(f"b{n}", "bob") for n in range(4)]
    assert totals(tmp_path).orphans == 0
    assert ask(tmp_path, "SELECT id FROM predictions WHERE unit > 'a' AND id IN ('b1', 'a1')").rows == [("b1",)]
    assert forget(tmp_path, ADA, unit_column="mail", salt="s").predictions == 0
    write(tmp_path, of("c", "bob"))
    assert compact(tmp_path, now=NOW).predictions == 1
    assert totals(tmp_path).predictions == 5


def test_a_hashed_unit_is_found_by_its_name_and_so_is_what_was_kept_before(tmp_path: Path) -> None:
    hashed = protect_unit(ADA, "mail", {"mail": "hash"}, "s")
    write(tmp_path, of("a", hashed), of("b", ADA), of("c", protect_unit("bob", "mail", {"mail": "hash"}, "s")))
    done = forget(tmp_path, ADA, unit_column="mail", salt="s")
    assert done.predictions == 2
    assert files_with(tmp_path, hashed, ADA) == []
    assert ask(tmp_path, "SELECT id FROM predictions").rows == [("c",)]


def test_without_a_unit_column_the_unit_is_the_events_id(tmp_path: Path) -> None:
    write(tmp_path, prediction("event-1"), outcome("event-1"), outcome("event-2"), prediction("event-10"))
    done = forget(tmp_path, "event-1", unit_column=None, salt="")
    assert (done.predictions, done.outcomes) == (1, 1)
    assert ask(tmp_path, "SELECT id FROM all_predictions UNION SELECT id FROM outcomes ORDER BY id").rows == [
        ("event-10",),
        ("event-2",),
    ]


def test_a_unit_with_quotes_is_a_value_and_not_sql(tmp_path: Path) -> None:
    name = "o'hara' OR '1'='1"
    write(tmp_path, of("a", name), of("b", "bob"))
    assert forget(tmp_path, name, unit_column="mail", salt="s").predictions == 1
    assert ask(tmp_path, "SELECT id FROM predictions").rows == [("b",)]


def test_many_rows_are_erased_in_several_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "_DELETE_ROWS", 7)
    write(tmp_path, *(of(str(number), ADA if number % 2 else "bob") for number in range(40)))
    assert forget(tmp_path, ADA, unit_column="mail", salt="s").predictions == 20
    assert ask(tmp_path, "SELECT DISTINCT unit, count(*) OVER () FROM predictions").rows == [("bob", 20)]


def test_damaged_segments_that_hold_the_unit_go_too(tmp_path: Path) -> None:
    for unit in (ADA, "bob"):
        write(tmp_path, of("x", unit))
        [name] = LocalStorage(tmp_path).names()
        path = tmp_path / "segments" / name.file
        path.write_bytes(path.read_bytes() + b"torn")
        compact(tmp_path, now=NOW)
    done = forget(tmp_path, ADA, unit_column="mail", salt="s")
    assert len(done.damaged) == 1
    assert len(list((tmp_path / "damaged").glob("*.seg"))) == 1
    assert files_with(tmp_path, ADA) == []


def damaged_segment(folder: Path, *records: object, torn: bytes = b"torn") -> Path:
    """A segment that was found damaged: whole records, then these bytes. Where it is kept."""
    write(folder, *records)
    [name] = LocalStorage(folder).names()
    path = folder / "segments" / name.file
    path.write_bytes(path.read_bytes() + torn)
    compact(folder, now=NOW)
    return folder / "damaged" / name.file


def test_a_short_name_deletes_no_damaged_segment_of_others(tmp_path: Path) -> None:
    others = damaged_segment(tmp_path, of("x", "bob"), outcome("x", "a"), torn=frame([of("y", "bob")])[:-1])
    mine = damaged_segment(tmp_path, of("z", "a"))
    assert b"a" in others.read_bytes()
    done = forget(tmp_path, "a", unit_column="mail", salt="s")
    assert (done.damaged, others.exists()) == ((mine.name,), True)


def test_a_unit_is_found_in_the_bytes_that_cannot_be_decoded_and_by_its_predictions(tmp_path: Path) -> None:
    unread = damaged_segment(tmp_path, of("x", "bob"), torn=frame([of("y", ADA)])[:-1])
    write(tmp_path, of("w", ADA))
    compact(tmp_path, now=NOW)
    late = damaged_segment(tmp_path, outcome("w", "she was late"))
    hashed = damaged_segment(tmp_path, of("v", hash_value(ADA, "mail", "s")))
    named = damaged_segment(tmp_path, of("u", hash_value(ADA, GIVEN, "s")))
    kept = damaged_segment(tmp_path, of("t", f"{ADA}.uk"))
    done = forget(tmp_path, ADA, unit_column="mail", salt="s")
    assert sorted(done.damaged) == sorted(path.name for path in (unread, late, hashed, named))
    assert (done.predictions, kept.exists()) == (3, True)


def test_a_living_writers_segment_remains_only_if_it_holds_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "_SEAL_S", 0.0)
    storage = LocalStorage(tmp_path)
    slot = storage.claim("worker-0")
    slot.append(header() + frame([of("x", ADA)]))
    [name] = storage.names()
    assert forget(tmp_path, "a", unit_column="mail", salt="s").remains == ()
    assert forget(tmp_path, ADA, unit_column="mail", salt="s").remains == (name.file,)
    slot.release()


def test_a_living_writer_hands_over_its_segment(tmp_path: Path) -> None:
    async def run() -> None:
        writer = Writer(LocalStorage(tmp_path), slot="worker-0", mode="durable")
        await writer.append([of("a", ADA), of("b", "bob")])
        done = await asyncio.to_thread(forget, tmp_path, ADA, unit_column="mail", salt="s")
        assert (done.predictions, done.remains) == (1, ())
        assert files_with(tmp_path, ADA) == []
        await writer.append([of("c", "bob")])
        await writer.close()

    asyncio.run(run())
    assert totals(tmp_path).predictions == 2


def test_what_a_stopped_writer_holds_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "_SEAL_S", 0.3)
    storage = LocalStorage(tmp_path)
    script = Path(__file__).with_name("writing.py")
    writer = subprocess.Popen([sys.executable, script, tmp_path, "worker-0", "durable", "r"], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        unit = writer.stdout.readline().decode().rstrip("\n")
        os.kill(writer.pid, signal.SIGSTOP)
        holding = [name.file for name in storage.names() if unit.encode() in (storage.read(name) or b"")]
        done = forget(tmp_path, unit, unit_column=None, salt="")
    finally:
        writer.kill()
        writer.communicate()
    if holding[0].endswith(".open"):
        assert done.remains == tuple(holding)
        assert str(done).endswith(f"still in {holding[0]}, which its writer seals within a minute: forget again then")
    assert forget(tmp_path, unit, unit_column=None, salt="").remains == ()
    assert ask(tmp_path, "SELECT count(*) FROM predictions WHERE unit = ?", [unit]).rows == [(0,)]


def test_nobody_is_not_a_unit(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="the unit to erase is empty"):
        forget(tmp_path, "", unit_column=None, salt="")


def test_a_unit_that_was_never_seen(tmp_path: Path) -> None:
    assert forget(tmp_path, ADA, unit_column=None, salt="").predictions == 0
