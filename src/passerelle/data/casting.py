"""A column as it was read → the Arrow type of its kind; or which rows do not fit, and why. Pure.

What is written is taken at its word: "5.5" is no integer, "05:17" no number, 1 no string. Only what means the same in
another spelling is accepted: 5.0 for the integer 5, NaN for a missing number, a moment with any offset.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from passerelle.data.columns import ARROW
from passerelle.data.reading import Values
from passerelle.schema import Column, Kind


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """Values that do not fit, for one reason: in which rows (from 0), and what stands there."""

    reason: str
    rows: tuple[int, ...]
    values: tuple[Any, ...]


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """A column in its type, null where a value did not fit."""

    values: pa.ChunkedArray
    misfits: tuple[Misfit, ...] = ()


def cast(values: Values, column: Column, *, text: bool) -> Cast:
    """Read a column's values as its kind. ``text``: they are CSV cells, so that a number is spelled as text."""
    if isinstance(values, list):
        return _cast_mixed(values, column)
    values = _plain(values)
    if values.type == pa.null():
        return Cast(values=values.cast(ARROW[column.kind]))
    converted = _cast_strings(values, column, text) if pa.types.is_string(values.type) else _cast_typed(values, column)
    if converted is not None:
        return converted
    first = next((value for value in values.to_pylist() if value is not None), None)
    return Cast(
        values=pa.chunked_array([pa.nulls(len(values), ARROW[column.kind])]),
        misfits=(Misfit(reason=f"holds {values.type}, not {_A[column.kind]}", rows=(0,), values=(first,)),),
    )


def guess(values: Values, *, text: bool) -> Kind | None:
    """What a column of a first delivery holds; None if nothing is there to tell. Raises ValueError if nothing fits."""
    if isinstance(values, list):
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        raise ValueError(f"holds values of several types ({', '.join(kinds)})")
    values = _plain(values)
    if values.null_count == len(values):
        return None
    for test, kind in _KINDS_OF_TYPES:
        if test(values.type):
            return kind
    if not pa.types.is_string(values.type):
        raise ValueError(f"holds {values.type}: only numbers, text, true or false, moments and days are read")
    texts = pc.unique(_blank_to_null(values)).drop_null()
    for kind, pattern in _GUESSES.items() if text else _ISO_GUESSES.items():
        if pc.all(pc.match_substring_regex(texts, pattern)).as_py():
            trial = _cast_text(pa.chunked_array([texts]), Column(name="", kind=kind))
            reasons = {misfit.reason for misfit in trial.misfits}
            if not reasons or reasons == {_AMBIGUOUS}:
                return kind
            if kind == "integer":
                return "string"  # digits beyond 64 bits: a code, which a float would round
    return "string"


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    return values


def _blank_to_null(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)


def _cast_strings(values: pa.ChunkedArray, column: Column, text: bool) -> Cast:  # noqa: FBT001  (passed on)
    if column.kind == "string":
        return Cast(values=_blank_to_null(values) if text else values)
    if text or column.kind in ("timestamp", "date"):
        return _cast_text(_blank_to_null(values), column)
    return _cast_mixed(values.to_pylist(), column)


def _cast_typed(values: pa.ChunkedArray, column: Column) -> Cast | None:
    kind, source = column.kind, values.type
    number = pa.types.is_integer(source) or pa.types.is_floating(source) or pa.types.is_decimal(source)
    if kind in ("integer", "number") and number:
        return _cast_number(values, kind)
    if kind == "boolean" and pa.types.is_boolean(source):
        return Cast(values=values)
    if kind == "date" and (pa.types.is_date(source) or (pa.types.is_timestamp(source) and source.tz is None)):
        days = values.cast(pa.date32(), safe=False)
        back = pc.equal(days.cast(pa.timestamp("us")), values.cast(pa.timestamp("us"), safe=False))
        return _without(days, values, back, "is not a day: it has a time of day")
    if kind == "timestamp" and (pa.types.is_timestamp(source) or pa.types.is_date(source)):
        if pa.types.is_timestamp(source) and source.tz is not None:
            return Cast(values=values.cast(ARROW["timestamp"], safe=False))
        return _localised(values.cast(pa.timestamp("us"), safe=False), column)
    return None


