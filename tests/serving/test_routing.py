from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.deployment.spec import Deployment, Variant
from passerelle.serving.routing import Router, position

UNITS = [f"unit-{number}" for number in range(2_000)]


def router(*weights: float, salt: str = "salt", reverse: bool = False) -> Router:
    variants = [
        Variant(version=number, bundle=f"/{number}", digest="d", weight=weight)
        for number, weight in enumerate(weights, start=1)
    ]
    return Router(
        Deployment(
            project="flights",
            environment="production",
            revision=1,
            variants=tuple(reversed(variants) if reverse else variants),
            salt=salt,
            created_at=datetime(2013, 2, 1, tzinfo=UTC),
            reason="a test",
        )
    )


def versions(one: Router) -> list[int]:
    return [one.choose(unit)[0].version for unit in UNITS]


@pytest.mark.parametrize(
    ("unit", "salt", "expected"),
    [
        ("N14228", "salt", 0.027407297988015444),
        ("N14228", "pepper", 0.18905392805277577),
        ("", "salt", 0.1854092718606326),
        ("Ünï 🛫", "salt", 0.2799591027672612),
        ("ab", "c", 0.9740615017172408),
    ],
)
def test_positions_never_change(unit: str, salt: str, expected: float) -> None:
    """Golden vectors: another hash would move every unit of every running trial."""
    assert position(unit, salt) == expected


def test_salt_and_unit_do_not_run_into_each_other() -> None:
    assert position("bc", "a") != position("c", "ab")


@given(unit=st.text(), salt=st.text())
def test_a_position_is_a_share(unit: str, salt: str) -> None:
    assert 0 <= position(unit, salt) < 1
    assert position(unit, salt) == position(unit, salt)


@given(share=st.floats(0.01, 0.99), salt=st.text(min_size=1, max_size=8))
def test_shares_are_the_weights_within_binomial_bounds(share: float, salt: str) -> None:
    new = router(1 - share, share, salt=salt)
    got = sum(version == 2 for version in versions(new))
    # Five standard deviations: a right router fails once in 1.7 million draws.
    assert abs(got - share * len(UNITS)) <= 5 * math.sqrt(len(UNITS) * share * (1 - share)) + 1


def test_probability_is_the_weight_of_the_variant_that_answers() -> None:
    split = router(0.7, 0.2, 0.1)
    weights = {1: 0.7, 2: 0.2, 3: 0.1}
    assert all(split.choose(unit)[1] == weights[split.choose(unit)[0].version] for unit in UNITS[:1000])
    assert router(1.0).choose("any") == (Variant(version=1, bundle="/1", digest="d", weight=1.0), 1.0)


def test_the_salt_decides_who_gets_what() -> None:
    """Another salt is another draw: half of the units change sides of an even split."""
    pairs = list(zip(versions(router(0.5, 0.5)), versions(router(0.5, 0.5, salt="pepper")), strict=True))
    assert 0.45 < sum(old != new for old, new in pairs) / len(pairs) < 0.55
    assert versions(router(0.5, 0.5)) == [1 if position(unit, "salt") < 0.5 else 2 for unit in UNITS]


@given(small=st.floats(0.01, 0.98), growth=st.floats(0.001, 0.5))
def test_a_growing_weight_only_moves_units_to_it(small: float, growth: float) -> None:
    large = min(small + growth, 0.99)
    before, after = versions(router(1 - small, small)), versions(router(1 - large, large))
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) <= {(1, 2)}
    assert abs(len(moved) - (large - small) * len(UNITS)) <= 5 * math.sqrt(len(UNITS) * (large - small)) + 1


@given(weights=st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_order_in_the_deployment_and_rounding_change_nothing(weights: list[int]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    assert versions(router(*shares))[:200] == versions(router(*shares, reverse=True))[:200]
