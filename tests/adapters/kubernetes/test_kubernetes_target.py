"""The target on a server of ours that speaks to the real kubectl; see kubernetes_place for what it cannot show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
from kubernetes_case import SETTINGS, QuickTarget, case, deployment, target
from kubernetes_place import Place, check

from passerelle.adapters.kubernetes_manifests import manifests
from passerelle.deployment.target import Observed
from passerelle.project.settings import Project
from passerelle.project.targets import Alarms, Kubernetes, Scaling
from passerelle.testing.target_checks import Check
from passerelle.testing.targets import target_checks

FORMS = ("deployment", "kserve")
#: Kubernetes rolls nothing back by itself; the rules are of settings, and tested below.
CHECKS = target_checks(without=["check_silent_roll_back", "check_rules"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_checks(check: Check, form: str, project: Project, place: Place, tmp_path: Path) -> None:
    check(case(project, place, tmp_path, form, made=QuickTarget))


def test_manifests_fit_the_official_schemas() -> None:
    scaled = Kubernetes(**SETTINGS, scaling=Scaling(minimum=1, maximum=3), service_account="trips")
    made = manifests(deployment(2), scaled, "s3://bucket/p")
    assert [one["kind"] for one in made] == ["Deployment", "Service", "HorizontalPodAutoscaler"]
    assert "replicas" not in made[0]["spec"]
    for version in ("1.28", "1.32", "1.36"):
        for one in made:
            kubernetes_validate.validate(one, version, strict=True)
    (service,) = manifests(deployment(2), msgspec.structs.replace(scaled, form="kserve"), "s3://bucket/p")
    check(service)
    for name, value in (("minReplica", 1), ("minReplicas", "1"), ("volumes", [{"name": "x", "secret": {"name": "y"}}])):
        wrong = {**service, "spec": {"predictor": service["spec"]["predictor"] | {name: value}}}
        with pytest.raises((ValueError, kubernetes_validate.ValidationError), match=name):
            check(wrong)
    made[0]["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        check(made[0])


def test_pods_are_safe_and_stop_softly() -> None:
    one, service = manifests(deployment(2), Kubernetes(**SETTINGS, variables={"A": "b"}), "s3://bucket/p")
    assert one["metadata"]["labels"]["passerelle.io/revision"] == "2"
    assert one["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "passerelle.io/revision" not in one["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"] == one["spec"]["selector"]["matchLabels"]
    pod = one["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert {"name": "PASSERELLE_PACKAGE", "value": "s3://bucket/p"} in container["env"]
    assert {"name": "A", "value": "b"} in container["env"]
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"] == {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["terminationGracePeriodSeconds"] > 5 + 30


@pytest.mark.parametrize("form", FORMS)
def test_the_container_is_told_what_the_package_must_be(form: Any) -> None:
    """Whoever puts another package there is not served; nor may the settings say otherwise."""
    settings = Kubernetes(**SETTINGS, form=form, variables={"PASSERELLE_REVISION": "1"})
    one, *_ = manifests(deployment(12, auth="platform"), settings, "s3://bucket/p")
    pod = one["spec"]["predictor"] if form == "kserve" else one["spec"]["template"]["spec"]
    assert {each["name"]: each["value"] for each in pod["containers"][0]["env"]} == {
        "PASSERELLE_ENVIRONMENT": "production",
        "PASSERELLE_PACKAGE": "s3://bucket/p",
        "PASSERELLE_PROJECT": "trips",
        "PASSERELLE_REVISION": "12",
        "PORT": "8080",
    }


@pytest.mark.parametrize("form", FORMS)
def test_tokens_come_from_a_secret_unless_a_gateway_decides(
    form: Any, project: Project, place: Place, tmp_path: Path
) -> None:
    settings = Kubernetes(**SETTINGS, form=form)
    asks, *_ = manifests(deployment(2, auth="tokens"), settings, "s3://bucket/p")
    pod = asks["spec"]["predictor"] if form == "kserve" else asks["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"name": "PASSERELLE_TOKENS_FILE", "value": "/etc/passerelle/tokens/tokens.json"} in container["env"]
    assert {"name": "tokens", "mountPath": "/etc/passerelle/tokens"} in container["volumeMounts"]
    secret = {"secretName": "trips-production-tokens", "defaultMode": 0o440}
    assert {"name": "tokens", "secret": secret} in pod["volumes"]
    trusts, *_ = manifests(deployment(2, auth="platform"), settings, "s3://bucket/p")
    assert "tokens" not in str(trusts).lower()
    one = target(project, place, tmp_path, form=form)
    for auth, note in (
        ("tokens", "the Secret trips-production-tokens must hold"),
        ("platform", "the gateway that you"),
    ):
        plan = one.plan(deployment(2, auth=auth), Observed(state="absent"))
        assert any(note in said for said in plan.notes), plan.notes


def test_who_keeps_the_timeout_is_noted(project: Project, place: Place, tmp_path: Path) -> None:
    for form, count in (("deployment", 1), ("kserve", 0)):
        one = target(project, place, tmp_path, form=form, timeout_ms=1234)
        notes = one.plan(deployment(1), Observed(state="absent")).notes
        assert sum("nothing keeps timeout_ms (1234)" in note for note in notes) == count


def test_what_is_not_made_is_noted(project: Project, place: Place, tmp_path: Path) -> None:
    quiet = Alarms(error_share=None, latency_ms=None)
    for alarms, count in ((Alarms(), 1), (quiet, 0)):
        notes = target(project, place, tmp_path, alarms=alarms).plan(deployment(1), Observed(state="absent")).notes
        assert sum("no alarms are made" in note for note in notes) == count


def test_rendered_for_git(project: Project, place: Place, tmp_path: Path) -> None:
    written = target(project, place, tmp_path).render(deployment(3), tmp_path / "git")
    assert [path.name for path in written] == ["deployment.json", "service.json"]
    one = json.loads(written[0].read_text())
    check(one)
    address = next(
        each["value"] for each in one["spec"]["template"]["spec"]["containers"][0]["env"] if "PACKAGE" in each["name"]
    )
    assert (Path(address) / "deployment.sig").exists()
