"""Azure ML passes the checks of every target, on a server that judges each request by Microsoft's OpenAPI."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest
from azure_case import ENDPOINT, GROUP, Azure, blobs, deployment, target

from passerelle.testing.target_checks import Check
from passerelle.testing.targets import TargetCase, target_checks

pytest_plugins = ["azure_fixtures"]

#: At full size only (make soak): a death at each step, one after the other; test_azureml_requests kills some of them.
LONG = (
    ()
    if os.environ.get("PASSERELLE_SOAK")
    else ("check_resumes_creation", "check_resumes_removal", "check_half_made_is_adopted_or_removed")
)


def there(azure: Azure) -> list[str]:
    return [f"{path} {json.dumps(one, sort_keys=True)}" for path, one in azure.made().items()] + blobs()


@pytest.fixture
def case(azure: Azure, tmp_path: Path) -> TargetCase:
    alert = f"{GROUP}/providers/Microsoft.Insights/metricAlerts/trips-production-latency"

    def meddle() -> None:
        one = azure.made()[alert.lower()]
        one["properties"]["criteria"]["allOf"][0]["threshold"] = 60_000.0
        azure.put(alert, one)

    theirs = {"id": ENDPOINT, "name": "trips-production", "location": "westeurope", "tags": {"team": "others"},
              "properties": {"authMode": "Key", "traffic": {}, "provisioningState": "Succeeded"}}  # fmt: skip
    return TargetCase(
        open=lambda: target(tmp_path),
        restoring=lambda: target(tmp_path, drift="restore"),
        deployment=deployment,
        there=lambda: there(azure),
        meddle=meddle,
        roll_back=lambda: azure.order(ends="rolled back"),
        fail=lambda: azure.order(ends="failed"),
        clash=lambda: azure.put(ENDPOINT, theirs),
        refused={"auth": msgspec.structs.replace(deployment(1), auth="tokens")},
    )


@pytest.mark.parametrize("check", target_checks(without=LONG), ids=lambda check: check.__name__)
def test_azure_ml(check: Check, case: TargetCase) -> None:
    check(case)
