"""The Vertex AI target passes the checks that every target passes, on a server that Google's documents judge."""

from __future__ import annotations

from typing import Any

import pytest
from vertexing import PLACE, Google, deployment, variants

from passerelle.testing.target_checks import Check, check_half_made_is_adopted_or_removed, check_name_clash
from passerelle.testing.targets import TargetCase, target_checks


def case(google: Google, meddle: Any = None, strategy: str = "platform") -> TargetCase:
    def raise_the_alarm() -> None:
        number, policy = next(iter(google.state()["policies"].items()))
        policy["conditions"][0]["conditionThreshold"]["thresholdValue"] = 0.5
        google.order(set=[[["policies", number], policy]])

    return TargetCase(
        open=lambda: google.open(strategy=strategy),
        restoring=lambda: google.open(strategy=strategy, drift="restore"),
        deployment=deployment,
        there=google.there,
        meddle=meddle or raise_the_alarm,
        roll_back=lambda: google.order(ignore=["endpoints.patch"]),
        fail=lambda: google.order(
            fail={"endpoints.deployModel": {"code": 13, "message": "model server exited unexpectedly"}}
        ),
        clash=lambda: google.order(
            set=[[["endpoints", PLACE], {"name": PLACE, "displayName": "theirs", "etag": "1", "deployedModels": []}]]
        ),
        refused={
            "trial-needs-container": deployment(1, trial="production-2-1"),
            "shadow": deployment(1, variants=variants((1, 1.0, "live"), (2, 0.0, "shadow"))),
        },
    )


@pytest.mark.parametrize("check", target_checks(), ids=lambda check: check.__name__)
def test_vertex(check: Check, google: Google) -> None:
    check(case(google))


@pytest.mark.parametrize(
    "check", [check_half_made_is_adopted_or_removed, check_name_clash], ids=lambda check: check.__name__
)
def test_vertex_by_the_container(check: Check, google: Google) -> None:
    """A part of its own for each revision: more to adopt and to remove than with the platform's shares."""
    check(case(google, strategy="container"))
