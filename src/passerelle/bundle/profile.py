"""Profile: what inputs and scores looked like, as counts that can be added. Monitoring compares later counts with it.

A numeric field is a histogram between fixed edges (quantiles of the first rows seen), a categorical one is counts of
fixed values (the most frequent first seen). Profiles made ``like`` the same one have the same edges and values, so
``merge(profile(a, like=p), profile(b, like=p)) == profile(a + b, like=p)``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.decoding import prepared
from passerelle.errors import BundleError
from passerelle.project.settings import Privacy
from passerelle.schema import Columns, Kind, Schema, count

#: A histogram has at most this many bins between its edges, and one beyond each end. With 20 a spread that grows by a
#: tenth is told after 8.5 windows of 500 events in the median, with 100 after 6.5; the flights' profile is 16 kB for 7.
BINS = 100
#: The most values that a categorical field counts by name.
VALUES = 100


class Numeric(msgspec.Struct, frozen=True, kw_only=True, tag="numeric", tag_field="field"):
    """Counts of a numeric field. Bin i holds edges[i-1] <= value < edges[i]; the first and last are open."""

    #: Ascending; for a timestamp seconds, for a date days, since 1970.
    edges: tuple[float, ...]
    #: One more than edges; missing values are not among them.
    counts: tuple[int, ...]
    missing: int


class Categorical(msgspec.Struct, frozen=True, kw_only=True, tag="categorical", tag_field="field"):
    """Counts of a field's values by name; a boolean's are "true" and "false"."""

    values: dict[str, int]
    #: Of all values that are not named.
    other: int
    missing: int


class Hidden(msgspec.Struct, frozen=True, kw_only=True, tag="hidden", tag_field="field"):
    """A field that the project hashes or drops: no value of it is kept, only how many were missing."""

    present: int
    missing: int


Field = Numeric | Categorical | Hidden


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of rows: their inputs, and the model's scores for them."""

    rows: int
    #: Input field → its counts.
    inputs: dict[str, Field]
    #: One per output of the model.
    scores: tuple[Numeric, ...]


def profile(
    columns: Columns,
    outputs: NDArray[Any],
    schema: Schema,
    *,
    privacy: Mapping[str, Privacy] | None = None,
    like: Profile | None = None,
) -> Profile:
    """Count rows (``outputs`` of shape (rows, outputs)), with the edges and values of ``like`` if it is given.

    >>> from passerelle.schema import Column
    >>> schema = Schema(columns=(Column(name="origin", kind="string", nullable=True),))
    >>> origins = np.array(["EWR", "JFK", "EWR", None], dtype=object)
    >>> profile({"origin": origins}, np.full((4, 1), 0.5), schema).inputs["origin"]
    Categorical(values={'EWR': 2, 'JFK': 1}, other=0, missing=1)
    """
    inputs: dict[str, Field] = {}
    for column in schema.columns:
        values = columns[column.name]
        before = like.inputs[column.name] if like else None
        if (privacy or {}).get(column.name, "keep") != "keep":
            inputs[column.name] = _hidden(values)
        elif column.kind in ("string", "boolean"):
            inputs[column.name] = _categorical(values, before)
        else:
            inputs[column.name] = _numeric(_as_float(values, column.kind), before)
    scores = tuple(
        _numeric(np.asarray(outputs[:, number], dtype=np.float64), like.scores[number] if like else None)
        for number in range(outputs.shape[1])
    )
    return Profile(rows=count(columns), inputs=inputs, scores=scores)


def merge(first: Profile, second: Profile) -> Profile:
    """The counts of both. Raises BundleError if their edges or values differ: they were not made like the same one."""
    if first.inputs.keys() != second.inputs.keys() or len(first.scores) != len(second.scores):
        raise BundleError(
            f"profiles of different models cannot be added: fields {sorted(first.inputs)} and {sorted(second.inputs)}."
        )
    inputs = {name: _add(name, first.inputs[name], second.inputs[name]) for name in first.inputs}
    pairs = zip(first.scores, second.scores, strict=True)
    scores = tuple(_add_numeric(f"score {number}", one, two) for number, (one, two) in enumerate(pairs))
    return Profile(rows=first.rows + second.rows, inputs=inputs, scores=scores)


def encode_profile(value: Profile) -> bytes:
    """A profile as JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


def read_profile(path: Path) -> Profile:
    """Read a profile's JSON file. Raises BundleError if it is damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=prepared(Profile))
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise BundleError(f"{path} is not a profile that can be read ({error}): fetch the bundle again.") from error


