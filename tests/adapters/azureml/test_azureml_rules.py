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

from passerelle.adapters.azureml_rules import endpoint_name
from passerelle.deployment.spec import Deployment
from passerelle.deployment.target import Observed, PlanError
from passerelle.project.targets import Scaling

#: Those of every target, in deployment/plan.
COMMON = ("trial-needs-container", "scale-to-zero", "scaling")
NOTHING = Observed(state="absent")
TOKENS = msgspec.structs.replace(deployment(1), auth="tokens")
PLATFORM: dict[str, Any] = {"strategy": "platform"}


def shadows(count: int) -> Deployment:
    one = two(1, (1.0,), shadow=0.0)
    dark = [msgspec.structs.replace(one.shadows[0], version=8 + number) for number in range(count)]
    return msgspec.structs.replace(one, variants=(*one.live, *dark))


ACCOUNT = {"AZURE_STORAGE_ACCOUNT_NAME": "a"}
STORE = "abfss://models@a.dfs.core.windows.net/trips"


def at(place: str | None, **changes: Any) -> Deployment:
    return msgspec.structs.replace(deployment(1), ledger_at=place, **changes)


#: Rule, the settings and the deployment that it refuses; and those beside them that it lets pass.
CASES: list[tuple[str, dict[str, Any], Deployment, dict[str, Any], Deployment]] = [
    ("store", {"store": "s3://bucket/a"}, deployment(1), {"store": STORE}, deployment(1)),
    ("store-account", {"variables": {}}, deployment(1), {"variables": {}, "store": STORE}, deployment(1)),
    ("architecture", {"architecture": "arm64"}, deployment(1), {}, deployment(1)),
    ("instance", {"instance": "ml.m5.xlarge"}, deployment(1), {"instance": "Standard_F4s_v2"}, deployment(1)),
    ("scale-to-zero", {"scaling": Scaling(minimum=0)}, deployment(1), {"scaling": Scaling()}, deployment(1)),
    *(
        (rule, {"scaling": Scaling(**bad)}, deployment(1), {"scaling": Scaling(**good)}, deployment(1))
        for rule, bad, good in (
            ("scaling", {"minimum": 3, "maximum": 2}, {"minimum": 3, "maximum": 3}),
            ("instances", {"maximum": 51}, {"maximum": 50}),
        )
    ),
    ("timeout", {"timeout_ms": 180_001}, deployment(1), {"timeout_ms": 180_000}, deployment(1)),
    *(
        ("tags", {"tags": bad}, deployment(1), {"tags": good}, deployment(1))
        for bad, good in (
            ({"passerelle-project": "x"}, {"project": "x"}),
            ({"a/b": "x"}, {"a-b": "x"}),
            ({"k" * 513: "x"}, {"k" * 512: "x"}),
            ({"k": "x" * 257}, {"k": "x" * 256}),
            ({f"k{n}": "x" for n in range(41)}, {f"k{n}": "x" for n in range(40)}),
        )
    ),
    *(
        ("variables", {"variables": ACCOUNT | {bad: "1"}}, deployment(1), {"variables": ACCOUNT}, deployment(1))
        for bad in ("AZUREML_MODEL_DIR", "PASSERELLE_REVISION", "a b")
    ),
    ("auth", {}, TOKENS, {}, deployment(1)),
    ("ledger", {}, at(None), {}, at(None, ledger="off")),
    ("ledger", {}, at("s3://bucket/ledger"), {}, at("abfss://ledger@a.dfs.core.windows.net/l")),
    ("weight", PLATFORM, two(1, (0.9901, 0.0099)), PLATFORM, two(1, (0.99, 0.01))),
    ("shadows", PLATFORM, shadows(2), PLATFORM, shadows(1)),
    ("mirror", PLATFORM, two(1, (1.0,), shadow=0.51), PLATFORM, two(1, (1.0,), shadow=0.5)),
    ("mirror", PLATFORM, two(1, (1.0,), shadow=0.009), PLATFORM, two(1, (1.0,), shadow=0.01)),
    ("mirror", PLATFORM, two(1, (1.0,), shadow=0.015), PLATFORM, two(1, (1.0,), shadow=0.02)),
    ("trial-needs-container", PLATFORM, deployment(1, trial="t"), {}, deployment(1, trial="t")),
    ("variants", PLATFORM, two(1, (1 / 11,) * 11), PLATFORM, two(1, (1 / 10,) * 10)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_each_rule_and_what_is_beside_it(case: Any, tmp_path: Path) -> None:
    rule, settings, wanted, beside, next_to = case
    assert target(tmp_path, **beside).plan(next_to, NOTHING).steps
    with pytest.raises(PlanError, match=rule) as refused:
        target(tmp_path, **settings).plan(wanted, NOTHING)
    assert refused.value.rule == rule


def test_each_rule_has_a_refusal_and_a_line_of_the_guide() -> None:
    source = (ROOT / "src/passerelle/adapters/azureml_rules.py").read_text()
    rules = {*re.findall(r'(?m)^    yield \(\n        "([a-z-]+)",$', source), *COMMON}
    assert len(rules) == 17
    assert rules == {rule for rule, *_ in CASES}
    guide = (ROOT / "docs/howto/azureml.md").read_text()
    assert [rule for rule in rules if f"`{rule}`" not in guide] == []


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


@given(st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True), st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True))
def test_names_are_legal(project: str, environment: str) -> None:
    name = endpoint_name(project, environment)
    assert 3 <= len(name) <= 32
    assert name[0].isalpha()
    assert name.replace("-", "").isalnum()
    assert name[-1] != "-"
