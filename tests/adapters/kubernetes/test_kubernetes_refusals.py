"""What kubectl, the cluster and the store cannot do comes out as a TargetError with what to do next."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_case import SETTINGS, case, deployment, needs_kubectl, target
from kubernetes_place import BINDING, ROLE, ROLE_FILE, VERSION, Place

from passerelle.adapters import kubernetes_kubectl
from passerelle.adapters.kubernetes_manifests import PORT, manifests
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.target import DriftError, TargetError
from passerelle.project.settings import Project
from passerelle.project.targets import Kubernetes, Scaling
from passerelle.testing.target_checks import check_nothing_is_left

SOAK = bool(os.environ.get("PASSERELLE_SOAK"))
FORBIDDEN = (
    'Error from server (Forbidden): deployments.apps is forbidden: User "ci" cannot {} resource "deployments" in API '
    'group "apps" in the namespace "default"'
)
#: What kubectl says → what is said to do.
SAID = {
    "no context": ("Error in configuration: context was not found for specified context: gone", "use-context"),
    "no cluster": (
        "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
        "kubectl cluster-info",
    ),
    "no address": (
        "Unable to connect to the server: dial tcp: lookup k8s.example on 10.0.0.1:53: no such host",
        "kubectl cluster-info",
    ),
    "who": ("error: You must be logged in to the server (Unauthorized)", "log in again"),
    "helper": ("Unable to connect to the server: getting credentials: exec: executable aws not found", "log in again"),
    "forbidden": (FORBIDDEN.format("list"), "its line of resources: [deployments]"),
    "quota": (
        'Error from server (Forbidden): pods "x" is forbidden: exceeded quota: mem, requested: limits.memory=2Gi',
        "Ask for more",
    ),
    "namespace": ('Error from server (NotFound): namespaces "default" not found', "kubectl create namespace"),
    "no kserve": (
        'error: the server doesn\'t have a resource type "inferenceservices"',
        'say form = "deployment"',
    ),
    "webhook": (
        'Error from server: admission webhook "policy.example" denied the request: no owner label',
        "Correct what it names",
    ),
    "anything": ("error: what nobody has seen before", "then deploy again"),
    "": ("", "said nothing"),
}


def speaking(folder: Path, script: str) -> tuple[str, ...]:
    path = folder / "kubectl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return (str(path),)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_kubectl, "_FIRST_WAIT_S", 0.001)


@pytest.mark.parametrize("what", SAID)
def test_what_kubectl_says_is_told_with_what_to_do(what: str, project: Project, place: Place, tmp_path: Path) -> None:
    said, next_step = SAID[what]
    (tmp_path / "said").write_text(said)
    command = speaking(tmp_path, f"cat {tmp_path}/said >&2; exit 1")
    with pytest.raises(TargetError) as told:
        apply_deployment(target(project, place, tmp_path, command=command), deployment(1), "production")
    assert "cluster: kubectl get deployments.apps" in str(told.value)
    assert said.rstrip(".") in str(told.value)
    assert next_step in str(told.value)


def test_the_cluster_is_the_one_that_the_settings_name(project: Project, place: Place, tmp_path: Path) -> None:
    command = speaking(tmp_path, "echo $* >&2; exit 1")
    with pytest.raises(TargetError, match="--context paris --namespace default get"):
        target(project, place, tmp_path, command=command, context="paris").observe("production")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/nowhere/kubectl",), r"/nowhere/kubectl cannot be run \(No such file or directory\): install kubectl"),
        (("/etc/hostname",), r"cannot be run \(.*\): install kubectl"),
        (("echo", "Welcome!"), r"printed what is no JSON .*Welcome!.*wrapper"),
    ],
    ids=["missing", "not to be run", "no JSON"],
)
def test_a_kubectl_that_is_none(
    command: tuple[str, ...], said: str, project: Project, place: Place, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=said):
        target(project, place, tmp_path, command=command).observe("production")


def test_a_kubectl_that_hangs(project: Project, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_kubectl, "_LONGEST_S", 0.2)
    one = target(project, place, tmp_path, command=("sh", "-c", "exec sleep 300"))
    with pytest.raises(TargetError, match=r"kubectl get .* did not answer within 0\.2 s: look at the cluster"):
        one.observe("production")


@pytest.mark.parametrize("times", [4, 5])
def test_a_busy_server_is_asked_five_times(times: int, project: Project, place: Place, tmp_path: Path) -> None:
    busy = "Error from server (TooManyRequests): the server has received too many requests"
    script = f"""echo x >> {tmp_path}/count