def _as_float(values: NDArray[Any], kind: Kind) -> NDArray[np.float64]:
    if kind not in ("timestamp", "date"):
        return values.astype(np.float64)
    unit = np.timedelta64(1, "s") if kind == "timestamp" else np.timedelta64(1, "D")
    return np.asarray((values - np.datetime64(0, "s" if kind == "timestamp" else "D")) / unit, dtype=np.float64)


def _is_missing(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype == object:
        return np.array([value is None for value in values], dtype=np.bool_)
    if values.dtype.kind == "M":
        return np.asarray(np.isnat(values))
    return np.asarray(np.isnan(values)) if values.dtype.kind == "f" else np.zeros(len(values), dtype=np.bool_)


def _hidden(values: NDArray[Any]) -> Hidden:
    missing = int(_is_missing(values).sum())
    return Hidden(present=len(values) - missing, missing=missing)


def _categorical(values: NDArray[Any], like: Field | None) -> Categorical:
    missing = _is_missing(values)
    names = [str(value).lower() if isinstance(value, bool) else value for value in values[~missing].tolist()]
    counts = Counter(names)
    if isinstance(like, Categorical):
        named = {name: counts[name] for name in like.values}
    else:
        # The most frequent first; equals by name, so that the order of the rows does not matter.
        named = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:VALUES])
    return Categorical(values=named, other=len(names) - sum(named.values()), missing=int(missing.sum()))


def _numeric(values: NDArray[np.float64], like: Field | None) -> Numeric:
    edges = np.array(like.edges) if isinstance(like, Numeric) else bin_edges(values)
    counts, missing = bin_counts(values, edges)
    return Numeric(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()), missing=int(missing))


def bin_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The edges of BINS bins that hold about equally many of the values, the last just above; NaN is left out."""
    present = values[~np.isnan(values)]
    if not present.size:
        return np.array([])
    # An observed value each, so that no rounding of an interpolation decides on which side a value falls.
    found = np.quantile(present, np.linspace(0, 1, BINS + 1), method="inverted_cdf")
    edges = np.unique(found[np.isfinite(found)])  # JSON has no infinity
    # What is above the largest value is not in its bin; a value that fills a bin, or is the only one, has its own.
    above = np.nextafter(edges[-1:], np.inf)
    kept = edges if len(edges) == 1 or found[-2] == found[-1] else edges[:-1]
    return np.asarray(np.concatenate([kept, above[np.isfinite(above)]]), dtype=np.float64)


def bin_counts(values: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts between the edges, of shape (..., edges + 1), and of NaN, of shape (...): of ``values`` (..., rows).

    >>> bin_counts(np.array([[1.0, 5.0, np.nan], [2.0, 2.0, 2.0]]), np.array([2.0]))
    (array([[1, 1],
           [0, 3]]), array([1, 0]))
    """
    windows = values.reshape(math.prod(values.shape[:-1]), values.shape[-1])
    bins = len(edges) + 1
    missing = np.isnan(windows)
    places = np.searchsorted(edges, windows, side="right") + bins * np.arange(len(windows))[:, None]
    counts = np.bincount(places[~missing], minlength=bins * len(windows))
    return counts.reshape(*values.shape[:-1], bins), missing.sum(axis=-1).reshape(values.shape[:-1])


def _add(name: str, first: Field, second: Field) -> Field:
    if isinstance(first, Numeric) and isinstance(second, Numeric):
        return _add_numeric(name, first, second)
    if isinstance(first, Hidden) and isinstance(second, Hidden):
        return Hidden(present=first.present + second.present, missing=first.missing + second.missing)
    if not (isinstance(first, Categorical) and isinstance(second, Categorical)) or (
        first.values.keys() != second.values.keys()
    ):
        raise _unlike(name)
    values = {value: number + second.values[value] for value, number in first.values.items()}
    return Categorical(values=values, other=first.other + second.other, missing=first.missing + second.missing)


def _add_numeric(name: str, first: Numeric, second: Numeric) -> Numeric:
    if first.edges != second.edges:
        raise _unlike(name)
    counts = tuple(one + two for one, two in zip(first.counts, second.counts, strict=True))
    return Numeric(edges=first.edges, counts=counts, missing=first.missing + second.missing)


def _unlike(name: str) -> BundleError:
    return BundleError(
        f"counts of {name!r} were made with other edges or values: make both profiles like the same one."
    )
