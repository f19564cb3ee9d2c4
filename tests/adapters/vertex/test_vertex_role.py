"""The role in docs/howto grants each method that is called, and no more than is named there for a reason."""

from __future__ import annotations

import re
from pathlib import Path

from passerelle.adapters.vertex_rest import METHODS, ROLE_FILE

ROOT = Path(__file__).parents[3]
#: What the role grants besides the methods of METHODS: what obstore asks of the store, to run as the account, and the
#: permissions that stand beside list in Google's own roles.
BESIDE = {f"storage.objects.{act}" for act in ("create", "get", "list", "delete")} | {
    "iam.serviceAccounts.actAs",
    "aiplatform.endpoints.list",
    "aiplatform.customJobs.get",
    "monitoring.alertPolicies.get",
}


def granted() -> set[str]:
    return set(re.findall(r"(?m)^  - ([a-zA-Z.]+)$", (ROOT / ROLE_FILE).read_text()))


def test_the_role_grants_each_method_and_nothing_else() -> None:
    assert granted() == {method.permission for method in METHODS.values()} | BESIDE


def test_the_page_lists_each_rule() -> None:
    page = (ROOT / "docs/howto/vertex.md").read_text()
    rules = re.findall(
        r'(?m)^            "([a-z-]+)",$', (ROOT / "src/passerelle/adapters/vertex_rules.py").read_text()
    )
    assert len(rules) == 15
    assert [rule for rule in [*rules, "trial-needs-container"] if f"| `{rule}` |" not in page] == []