if [ $(wc -l < {tmp_path}/count) -le {times} ]; then echo '{busy}' >&2; exit 1; fi
echo '{{"items": []}}'"""
    one = target(project, place, tmp_path, command=speaking(tmp_path, script))
    if times == 4:
        assert one.observe("production").state == "absent"
    else:
        with pytest.raises(TargetError, match="too many requests"):
            one.observe("production")
    assert (tmp_path / "count").read_text().count("x") == 5


@pytest.mark.parametrize("what", ["observe", "render"])
def test_a_store_that_cannot_be_reached(what: str, project: Project, place: Place, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file, where the store should be")
    one = target(project, place, tmp_path)
    acts: dict[str, Callable[[], Any]] = {
        "observe": lambda: one.observe("production"),
        "render": lambda: one.render(deployment(1), tmp_path / "git"),
    }
    with pytest.raises(TargetError, match=r"store.* cannot be opened: Not a directory.*Name it as"):
        acts[what]()


@needs_kubectl
def test_the_real_kubectl_without_a_context(
    project: Project, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("apiVersion: v1\nkind: Config\ncurrent-context: gone\n")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(TargetError, match="use-context"):
        target(project, place, tmp_path, command=("kubectl",)).observe("production")
    monkeypatch.delenv("KUBECONFIG")
    away = ("kubectl", "--server", "http://127.0.0.1:9", f"--cache-dir={tmp_path}/cache")
    with pytest.raises(TargetError, match="kubectl cluster-info") as told:
        target(project, place, tmp_path, command=away).observe("production")
    assert "memcache" not in str(told.value), "kubectl's own journal says the same five times"
    assert str(told.value).count("was refused") == 1


LINES = ["one", "two", "three"]


def speak(place: Place, name: str, project: str) -> None:
    """Have a pod that wrote something."""
    labels = {"passerelle.io/project": project, "passerelle.io/environment": "production"}
    place.objects["Pod", name] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"containers": [{"name": "passerelle"}]},
    }
    place.logs[name] = [f"{name}: {line}" for line in LINES]


@needs_kubectl
def test_the_log_of_the_pods(project: Project, place: Place, tmp_path: Path) -> None:
    one = target(project, place, tmp_path)
    with pytest.raises(TargetError, match=r"no pod of production has written anything.*get pods"):
        one.logs("production")
    for name, of in (("trips-a", "trips"), ("trips-b", "trips"), ("other", "other")):
        speak(place, name, of)
    said = [f"[pod/{name}/passerelle] {name}: {line}" for name in ("trips-a", "trips-b") for line in ("two", "three")]
    assert one.logs("production", lines=2) == tuple(said)
    place.allowed -= {("", "pods/log", "get")}
    with pytest.raises(TargetError, match=r"get of pods/log in API group \"\" is missing"):
        one.logs("production")


@needs_kubectl
def test_the_role_grants_what_is_asked_and_no_more(project: Project, place: Place, tmp_path: Path) -> None:
    """By the real kubectl, whose requests are recorded; without any one of its verbs something is refused."""

    def live(form: str) -> None:
        check_nothing_is_left(case(project, place, tmp_path, form, scaling=Scaling(maximum=2)))

    live("deployment")
    live("kserve")
    speak(place, "trips-a", "trips")
    target(project, place, tmp_path).logs("production")
    place.objects.clear()
    granted = set(place.allowed)
    assert {one for one in granted - place.used if one[2] != "watch"} == {("", "pods", "get")}
    for form, group, kind in (
        ("deployment", "apps", "deployments"),
        ("kserve", "serving.kserve.io", "inferenceservices"),
    ):
        for verb in (
            ("list", "get", "create", "patch", "delete") if form == "deployment" or SOAK else ("list", "delete")
        ):
            place.allowed = granted - {(group, kind, verb)}
            with pytest.raises(TargetError) as told:
                live(form)
            assert f'{verb} of {kind} in API group "{group}" is missing: the Role in' in str(told.value)
            place.objects.clear()


def test_the_policies_are_valid_and_of_what_is_made() -> None:
    network = yaml.safe_load(ROLE_FILE.with_name("kubernetes-network.yaml").read_text())
    for one in (ROLE, BINDING, network):
        kubernetes_validate.validate(one, VERSION, strict=True)
    assert BINDING["roleRef"]["name"] == ROLE["metadata"]["name"]
    made, *_ = manifests(deployment(1, project="flights"), Kubernetes(**SETTINGS), "s3://bucket/p")
    assert network["spec"]["podSelector"] == made["spec"]["selector"]
    assert [one["port"] for one in network["spec"]["ingress"][0]["ports"]] == [PORT]


@pytest.mark.parametrize("text", ["{", "[]", "7"])
def test_our_own_marks_changed_by_hand(text: str, project: Project, place: Place, tmp_path: Path) -> None:
    """Labels and annotations of ours that hold something else are a hand's, and no fault in us."""
    cases = case(project, place, tmp_path, "deployment")
    apply_deployment(cases.open(), deployment(1), "production")
    due = cases.there()
    one = place.objects["Deployment", "trips-production"]
    one["metadata"]["annotations"] |= {"passerelle.io/asked": text, "passerelle.io/answers": text}
    one["spec"]["template"]["metadata"]["labels"]["passerelle.io/revision"] = "first"
    with pytest.raises(DriftError, match="which is not ours"):
        apply_deployment(cases.open(), deployment(1), "production")
    assert cases.restoring is not None
    found = apply_deployment(cases.restoring(), deployment(1), "production").observed
    assert (found.revision, cases.there()) == (1, due)
    one = place.objects["Deployment", "trips-production"]
    del one["metadata"]["annotations"]
    assert cases.open().observe("production").revision == 1
