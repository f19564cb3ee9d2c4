"""The policy in the docs grants what the adapter asks for, and nothing besides."""

from __future__ import annotations

import json
import re
from pathlib import Path

from passerelle.adapters.sagemaker_calls import action_of

ROOT = Path(__file__).parents[3]
#: Asked by AWS on our behalf: the role that is handed over, and the one that scaling makes for itself.
IMPLIED = {"iam:PassRole", "iam:CreateServiceLinkedRole"}
_CALL = re.compile(r'(?<!: )"(s3|sagemaker|cloudwatch|application-autoscaling|logs)",\s*"([A-Z]\w+)"')


def asked() -> set[str]:
    texts = [path.read_text() for path in (ROOT / "src/passerelle/adapters").glob("sagemaker*.py")]
    # Names of operations that are passed on: _named("ListModels", ...).
    found = {action_of(*call) for text in texts for call in _CALL.findall(text)}
    return found | {f"sagemaker:{one}" for text in texts for one in re.findall(r'_named\("(\w+)"', text)}


def granted() -> set[str]:
    policy = json.loads((ROOT / "docs/howto/policies/sagemaker-deployer.json").read_text())
    actions = [one["Action"] for one in policy["Statement"]]
    return {action for some in actions for action in ([some] if isinstance(some, str) else some)}


def test_every_action_is_granted_and_no_other() -> None:
    assert len(asked()) > 30
    assert asked() | IMPLIED == granted()
