"""The door's check takes what AWS takes, and finds each kind of fault."""

from __future__ import annotations

import pytest
from aws_check import faults_of

ROLE = "arn:aws:iam::123456789012:role/passerelle"
TRAFFIC = {"Type": "CANARY", "WaitIntervalInSeconds": 60}


def update(**routing: object) -> dict[str, object]:
    policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": TRAFFIC | routing}}
    return {"EndpointName": "a", "EndpointConfigName": "b", "DeploymentConfig": policy}


def test_what_aws_takes_passes() -> None:
    assert faults_of("sagemaker", "UpdateEndpoint", update()) == []


@pytest.mark.parametrize(
    ("operation", "body", "fault"),
    [
        ("UpdateEndpoint", update(Type="CANARIES"), "is not among"),
        ("UpdateEndpoint", update(WaitIntervalInSeconds=7200), "is above 3600"),
        ("UpdateEndpoint", update(WaitIntervalInSeconds="60"), "is no integer"),
        ("UpdateEndpoint", update(Percent=10), "Percent is not known"),
        ("UpdateEndpoint", {"EndpointName": "a"}, "EndpointConfigName is required"),
        ("CreateModel", {"ModelName": "m_v1!", "ExecutionRoleArn": ROLE}, "does not match"),
        ("CreateModel", {"ModelName": "m", "ExecutionRoleArn": "role"}, "is below 20"),
    ],
)
def test_faults_are_found(operation: str, body: dict[str, object], fault: str) -> None:
    assert fault in "; ".join(faults_of("sagemaker", operation, body))
