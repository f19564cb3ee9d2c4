"""Events: the raw rows as a caller of the endpoint sends them, and which of them X was made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from passerelle.errors import SchemaError, SubmissionError
from passerelle.notebook.compare import as_table, compare, named
from passerelle.notebook.frame import infer_schema, shown, to_frame
from passerelle.notebook.proofs import described
from passerelle.notebook.submission import Handout
from passerelle.schema import Column, Columns, Schema, count, take

MakeEvents = Callable[[dict[str, Any]], Any]

#: Seconds that trying events on parts may take: where other tables are large, each part costs about what all do.
BUDGET_S = 30.0
#: Parts that are tried whatever they take.
_PARTS_AT_LEAST = 3
_SINGLES = 5
_SEVEN = 7

_ADVICE = "pass X as a DataFrame that keeps the index of training_data()."


def make_events(events: MakeEvents | None, handout: Handout, tables: Mapping[str, Columns]) -> pd.DataFrame:
    """One raw row per event, without the target, with the index 0, 1, 2 ... of the main table.

    ``tables`` are the rows of every table; ``events`` joins them, else the main table's rows are the events. Raises
    SubmissionError if it raises, gives no frame, gives rows that are no event's, or two for one.
    """
    frames = {name: to_frame(columns, _without_target(handout, name)) for name, columns in tables.items()}
    main = frames[handout.main]
    if events is None:
        return main
    try:
        raw = events({name: frame.copy() for name, frame in frames.items()})
    except Exception as error:
        raise SubmissionError(
            f"events fails: {described(error)}. It is given a dict of the tables as DataFrames "
            f"({', '.join(frames)}), the target left out."
        ) from error
    if not isinstance(raw, pd.DataFrame):
        raise SubmissionError(f"events gives {type(raw).__name__}: let it return a DataFrame with a row per event.")
    if raw.index.has_duplicates or not raw.index.isin(main.index).all():
        raise SubmissionError(
            f"events gives {len(raw):,} rows for {len(main):,} of {handout.main!r}, some twice or none's: a join finds "
            f"several rows for one event, or the index of {handout.main!r} was lost."
        )
    keys = [name for name in handout.key if name in raw.columns]
    moved = compare(raw[keys], main.loc[raw.index, keys])
    if moved:
        raise SubmissionError(
            f"events brings rows out of place: {moved[0].column!r} is not that of the same index in {handout.main!r}. "
            "A merge makes a new index: use how='left', or set the old one again."
        )
    if handout.target in raw.columns:
        raise SubmissionError(f"the target {handout.target!r} is among the events' columns: an event has none.")
    return raw


def _without_target(handout: Handout, table: str) -> Schema:
    schema = handout.tables[table]
    return schema.select([name for name in schema.names if (table, name) != (handout.main, handout.target)])


def check_events(
    events: MakeEvents, handout: Handout, tables: Mapping[str, Columns], raw: pd.DataFrame, names: Sequence[str]
) -> str:
    """Make events of parts of the main table, the other tables whole: these columns must be as in ``raw``, of all.

    Stops after BUDGET_S, but not before half of the rows, a single one and seven were tried. Raises SubmissionError
    naming the columns that differ.
    """
    main, until, done = tables[handout.main], time.monotonic() + BUDGET_S, 0
    for way, batch in _parts(count(main)):
        if done >= _PARTS_AT_LEAST and time.monotonic() > until:
            break
        try:
            part = make_events(events, handout, {**tables, handout.main: take(main, batch)})
        except SubmissionError as error:
            text = f"{error} It was given rows of {handout.main!r} {way}: an event comes alone."
            raise SubmissionError(text) from error
        part = part.set_axis(batch[part.index.to_numpy(dtype=np.int64)], axis=0)
        whole = raw.loc[raw.index.isin(batch)]
        if set(part.index) != set(whole.index):
            raise SubmissionError(
                f"events gives {len(part):,} rows for {len(batch):,} of {handout.main!r} {way}, and {len(whole):,} for "
                "the same together with others: let each row become an event whatever the others are."
            )
        _same_events(whole.loc[part.index], part, names, f"rows of {handout.main!r}", way)
        done += 1
    return f"the same from {done} parts of {handout.main!r}: half of it shuffled, rows alone and in sevens"


def _same_events(whole: pd.DataFrame, part: pd.DataFrame, names: Sequence[str], of: str, way: str) -> None:
    wrong = {name: "not there" for name in names if name not in part.columns}
    kept = [name for name in names if name not in wrong]
    for one in compare(whole[kept], part[kept]):
        wrong[one.column] = f"{shown(one.left)} together with others, {shown(one.right)}"
    if wrong:
        first = next(iter(wrong))
        raise SubmissionError(
            f"{named(list(wrong))} of events depend{'s' if len(wrong) == 1 else ''} on the other {of} ({first} is "
            f"{wrong[first]} {way}): an event comes alone. Let events join by key alone, and compute what is needed of "
            "the training rows once, in a transformer of the model's pipeline."
        )


def _parts(rows: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Parts of a table, the most telling first, each with its name for messages."""
    random = np.random.default_rng(11)
    yield "shuffled, without the other half", random.permutation(rows)[: max(1, rows // 2)]
    for row in random.permutation(rows)[:_SINGLES]:
        yield "alone", np.array([row])
        start = int(random.integers(0, max(1, rows - _SEVEN)))
        yield "in sevens", np.arange(start, min(start + _SEVEN, rows))


class RawSchema(msgspec.Struct, frozen=True, kw_only=True):
    """What the raw rows hold."""

    schema: Schema
    #: Column that no field of an event can be → why.
    unusable: dict[str, str]


def raw_schema(raw: pd.DataFrame, handout: Handout) -> RawSchema:
    """The schema of the raw rows: of the main table as handed out; of what events joined, nullable."""
    main = {column.name: column for column in handout.tables[handout.main].columns}
    joined = {
        column.name: msgspec.structs.replace(column, nullable=True)
        for name, schema in handout.tables.items()
        if name != handout.main
        for column in schema.columns
    }
    columns: list[Column] = []
    unusable: dict[str, str] = {}
    for name in raw.columns:
        try:
            (column,) = infer_schema(raw[[name]], joined | main).columns
        except SchemaError as error:
            unusable[str(name)] = str(error)
            continue
        if str(name) not in main and column.kind not in ("integer", "boolean"):
            column = msgspec.structs.replace(column, nullable=True)  # a join may find nothing for an event
        columns.append(column)
    return RawSchema(schema=Schema(columns=tuple(columns)), unusable=unusable)


def place_rows(X: Any, raw: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[Any]]:  # noqa: N803  (X is its name)
    """X as a table, and for each of its rows the position of the raw row that it was made of.

    Raises SubmissionError if that cannot be known.
    """
    table = as_table(X, "X")
    if not isinstance(X, pd.DataFrame | pd.Series):
        if len(table) != len(raw):
            raise SubmissionError(
                f"X is an array of {len(table):,} rows and there are {len(raw):,} raw rows, so that it cannot be known "
                f"which they are: {_ADVICE}"
            )
        return table.set_axis(raw.index, axis=0), np.arange(len(raw))
    if not len(table):
        raise SubmissionError(f"X has no rows: {_ADVICE}")
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise SubmissionError(f"X has the index {shown(twice)} twice, so that its rows are not known: {_ADVICE}")
    places = raw.index.get_indexer(table.index)
    if (places < 0).any():
        stray = table.index[places < 0][0]
        raise SubmissionError(
            f"X has the index {shown(stray)}, which no raw row has ({(places < 0).sum():,} of them): {_ADVICE}"
        )
    return table, places
