"""One refusal for each rule, and what the rules let pass."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from azure_case import deployment, target, two
from azure_openapi import ROOT
from hypothesis import given
from hypothesis import strategies as st

from passerelle.adapters.azureml_rules import endpoint_name, percentages
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import Observed, PlanError
from passerelle.project.targets import Scaling

NOTHING = Observed(state="absent")
TOKENS = msgspec.structs.replace(deployment(1), auth="tokens")
LOCAL = msgspec.structs.replace(deployment(1), ledger_at=None)
PLATFORM: dict[str, Any] = {"strategy": "platform"}


CASES: list[tuple[str, dict[str, Any], Deployment]] = [
    ("store", {"store": "s3://bucket/a"}, deployment(1)),
    ("store-account", {"variables": {}}, deployment(1)),
    ("architecture", {"architecture": "arm64"}, deployment(1)),
    ("instance", {"instance": "ml.m5.xlarge"}, deployment(1)),
    ("scale-to-zero", {"scaling": Scaling(minimum=0, maximum=1)}, deployment(1)),
    ("scaling", {"scaling": Scaling(minimum=3, maximum=2)}, deployment(1)),
    ("instances", {"scaling": Scaling(minimum=1, maximum=51)}, deployment(1)),
    ("timeout", {"timeout_ms": 180_001}, deployment(1)),
    ("tags", {"tags": {"passerelle-project": "x"}}, deployment(1)),
    ("variables", {"variables": {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZUREML_MODEL_DIR": "/"}}, deployment(1)),
    ("variables", {"variables": {"AZURE_STORAGE_ACCOUNT_NAME": "a", "PASSERELLE_REVISION": "1"}}, deployment(1)),
    ("auth", {}, TOKENS),
    ("ledger", {}, LOCAL),
    ("weight", PLATFORM, two(1, (0.995, 0.005))),
    ("mirror", PLATFORM, two(1, (1.0,), shadow=0.51)),
    ("trial-needs-container", PLATFORM, deployment(1, trial="production-2-1")),
    ("deployments", PLATFORM, two(1, (1 / 11,) * 11)),
]


@pytest.mark.parametrize(("rule", "settings", "wanted"), CASES)
def test_each_rule(rule: str, settings: dict[str, Any], wanted: Deployment, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=rule) as refused:
        target(tmp_path, **settings).plan(wanted, NOTHING)
    assert refused.value.rule == rule


def test_each_rule_has_a_refusal_and_a_line_of_the_guide() -> None:
    source = (ROOT / "src/passerelle/adapters/azureml_rules.py").read_text()
    rules = {*re.findall(r'(?m)^    yield \(\n        "([a-z-]+)",$', source), "trial-needs-container"}
    assert len(rules) == 17
    assert rules == {rule for rule, _, _ in CASES} | {"shadows"}
    guide = (ROOT / "docs/howto/azureml.md").read_text()
    assert [rule for rule in rules if f"`{rule}`" not in guide] == []


def test_two_shadows(tmp_path: Path) -> None:
    one = two(1, (1.0,), shadow=0.0)
    another = msgspec.structs.replace(one.shadows[0], version=8)
    with pytest.raises(PlanError, match="shadows"):
        target(tmp_path, **PLATFORM).plan(msgspec.structs.replace(one, variants=(*one.variants, another)), NOTHING)


def test_platform_weights_and_mirror(tmp_path: Path) -> None:
    plan = target(tmp_path, **PLATFORM).plan(two(1, (0.9, 0.1), shadow=0.0), NOTHING)
    traffic = next(s.resource.settings for s in plan.steps if s.resource.kind == "onlineEndpoints/traffic")
    assert sorted(traffic["traffic"].values()) == [10, 90]
    assert list(traffic["mirror"].values()) == [50]
    assert "no trial is judged" in " ".join(plan.notes)
    same = target(tmp_path, **PLATFORM).plan(two(2, (0.5, 0.5), shadow=0.5), NOTHING)
    made = [[s.resource.name for s in p.steps if s.resource.kind.endswith("/deployments")] for p in (plan, same)]
    assert made[0] == made[1], "another share makes no other deployments"


def test_the_container_is_told_what_its_package_is(tmp_path: Path) -> None:
    """Else any package of another project's that the same key signed would be served: see serving/container."""
    for changes, revisions in (({}, ["3"]), (PLATFORM, ["1", "2"])):
        plan = target(tmp_path, **changes).plan(two(3), NOTHING)
        steps = [s.resource for s in plan.steps if s.act == "create" and s.resource.kind.endswith("/deployments")]
        said = [one.settings["variables"] for one in steps]
        told = {"PASSERELLE_PROJECT": "trips", "PASSERELLE_ENVIRONMENT": "production"}
        store = {"AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1"}
        # A version alone is packed as a revision of its own number.
        assert said == [told | store | {"PASSERELLE_REVISION": revision} for revision in revisions]


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=10))
def test_percentages(weights: list[float]) -> None:
    shares = percentages(weights)
    assert sum(shares) == 100
    assert all(abs(share - 100 * weight / sum(weights)) < 1 for share, weight in zip(shares, weights, strict=True))


@given(st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True), st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True))
def test_names_are_legal(project: str, environment: str) -> None:
    name = endpoint_name(project, environment)
    assert 3 <= len(name) <= 32
    assert name[0].isalpha()
    assert name.replace("-", "").isalnum()
    assert name[-1] != "-"
