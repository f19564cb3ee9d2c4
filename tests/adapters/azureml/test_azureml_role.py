"""The role of the guide: the server refuses what it does not grant, in every test; here, that it grants no more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from azure_case import GROUP, SETTINGS, Azure, deployment, target, two
from azure_openapi import ROOT
from azure_place import ROLE

from passerelle.adapters.azureml_rest import ROLE_FILE
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.target import Job, TargetError

pytest_plugins = ["azure_fixtures"]
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/one"
#: Granted and not asked for by name: Azure looks for them when an alert or an autoscale rule is written.
BESIDE = {"microsoft.machinelearningservices/workspaces/read", "microsoft.insights/metrics/read"}


def test_the_role_grants_what_is_asked_for_and_no_more(azure: Azure, tmp_path: Path) -> None:
    given = {"identity": IDENTITY, "training_identity": IDENTITY}
    azure.order(ends="failed")
    with pytest.raises(TargetError, match="Its log ends"):
        apply_deployment(target(tmp_path, **given), deployment(1), "production")
    for revision in (1, 2, 3):
        apply_deployment(target(tmp_path, **given), deployment(revision), "production")
    client = target(tmp_path, **given)
    client.start(Job(name="train-1", input="jobs/train-1/in", output="jobs/train-1/out", timeout_s=600))
    client.stop("train-1")
    assert client.status("train-1").state == "stopped"
    apply_deployment(target(tmp_path, **given, strategy="platform"), two(4, shadow=0.2), "production")
    apply_deployment(target(tmp_path, **given), None, "production")
    granted = [one.lower() for one in ROLE["Actions"]]
    assert len(set(granted)) == len(granted)
    assert set(granted) == azure.actions() | BESIDE
    assert not [one for one in [*granted, *ROLE["DataActions"]] if "*" in one]


@pytest.mark.parametrize(
    ("action", "revision"),
    [
        ("Microsoft.MachineLearningServices/workspaces/onlineEndpoints/read", None),
        ("Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments/write", 1),
        ("Microsoft.MachineLearningServices/workspaces/datastores/read", 1),
        ("Microsoft.Insights/metricAlerts/write", 1),
        ("Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", 1),
    ],
)
def test_a_line_that_is_missing_is_named(action: str, revision: int | None, azure: Azure, tmp_path: Path) -> None:
    azure.order(without=[action])
    wanted = None if revision is None else deployment(revision)
    with pytest.raises(TargetError) as refused:
        apply_deployment(target(tmp_path, identity=IDENTITY), wanted, "production")
    said = str(refused.value)
    assert re.search(
        rf"permission (?i:{re.escape(action)}) is missing on /subscriptions/{SETTINGS.subscription}/", said
    )
    assert f"the role in {ROLE_FILE} (passerelle target policies writes it) grants it by the line" in said
    assert (ROOT / "docs/howto/policies" / ROLE_FILE).exists()


def test_who_may_not_ask_how_far_an_operation_is_looks_at_what_is_there(azure: Azure, tmp_path: Path) -> None:
    """The addresses of operations are the subscription's, and the role is of a resource group."""
    body = {"error": {"code": "AuthorizationFailed", "message": "no"}}
    azure.order(refusals=[{"verb": "GET", "path": "/operations/", "status": 403, "times": 99, "body": body}])
    apply_deployment(target(tmp_path), deployment(1), "production")
    azure.order(ends="failed")
    with pytest.raises(TargetError, match="is Failed: Azure does not say why; look"):
        apply_deployment(target(tmp_path), deployment(2), "production")
    apply_deployment(target(tmp_path), None, "production")
    assert azure.made() == {}
