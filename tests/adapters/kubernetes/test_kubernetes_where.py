"""Which cluster the real kubectl leads to, by settings that know two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kubernetes_case import deployment, needs_kubectl, target
from kubernetes_place import Place, running

from passerelle.deployment.applying import apply_deployment
from passerelle.project.settings import Project

pytestmark = needs_kubectl


@pytest.fixture
def config(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """kubectl's settings: the context "here" is the place's, and current; "there" is nobody's."""
    known = place.kubeconfig()
    known["clusters"].append({"name": "there", "cluster": {"server": "http://127.0.0.1:9"}})
    known["contexts"].append({"name": "there", "context": {"cluster": "there", "user": "nobody"}})
    path = tmp_path / "config"
    path.write_text(json.dumps(known))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "cache"))
    return path


def use(config: Path, context: str) -> None:
    """As kubectl config use-context does."""
    config.write_text(json.dumps(json.loads(config.read_text()) | {"current-context": context}))


def test_the_cluster_is_that_of_the_current_context_or_of_the_one_named(
    project: Project, place: Place, tmp_path: Path, config: Path
) -> None:
    def seen(context: str | None = None) -> dict[str, str]:
        return target(project, place, tmp_path, command=("kubectl",), context=context).place()

    assert seen() == seen("here") == {"cluster": place.url}
    assert seen("there") == {"cluster": "http://127.0.0.1:9"}
    use(config, "there")
    assert seen() == {"cluster": "http://127.0.0.1:9"}
    assert seen("here") == {"cluster": place.url}
    assert place.used == set(), "no permission is needed"


def test_a_deploy_stays_in_the_cluster_that_it_began_in(
    project: Project, place: Place, tmp_path: Path, config: Path
) -> None:
    one = target(project, place, tmp_path, command=("kubectl",))
    with running() as other:
        known = json.loads(config.read_text())
        known["clusters"][1]["cluster"]["server"] = other.url
        config.write_text(json.dumps(known))
        assert one.place() == {"cluster": place.url}
        use(config, "there")
        assert apply_deployment(one, deployment(1), "production").observed.revision == 1
        assert (len(place.objects), other.objects, other.used) == (2, {}, set())


@pytest.mark.parametrize("content", ["", '{"current-context": "gone"}', None])
def test_without_settings_no_cluster_is_known(
    content: str | None, project: Project, place: Place, tmp_path: Path, config: Path
) -> None:
    """As in a pod, whose kubectl finds its own cluster."""
    config.unlink() if content is None else config.write_text(content)
    assert target(project, place, tmp_path, command=("kubectl",)).place() == {}
