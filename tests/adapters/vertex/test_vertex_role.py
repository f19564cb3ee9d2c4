"""The roles in docs/howto grant what a whole life of a target asks, request by request, and no more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from vertexing import Google, deployment

from passerelle.adapters.vertex_rest import METHODS, ROLE_FILE
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.policies import written
from passerelle.deployment.target import Job, TargetError
from passerelle.project.targets import Alarms, Scaling

ROOT = Path(__file__).parents[3]
#: What the role grants though no request of ours is for it: that the container may run as its service account, which
#: Google looks at when a model is deployed and when a job is created; and to read an object that is there.
BESIDE = {"iam.serviceAccounts.actAs", "storage.objects.get"}


def granted(role: str = ROLE_FILE) -> set[str]:
    return set(re.findall(r"(?m)^  - ([a-zA-Z.]+)$", (ROOT / "docs/howto/policies" / role).read_text()))


def life(google: Google) -> None:
    """Made, changed in all that can be, meddled with, rolled back, trained with, removed."""

    def apply(revision: int | None, rolls_back_to: int | None = None, **changes: object) -> None:
        wanted = None if revision is None else deployment(revision, rolls_back_to=rolls_back_to)
        apply_deployment(google.open(**changes), wanted, "production")

    apply(1)
    apply(2)
    apply(2, scaling=Scaling(minimum=2, maximum=2), timeout_ms=1500, alarms=Alarms(error_share=0.1))
    apply(3, rolls_back_to=1)
    target = google.open()
    target.start(Job(name="run-7", input="gs://acme-models/in", output="gs://acme-models/out", timeout_s=900))
    target.stop("run-7")
    with pytest.raises(TargetError, match="Cloud Logging has nothing of endpoint"):
        target.logs("production")
    apply(None)


def test_a_life_under_the_role_asks_for_all_of_it_and_nothing_else(google: Google) -> None:
    """The server refuses each method whose permission the role does not grant, and records those that were used."""
    needs = {method: how.permission for method, how in METHODS.items()}
    google.order(role={"needs": needs, "granted": sorted(granted())})
    life(google)
    state = google.state()
    assert set(state["calls"]) == set(METHODS), "METHODS is what is called, no more"
    assert set(state["used"]) == granted() - BESIDE
    google.order(role={"needs": needs, "granted": sorted(granted() - {"aiplatform.endpoints.deploy"})})
    with pytest.raises(TargetError, match=r"permission aiplatform\.endpoints\.deploy is missing.*`- aiplatform\.end"):
        life(google)


def test_the_stores_refusal_names_permission_and_place(google: Google) -> None:
    """And the role's file has the line."""
    google.order(role={"needs": {}, "granted": sorted(granted() - {"storage.objects.create"})})
    with pytest.raises(
        TargetError,
        match=rf"gs://acme-models/.* 403.*needs storage\.objects\.create there.*{re.escape(written(ROLE_FILE))} has",
    ):
        life(google)
    assert "storage.objects.create" in granted()


def test_the_container_may_less_than_who_deploys() -> None:
    of_container = granted("vertex-container.yaml")
    assert of_container == {"storage.objects.create", "storage.objects.get", "storage.objects.list"}


def test_the_page_lists_each_rule_and_sends_nobody_to_the_old_platform() -> None:
    page = (ROOT / "docs/howto/vertex.md").read_text()
    rules = re.findall(
        r'(?m)^            "([a-z-]+)",$', (ROOT / "src/passerelle/adapters/vertex_rules.py").read_text()
    )
    assert len(rules) == 17
    assert [
        rule for rule in [*rules, "trial-needs-container", "scale-to-zero", "scaling"] if f"| `{rule}` |" not in page
    ] == []
    assert re.search(r"`ml\.googleapis\.com`, ended in 2025 and is not used", page)
    sources = [path.read_text() for path in (ROOT / "src/passerelle/adapters").glob("vertex*.py")]
    assert sources
    assert not any(re.search(r"\bml\.googleapis", source) for source in sources)
