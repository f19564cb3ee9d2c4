"""The rule on inputs and scores: ordinary days raise no alarm, changes do, and the fields are named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from passerelle.bundle.profile import Categorical, Hidden, Numeric, Profile, profile
from passerelle.monitoring.drift import LEARNING
from passerelle.monitoring.drifting import Judged, finding, input_streams, judge, stability_index
from passerelle.monitoring.streams import Stream
from passerelle.schema import Column, Schema

START = datetime(2013, 4, 1, tzinfo=UTC)
FIELDS = 6
SCHEMA = Schema(
    columns=(
        *(Column(name=f"x{number}", kind="number", nullable=True) for number in range(FIELDS)),
        Column(name="origin", kind="string"),
    )
)
ORIGINS = np.array(["EWR", "JFK", "LGA"], dtype=object)


def _rows(random: np.random.Generator, rows: int, **changes: Any) -> dict[str, Any]:
    """Fields that wobble from day to day by a twentieth of their spread; ``changes`` maps a field to what to do."""
    columns: dict[str, Any] = {f"x{number}": random.normal(random.normal(0, 0.05), 1, rows) for number in range(FIELDS)}
    columns["origin"] = random.choice(ORIGINS, rows, p=[0.5, 0.3, 0.2])
    return {name: changes[name](array) if name in changes else array for name, array in columns.items()}


def _reference() -> Profile:
    random = np.random.default_rng(0)
    return profile(_rows(random, 7000), np.empty((7000, 0)), SCHEMA)


REFERENCE = _reference()


def _judged(days: list[dict[str, Any]], *, version: int = 1, before: list[Judged] | None = None) -> list[Judged]:
    earlier = list(before or [])
    for columns in days:
        rows = len(columns["origin"])
        counts = profile(columns, np.empty((rows, 0)), SCHEMA, like=REFERENCE)
        streams = input_streams(counts, REFERENCE)
        earlier.append(judge(earlier, streams, version=version, rows=rows, stability={}, false_alarm_every=1000.0))
    return earlier


def _days(count: int, *, seed: int = 1, rows: int = 500, **changes: Any) -> list[dict[str, Any]]:
    return [_rows(np.random.default_rng([seed, number]), rows, **changes) for number in range(count)]


def test_ordinary_days_raise_no_alarm() -> None:
    judged = _judged(_days(300))
    assert [one.baseline_days for one in judged[: LEARNING + 2]] == list(range(LEARNING + 2))
    assert sum(one.alarm for one in judged) == 0


@pytest.mark.parametrize(
    ("field", "change", "kind", "within_days"),
    [
        ("x2", lambda values: values + 0.5, "level", 2),
        ("x2", lambda values: values * 1.8, "spread", 3),
        ("x2", lambda values: np.where(np.arange(len(values)) % 4 == 0, np.nan, values), "missing", 2),
        ("x2", lambda values: values * 9 / 5 + 32, "level", 2),  # Celsius sent as Fahrenheit
        ("origin", lambda values: np.where(np.arange(len(values)) % 4 == 0, "JFK", values), "top", 4),
        ("origin", lambda values: np.array([value.lower() for value in values], dtype=object), "top", 2),
    ],
)
def test_a_change_is_found_and_named(field: str, change: Any, kind: str, within_days: int) -> None:
    judged = _judged([*_days(30), *_days(within_days, seed=2, **{field: change})])
    [alarm] = [one for one in judged if one.alarm]
    assert (alarm.named[0].field, kind in {one.kind for one in alarm.named}) == (field, True)
    assert {one.field for one in alarm.named} == {field}
    # The baseline begins anew with the day of the alarm.
    assert judged[-1].restarts or judged[-1].baseline_days <= within_days


def test_what_is_sure_and_small_raises_none() -> None:
    large = {"rows": 20_000}
    steady = [{**day, "x0": np.random.default_rng(n).normal(0, 1, 20_000)} for n, day in enumerate(_days(30, **large))]
    moved = [{**day, "x0": day["x0"] + 0.06} for day in steady[:6]]
    assert not any(one.alarm for one in _judged([*steady, *moved]))


def test_after_an_alarm_the_change_becomes_what_is_usual() -> None:
    judged = _judged([*_days(30), *_days(40, seed=2, x2=lambda values: values + 1)])
    assert sum(one.alarm for one in judged) == 1
    opened = next(number for number, one in enumerate(judged) if one.alarm)
    assert len(judged[opened].evidence) == len(judged[opened].streams)
    assert judged[opened].evidence["x2.level"] == max(judged[opened].evidence.values())
    assert [one.evidence for one in judged[opened + 1 : opened + LEARNING]] == [{}] * (LEARNING - 1)
    assert max(judged[opened + LEARNING].evidence.values()) < 10, "it begins anew"
    states = [finding(one, START, what="inputs").state for one in judged[opened:]]
    assert states[: LEARNING + 1] == ["firing", *["unsure"] * (LEARNING - 1), "quiet"]


def test_another_version_begins_its_baseline() -> None:
    judged = _judged(_days(3, seed=3), version=2, before=_judged(_days(30)))
    assert [(one.restarts, one.baseline_days) for one in judged[-3:]] == [(True, 0), (False, 1), (False, 2)]
    found = finding(judged[-3], START, what="inputs")
    assert (found.state, found.sentence) == (
        "quiet",
        "version 2 answers, and its inputs are compared with its own reference from now on.",
    )


def test_a_day_with_few_rows_is_not_judged() -> None:
    judged = _judged([*_days(30), *_days(1, rows=20, x2=lambda values: values + 9)])
    assert (judged[-1].alarm, judged[-1].mean) == (False, judged[-2].mean)


def test_the_sentence_names_fields_and_figures() -> None:
    judged = _judged([*_days(30), *_days(1, seed=2, x2=lambda values: values + 1)])
    found = finding(judged[-1], START, what="inputs")
    assert found.sentence.startswith("the inputs of 2013-04-01 differed from those of the 30 days before. x2: ")
    assert "x2: its level moved by +" in found.sentence
    assert found.details["named"][0]["field"] == "x2"


def test_days_that_earlier_versions_kept_are_compared_alike() -> None:
    """They kept the log odds of a share where the angle stands now."""
    days = _days(31, seed=4)
    judged = _judged(days[:30])

    def before(one: Judged) -> Judged:
        streams = {
            name: Stream(np.log((stream.effect + 1e-3) / (1.001 - stream.effect)), stream.effect)
            if name.endswith((".top", ".missing"))
            else stream
            for name, stream in one.streams.items()
        }
        return msgspec.structs.replace(one, streams=streams)

    [*_, now] = _judged(days[30:], before=judged)
    [*_, then] = _judged(days[30:], before=[before(one) for one in judged])
    assert then == now


def test_streams_of_a_day_like_the_reference() -> None:
    streams = input_streams(REFERENCE, REFERENCE)
    assert streams["x0.level"].effect == pytest.approx(0, abs=0.02)
    assert streams["x0.spread"].effect == pytest.approx(0, abs=0.05)
    assert streams["x0.shape"].effect == 0
    assert streams["origin.top"].effect == pytest.approx(0.5, abs=0.02)
    assert streams["x0.missing"] == Stream(streams["x0.missing"].value, 0.0)


def test_a_level_is_in_standard_deviations() -> None:
    random = np.random.default_rng(5)
    moved = {**_rows(random, 5000), "x0": random.normal(0.5, 1, 5000), "x1": random.normal(0, 1.5, 5000)}
    streams = input_streams(profile(moved, np.empty((5000, 0)), SCHEMA, like=REFERENCE), REFERENCE)
    assert streams["x0.level"].effect == pytest.approx(0.5, abs=0.06)
    assert np.exp(streams["x1.spread"].effect) == pytest.approx(1.4, abs=0.12)  # less than 1.5: the ends are bins, too


def test_fields_that_are_empty_or_hidden() -> None:
    hidden = Profile(rows=10, inputs={"name": Hidden(present=8, missing=2)}, scores=())
    assert list(input_streams(hidden, hidden)) == ["name.missing"]
    nothing = Profile(rows=0, inputs={"x": Numeric(edges=(0.0,), counts=(0, 0), missing=0)}, scores=())
    assert input_streams(nothing, nothing) == {}


def test_the_stability_index_of_numbers_does_not_grow_with_the_bins() -> None:
    """Of days of 1,000 rows that are like the reference it is 19 (1/1000 + 1/7000) in the mean, not 99 times that."""
    days = [profile(day, np.empty((1000, 0)), SCHEMA, like=REFERENCE) for day in _days(40, seed=5, rows=1000)]
    found = [stability_index(day.inputs["x1"], REFERENCE.inputs["x1"]) or 0.0 for day in days]
    assert 0.015 < np.mean(found) < 0.04
    moved = profile({**_days(1, rows=1000)[0], "x1": np.full(1000, 9.0)}, np.empty((1000, 0)), SCHEMA, like=REFERENCE)
    assert (stability_index(moved.inputs["x1"], REFERENCE.inputs["x1"]) or 0.0) > 5


def test_stability_index_is_symmetric_and_zero_for_equals() -> None:
    one = Categorical(values={"a": 70, "b": 20}, other=10, missing=3)
    two = Categorical(values={"a": 10, "b": 80}, other=10, missing=0)
    assert stability_index(one, one) == 0
    assert stability_index(one, two) == pytest.approx(stability_index(two, one))
    assert stability_index(Hidden(present=1, missing=0), Hidden(present=1, missing=0)) is None
