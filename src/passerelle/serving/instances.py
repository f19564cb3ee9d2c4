"""Instances: events in the forms of other servers: instances, MLflow's data frames, columns, CSV. Pure.

In every form a field called ``passerelle_id``, ``passerelle_unit`` or ``passerelle_at`` is no input: it says the id of
the event, who is randomised, and when it happened. A field of the model that is called so stays a field.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from passerelle.decoding import prepared
from passerelle.schema import Column, Schema
from passerelle.serving.events import Answer, BodyError, Event, fault, invalid

#: Field → what it says of the event.
RESERVED = {"passerelle_id": "id", "passerelle_unit": "unit", "passerelle_at": "at"}
#: The keys that a body may be recognised by, and those that may stand beside them.
FORMS = ("instances", "dataframe_split", "dataframe_records", "inputs")
_BESIDE = frozenset({"parameters", "params"})


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes: to read rows that name no field, and text that has no types."""

    #: All fields that may be sent.
    schema: Schema
    #: Those that must be, in order: of rows without names.
    order: tuple[str, ...]

    def is_reserved(self, name: str) -> bool:
        """Is this no input?"""
        return name in RESERVED and name not in self.schema.names


def form_of(sent: Mapping[str, Any]) -> str | None:
    """Which of these forms a JSON body has; None: it is one of our own (``{"inputs": {field: value}}``, ``events``).

    >>> form_of({"instances": []}), form_of({"inputs": {"hour": [5]}}), form_of({"inputs": {"hour": 5}})
    ('instances', 'columns', None)
    """
    for name in FORMS[:3]:
        if name in sent:
            return name
    inputs = sent.get("inputs")
    if isinstance(inputs, list):
        return "tensors" if any(isinstance(one, dict) and "datatype" in one for one in inputs) else "inputs"
    if isinstance(inputs, dict) and inputs and all(isinstance(value, list) for value in inputs.values()):
        return "columns"
    return None


def read_rows(sent: Mapping[str, Any], form: str, fields: Fields) -> list[Event]:
    """The events of a body of this form. Raises RowsError, naming what is wrong."""
    key = "inputs" if form == "columns" else form
    for name, value in sent.items():
        if name == key or (name in _BESIDE and not value):
            continue
        if name in _BESIDE:
            raise fault(0, name, f"says {next(iter(value))!r}, and this model takes none: leave it out")
        raise fault(0, name, "is not a key here")
    rows = sent[key]
    if form == "columns":
        return _of_columns(rows, fields)
    if form == "dataframe_split":
        return _of_split(rows, fields)
    if not isinstance(rows, list):
        raise fault(0, key, "is not a list of rows")
    return [_of_row(row, number, fields) for number, row in enumerate(rows)]


def read_csv(body: bytes, fields: Fields) -> list[Event]:
    """The events of lines of values; a first line of names says which, else they are the model's fields in order.

    An empty value is null where the field may be null.
    """
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BodyError(
            f"the body is not CSV that can be read ({error}): send UTF-8, and quote what has commas."
        ) from error
    lines = [line for line in lines if line]
    known = {*fields.schema.names, *RESERVED}
    names: Sequence[str] = fields.order
    if lines and all(cell in known for cell in lines[0]):
        names, lines = _once(lines[0]), lines[1:]
    columns = {column.name: column for column in fields.schema.columns}
    events = []
    for number, line in enumerate(lines):
        _check_length(line, names, number)
        row = {name: _typed(cell, columns.get(name)) for name, cell in zip(names, line, strict=True)}
        events.append(event_of(row, number, fields))
    return events


def event_of(row: Mapping[str, Any], number: int, fields: Fields) -> Event:
    """A flat row as an event: the reserved fields apart."""
    if not any(name in row for name in RESERVED):
        return Event(inputs=dict(row))
    said = {
        RESERVED[name]: value for name, value in row.items() if fields.is_reserved(name) and value not in (None, "")
    }
    inputs = {name: value for name, value in row.items() if not fields.is_reserved(name)}
    return made(said | {"inputs": inputs}, number)


def made(event: Mapping[str, Any], number: int) -> Event:
    """An event of its parts. Raises RowsError if one is not possible."""
    try:
        return msgspec.convert(event, prepared(Event))
    except msgspec.ValidationError as error:
        raise invalid(error, number) from error


def write_csv(answers: Sequence[Answer]) -> bytes:
    """Answers as lines of values, after a line of names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = ("id", "prediction", "probability", "version", "revision", "error")
    writer.writerow(names)
    writer.writerows([_cell(getattr(answer, name)) for name in names] for answer in answers)
    return text.getvalue().encode()


def _of_row(row: Any, number: int, fields: Fields) -> Event:
    if isinstance(row, dict):
        # No field holds an object: this is an event as our own door takes it.
        return made(row, number) if isinstance(row.get("inputs"), dict) else event_of(row, number, fields)
    values = row if isinstance(row, list) else [row]
    _check_length(values, fields.order, number)
    return Event(inputs=dict(zip(fields.order, values, strict=True)))


def _of_split(split: Any, fields: Fields) -> list[Event]:
    if not isinstance(split, dict) or not isinstance(split.get("data"), list):
        raise fault(0, "dataframe_split", 'is not {"columns": [...], "data": [[...], ...]}')
    if unknown := sorted(split.keys() - {"columns", "data", "index"}):
        raise fault(0, unknown[0], "is not a key here")
    names = split.get("columns", fields.order)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise fault(0, "columns", "is not a list of fields")
    _once(names)
    events = []
    for number, line in enumerate(split["data"]):
        values = line if isinstance(line, list) else [line]
        _check_length(values, names, number)
        events.append(event_of(dict(zip(names, values, strict=True)), number, fields))
    return events


def _of_columns(columns: Mapping[str, list[Any]], fields: Fields) -> list[Event]:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shortest = min(lengths, key=lengths.__getitem__)
        raise fault(
            lengths[shortest], shortest, f"has {lengths[shortest]} values, and another has {max(lengths.values())}"
        )
    rows = zip(*columns.values(), strict=True)
    return [event_of(dict(zip(columns, row, strict=True)), number, fields) for number, row in enumerate(rows)]


def _check_length(values: Sequence[Any], names: Sequence[str], number: int) -> None:
    if len(values) != len(names):
        raise fault(number, "body", f"has {len(values)} values, and the fields are {len(names)}: {', '.join(names)}")


def _once(names: Sequence[str]) -> Sequence[str]:
    if twice := [name for name in names if names.count(name) > 1]:
        raise fault(0, twice[0], "stands twice among the fields")
    return names


def _typed(cell: str, column: Column | None) -> Any:
    """A text as its field's kind wants it; what cannot be read stays a text, which the schema refuses."""
    if column is None or column.kind in ("string", "timestamp", "date"):
        return None if cell == "" and column is not None and column.nullable else cell
    if cell == "":
        return None
    if column.kind == "boolean":
        return {"true": True, "false": False, "1": True, "0": False}.get(cell.lower(), cell)
    for read in (int, float):
        try:
            return read(cell)
        except ValueError:
            continue
    return cell


def _cell(value: Any) -> Any:
    if value is msgspec.UNSET:
        return ""
    return (
        value
        if isinstance(value, str | int | float) and not isinstance(value, bool)
        else msgspec.json.encode(value).decode()
    )
