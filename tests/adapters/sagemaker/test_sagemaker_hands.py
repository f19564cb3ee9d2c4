"""What is in service is what was asked for, or it is told: roll-backs of one revision, what a hand changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aws_place
import msgspec
import pytest

from passerelle.adapters.sagemaker_found import Look
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.target import DriftError, Observed, TargetError
from passerelle.project.targets import SageMaker

LARGER = msgspec.structs.replace(aws_place.SETTINGS, instance="ml.m5.xlarge")
RESTORING = msgspec.structs.replace(aws_place.SETTINGS, drift="restore")
ENDPOINT = "trips-production"


def deploy(folder: Path, number: int | None = 1, settings: SageMaker = aws_place.SETTINGS) -> Observed:
    deployment = None if number is None else aws_place.revision(number)
    return apply_deployment(aws_place.target(folder, settings), deployment, "production").observed


def endpoint() -> Any:
    return aws_place.client("sagemaker").describe_endpoint(EndpointName=ENDPOINT)


@pytest.mark.parametrize("ends", ["failed", "rolled back"])
def test_a_roll_back_of_the_same_revision_is_noticed_before_anything_is_deleted(
    ends: str, aws: str, tmp_path: Path
) -> None:
    deploy(tmp_path)
    before, serves = aws_place.there(), endpoint()["EndpointConfigName"]
    aws_place.control(aws, "_order", {"ends": ends})
    with pytest.raises(DriftError, match=rf"revision 1 was applied.*and {serves} is in service"):
        deploy(tmp_path, settings=LARGER)
    assert set(before) <= set(aws_place.there())  # the configuration that answers, and what scales it
    seen = aws_place.target(tmp_path, LARGER).observe("production")
    assert (seen.state, seen.revision) == ("failed", 1)
    assert f"was asked for and {serves} is in service" in str(seen.problem)
    if ends == "failed":
        assert "ping health check" in str(seen.problem)
    mended = deploy(tmp_path, settings=LARGER)
    assert (mended.state, mended.problem) == ("serving", None)
    assert endpoint()["EndpointConfigName"] != serves
    assert serves not in " ".join(aws_place.there())


def test_settings_that_were_rolled_back_can_be_given_up(aws: str, tmp_path: Path) -> None:
    due = deploy(tmp_path)
    aws_place.control(aws, "_order", {"ends": "rolled back"})
    with pytest.raises(DriftError):
        deploy(tmp_path, settings=LARGER)
    assert deploy(tmp_path) == due
    updates = [one for one in aws_place.control(aws, "_bodies") if one["operation"] == "UpdateEndpoint"]
    assert len(updates) == 1


def test_scaling_comes_back_though_the_apply_before_was_killed(aws: str, tmp_path: Path) -> None:
    """The first apply dies when scaling is off; the second's change is rolled back."""
    deploy(tmp_path)
    target = aws_place.target(tmp_path, LARGER)
    for step in target.plan(aws_place.revision(1), target.observe("production")).steps:
        if step.resource.kind == "Endpoint":
            break
        target.apply(step)
    assert not any(one.startswith("scaling") for one in aws_place.there())
    aws_place.control(aws, "_order", {"ends": "rolled back"})
    with pytest.raises(DriftError):
        deploy(tmp_path, settings=LARGER)
    assert "scaling endpoint/trips-production/variant/live 2 4" in aws_place.there()


def test_a_configuration_that_a_hand_put_in_service(aws: str, tmp_path: Path) -> None:
    assert aws
    deploy(tmp_path)
    sagemaker = aws_place.client("sagemaker")
    variants = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint()["EndpointConfigName"])
    sagemaker.create_endpoint_config(EndpointConfigName="by-hand", ProductionVariants=variants["ProductionVariants"])
    (scaled,) = aws_place.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    keys = ("ServiceNamespace", "ResourceId", "ScalableDimension")
    aws_place.client("application-autoscaling").deregister_scalable_target(**{key: scaled[key] for key in keys})
    sagemaker.update_endpoint(EndpointName=ENDPOINT, EndpointConfigName="by-hand")
    for _ in range(3):
        endpoint()
    with pytest.raises(DriftError, match=r"answers by by-hand.*No setting keeps that.*drift = \"restore\"") as error:
        deploy(tmp_path)
    assert "passerelle.toml" not in str(error.value)
    assert aws_place.target(tmp_path).observe("production").state == "failed"
    assert deploy(tmp_path, settings=RESTORING).revision == 1
    assert endpoint()["EndpointConfigName"].startswith(f"{ENDPOINT}-000001-")


