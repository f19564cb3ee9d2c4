"""What goes wrong at AWS is told with what to do; what the platform, or a hand, does by itself is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aws_place
import msgspec
import pytest
from botocore.exceptions import EndpointConnectionError
from click.testing import CliRunner

from passerelle.adapters import sagemaker_rules as rules
from passerelle.cli import main
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.spec import Variant
from passerelle.deployment.target import DriftError, JobStatus, TargetError
from passerelle.project.settings import FILE
from passerelle.project.targets import SageMaker

PLATFORM = msgspec.structs.replace(aws_place.SETTINGS, strategy="platform", canary_percent=None)


def refuse(address: str, operation: str, code: str, message: str, *, times: int = 1, status: int = 400) -> None:
    order = {operation: {"code": code, "message": message, "times": times, "status": status}}
    aws_place.control(address, "_order", {"refuse": order})


def deploy(folder: Path, number: int = 1, settings: SageMaker = aws_place.SETTINGS, **changes: Any) -> Any:
    return apply_deployment(aws_place.target(folder, settings), aws_place.revision(number, **changes), "production")


def split(first: float, *, shadow: bool = False) -> tuple[Variant, ...]:
    champion = Variant(version=1, bundle="b1", digest=f"{1:064x}", weight=first)
    if shadow:
        return champion, Variant(version=2, bundle="b2", digest=f"{2:064x}", weight=0, mode="shadow")
    return champion, Variant(version=2, bundle="b2", digest=f"{2:064x}", weight=1 - first)


def weights() -> dict[str, float]:
    found = aws_place.client("sagemaker").describe_endpoint(EndpointName="trips-production")
    return {one["VariantName"]: one["CurrentWeight"] for one in found["ProductionVariants"]}


def test_the_platforms_weights_follow_the_revisions(aws: str, tmp_path: Path) -> None:
    assert aws
    applied = deploy(tmp_path, 1, PLATFORM, variants=split(0.75))
    assert weights() == {"live": 0.75, "version-2": 0.25}
    assert any("no verdict" in note for note in applied.plan.notes)
    deploy(tmp_path, 2, PLATFORM, variants=split(0.5))
    assert sorted(weights().values()) == [0.5, 0.5]
    deploy(tmp_path, 3, PLATFORM, variants=split(1.0)[:1])
    assert weights() == {"live": 1.0}


def test_weights_that_a_hand_changed_are_refused_or_put_back(aws: str, tmp_path: Path) -> None:
    assert aws
    deploy(tmp_path, 1, PLATFORM, variants=split(0.75))
    aws_place.set_weight("trips-production", "live", 0.1)
    with pytest.raises(DriftError, match=r"trips-production was changed by hand: weights\.live is 0\.1, not 0\.75"):
        deploy(tmp_path, 1, PLATFORM, variants=split(0.75))
    deploy(tmp_path, 1, msgspec.structs.replace(PLATFORM, drift="restore"), variants=split(0.75))
    assert weights() == {"live": 0.75, "version-2": 0.25}


def test_a_shadow_of_the_platforms(aws: str, tmp_path: Path) -> None:
    assert aws
    applied = deploy(tmp_path, 1, PLATFORM, variants=split(1.0, shadow=True))
    config = next(one for one in applied.observed.resources if one.kind == "EndpointConfig").settings
    names = {key: [one["VariantName"] for one in config[key]] for key in config if key.endswith("Variants")}
    assert names == {"ProductionVariants": ["live"], "ShadowProductionVariants": ["shadow"]}
    scaled = [one.name for one in applied.observed.resources if one.kind == "ScalableTarget"]
    assert scaled == ["endpoint/trips-production/variant/live"]
    models = aws_place.client("sagemaker").list_models()["Models"]
    assert len(models) == 2


def test_a_canary_that_its_alarm_rolled_back_is_told_with_the_alarm(aws: str, tmp_path: Path) -> None:
    deploy(tmp_path, 1)
    aws_place.control(aws, "_order", {"ends": "alarmed"})
    with pytest.raises(
        DriftError,
        match=r"revision 2 was applied.*trips-production-000001-\w+ is in service.*alarm passerelle/.*errors",
    ):
        deploy(tmp_path, 2)
    (sent,) = [one for one in aws_place.control(aws, "_bodies") if one["operation"] == "UpdateEndpoint"]
    alarms = [one["AlarmName"] for one in sent["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]]
    assert alarms == [f"passerelle/trips-production/live/{one}" for one in ("errors", "latency")]


def test_a_roll_back_that_failed_is_a_failure_and_the_next_apply_mends_it(aws: str, tmp_path: Path) -> None:
    deploy(tmp_path, 1)
    aws_place.control(aws, "_order", {"ends": "rollback failed"})
    with pytest.raises(TargetError, match="is UpdateRollbackFailed: both fleets are half there"):
        deploy(tmp_path, 2)
    assert aws_place.target(tmp_path).observe("production").state == "failed"
    assert deploy(tmp_path, 2).observed.revision == 2


def test_logs_are_the_newest_lines_of_all_machines(aws: str, tmp_path: Path) -> None:
    assert aws
    target = aws_place.target(tmp_path)
    assert target.logs("production") == ()
    aws_place.write_log("trips-production", "a1", "a2", "a3", at_s=-30)
    aws_place.write_log("trips-production", "b1", "b2", stream="live/i-1")
    assert target.logs("production") == ("a1", "a2", "a3", "b1", "b2")
    assert target.logs("production", lines=3) == ("a3", "b1", "b2")


def test_a_person_sees_them(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws
    aws_place.target(tmp_path)  # writes the settings of a project
    told = msgspec.to_builtins(msgspec.structs.replace(aws_place.SETTINGS, tags={}))
    kept = {key: told[key] for key in ("image", "store", "instance", "region", "role")}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in kept.items())
    with (tmp_path / FILE).open("a") as settings:
        settings.write(f'[targets.cloud]\nkind = "sagemaker"\n{text}')
    monkeypatch.chdir(tmp_path)
    verb = ["target", "logs", "cloud"]
    assert CliRunner().invoke(main, verb).output == "They wrote nothing yet.\n"
    aws_place.write_log("trips-production", "started", "no package is there")
    assert CliRunner().invoke(main, verb).output.splitlines() == ["started", "no package is there"]


@pytest.mark.parametrize(
    ("lines", "due"),
    [
        ((), "as ordered. It has no log: the container did not start"),
        (("no package is there",), "Its log ends: no package is there"),
        (("exec /opt/passerelle/bin/python: exec format error",), "built for another processor: passerelle image"),
    ],
)
def test_a_container_that_does_not_start_is_told_in_its_own_words(
    lines: tuple[str, ...], due: str, aws: str, tmp_path: Path
) -> None:
    aws_place.control(aws, "_order", {"ends": "failed"})
    if lines:
        aws_place.write_log("trips-production", *lines)
    with pytest.raises(TargetError, match=due):
        deploy(tmp_path)


def test_no_credentials(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(TargetError, match=r"there are no AWS credentials here.*aws sso login"):
        deploy(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    with pytest.raises(TargetError, match=r"there are no AWS credentials here.*Partial credentials"):
        deploy(tmp_path)


ROLE = aws_place.SETTINGS.role
DENIED = "User: arn:aws:iam::1:user/a is not authorized to perform: {} on resource: {} because no policy allows it"


@pytest.mark.parametrize(
    "case",
    [
        ("sagemaker:DescribeEndpoint", "ExpiredTokenException", "expired", "does not take the credentials.*sign in"),
        ("sagemaker:CreateModel", "AccessDeniedException", DENIED.format("iam:PassRole", ROLE),
         rf'may not iam:PassRole on {ROLE}.*sagemaker-deployer.json\): {{"Effect":"Allow","Action":"iam:PassRole"'),
        ("sagemaker:CreateEndpoint", "AccessDeniedException", "no",
         r"may not sagemaker:CreateEndpoint on arn:aws:sagemaker:eu-west-3:\*:endpoint/trips-production"),
        ("s3:HEAD", "403", "Forbidden", r"may not s3:GetObject on arn:aws:s3:::models/passerelle/packages/trips/prod"),
        ("s3:PUT", "AccessDenied", "no", r'"Action":"s3:PutObject","Resource":"arn:aws:s3:::models/passerelle/pack'),
        ("sagemaker:CreateEndpoint", "ResourceLimitExceeded", "ml.m5.large for endpoint usage is 0 Instances.",
         "a quota of the account is used up.*0 Instances.*Service Quotas, region eu-west-3, or take another instance"),
        ("sagemaker:CreateEndpointConfig", "ValidationException", "ml.m5.large is not supported in eu-west-3",
         r"CreateEndpointConfig on .* was refused \(ValidationException\): ml.m5.large is not supported in eu-west-3"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_to_do_and_the_next_apply_goes_on(
    case: tuple[str, str, str, str], aws: str, tmp_path: Path
) -> None:
    operation, code, message, due = case
    refuse(aws, operation, code, message, status=403 if "ccess" in code or code == "403" else 400)
    with pytest.raises(TargetError, match=due):
        deploy(tmp_path)
    assert deploy(tmp_path).observed.revision == 1


def test_throttling_is_asked_six_times_with_jitter(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", slept.append)
    refuse(aws, "sagemaker:ListModels", "ThrottlingException", "Rate exceeded", times=2)
    assert aws_place.target(tmp_path).observe("production").state == "absent"
    assert len(slept) == 2
    refuse(aws, "sagemaker:ListModels", "ThrottlingException", "Rate exceeded", times=99)
    slept.clear()
    with pytest.raises(TargetError, match=r"AWS asked 6 times to go slower.*wait a minute"):
        aws_place.target(tmp_path).observe("production")
    assert len(slept) == 5
    assert all(0 <= one <= 2**number for number, one in enumerate(slept))
    assert not any(one == 2.0**number for number, one in enumerate(slept))  # a share of it, drawn


def test_a_region_that_is_none(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert aws
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    with pytest.raises(TargetError, match=r"cannot be reached in region 'eu-west-3'.*is AWS_ENDPOINT_URL right"):
        deploy(tmp_path)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", _nowhere)
    with pytest.raises(TargetError, match=r"cannot be reached in region 'eu-west-3'.*is it a region of AWS"):
        aws_place.target(tmp_path).observe("production")


def _nowhere(_session: Any, request: Any) -> None:
    raise EndpointConnectionError(endpoint_url=request.url)


def test_a_job_that_failed_says_why(aws: str, tmp_path: Path) -> None:
    reason = "AlgorithmError: NotebookError: cell 2 of 9 raised KeyError, exit code: 1"
    aws_place.control(aws, "_order", {"job fails": reason})
    target = aws_place.target(tmp_path)
    target.start(aws_place.job("a"))
    own = "NotebookError: cell 2 of 9 raised KeyError"
    assert target.status("a") == JobStatus(state="failed", problem=own)
    target.stop("a")
    assert target.status("a").state == "failed"


def test_a_job_that_sagemaker_stopped_at_its_limit_says_so_and_one_that_is_stopping_is_left(
    aws: str, tmp_path: Path
) -> None:
    target = aws_place.target(tmp_path)
    target.start(aws_place.job("a"))
    name = rules.job_name(aws_place.PROJECT, "a")
    aws_place.control(aws, "_order", {"ended": {name: ["Stopping", None]}})
    assert target.status("a").state == "running"
    target.stop("a")
    aws_place.control(aws, "_order", {"ended": {name: ["Stopped", None, "MaxRuntimeExceeded"]}})
    assert target.status("a") == JobStatus(state="failed", problem=rules.TIME_OVER)


def test_a_job_of_another_project_is_not_taken_for_ours(aws: str, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    aws_place.target(tmp_path / "theirs", name="trips-a").start(aws_place.job("b", "trips-a"))
    with pytest.raises(TargetError, match="training job trips-a-b that is not of project 'trips'"):
        aws_place.target(tmp_path).start(aws_place.job("a-b"))
    aws_place.control(aws, "_reset")  # what the other project did is in another policy


def test_two_projects_whose_names_differ_by_a_sign_clash(aws: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    made = aws_place.target(tmp_path / "other", name="trips_a")
    apply_deployment(made, aws_place.revision(1, project="trips_a", environment="b"), "b")
    (tmp_path / "ours").mkdir()
    ours = aws_place.target(tmp_path / "ours", name="trips")
    with pytest.raises(TargetError, match=r"trips-a-b is of project 'trips_a', environment 'b'.*rename one of them"):
        ours.observe("a_b")
    aws_place.control(aws, "_reset")  # what the other project did is in another policy
