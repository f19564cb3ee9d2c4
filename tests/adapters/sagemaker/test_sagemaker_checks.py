"""SageMakerTarget passes the checks of every target, on moto's server behind a door that asks AWS's own model."""

from __future__ import annotations

import os
from pathlib import Path

import aws_place
import msgspec
import pytest

from passerelle.testing.target_checks import Check
from passerelle.testing.targets import TargetCase, target_checks


def case(folder: Path, address: str) -> TargetCase:
    def meddle() -> None:
        alarms = aws_place.client("cloudwatch")
        name = "passerelle/trips-production/live/latency"
        found = alarms.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]
        keys = set(alarms.meta.service_model.operation_model("PutMetricAlarm").input_shape.members)
        kept = {key: value for key, value in found.items() if key in keys and value not in (None, "", [])}
        alarms.put_metric_alarm(**kept | {"Threshold": 5.0})

    def clash() -> None:
        sagemaker = aws_place.client("sagemaker")
        sagemaker.create_model(
            ModelName="theirs", ExecutionRoleArn=aws_place.SETTINGS.role, PrimaryContainer={"Image": "theirs"}
        )
        variant = {"VariantName": "a", "ModelName": "theirs", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="theirs", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="trips-production", EndpointConfigName="theirs")
        for _ in range(3):
            sagemaker.describe_endpoint(EndpointName="trips-production")

    settings = aws_place.SETTINGS
    return TargetCase(
        open=lambda: aws_place.target(folder),
        restoring=lambda: aws_place.target(folder, msgspec.structs.replace(settings, drift="restore")),
        deployment=aws_place.revision,
        there=aws_place.there,
        meddle=meddle,
        roll_back=lambda: aws_place.control(address, "_order", {"ends": "rolled back"}),
        fail=lambda: aws_place.control(address, "_order", {"ends": "failed"}),
        clash=clash,
        move=lambda: os.environ.update(AWS_ACCESS_KEY_ID="elsewhere"),
        refused={
            "auth": aws_place.revision(1, auth="tokens"),
            "ledger": aws_place.revision(1, ledger_at=None),
        },
    )


@pytest.mark.parametrize("check", target_checks(), ids=lambda check: check.__name__)
def test_sagemaker(check: Check, tmp_path: Path, aws: str) -> None:
    check(case(tmp_path, aws))
