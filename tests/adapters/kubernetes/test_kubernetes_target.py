"""The target on a server of ours that speaks to the real kubectl; see kubernetes_place for what it cannot show."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import kubernetes_validate
import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from kubernetes_place import KINDS as PLACES
from kubernetes_place import Place, check

from passerelle.adapters.kubernetes import KubernetesTarget
from passerelle.adapters.kubernetes_manifests import endpoint_name, manifests
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.package import Package
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import Observed, PlanError, TargetError
from passerelle.project.settings import Project, load_project
from passerelle.project.targets import Kubernetes, Scaling
from passerelle.testing.target_checks import Check, check_nothing_is_left
from passerelle.testing.targets import TargetCase, sample_deployment, target_checks

IMAGE = "registry.example/trips@sha256:" + "0" * 64
SETTINGS: dict[str, Any] = {"image": IMAGE, "store": "s3://bucket/trips", "instance": ""}
FORMS = ("deployment", "kserve")
#: One for all: making a client takes longer than what it asks.
CLIENT = httpx.Client(trust_env=False)


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "passerelle.toml").write_text(
        '[project]\nname = "trips"\n[task]\nkind = "binary"\ntarget = "late"\nkey = ["id"]\n'
    )
    return load_project(tmp_path / "passerelle.toml")


class QuickTarget(KubernetesTarget):
    """Asks the server itself, as kubectl does, without a process for each question: for the checks with deaths."""

    def _kubectl(self, *arguments: str, given: dict[str, Any] | None = None) -> str:
        if given is not None:
            plural = next(key for key, (_, _, kind) in PLACES.items() if kind == given["kind"])
            headers = {"Content-Type": "application/apply-patch+yaml"}
            where = f"{address(plural)}/{given['metadata']['name']}?fieldManager=passerelle"
            CLIENT.patch(self._command[2] + where, content=json.dumps(given), headers=headers).raise_for_status()
            return ""
        plurals = [one.partition(".")[0] for one in arguments[1].split(",")]
        if arguments[0] == "delete":
            CLIENT.delete(f"{self._command[2]}{address(plurals[0])}/{arguments[2]}")
            return ""
        if arguments[2] == "-l":
            found = [
                CLIENT.get(self._command[2] + address(one), params={"labelSelector": arguments[3]}).json()
                for one in plurals
            ]
            return json.dumps({"items": [item for one in found for item in one["items"]]})
        answer = CLIENT.get(f"{self._command[2]}{address(plurals[0])}/{arguments[2]}")
        return answer.text if answer.is_success else ""


def address(plural: str) -> str:
    group, version, _ = PLACES[plural]
    return f"/{f'apis/{group}' if group else 'api'}/{version}/namespaces/default/{plural}"


def target(
    project: Project, place: Place, tmp_path: Path, *, made: type[KubernetesTarget] = KubernetesTarget, **changes: Any
) -> KubernetesTarget:
    settings = Kubernetes(**{**SETTINGS, "store": str(tmp_path / "store"), **changes})

    def packed(deployment: Deployment) -> Package:
        digest = f"{deployment.revision:012x}"
        folder = project.state / "packages/production" / f"{deployment.revision:06d}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("deployment.json", "deployment.sig", "passerelle.toml"):
            (folder / name).write_text(digest)
        return Package(folder=folder, digest=digest, revision=deployment.revision)

    kubectl = ("kubectl", "--server", place.url, f"--cache-dir={tmp_path}/cache")
    return made("cluster", settings, project, pack=packed, wait_s=5.0, kubectl=kubectl)


def case(
    project: Project, place: Place, tmp_path: Path, form: str, *, made: type[KubernetesTarget] = KubernetesTarget
) -> TargetCase:
    kind = "Deployment" if form == "deployment" else "InferenceService"

    def there() -> list[str]:
        store = tmp_path / "store"
        packages = {path.parent.name for path in store.rglob("*") if path.is_file()}
        spec = [f"{key} {json.dumps(one['spec'], sort_keys=True)}" for key, one in place.objects.items()]
        return [*spec, *sorted(packages)]

    def meddle() -> None:
        one = place.objects[kind, "trips-production"]["spec"]
        (one if form == "deployment" else one["predictor"])["replicas" if form == "deployment" else "minReplicas"] = 7

    def clash() -> None:
        place.objects[kind, "trips-production"] = {
            "apiVersion": "apps/v1" if form == "deployment" else "serving.kserve.io/v1beta1",
            "kind": kind,
            "metadata": {"name": "trips-production", "labels": {}, "generation": 1, "resourceVersion": "1"},
            "spec": {},
        }

    return TargetCase(
        open=lambda: target(project, place, tmp_path, made=made, form=form),
        restoring=lambda: target(project, place, tmp_path, made=made, form=form, drift="restore"),
        deployment=sample_deployment,
        there=there,
        meddle=meddle,
        fail=lambda: setattr(place, "fails", True),
        clash=clash,
    )


needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl: sudo make test-system")
#: Kubernetes rolls nothing back by itself; the rules are of settings, and tested below.
CHECKS = target_checks(without=["check_silent_roll_back", "check_rules"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_checks(check: Check, form: str, project: Project, place: Place, tmp_path: Path) -> None:
    check(case(project, place, tmp_path, form, made=QuickTarget))


@needs_kubectl
@pytest.mark.parametrize("form", FORMS)
def test_by_the_real_kubectl(form: str, project: Project, place: Place, tmp_path: Path) -> None:
    check_nothing_is_left(case(project, place, tmp_path, form))
    assert [line for line in place.requests if line.startswith("PATCH")]


def test_manifests_fit_the_official_schemas() -> None:
    scaled = Kubernetes(**SETTINGS, scaling=Scaling(minimum=1, maximum=3), service_account="trips")
    made = manifests(sample_deployment(2), scaled, "s3://bucket/p")
    assert [one["kind"] for one in made] == ["Deployment", "Service", "HorizontalPodAutoscaler"]
    assert "replicas" not in made[0]["spec"]
    for version in ("1.28", "1.32", "1.36"):
        for one in made:
            kubernetes_validate.validate(one, version, strict=True)
    (service,) = manifests(sample_deployment(2), msgspec.structs.replace(scaled, form="kserve"), "s3://bucket/p")
    check(service)
    service["spec"]["predictor"]["minReplica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        check(service)
    made[0]["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        check(made[0])


def test_pods_are_safe_and_stop_softly() -> None:
    one, service = manifests(sample_deployment(2), Kubernetes(**SETTINGS, variables={"A": "b"}), "s3://bucket/p")
    assert one["metadata"]["labels"]["passerelle.io/revision"] == "2"
    assert one["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "passerelle.io/revision" not in one["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"] == one["spec"]["selector"]["matchLabels"]
    pod = one["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert {"name": "PASSERELLE_PACKAGE", "value": "s3://bucket/p"} in container["env"]
    assert {"name": "A", "value": "b"} in container["env"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["terminationGracePeriodSeconds"] > 5 + 30


@pytest.mark.parametrize("form", FORMS)
def test_tokens_come_from_a_secret_unless_a_gateway_decides(
    form: Any, project: Project, place: Place, tmp_path: Path
) -> None:
    settings = Kubernetes(**SETTINGS, form=form)
    asks, *_ = manifests(sample_deployment(2, auth="tokens"), settings, "s3://bucket/p")
    pod = asks["spec"]["predictor"] if form == "kserve" else asks["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"name": "PASSERELLE_TOKENS_FILE", "value": "/etc/passerelle/tokens/tokens.json"} in container["env"]
    assert {"name": "tokens", "mountPath": "/etc/passerelle/tokens"} in container["volumeMounts"]
    secret = {"secretName": "trips-production-tokens", "defaultMode": 0o440}
    assert {"name": "tokens", "secret": secret} in pod["volumes"]
    trusts, *_ = manifests(sample_deployment(2, auth="platform"), settings, "s3://bucket/p")
    assert "tokens" not in str(trusts).lower()
    one = target(project, place, tmp_path, form=form)
    for auth, note in (
        ("tokens", "the Secret trips-production-tokens must hold"),
        ("platform", "the gateway that you"),
    ):
        plan = one.plan(sample_deployment(2, auth=auth), Observed(state="absent"))
        assert any(note in said for said in plan.notes), plan.notes


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("no-platform-split", {"strategy": "platform"}),
        ("no-scale-to-zero", {"scaling": Scaling(minimum=0)}),
        ("scaling-order", {"scaling": Scaling(minimum=3, maximum=2)}),
    ],
)
def test_rules(rule: str, changes: dict[str, Any], project: Project, place: Place, tmp_path: Path) -> None:
    one = target(project, place, tmp_path, **changes)
    with pytest.raises(PlanError) as refused:
        apply_deployment(one, sample_deployment(1, trial="t"), "production")
    assert refused.value.rule == rule
    assert not [line for line in place.requests if not line.startswith("GET")]


def test_name_too_long_is_refused() -> None:
    with pytest.raises(PlanError, match="name-too-long"):
        endpoint_name("a" * 40, "production")


@needs_kubectl
def test_missing_permission_is_told(project: Project, place: Place, tmp_path: Path) -> None:
    place.forbidden = True
    with pytest.raises(TargetError, match=r"cannot list(.|\n)*docs/howto/kubernetes.md"):
        target(project, place, tmp_path).observe("production")


def test_kubectl_that_hangs_is_told(
    project: Project, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("passerelle.adapters.kubernetes._KUBECTL_S", 0.2)
    one = target(project, place, tmp_path)
    one._command = ("sh", "-c", "exec sleep 30")
    with pytest.raises(TargetError, match=r"kubectl get .* did not answer within 0\.2 s"):
        one.observe("production")


def test_rendered_for_git(project: Project, place: Place, tmp_path: Path) -> None:
    written = target(project, place, tmp_path).render(sample_deployment(3), tmp_path / "git")
    assert [path.name for path in written] == ["deployment.json", "service.json"]
    one = json.loads(written[0].read_text())
    check(one)
    address = next(
        each["value"] for each in one["spec"]["template"]["spec"]["containers"][0]["env"] if "PACKAGE" in each["name"]
    )
    assert (Path(address) / "deployment.sig").exists()
