"""Event rows come from the delivered tables by the notebook's own join, in the model's own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from passerelle.bundle.events import event_rows
from passerelle.bundle.keys import public_hex
from passerelle.bundle.seal import Bundle
from passerelle.errors import BundleError, ScoringError
from passerelle.schema import Column, Columns, Schema

Make = Callable[..., Bundle]

FLIGHTS = Schema(
    columns=(
        Column(name="id", kind="string"),
        Column(name="hour", kind="integer"),
        Column(name="origin", kind="string", nullable=True),
        Column(name="late", kind="boolean"),
    )
)
WEATHER = Schema(columns=(Column(name="origin", kind="string"), Column(name="temp", kind="number")))


def strings(*values: Any) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def tables() -> dict[str, tuple[Schema, Columns]]:
    flights = {
        "id": strings("a", "b", "c"),
        "hour": np.array([5, 6, 7]),
        "origin": strings("JFK", None, "EWR"),
        "late": np.array([True, False, True]),
    }
    weather = {"origin": strings("EWR", "JFK"), "temp": np.array([1.5, 2.5])}
    return {"flights": (FLIGHTS, flights), "weather": (WEATHER, weather)}


def test_tables_are_joined_by_the_submitted_function(make: Make, key: Ed25519PrivateKey) -> None:
    def events(tables: Any) -> Any:
        flights = tables["flights"]
        assert "late" not in flights
        joined = flights.merge(tables["weather"], on="origin", how="left").set_index(flights.index)
        return joined.sort_values("hour", ascending=False)

    bundle = make(events=events)
    made = event_rows(
        bundle.path, digest=bundle.digest, trusted_keys=[public_hex(key)], tables=tables(), main="flights"
    )
    assert list(made) == ["hour", "temp", "origin"]
    assert made["hour"].tolist() == [5, 6, 7]
    assert np.array_equal(made["temp"], [2.5, np.nan, 1.5], equal_nan=True)
    assert made["origin"].tolist() == ["JFK", None, "EWR"]


def test_rows_that_are_lost_and_untrusted_code_are_refused(make: Make, key: Ed25519PrivateKey) -> None:
    def events(tables: Any) -> Any:
        return tables["flights"].merge(tables["weather"], on="origin")

    bundle = make(events=events)
    with pytest.raises(ScoringError, match="events gives 2 rows for 3 of 'flights'"):
        event_rows(bundle.path, digest=bundle.digest, trusted_keys=[public_hex(key)], tables=tables(), main="flights")
    with pytest.raises(BundleError, match="which is not trusted"):
        event_rows(bundle.path, digest=bundle.digest, trusted_keys=[], tables=tables(), main="flights")


def test_without_a_function_the_main_table_must_have_every_field(make: Make, key: Ed25519PrivateKey) -> None:
    bundle = make()
    with pytest.raises(ScoringError, match="has no column 'temp'; it has id, hour, origin"):
        event_rows(bundle.path, digest=bundle.digest, trusted_keys=[public_hex(key)], tables=tables(), main="flights")
