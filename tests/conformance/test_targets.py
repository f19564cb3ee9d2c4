"""Every Target passes the same checks; the adapters' own tests run them on their clouds."""

from __future__ import annotations

import msgspec
import pytest

from passerelle.deployment.spec import Variant
from passerelle.testing.target_checks import Check
from passerelle.testing.targets import MemoryPlace, MemoryTarget, TargetCase, sample_deployment, target_checks


def memory_case() -> TargetCase:
    place = MemoryPlace()

    def meddle() -> None:
        there = place.read()
        there.resources["alarm trips-production-errors"]["error_share"] = 0.5
        place.write(there)

    def there() -> list[str]:
        found = place.read()
        return [*(f"{key} {settings}" for key, settings in found.resources.items()), *found.strangers]

    four = tuple(Variant(version=one, bundle=str(one), digest=str(one), weight=0.25) for one in range(1, 5))
    return TargetCase(
        open=lambda: MemoryTarget(place, strategy="platform"),
        restoring=lambda: MemoryTarget(place, drift="restore"),
        deployment=sample_deployment,
        there=there,
        meddle=meddle,
        roll_back=lambda: place.order(ends="rolled back"),
        fail=lambda: place.order(ends="failed"),
        clash=lambda: place.order(strangers=["trips-production"]),
        refused={
            "three-variants": msgspec.structs.replace(sample_deployment(1), variants=four),
            "trial-needs-container": sample_deployment(1, trial="production-2-1"),
        },
    )


@pytest.mark.parametrize("check", target_checks(), ids=lambda check: check.__name__)
def test_memory(check: Check) -> None:
    check(memory_case())