def _cast_number(values: pa.ChunkedArray, kind: Kind) -> Cast:
    if pa.types.is_integer(values.type):
        try:
            return Cast(values=values.cast(ARROW[kind], safe=kind == "integer"))
        except pa.ArrowInvalid:
            return _cast_mixed(values.to_pylist(), Column(name="", kind=kind))
    floats = values.cast(pa.float64())
    floats = pc.if_else(pc.is_nan(floats), pa.scalar(None, pa.float64()), floats)
    cast = _without(floats, floats, pc.is_finite(floats), "is not finite: leave it out if it is not known")
    if kind == "number":
        return cast
    whole = _without(cast.values, floats, pc.equal(pc.trunc(cast.values), cast.values), _reason("integer"))
    fits = pc.less_equal(pc.abs(whole.values), float(2**53))
    exact = _without(whole.values, floats, fits, "is beyond 2^53, where numbers with a point skip integers")
    misfits = cast.misfits + whole.misfits + exact.misfits
    return Cast(values=exact.values.cast(pa.int64()), misfits=misfits)


def _without(values: pa.ChunkedArray, source: pa.ChunkedArray, good: pa.ChunkedArray, reason: str) -> Cast:
    """The values with null where ``good`` is false, and those as a misfit."""
    bad = pc.indices_nonzero(pc.invert(pc.fill_null(good, fill_value=True)))
    if not len(bad):
        return Cast(values=values)
    kept = pc.if_else(good, values, pa.scalar(None, values.type))
    found = Misfit(reason=reason, rows=tuple(bad.to_pylist()), values=tuple(source.take(bad).to_pylist()))
    return Cast(values=kept, misfits=(found,))


def _localised(naive: pa.ChunkedArray, column: Column) -> Cast:
    """Moments without an offset, as the column's time zone means them."""
    zone = column.timezone or "UTC"
    if zone == "UTC":
        return Cast(values=naive.cast(ARROW["timestamp"]))
    early = pc.assume_timezone(naive, zone, ambiguous="earliest", nonexistent="earliest")
    late = pc.assume_timezone(naive, zone, ambiguous="latest", nonexistent="latest")
    return _without(early.cast(ARROW["timestamp"]), naive, pc.equal(early, late), _AMBIGUOUS)


def _cast_text(values: pa.ChunkedArray, column: Column) -> Cast:
    """Arrow's reader for the whole column if it can; else each distinct text by itself, to know which ones fail."""
    try:
        return Cast(values=_cast_at_once(values, column))
    except pa.ArrowInvalid:
        pass
    zone = ZoneInfo(column.timezone or "UTC")
    encoded = values.combine_chunks().dictionary_encode()
    read: list[Any] = []
    reasons: list[str | None] = []
    for text in encoded.dictionary.to_pylist():
        try:
            read.append(_parse(text, column.kind, zone))
            reasons.append(None)
        except ValueError as error:
            read.append(None)
            reasons.append(str(error))
    typed = pa.array(read, type=ARROW[column.kind]).take(encoded.indices)
    why = pa.array(reasons, type=pa.string()).take(encoded.indices)
    misfits = []
    for reason in dict.fromkeys(reason for reason in reasons if reason):
        bad = pc.indices_nonzero(pc.equal(why, reason))
        misfits.append(Misfit(reason=reason, rows=tuple(bad.to_pylist()), values=tuple(values.take(bad).to_pylist())))
    return Cast(values=pa.chunked_array([typed]), misfits=tuple(misfits))


