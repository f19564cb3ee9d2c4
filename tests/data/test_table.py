"""Snapshots, tables of newer programs, and forgetting."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from passerelle.data.landing import ingest
from passerelle.data.table import Snapshot, append, delta_path, forget, read, snapshot
from passerelle.errors import DataError, SettingsError
from passerelle.project.settings import Project

from .conftest import NOW


def _deliver(project: Project, name: str, text: str) -> None:
    (project.root / name).write_text(text)
    (delivery,) = ingest(project, [project.root / name], now=NOW)
    assert delivery.status == "accepted", delivery.problems


def test_each_version_can_be_read(project: Project) -> None:
    _deliver(project, "w-1.csv", "a\n1\n")
    first = snapshot(project)
    _deliver(project, "w-2.csv", "a\n2\n")
    assert (first, snapshot(project)) == (Snapshot(tables={"w": 0}), Snapshot(tables={"w": 1}))
    assert read(project, "w", 0)["a"].to_pylist() == [1]
    assert sorted(read(project, "w")["a"].to_pylist()) == [1, 2]
    with pytest.raises(DataError, match="version 9 of table 'w' cannot be read any more"):
        read(project, "w", 9)
    with pytest.raises(DataError, match="no accepted rows of 'v' yet: passerelle ingest FILE --table v"):
        read(project, "v")


def test_an_append_is_made_once(project: Project) -> None:
    rows = pa.table({"a": [1, 2]})
    assert append(project, "w", rows, delivery="d1") == 0
    assert append(project, "w", rows, delivery="d1") == 0
    assert append(project, "w", rows, delivery="d2") == 1
    assert read(project, "w", 1).num_rows == 4
    assert read(project, "w", 0).num_rows == 2


@pytest.mark.parametrize(
    "protocol",
    [
        {"minReaderVersion": 9, "minWriterVersion": 9},
        {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["teleport"], "writerFeatures": ["teleport"]},
    ],
)
def test_a_table_of_a_newer_program_is_refused(project: Project, protocol: dict[str, object]) -> None:
    _deliver(project, "w-1.csv", "a\n1\n")
    log = delta_path(project, "w") / "_delta_log" / f"{1:020}.json"
    log.write_text(json.dumps({"protocol": protocol}) + "\n")
    with pytest.raises(DataError, match=r"was written by a newer program .*: upgrade Passerelle"):
        read(project, "w")
    log.write_text("{")
    with pytest.raises(DataError, match=r"cannot be read .*: put back a copy of the folder from before"):
        read(project, "w")


def _anywhere(folder: Path, text: bytes) -> list[str]:
    return [str(one) for one in folder.rglob("*") if one.is_file() and text in one.read_bytes()]


def test_forgetting_erases_a_unit_from_every_table_and_every_file(project: Project) -> None:
    _deliver(project, "visits-1.csv", "client,page\nanna-77,home\nboris-1,home\nanna-77,shop\n")
    _deliver(project, "visits-2.csv", "client,page\nboris-1,shop\n")
    _deliver(project, "orders.csv", "client,sum\nanna-77,5\n,6\n")
    _deliver(project, "pages.csv", "page\nhome\n")
    before = snapshot(project)
    assert _anywhere(project.state / "data", b"anna-77")
    assert forget(project, "client", "anna-77") == 3
    assert _anywhere(project.state, b"anna-77") == []
    assert sorted(read(project, "visits")["page"].to_pylist()) == ["home", "shop"]
    assert read(project, "orders").to_pylist() == [{"client": None, "sum": 6}]
    assert read(project, "pages", before.tables["pages"]).num_rows == 1  # has no such column: untouched
    with pytest.raises(DataError, match="forgotten since"):
        read(project, "visits", before.tables["visits"])
    assert forget(project, "client", "anna-77") == 0
    (again,) = ingest(project, [project.root / "visits-1.csv"], now=NOW)
    assert again.repeated  # the old delivery does not bring her back
    _deliver(project, "visits-3.csv", "client,page\ncarla-5,home\n")
    assert read(project, "visits").num_rows == 3


def test_the_value_to_forget_is_of_the_columns_kind(project: Project) -> None:
    _deliver(project, "orders.csv", "client,sum\n17,5\n18,6\n")
    with pytest.raises(SettingsError, match="'anna' is not an integer, as column 'client' of 'orders' holds"):
        forget(project, "client", "anna")
    with pytest.raises(SettingsError, match=r"no table of contract.toml has a column 'unit'"):
        forget(project, "unit", "17")
    assert forget(project, "client", "17") == 1
    assert read(project, "orders")["client"].to_pylist() == [18]