@pytest.mark.parametrize("lost", [["passerelle:project", "passerelle:environment"], ["passerelle:environment"]])
def test_tags_that_a_hand_removed_are_named_or_put_back(lost: list[str], aws: str, tmp_path: Path) -> None:
    assert aws
    due = deploy(tmp_path)
    arn = endpoint()["EndpointArn"]

    def remove() -> None:
        aws_place.client("sagemaker").delete_tags(ResourceArn=arn, TagKeys=lost)

    remove()
    with pytest.raises(DriftError, match=r"add-tags .*Key=passerelle:project,Value=trips Key=passerelle:environment,"):
        deploy(tmp_path)
    assert deploy(tmp_path, settings=RESTORING) == due
    remove()
    deploy(tmp_path, None, RESTORING)
    assert aws_place.there() == []


def test_only_our_scalable_targets_are_asked_for(aws: str, tmp_path: Path) -> None:
    found = deploy(tmp_path)
    asked = [one for one in aws_place.control(aws, "_bodies") if one["operation"] == "DescribeScalableTargets"]
    assert {tuple(one["ResourceIds"]) for one in asked} == {("endpoint/trips-production/variant/live",)}
    assert sum(one.kind == "ScalableTarget" for one in found.resources) == 1


def test_many_scalable_targets_are_asked_for_in_parts(aws: str, tmp_path: Path) -> None:
    deploy(tmp_path)
    target = aws_place.target(tmp_path)
    look = Look(target._calls, aws_place.SETTINGS, "trips", "production")
    assert len(look._scaling([*(f"version-{number}" for number in range(60)), "live"])) == 1
    asked = [one for one in aws_place.control(aws, "_bodies") if one["operation"] == "DescribeScalableTargets"]
    assert [len(one["ResourceIds"]) for one in asked[-2:]] == [50, 11]


def test_the_reason_of_aws_reaches_whoever_deploys(aws: str, tmp_path: Path) -> None:
    said = "Requested image 123456789012.dkr.ecr.eu-west-3.amazonaws.com/passerelle not found."
    order = {"code": "ValidationException", "message": said, "times": 1}
    aws_place.control(aws, "_order", {"refuse": {"sagemaker:CreateModel": order}})
    with pytest.raises(TargetError, match=f"CreateModel on .*trips-production-000001-.*: {said}"):
        deploy(tmp_path)


def test_a_store_that_is_not_on_s3_is_not_asked_there(aws: str, tmp_path: Path) -> None:
    assert aws
    settings = msgspec.structs.replace(aws_place.SETTINGS, store="gs://models/passerelle")
    assert aws_place.target(tmp_path, settings).observe("production").state == "absent"


def test_a_bucket_that_is_not_there(aws: str, tmp_path: Path) -> None:
    assert aws
    settings = msgspec.structs.replace(aws_place.SETTINGS, store="s3://modles/passerelle")
    due = "there is no bucket 'modles': aws s3 mb s3://modles --region eu-west-3 .*correct store in passerelle.toml"
    with pytest.raises(TargetError, match=due):
        deploy(tmp_path, settings=settings)
    aws_place.control(aws, "_reset")  # the request is about a bucket of no policy


def test_a_profile_that_is_not_there(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(TargetError, match=r"profile \(nobody\) could not be found: AWS_PROFILE .*list-profiles"):
        deploy(tmp_path)


def test_a_store_that_refuses_to_write_is_asked_six_times_and_that_is_said(
    aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", slept.append)
    order = {"code": "SlowDown", "message": "Please reduce your request rate.", "times": 99, "status": 503}
    aws_place.control(aws, "_order", {"refuse": {"s3:PUT": order}})
    with pytest.raises(TargetError, match="AWS asked 6 times to go slower"):
        deploy(tmp_path)
    assert len(slept) == 5
    told = [one.getMessage() for one in caplog.records if one.name.startswith("passerelle")]
    assert told == [f"AWS: PutObject was put off (SlowDown); attempt {number} of 6" for number in range(2, 7)]
    assert json.dumps(aws_place.there()) == "[]"
