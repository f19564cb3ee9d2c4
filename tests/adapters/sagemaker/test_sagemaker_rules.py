"""Each rule refuses what it names, lets through what is beside it, and permissions that are missing are told."""

from __future__ import annotations

from pathlib import Path

import aws_place
import msgspec
import pytest

from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.spec import Variant
from passerelle.deployment.target import Observed, PlanError, TargetError
from passerelle.project.targets import Alarms, Scaling, Strategy

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
        ("image", {"region": "us-east-1"}, {}),
        ("instance", {"instance": "m5.large"}, {}),
        ("instance", {"training_instance": "ml.m5"}, {}),
        ("architecture", {"instance": "ml.c7g.large"}, {}),
        ("timeout", {"timeout_ms": 60_001}, {}),
        ("scale-to-zero", {"scaling": Scaling(minimum=0)}, {}),
        ("scaling", {"scaling": Scaling(minimum=3, maximum=2)}, {}),
        ("notify", {"alarms": Alarms(notify="oncall")}, {}),
        ("canary-alarms", {"alarms": Alarms(error_share=None, latency_ms=None)}, {}),
        ("canary-machines", {"scaling": Scaling(minimum=1)}, {}),
        ("canary-machines", {"canary_percent": 49}, {}),
        ("canary-inf1", {"instance": "ml.inf1.xlarge"}, {}),
        ("variables", {"variables": {"PASSERELLE_TRUSTED_KEYS": "a"}}, {}),
        ("variables", {"variables": {"a b": "x"}}, {}),
        ("variables", {"variables": {"A": "x" * 1025}}, {}),
        ("variables", {"variables": {f"A{number}": "x" for number in range(98)}}, {}),
        ("tags", {"tags": {"passerelle:revision": "9"}}, {}),
        ("tags", {"tags": {"a": "b;c"}}, {}),
        ("tags", {"tags": {"a" * 129: "b"}}, {}),
        ("tags", {"tags": {f"a{number}": "b" for number in range(47)}}, {}),
        ("auth", {}, {"auth": "tokens"}),
        ("ledger", {}, {"ledger_at": None}),
        ("name", {}, {"project": "p" * 37}),
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


FULL = {f"A{number}": "x" * 1024 for number in range(97)}
LABELS = {f"a{number}".ljust(128, "_"): "b" * 256 for number in range(46)}
PLATFORM = {"strategy": "platform", "canary_percent": None}


@pytest.mark.parametrize(
    ("settings", "deployment"),
    [
        ({"timeout_ms": 60_000, "variables": FULL, "tags": LABELS}, {}),
        ({"instance": "ml.c7g.large", "architecture": "arm64"}, {}),
        ({"scaling": Scaling(minimum=2, maximum=2), "canary_percent": 50}, {}),
        ({"scaling": Scaling(minimum=3, maximum=3), "canary_percent": 34}, {}),
        ({"scaling": Scaling(minimum=1, maximum=1), "canary_percent": None}, {}),
        ({"alarms": Alarms(error_share=None, latency_ms=1)}, {}),
        ({"alarms": Alarms(error_share=None, latency_ms=None), "canary_percent": None}, {}),
        ({"instance": "ml.inf1.xlarge", "canary_percent": None}, {}),
        ({"instance": "ml.inf2.xlarge"}, {}),
        ({}, {"ledger": "off", "ledger_at": None}),
        ({}, {"trial": "production-2-1"}),
        ({}, {"project": "p" * 36}),
        (PLATFORM, {"variants": variants(1, shadows=1)}),
        (PLATFORM, {"variants": variants(0.99, 0.01)}),
        (PLATFORM, {"variants": variants(*[1 / 10] * 10)}),
    ],
)
def test_what_is_just_allowed_is_planned_and_made(
    settings: dict[str, object], deployment: dict[str, object], tmp_path: Path, aws: str
) -> None:
    """Made, too, where the server can: the door refuses what AWS's own description of a request does not allow."""
    changed = msgspec.structs.replace(aws_place.SETTINGS, **settings)
    due = aws_place.revision(1, **deployment)
    if due.project == aws_place.PROJECT and changed.instance not in ("ml.c7g.large", "ml.inf2.xlarge"):
        assert apply_deployment(aws_place.target(tmp_path, changed), due, "production").observed.revision == 1
    else:  # names that are in no policy of these tests, machines that moto does not know
        assert aws_place.target(tmp_path, changed).plan(due, ABSENT).steps
    assert aws


@pytest.mark.parametrize(("more", "refused"), [(0, False), (1, True)])
def test_payload(more: int, refused: bool, tmp_path: Path, aws: str) -> None:  # noqa: FBT001  (a row's value)
    assert aws
    target = aws_place.target(tmp_path, serving=f"max_body_bytes = {6 * 2**20 + more}")
    if not refused:
        target.refuse(aws_place.revision(1))
        return
    with pytest.raises(PlanError) as error:
        target.refuse(aws_place.revision(1))
    assert error.value.rule == "payload"


@pytest.mark.parametrize("strategy", ["container", "platform"])
def test_a_guarded_change_keeps_the_names_of_the_variants(strategy: Strategy, tmp_path: Path, aws: str) -> None:
    assert aws
    before = msgspec.structs.replace(aws_place.SETTINGS, **PLATFORM)
    apply_deployment(
        aws_place.target(tmp_path, before), aws_place.revision(1, variants=variants(0.5, 0.5)), "production"
    )
    guarded = aws_place.target(tmp_path, msgspec.structs.replace(before, strategy=strategy, canary_percent=50))
    with pytest.raises(PlanError, match=r"live, version-2 would become live") as error:
        guarded.plan(aws_place.revision(2, variants=variants(1.0)), guarded.observe("production"))
    assert error.value.rule == "guarded-variants"
    plain = aws_place.target(tmp_path, msgspec.structs.replace(before, strategy=strategy))
    apply_deployment(plain, aws_place.revision(2, variants=variants(1.0)), "production")
    assert guarded.plan(aws_place.revision(3, variants=variants(1.0)), guarded.observe("production")).steps


def test_a_permission_that_is_missing_is_told_with_its_line(tmp_path: Path, aws: str) -> None:
    message = "User: x is not authorized to perform: sagemaker:ListModels on resource: *"
    order = {"sagemaker:ListModels": {"code": "AccessDeniedException", "message": message, "times": 9}}
    aws_place.control(aws, "_order", {"refuse": order})
    with pytest.raises(TargetError, match=r'"Action":"sagemaker:ListModels","Resource":"\*"'):
        aws_place.target(tmp_path).observe("production")


def test_a_job_is_not_started_on_a_machine_that_cannot_run_the_image(tmp_path: Path, aws: str) -> None:
    assert aws
    settings = msgspec.structs.replace(aws_place.SETTINGS, instance="ml.c7g.large", architecture="arm64")
    with pytest.raises(PlanError, match=r"ml.m5.xlarge has a processor of amd64.*\(rule architecture\)"):
        aws_place.target(tmp_path, settings).start(aws_place.job("a"))


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