def _cast_at_once(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    kind = column.kind
    if kind == "integer" and pc.any(pc.match_substring_regex(values, "[xX]")).as_py():
        raise pa.ArrowInvalid("Arrow reads 0x10, we do not")
    if kind == "timestamp":
        aware = pc.match_substring_regex(values, _OFFSET)
        if pc.any(aware).as_py():
            return values.cast(ARROW[kind])  # refuses the texts without an offset
        localised = _localised(values.cast(pa.timestamp("us")), column)
        if localised.misfits:
            raise pa.ArrowInvalid(_AMBIGUOUS)
        return localised.values
    typed = values.cast(ARROW[kind])
    if kind == "number" and not pc.all(pc.is_finite(typed)).as_py() and len(typed.drop_null()):
        raise pa.ArrowInvalid("nan or inf")
    return typed


def _parse(text: str, kind: Kind, zone: tzinfo) -> Any:
    """One text. Raises ValueError with the reason."""
    if kind == "boolean" and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    match = re.fullmatch(_TEXTS[kind], text) if kind in _TEXTS else None
    if text == "NA":
        return None
    try:
        value = _CONVERT[kind](text) if match else None
    except ValueError:
        value = None
    if value is None:
        raise ValueError(_reason(kind))
    if kind == "integer" and not -(2**63) <= value < 2**63:
        raise ValueError("is beyond 64 bits: make the column a string")
    if kind == "number" and not math.isfinite(value):
        raise ValueError("is not finite: leave it out if it is not known")
    return _in_utc(value, zone) if kind == "timestamp" else value


def _in_utc(moment: datetime, zone: tzinfo) -> datetime:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
        if moment.utcoffset() != moment.replace(fold=1).utcoffset():
            raise ValueError(_AMBIGUOUS)
    return moment.astimezone(UTC)


def _cast_mixed(values: Sequence[Any], column: Column) -> Cast:
    """Values of several types, or text where text does not belong: each by itself."""
    fits = [value is None or _fits(value, column.kind) for value in values]
    good = [value if fit else None for value, fit in zip(values, fits, strict=True)]
    bad = tuple(row for row, fit in enumerate(fits) if not fit)
    misfits: tuple[Misfit, ...] = ()
    if bad:
        misfits = (Misfit(reason=_reason(column.kind), rows=bad, values=tuple(values[row] for row in bad)),)
    if column.kind in ("timestamp", "date"):
        inner = _cast_text(pa.chunked_array([pa.array(good, type=pa.string())]), column)
        return Cast(values=inner.values, misfits=misfits + inner.misfits)
    if column.kind in ("integer", "number"):
        number = int if column.kind == "integer" else float
        good = [None if value is None or value != value else number(value) for value in good]  # noqa: PLR0124  (NaN)
    return Cast(values=pa.chunked_array([pa.array(good, type=ARROW[column.kind])]), misfits=misfits)


def _fits(value: Any, kind: Kind) -> bool:
    if isinstance(value, float) and kind in ("integer", "number"):
        return math.isnan(value) or (math.isfinite(value) and (kind == "number" or value.is_integer()))
    if isinstance(value, bool) or kind == "boolean":
        return isinstance(value, bool) and kind == "boolean"
    if isinstance(value, int):
        return kind == "number" or (kind == "integer" and -(2**63) <= value < 2**63)
    return isinstance(value, str) and kind in ("string", "timestamp", "date")


def _reason(kind: Kind) -> str:
    return f"is not {_A[kind]}"


_A: dict[Kind, str] = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "timestamp": "a moment, like 2013-01-31T12:00:00Z",
    "date": "a day, like 2013-01-31",
}
_AMBIGUOUS = "happened twice or never in the column's time zone (the clocks were changed): write its offset"
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
_CLOCK = r"[T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?"
_OFFSET = r"\d{2}:\d{2}.*(Z|[+-]\d{2}(:?\d{2})?)$"
_TEXTS: dict[Kind, str] = {
    "integer": r"[+-]?\d+(\.0*)?",
    "number": r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?",
    "timestamp": rf"\d{{4}}-\d{{2}}-\d{{2}}({_CLOCK}(Z|[+-]\d{{2}}(:?\d{{2}})?)?)?",
    "date": r"\d{4}-\d{2}-\d{2}",
}
#: What the texts of a first delivery are taken for. 007 is a code, not a number; 0 and 1 are not true or false.
_GUESSES: dict[Kind, str] = {
    "integer": r"^[+-]?(0|[1-9]\d*)$",
    "number": r"^[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?$",
    "boolean": r"^(?i:true|false)$",
    "date": rf"^{_TEXTS['date']}$",
    "timestamp": rf"^{_TEXTS['timestamp']}$",
}
_ISO_GUESSES: dict[Kind, str] = {"date": _GUESSES["date"], "timestamp": _GUESSES["timestamp"]}
_CONVERT: dict[Kind, Callable[[str], Any]] = {
    "integer": lambda text: int(text.partition(".")[0]),
    "number": float,
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
}
_KINDS_OF_TYPES: tuple[tuple[Callable[[pa.DataType], bool], Kind], ...] = (
    (pa.types.is_integer, "integer"),
    (pa.types.is_floating, "number"),
    (pa.types.is_decimal, "number"),
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_timestamp, "timestamp"),
    (pa.types.is_date, "date"),
)
