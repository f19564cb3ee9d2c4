"""Each rule refuses what it names, lets through what is beside it, and permissions that are missing are told."""

from __future__ import annotations

from pathlib import Path

import aws_place
import msgspec
import pytest

from passerelle.deployment.spec import Variant
from passerelle.deployment.target import Observed, PlanError, TargetError
from passerelle.project.targets import Alarms, Scaling

ABSENT = Observed(state="absent")


def variants(*shares: float, shadows: int = 0) -> tuple[Variant, ...]:
    live = [Variant(version=n, bundle=f"b{n}", digest=f"{n:064x}", weight=s) for n, s in enumerate(shares, 1)]
    dark = [
        Variant(version=n, bundle=f"b{n}", digest=f"{n:064x}", weight=0, mode="shadow") for n in range(50, 50 + shadows)
    ]
    return (*live, *dark)


@pytest.mark.parametrize(
    ("rule", "settings", "deployment"),
    [
        ("store", {"store": "gs://models/a"}, {}),
        ("image", {"image": f"docker.io/passerelle@sha256:{'a' * 64}"}, {}),
        ("instance", {"instance": "m5.large"}, {}),
        ("instance", {"training_instance": "ml.m5"}, {}),
        ("architecture", {"instance": "ml.c7g.large"}, {}),
        ("timeout", {"timeout_ms": 60_001}, {}),
        ("scale-to-zero", {"scaling": Scaling(minimum=0)}, {}),
        ("scaling", {"scaling": Scaling(minimum=3, maximum=2)}, {}),
        ("notify", {"alarms": Alarms(notify="oncall")}, {}),
        ("canary-alarms", {"alarms": Alarms(error_share=None, latency_ms=None)}, {}),
        ("canary-machines", {"scaling": Scaling(minimum=1)}, {}),
        ("variables", {"variables": {"PASSERELLE_TRUSTED_KEYS": "a"}}, {}),
        ("tags", {"tags": {"passerelle:revision": "9"}}, {}),
        ("auth", {}, {"auth": "tokens"}),
        ("ledger", {}, {"ledger_at": None}),
        ("name", {}, {"project": "p" * 40}),
        ("trial-needs-container", {"strategy": "platform"}, {"trial": "production-2-1"}),
        ("shadows", {"strategy": "platform"}, {"variants": variants(1, shadows=2)}),
        ("shadow-and-split", {"strategy": "platform"}, {"variants": variants(0.5, 0.5, shadows=1)}),
        ("weight", {"strategy": "platform"}, {"variants": variants(0.995, 0.005)}),
        ("variants", {"strategy": "platform"}, {"variants": variants(*[1 / 11] * 11)}),
    ],
)
def test_rule(rule: str, settings: dict[str, object], deployment: dict[str, object], tmp_path: Path, aws: str) -> None:
    assert aws
    target = aws_place.target(tmp_path, msgspec.structs.replace(aws_place.SETTINGS, **settings))
    with pytest.raises(PlanError) as error:
        target.plan(aws_place.revision(1, **deployment), ABSENT)
    assert error.value.rule == rule


def test_a_permission_that_is_missing_is_told_with_its_line(tmp_path: Path, aws: str) -> None:
    message = "User: x is not authorized to perform: sagemaker:ListModels on resource: *"
    order = {"sagemaker:ListModels": {"code": "AccessDeniedException", "message": message, "times": 9}}
    aws_place.control(aws, "_order", {"refuse": order})
    with pytest.raises(TargetError, match=r'"Action":"sagemaker:ListModels","Resource":"\*"'):
        aws_place.target(tmp_path).observe("production")


def test_a_job_is_started_once_and_stopped(tmp_path: Path, aws: str) -> None:
    assert aws
    target = aws_place.target(tmp_path)
    job = aws_place.job("2013-02-01_a")
    assert target.status(job.name).state == "absent"
    target.start(job)
    target.start(job)
    assert target.status(job.name).state == "running"
    target.stop(job.name)
    assert target.status(job.name).state == "stopped"


@pytest.mark.parametrize(("own", "due"), [("passerelle-training", "passerelle-training"), (None, "passerelle-serving")])
def test_training_has_a_role_of_its_own(own: str | None, due: str, tmp_path: Path, aws: str) -> None:
    role = "arn:aws:iam::123456789012:role/{}".format
    settings = msgspec.structs.replace(aws_place.SETTINGS, training_role=own and role(own))
    aws_place.target(tmp_path, settings).start(aws_place.job("a"))
    (sent,) = [one for one in aws_place.control(aws, "_bodies") if one["operation"] == "CreateTrainingJob"]
    assert sent["RoleArn"] == role(due)
