"""Profiles add up: counts of parts are the counts of the whole."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.bundle.profile import (
    BINS,
    VALUES,
    Categorical,
    Hidden,
    Numeric,
    Profile,
    encode_profile,
    merge,
    profile,
    read_profile,
)
from passerelle.errors import BundleError
from passerelle.schema import Column, Columns, Schema, as_array, take

SCHEMA = Schema(
    columns=(
        Column(name="n", kind="number", nullable=True),
        Column(name="i", kind="integer"),
        Column(name="s", kind="string", nullable=True),
        Column(name="b", kind="boolean", nullable=True),
        Column(name="t", kind="timestamp", nullable=True),
        Column(name="d", kind="date"),
    )
)
ROW = st.tuples(
    st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.integers(-(2**40), 2**40),
    st.none() | st.sampled_from(["EWR", "JFK", "LGA", "", "other"]),
    st.none() | st.booleans(),
    st.none() | st.datetimes(timezones=st.just(__import__("datetime").UTC)),
    st.dates(),
    st.floats(0, 1),
)


def columns_of(rows: list[tuple[object, ...]]) -> tuple[Columns, np.ndarray]:
    columns = {
        column.name: as_array([row[place] for row in rows], column) for place, column in enumerate(SCHEMA.columns)
    }
    return columns, np.array([[row[6]] for row in rows], dtype=np.float64).reshape(-1, 1)


@given(st.lists(ROW, max_size=30), st.lists(ROW, max_size=30), st.lists(ROW, max_size=30))
def test_parts_add_up_to_the_whole(first: list, second: list, reference: list) -> None:
    like = profile(*columns_of(reference), SCHEMA)
    parts = [profile(*columns_of(rows), SCHEMA, like=like) for rows in (first, second)]
    whole = profile(*columns_of(first + second), SCHEMA, like=like)
    assert merge(*parts) == whole
    assert merge(parts[1], parts[0]) == whole
    for name, field in whole.inputs.items():
        counted = sum(field.counts) if isinstance(field, Numeric) else sum(field.values.values()) + field.other
        assert counted + field.missing == len(first) + len(second), name
    assert msgspec.json.decode(encode_profile(whole), type=Profile) == whole


@given(st.lists(ROW, min_size=1, max_size=40), st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list, random: object) -> None:
    mixed = rows.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert profile(*columns_of(rows), SCHEMA) == profile(*columns_of(mixed), SCHEMA)


def test_values_fall_where_they_belong() -> None:
    schema = Schema(columns=(Column(name="n", kind="number", nullable=True),))
    like = Profile(rows=0, inputs={"n": Numeric(edges=(1.0, 2.0), counts=(0, 0, 0), missing=0)}, scores=())
    values = {"n": np.array([0.0, 1.0, 1.5, 2.0, 9.0, np.nan])}
    found = profile(values, np.zeros((6, 0)), schema, like=like).inputs["n"]
    assert found == Numeric(edges=(1.0, 2.0), counts=(1, 2, 2), missing=1)


def test_bins_hold_about_as_many_each() -> None:
    schema = Schema(columns=(Column(name="n", kind="number"),))
    values = np.random.default_rng(0).normal(size=10_000)
    found = profile({"n": values}, np.zeros((10_000, 0)), schema).inputs["n"]
    assert isinstance(found, Numeric)
    assert len(found.edges) == BINS + 1
    assert (found.counts[0], found.counts[-1]) == (0, 0)
    assert all(abs(number - 10_000 / BINS) <= 1 for number in found.counts[1:-1])


@pytest.mark.parametrize(("values", "more"), [([7.0] * 50, 8.0), ([1.0, 2.0, 10.0, 10.0, 10.0], 11.0), ([0, 1], 2)])
def test_what_is_above_the_largest_value_is_not_in_its_bin(values: list[float], more: float) -> None:
    schema = Schema(columns=(Column(name="n", kind="number"),))
    like = profile({"n": np.array(values, dtype=np.float64)}, np.zeros((len(values), 0)), schema)
    found = profile({"n": np.array([max(values), more, -9.0])}, np.zeros((3, 0)), schema, like=like).inputs["n"]
    assert isinstance(found, Numeric)
    assert (found.counts[0], found.counts[-2], found.counts[-1]) == (1, 1, 1)
    assert like.inputs["n"].counts[-1] == 0  # type: ignore[union-attr]


def test_rare_values_are_counted_together() -> None:
    schema = Schema(columns=(Column(name="s", kind="string"),))
    names = [f"v{number:03d}" for number in range(VALUES + 5)]
    values = np.array(names + names[:VALUES], dtype=object)
    found = profile({"s": values}, np.zeros((len(values), 0)), schema).inputs["s"]
    assert isinstance(found, Categorical)
    assert found.values == dict.fromkeys(names[:VALUES], 2)
    assert found.other == 5


def test_private_columns_keep_no_value(tmp_path: Path) -> None:
    columns = {"s": np.array(["alice", None, "bob"], dtype=object)}
    schema = Schema(columns=(Column(name="s", kind="string", nullable=True),))
    found = profile(columns, np.zeros((3, 1)), schema, privacy={"s": "hash"})
    assert found.inputs["s"] == Hidden(present=2, missing=1)
    assert b"alice" not in encode_profile(found)
    assert merge(found, found).inputs["s"] == Hidden(present=4, missing=2)
    (tmp_path / "profile.json").write_bytes(encode_profile(found))
    assert read_profile(tmp_path / "profile.json") == found
    (tmp_path / "profile.json").write_bytes(b"{")
    with pytest.raises(BundleError, match="fetch the bundle again"):
        read_profile(tmp_path / "profile.json")


def test_profiles_with_other_edges_are_not_added() -> None:
    schema = Schema(columns=(Column(name="n", kind="number"),))
    values = {"n": np.arange(10.0)}
    one = profile(values, np.zeros((10, 0)), schema)
    two = profile(take(values, slice(0, 5)), np.zeros((5, 0)), schema)
    with pytest.raises(BundleError, match="counts of 'n' were made with other edges"):
        merge(one, two)
    with pytest.raises(BundleError, match="profiles of different models"):
        merge(one, Profile(rows=0, inputs={}, scores=()))
