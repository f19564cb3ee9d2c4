"""A batch's rows of one table against its contract: the typed rows, and every problem found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerelle.data.casting import Misfit, cast
from passerelle.data.contract import TableContract, near
from passerelle.data.reading import Raw
from passerelle.schema import Column

_EXAMPLES = 20
_SHOWN = 60


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """Where a problem stands."""

    #: The row in the file, from 1, without the header.
    row: int
    #: What stands there.
    value: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One reason why a batch is not accepted."""

    file: str
    #: None where the file as a whole is meant.
    column: str | None = None
    #: What is wrong.
    reason: str
    #: How many rows it touches; 0 where it is not a matter of rows.
    rows: int = 0
    #: The first of them (at most 20).
    examples: tuple[Example, ...] = ()

    @property
    def sentence(self) -> str:
        """The problem in one sentence: file, column, reason, and the first rows with their values."""
        place = self.file if self.column is None else f"{self.file}, column {self.column!r}"
        text = f"{place}: {self.reason}"
        if self.rows:
            shown = ", ".join(f"row {one.row} {one.value}" for one in self.examples[:3])
            text += f" ({self.rows:,} row{'s' if self.rows > 1 else ''}: {shown}{', …' if self.rows > 3 else ''})"  # noqa: PLR2004  (three are shown)
        return text


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A table's rows in a batch: typed, in the contract's order of columns; not to be used if there are problems."""

    rows: pa.Table
    problems: tuple[Problem, ...]


def check(
    files: Sequence[Raw], contract: TableContract, *, accepted: pa.Table | None, hidden: Iterable[str] = ()
) -> Checked:
    """Check the files that a batch holds of one table.

    ``accepted`` are the identities (contract.identity) of the rows accepted so far; ``hidden`` the columns whose
    values are not to be shown in a problem.
    """
    secret = frozenset(hidden)
    problems: list[Problem] = []
    tables = []
    for raw in files:
        found = _check_names(raw, contract)
        problems += found
        typed = {}
        for column in contract.columns:
            if column.name in raw.columns:
                typed[column.name], more = _check_column(raw, column, secret)
                problems += more
        if not found:
            tables.append(pa.table(typed))
    rows = pa.concat_tables(tables) if tables else pa.table({})
    if tables and not problems:
        problems += _check_whole(files, rows, contract)
        problems += _check_identity(files, rows, contract, accepted, secret)
    return Checked(rows=rows, problems=tuple(problems))


def _check_names(raw: Raw, contract: TableContract) -> list[Problem]:
    names = contract.schema.names
    missing = [name for name in names if name not in raw.columns]
    extra = [name for name in raw.columns if name not in names]
    problems = []
    for name in missing:
        hint = near(name, tuple(extra)).replace("did you mean", "was it renamed to").rstrip("?")
        problems.append(Problem(file=raw.name, column=name, reason=f"is missing{hint}{'?' if hint else ''}"))
    for name in extra:
        hint = near(name, tuple(missing)) or "; if it comes to stay, add it to contract.toml with nullable = true"
        problems.append(Problem(file=raw.name, column=name, reason=f"is not in the contract{hint}"))
    return problems


def _check_column(raw: Raw, column: Column, hidden: frozenset[str]) -> tuple[pa.ChunkedArray, list[Problem]]:
    result = cast(raw.columns[column.name], column, text=raw.text)
    values = result.values
    misfits = list(result.misfits)
    wrong = {row for misfit in misfits for row in misfit.rows}
    if values.null_count and not column.nullable:
        nulls = [row for row in pc.indices_nonzero(pc.is_null(values)).to_pylist() if row not in wrong]
        if nulls:
            reason = "is missing, and may not be"
            misfits.append(Misfit(reason=reason, rows=tuple(nulls), values=(None,) * min(len(nulls), _EXAMPLES)))
    if column.minimum is not None:
        reason = f"is below {column.minimum:g}, the smallest possible value"
        misfits += _where(pc.less(values, column.minimum), values, reason)
    if column.maximum is not None:
        reason = f"is above {column.maximum:g}, the largest possible value"
        misfits += _where(pc.greater(values, column.maximum), values, reason)
    if column.allowed is not None:
        known = pc.or_kleene(pc.is_in(values, value_set=pa.array(column.allowed, pa.string())), pc.is_null(values))
        unknown = pc.unique(values.filter(pc.invert(known))).to_pylist()
        reason = f"is not one of {', '.join(map(repr, column.allowed))}"
        if unknown:
            reason += near(unknown[0], column.allowed)
        misfits += _where(pc.invert(known), values, reason)
    return values, [_problem(raw.name, column.name, misfit, hidden) for misfit in misfits]


def _where(bad: pa.ChunkedArray, values: pa.ChunkedArray, reason: str) -> list[Misfit]:
    rows = pc.indices_nonzero(pc.fill_null(bad, fill_value=False))
    if not len(rows):
        return []
    return [
        Misfit(reason=reason, rows=tuple(rows.to_pylist()), values=tuple(values.take(rows[:_EXAMPLES]).to_pylist()))
    ]


def _problem(file: str, column: str, misfit: Misfit, hidden: frozenset[str]) -> Problem:
    examples = tuple(
        Example(row=row + 1, value="(hidden)" if column in hidden else _shown(value))
        for row, value in zip(misfit.rows[:_EXAMPLES], misfit.values[:_EXAMPLES], strict=True)
    )
    return Problem(file=file, column=column, reason=misfit.reason, rows=len(misfit.rows), examples=examples)


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    text = repr(value) if isinstance(value, str | int | float | bool) else _plain(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _check_whole(files: Sequence[Raw], rows: pa.Table, contract: TableContract) -> list[Problem]:
    file = _names(files)
    problems = []
    if rows.num_rows < contract.rows_at_least:
        reason = f"holds {rows.num_rows:,} rows, and a batch has at least {contract.rows_at_least:,} (rows_at_least)"
        problems.append(Problem(file=file, reason=reason))
    for column, most in contract.missing_at_most.items():
        share = rows[column].null_count / rows.num_rows
        if share > most:
            reason = f"is missing in {share:.1%} of the rows, and may be in {most:.1%} at most (missing_at_most)"
            problems.append(Problem(file=file, column=column, reason=reason))
    return problems + _check_means(file, rows, contract)


def _check_means(file: str, rows: pa.Table, contract: TableContract) -> list[Problem]:
    """Columns whose mean is out of bounds; one without a single value has none."""
    problems = []
    for column in {**contract.mean_at_least, **contract.mean_at_most}:
        mean = pc.mean(rows[column]).as_py()
        least, most = contract.mean_at_least.get(column), contract.mean_at_most.get(column)
        bound = ""
        if mean is not None and least is not None and mean < least:
            bound = f"below {least:g} (mean_at_least)"
        elif mean is not None and most is not None and mean > most:
            bound = f"above {most:g} (mean_at_most)"
        if bound:
            reason = f"has a mean of {mean:.4g}, {bound}: is it in another unit?"
            problems.append(Problem(file=file, column=column, reason=reason))
    return problems


def _names(files: Sequence[Raw]) -> str:
    return ", ".join(raw.name for raw in files)


def _check_identity(
    files: Sequence[Raw],
    rows: pa.Table,
    contract: TableContract,
    accepted: pa.Table | None,
    hidden: frozenset[str],
) -> list[Problem]:
    """Rows that share their identity with one before them in the batch, or with an accepted one."""
    identity = list(contract.identity)
    if not identity:
        return []
    place = pa.array(np.arange(rows.num_rows))
    keys = rows.select(identity).append_column(_PLACE, place)
    groups = keys.group_by(identity).aggregate([(_PLACE, "count"), (_PLACE, "min")])
    twice = groups.filter(pc.greater(groups[f"{_PLACE}_count"], 1))
    problems = []
    if twice.num_rows:
        first = set(twice[f"{_PLACE}_min"].to_pylist())
        again = keys.join(twice.select(identity), keys=identity, join_type="left semi")[_PLACE].to_pylist()
        places = sorted(row for row in again if row not in first)
        problems += _identity_problems(
            files, rows, identity, places=places, reason="repeats a row of this batch", hidden=hidden
        )
    if accepted is not None and accepted.num_rows:
        known = keys.join(accepted.select(identity), keys=identity, join_type="left semi")[_PLACE].to_pylist()
        problems += _identity_problems(
            files, rows, identity, places=sorted(known), reason="was accepted before", hidden=hidden
        )
    return problems


_PLACE = "__place__"


def _identity_problems(
    files: Sequence[Raw],
    rows: pa.Table,
    identity: Sequence[str],
    *,
    places: Sequence[int],
    reason: str,
    hidden: frozenset[str],
) -> list[Problem]:
    ends = np.cumsum([raw.rows for raw in files])
    of_file = np.searchsorted(ends, places, side="right")
    problems = []
    for number, raw in enumerate(files):
        mine = [place for place, owner in zip(places, of_file, strict=True) if owner == number]
        if not mine:
            continue
        start = int(ends[number]) - raw.rows
        shown = rows.select(identity).take(mine[:_EXAMPLES]).to_pylist()
        examples = tuple(
            Example(row=place - start + 1, value=_key_shown(key, hidden))
            for place, key in zip(mine, shown, strict=False)
        )
        what = f"the key {'/'.join(identity)} {reason}"
        problems.append(Problem(file=raw.name, reason=what, rows=len(mine), examples=examples))
    return problems


def _key_shown(key: Mapping[str, Any], hidden: frozenset[str]) -> str:
    return "/".join("(hidden)" if name in hidden else _plain(value) for name, value in key.items())


def _plain(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, date) else str(value)
