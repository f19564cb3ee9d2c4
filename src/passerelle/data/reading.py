"""A delivered file → its columns as they stand in it, before any contract.

A CSV cell is text, whatever it looks like; it is missing if it is empty or NA (``"NA"`` in quotes is the text NA).
Parquet and JSON lines bring types of their own. What the values mean is the business of ``casting``.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from passerelle.errors import DataError

Values: TypeAlias = pa.ChunkedArray | list[Any]
"""A column as it was read; a list only where JSON lines hold values of several types."""

_SHOWN = 20
_EXACT = 2**53


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """A file's content, column by column."""

    #: The file's name, for messages.
    name: str
    columns: dict[str, Values]
    rows: int
    #: True where every value is text whose meaning is still to be read (CSV).
    text: bool


def read_file(path: Path) -> Raw:
    """Read a CSV, Parquet or JSON lines file (CSV and JSON lines also gzipped).

    Raises DataError, with the line where there is one, if the file is empty, cut off, ragged, not UTF-8, of another
    format, or names a column twice.
    """
    read = _READERS.get(_suffix(path))
    if read is None:
        raise DataError(f"{path.name} is of no format that is read here: deliver {', '.join(_READERS)}.")
    data = path.read_bytes()
    if not data:
        raise DataError(f"{path.name} is empty (0 bytes): deliver it again.")
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path.name} is cut off or damaged ({error}): deliver it again.") from error
    raw = read(path.name, data)
    if not raw.rows:
        raise DataError(f"{path.name} holds no row.")
    return raw


def stem(path: Path) -> str:
    """The file's name without what says its format.

    >>> stem(Path("in/flights-2013-01.csv.gz"))
    'flights-2013-01'
    """
    return path.name[: len(path.name) - len(_suffix(path))]


def _suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:]).lower() if path.suffix == ".gz" else path.suffix.lower()


def _read_csv(name: str, data: bytes) -> Raw:
    data = data.removeprefix(b"\xef\xbb\xbf")
    names = _header(name, _utf8(name, data))
    if data.count(b'"') % 2:
        raise DataError(f"{name} opens a quote and never closes it: was it cut off, or a quote in a cell not doubled?")
    ragged: list[str] = []

    def note(row: Any) -> str:
        ragged.append(f"line {row.number}" if row.number is not None else f"the line {row.text[:60]!r}")
        ragged[-1] += f" has {row.actual_columns} cells, the header {row.expected_columns}"
        return "skip"

    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            # One thread: only then does the parser know the number of a line.
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=1 << 24),
            parse_options=pa.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=note, ignore_empty_lines=len(names) > 1
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=["", "NA"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{name} is not CSV: {error}.") from error
    if ragged:
        more = f" (and {len(ragged) - _SHOWN} more lines)" if len(ragged) > _SHOWN else ""
        raise DataError(f"{name} is ragged: {'; '.join(ragged[:_SHOWN])}{more}. Was it cut off, or a comma not quoted?")
    return Raw(name=name, columns=_named(table), rows=table.num_rows, text=True)


def _utf8(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name} is not UTF-8: line {line} holds the byte 0x{data[error.start]:02x}. Save it as UTF-8."
        ) from error


def _header(name: str, text: str) -> list[str]:
    try:
        names = next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
    except csv.Error as error:
        raise DataError(f"{name} is not CSV: its first line: {error}.") from error
    if not names:
        raise DataError(f"{name} has no header: its first line is empty.")
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise DataError(f"{name} has the one column {names[0][:60]!r}: separate columns with commas.")
    if all(_is_number(cell) for cell in names):
        raise DataError(f"{name} has no header: its first line, {','.join(names)[:60]!r}, holds numbers.")
    _refuse_names(name, names)
    return names


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _refuse_names(name: str, names: list[str]) -> None:
    for place, column in enumerate(names, start=1):
        if not column.strip():
            raise DataError(f"{name}: column {place} has no name (pandas writes its index so: use index=False).")
        if names.index(column) != place - 1:
            raise DataError(f"{name} names two columns {column!r}: give each its own name.")


def _read_parquet(name: str, data: bytes) -> Raw:
    try:
        with pa.parquet.ParquetFile(pa.BufferReader(data)) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is not Parquet, or is cut off ({error}): deliver it again.") from error
    _refuse_names(name, table.column_names)
    return Raw(name=name, columns=_named(table), rows=table.num_rows, text=False)


def _named(table: pa.Table) -> dict[str, Values]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _read_jsonl(name: str, data: bytes) -> Raw:
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip()]
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    events = []
    for number, line in lines:
        try:
            events.append(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            events.append(_lenient(name, number, line))
    fields = list(dict.fromkeys(field for event in events for field in event))
    _refuse_names(name, fields)
    columns = {field: _column([event.get(field) for event in events]) for field in fields}
    return Raw(name=name, columns=columns, rows=len(events), text=False)


def _lenient(name: str, number: int, line: bytes) -> dict[str, Any]:
    """Python's reader, for the NaN and Infinity that Python's own writer puts in."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: line {number} is not JSON ({error}). Was the file cut off?") from error
    if not isinstance(event, dict):
        raise DataError(f'{name}: line {number} is not an object, like {{"hour": 5}}.')
    return event


def _column(values: list[Any]) -> Values:
    types = set(map(type, values)) - {type(None)}
    kind = next((arrow for python, arrow in _JSON_TYPES if types <= python), None)
    if kind is None:
        return values
    if kind == pa.float64() and int in types and any(type(one) is int and abs(one) > _EXACT for one in values):
        return values
    try:
        column: Values = pa.chunked_array([pa.array(values, type=kind)])
    except (OverflowError, pa.ArrowInvalid, UnicodeEncodeError):
        return values
    return column


_JSON_TYPES: tuple[tuple[set[type], pa.DataType], ...] = (
    (set(), pa.null()),
    ({str}, pa.string()),
    ({bool}, pa.bool_()),
    ({int}, pa.int64()),
    ({int, float}, pa.float64()),
)

_READERS: dict[str, Callable[[str, bytes], Raw]] = {
    ".csv": _read_csv,
    ".csv.gz": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".ndjson": _read_jsonl,
}
