"""A ledger that an earlier Passerelle wrote, whose predictions have no latency: read, added to, joined, erased from."""

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from making import outcome, prediction
from test_compaction import NOW, write

from passerelle.ledger import compaction
from passerelle.ledger.compaction import Compaction, compact
from passerelle.ledger.forgetting import forget
from passerelle.ledger.records import Prediction
from passerelle.ledger.segments import read_segment
from passerelle.ledger.storage import LocalStorage
from passerelle.ledger.tables import SCHEMAS, ensure_table, moved, open_table
from passerelle.ledger.views import ask, totals

SINCE = "latency_ms"
OLDER = pa.schema([field for field in SCHEMAS["predictions"] if field.name != SINCE])


def older(folder: Path, monkeypatch: pytest.MonkeyPatch, *records: object) -> None:
    """Compact these records with the columns of then."""
    with monkeypatch.context() as then:
        then.setitem(SCHEMAS, "predictions", OLDER)
        write(folder, *records)
        compact(folder, now=NOW)
        assert SINCE not in [field.name for field in DeltaTable(folder / "predictions").schema().fields]


def latencies(folder: Path) -> list[tuple[Any, ...]]:
    return ask(folder, "SELECT id, latency_ms FROM all_predictions ORDER BY id").rows


def test_an_older_table_is_read_alone_and_beside_new_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older(tmp_path, monkeypatch, prediction("a"), outcome("a"))
    assert latencies(tmp_path) == [("a", None)]
    write(tmp_path, prediction("b", latency_ms=12.5))
    assert latencies(tmp_path) == [("a", None), ("b", 12.5)]
    assert ask(tmp_path, "SELECT id, truth, latency_ms FROM judged").rows == [("a", "true", None)]


def test_new_segments_are_compacted_into_it_and_files_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older(tmp_path, monkeypatch, prediction("a", at_s=1), outcome("a"))
    write(tmp_path, prediction("b", at_s=2, latency_ms=12.5), prediction("c", at_s=3))
    assert compact(tmp_path, now=NOW) == Compaction(segments=1, predictions=2)
    expected = [("a", None), ("b", 12.5), ("c", None)]
    assert latencies(tmp_path) == expected
    monkeypatch.setattr(compaction, "_MANY_FILES", 1)
    write(tmp_path, prediction("d", at_s=4, latency_ms=0.25))
    compact(tmp_path, now=NOW)
    table = DeltaTable(tmp_path / "predictions")
    assert len(table.file_uris()) == 1
    assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
    assert "dataSkippingStatsColumns" in str(table.metadata().configuration)
    assert latencies(tmp_path) == [*expected, ("d", 0.25)]
    assert totals(tmp_path).uncompacted == 0
    assert {field.name for field in table.schema().fields} == set(SCHEMAS["predictions"].names)


def test_a_segment_of_then_is_not_added_twice_by_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as then:
        then.setitem(SCHEMAS, "predictions", OLDER)
        write(tmp_path, prediction("a"))
        [name] = LocalStorage(tmp_path).names()
        data = (tmp_path / "segments" / name.file).read_bytes()
        compact(tmp_path, now=NOW)
    (tmp_path / "segments" / name.file).write_bytes(data)  # as if it had died before it deleted this
    assert compact(tmp_path, now=NOW) == Compaction(segments=1, repeated=1)
    assert moved(open_table(tmp_path, "predictions"), name.writer) == 1
    assert latencies(tmp_path) == [("a", None)]


def test_a_unit_is_erased_from_old_rows_and_from_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older(tmp_path, monkeypatch, prediction("a", unit="ann"), prediction("b", unit="bob"), outcome("a"))
    write(tmp_path, prediction("c", unit="ann", latency_ms=7.0), prediction("d", unit="bob", latency_ms=8.0))
    erased = forget(tmp_path, "ann", unit_column=None, salt="")
    assert (erased.predictions, erased.outcomes, erased.remains) == (2, 1, ())
    assert latencies(tmp_path) == [("b", None), ("d", 8.0)]
    assert all(b"ann" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_record_of_then_is_decoded(tmp_path: Path) -> None:
    """A segment that an earlier Passerelle wrote: its records are maps that do not name the latency."""
    write(tmp_path, prediction("a"))
    [name] = LocalStorage(tmp_path).names()
    [one], _ = read_segment((tmp_path / "segments" / name.file).read_bytes())
    assert isinstance(one, Prediction)
    then = msgspec.to_builtins(one)
    del then[SINCE]
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(then), type=Prediction)
    assert decoded.latency_ms is None
    ensure_table(tmp_path, "predictions")
    assert latencies(tmp_path) == [("a", None)]


def test_the_log_keeps_no_statistics_of_what_names_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older(tmp_path, monkeypatch, prediction("a", unit="ann"))
    write(tmp_path, prediction("c", unit="cyd", latency_ms=7.0))
    compact(tmp_path, now=NOW)
    log = "".join(path.read_text() for path in (tmp_path / "predictions" / "_delta_log").glob("*.json"))
    assert "ann" not in log
    assert "cyd" not in log
