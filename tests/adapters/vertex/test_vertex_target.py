"""The Vertex AI target passes the checks that every target passes, on a server that Google's documents judge."""

from __future__ import annotations

from typing import Any

import pytest
from vertexing import PLACE, Google, deployment, variants

from passerelle.testing.target_checks import Check
from passerelle.testing.targets import TargetCase, target_checks


def case(google: Google, meddle: Any = None) -> TargetCase:
    def raise_the_alarm() -> None:
        number, policy = next(iter(google.state()["policies"].items()))
        policy["conditions"][0]["conditionThreshold"]["thresholdValue"] = 0.5
        google.order(set=[[["policies", number], policy]])

    return TargetCase(
        open=lambda: google.open(strategy="platform"),
        restoring=lambda: google.open(strategy="platform", drift="restore"),
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
