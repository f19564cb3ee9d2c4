"""Files as they come: what is read, and what is refused with its reason."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from passerelle.data.reading import Raw, read_file
from passerelle.errors import DataError


def _read(tmp_path: Path, name: str, content: bytes) -> Raw:
    (tmp_path / name).write_bytes(content)
    return read_file(tmp_path / name)


def _values(raw: Raw) -> dict[str, list[Any]]:
    return {name: list(one) if isinstance(one, list) else one.to_pylist() for name, one in raw.columns.items()}


def test_csv_cells_are_text_and_empty_and_na_are_missing(tmp_path: Path) -> None:
    raw = _read(tmp_path, "t.csv", b'\xef\xbb\xbfa,b\r\n007,"NA"\r\nNA,\r\n"1,5","said ""no"",\nleft"\r\n')
    assert _values(raw) == {"a": ["007", None, "1,5"], "b": ["NA", None, 'said "no",\nleft']}
    assert (raw.rows, raw.text) == (3, True)


def test_a_single_column_keeps_its_empty_lines_as_missing(tmp_path: Path) -> None:
    assert _values(_read(tmp_path, "t.csv", b"a\n1\n\n2\n")) == {"a": ["1", None, "2"]}


def test_gzipped_files_are_read_as_the_others(tmp_path: Path) -> None:
    assert _values(_read(tmp_path, "t.csv.gz", gzip.compress(b"a\n1\n"))) == {"a": ["1"]}
    assert _values(_read(tmp_path, "t.jsonl.gz", gzip.compress(b'{"a":1}\n'))) == {"a": [1]}


def test_json_lines_keep_their_types_and_a_field_left_out_is_missing(tmp_path: Path) -> None:
    raw = _read(tmp_path, "t.jsonl", b'{"a":1,"b":"x","c":true}\n\n{"a":2.5,"c":null}\n{"a":NaN,"b":"y"}')
    assert raw.columns["a"].type == pa.float64()
    assert _values(raw)["a"][:2] == [1.0, 2.5]
    assert _values(raw)["b"] == ["x", None, "y"]
    assert _values(raw)["c"] == [True, None, None]
    assert raw.text is False


def test_json_values_of_several_types_are_kept_as_they_are(tmp_path: Path) -> None:
    raw = _read(tmp_path, "t.jsonl", b'{"a":1}\n{"a":"05:17"}\n{"a":true}\n')
    assert raw.columns["a"] == [1, "05:17", True]


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array([1, None], pa.int32()), "b": pa.array(["x", "y"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "year=2013.parquet")  # a name that a data set reader would make a column of
    raw = read_file(tmp_path / "year=2013.parquet")
    assert _values(raw) == {"a": [1, None], "b": ["x", "y"]}


REFUSED = {
    "zero.csv": (b"", r"zero\.csv is empty \(0 bytes\)"),
    "header.csv": (b"a,b\n", r"header\.csv holds no row"),
    "blank.csv": (b"\n\n", r"blank\.csv has no header"),
    "ragged.csv": (b"a,b\n1,2\n3\n4,5,6\n7,8\n", r"line 3 has 1 cells, the header 2; line 4 has 3 cells"),
    "quote.csv": (b'a,b\n1,"x\n2,3\n', r"quote\.csv opens a quote and never closes it"),
    "latin.csv": (b"a,b\nx,y\nz,\xe9\n", r"latin\.csv is not UTF-8: line 3 holds the byte 0xe9"),
    "utf16.csv": ("a,b\n1,2\n".encode("utf-16"), r"not UTF-8: line 1"),
    "twice.csv": (b"a,b,a\n1,2,3\n", r"names two columns 'a'"),
    "index.csv": (b",a\n0,1\n", r"column 1 has no name \(pandas writes its index so: use index=False\)"),
    "semicolon.csv": (b"a;b\n1;2\n", r"the one column 'a;b': separate columns with commas"),
    "headless.csv": (b"1,2\n3,4\n", r"no header: its first line, '1,2', holds numbers"),
    "cut.csv.gz": (gzip.compress(b"a\n1\n" * 999)[:-20], r"cut\.csv\.gz is cut off or damaged"),
    "plain.csv.gz": (b"a\n1\n", r"plain\.csv\.gz is cut off or damaged \(Not a gzipped file"),
    "none.jsonl": (b"\n \n", r"none\.jsonl holds no row"),
    "cut.jsonl": (b'{"a":1}\n{"a":', r"line 2 is not JSON .*Was the file cut off"),
    "list.jsonl": (b'{"a":1}\n[1]\n', r"line 2 is not an object"),
    "deep.jsonl": (b'{"a":' + b"[" * 100_000, r"line 1 is not JSON"),
    "latin.jsonl": (b'{"a":"\xe9"}\n', r"line 1 is not JSON"),
    "text.parquet": (b"a,b\n1,2\n", r"text\.parquet is not Parquet, or is cut off"),
    "book.xlsx": (b"PK\x03\x04", r"of no format that is read here: deliver \.csv"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_read_is_refused_with_the_place(tmp_path: Path, name: str) -> None:
    content, reason = REFUSED[name]
    with pytest.raises(DataError, match=reason):
        _read(tmp_path, name, content)


def test_a_truncated_parquet_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    for size in (4, len(whole) // 2, len(whole) - 1):
        with pytest.raises(DataError, match="is not Parquet, or is cut off"):
            _read(tmp_path, "cut.parquet", whole[:size])


def test_parquet_with_two_columns_of_a_name_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="names two columns 'a'"):
        read_file(tmp_path / "t.parquet")


def test_at_most_twenty_ragged_lines_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 22 has 1 cells, the header 2 \(and 10 more lines\)") as caught:
        _read(tmp_path, "t.csv", b"a,b\n1,2\n" + b"3\n" * 30)
    assert "line 23" not in str(caught.value)
