"""Each rule refuses what it names, before anything is asked, lets through what is beside it, and is in the guide."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kubernetes_case import SETTINGS, deployment, target
from kubernetes_place import Place

from passerelle.adapters.kubernetes_rules import check
from passerelle.deployment.applying import apply_deployment
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import PlanError
from passerelle.project.settings import Project
from passerelle.project.targets import Kubernetes, Scaling

ROOT = Path(__file__).parents[3]
#: Those of every target, in deployment/plan; with strategy = "platform" nothing is taken here, trial or not.
COMMON = {"scale-to-zero", "scaling"}
#: Rule, settings that it refuses, and those beside them that it lets pass.
OF_SETTINGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("no-platform-split", {"strategy": "platform"}, {"strategy": "container"}),
    ("scale-to-zero", {"scaling": Scaling(minimum=0)}, {"scaling": Scaling(minimum=1)}),
    ("scaling", {"scaling": Scaling(minimum=3, maximum=2)}, {"scaling": Scaling(minimum=3, maximum=3)}),
    ("namespace", {"namespace": "My NS"}, {"namespace": "my-ns"}),
    ("namespace", {"namespace": "n" * 64}, {"namespace": "n" * 63}),
    ("service-account", {"service_account": "me@x"}, {"service_account": "me.x"}),
    ("instance", {"instance": "ml.m5.large"}, {"instance": ""}),
    *(
        ("quantity", {"cpu": bad}, {"cpu": good})
        for bad, good in (("1000m", "999m"), ("0.5", "500m"), ("01", "1"), ("2Gi", "1500m"), ("lots", "2"), ("", "1"))
    ),
    *(
        ("quantity", {"memory": bad}, {"memory": good})
        for bad, good in (("2048Mi", "2047Mi"), ("2G", "2Gi"), ("1.5Gi", "1536Mi"), ("2 GB", "2Ti"), ("1000000", "1Ki"))
    ),
    *(
        ("tags", {"tags": bad}, {"tags": good})
        for bad, good in (
            ({"a b": "x"}, {"a-b": "x"}),
            ({"team": "ops and ci"}, {"team": "ops_and.ci"}),
            ({"team": "x" * 64}, {"team": "x" * 63}),
            ({"passerelle.io/project": "x"}, {"acme.io/project": ""}),
        )
    ),
    ("variables", {"variables": {"a b": "x"}}, {"variables": {"a_b": "x"}}),
    ("variables", {"variables": {"PASSERELLE_TRUSTED_KEYS": "x"}}, {"variables": {"PASSERELLE_PYTHON": "x"}}),
]
#: Rule, a deployment that it refuses, and one beside it; for the store s3://bucket/trips.
OF_DEPLOYMENT = [
    ("ledger", deployment(1, ledger_at=None), deployment(1, ledger_at=None, ledger="off")),
    ("ledger", deployment(1, ledger_at="/tmp/ledger"), deployment(1, ledger_at="az://ledger/trips")),  # noqa: S108
    ("name", deployment(1, project="p" * 40), deployment(1, project="p" * 39)),
]


@pytest.mark.parametrize("one", OF_SETTINGS, ids=lambda one: one[0])
def test_settings(one: tuple[str, Any, Any], project: Project, place: Place, tmp_path: Path) -> None:
    rule, changes, beside = one
    check(deployment(1, trial="t"), Kubernetes(**SETTINGS | beside))
    with pytest.raises(PlanError) as refused:
        apply_deployment(target(project, place, tmp_path, **changes), deployment(1, trial="t"), "production")
    assert refused.value.rule == rule
    assert not [line for line in place.requests if not line.startswith("GET")]


@pytest.mark.parametrize(("rule", "wanted", "beside"), OF_DEPLOYMENT)
def test_deployments(rule: str, wanted: Deployment, beside: Deployment) -> None:
    settings = Kubernetes(**SETTINGS)
    check(beside, settings)
    with pytest.raises(PlanError) as refused:
        check(wanted, settings)
    assert refused.value.rule == rule


def test_a_ledger_on_the_nodes_lies_in_the_store_that_is_mounted() -> None:
    settings = Kubernetes(**SETTINGS | {"store": "/mnt/store"})
    check(deployment(1, ledger_at="/mnt/store/ledger/trips/production"), settings)
    for elsewhere in ("/mnt/storeroom/ledger", "/mnt/store/../ledger", "/var/ledger"):
        with pytest.raises(PlanError, match=r"\(rule ledger\)"):
            check(deployment(1, ledger_at=elsewhere), settings)


def test_each_rule_has_a_refusal_and_is_in_the_guide() -> None:
    source = (ROOT / "src/passerelle/adapters/kubernetes_rules.py").read_text()
    rules = set(re.findall(r'(?m)^ +yield \(\n +"([a-z-]+)",$', source)) | COMMON
    assert len(rules) == 11
    assert rules == {rule for rule, *_ in (*OF_SETTINGS, *OF_DEPLOYMENT)}
    guide = (ROOT / "docs/howto/kubernetes.md").read_text()
    assert [rule for rule in sorted(rules) if f"`{rule}`" not in guide] == []
