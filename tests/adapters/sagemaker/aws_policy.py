"""The policies of docs/howto/policies, asked as IAM asks them: may who asked do this, to this?

A request that the server saw is turned into the permissions that it needs, by AWS's service authorization reference:
its action on each resource that it names, and what AWS demands besides (tags that are set, a role that is handed over,
what SageMaker itself fetches and writes under that role).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from passerelle.adapters.sagemaker_calls import action_of

POLICIES = Path(__file__).parents[3] / "docs/howto/policies"
REGION, ACCOUNT = "eu-west-3", "123456789012"
#: Who asks → the policy of who that is.
OF = {"test": "sagemaker-deployer", "serving": "sagemaker-serving-role", "training": "sagemaker-training-role"}
#: Members of SageMaker's requests that name what a request is about.
_KINDS = {
    "EndpointName": "endpoint",
    "EndpointConfigName": "endpoint-config",
    "ModelName": "model",
    "ModelPackageGroupName": "model-package-group",
    "TrainingJobName": "training-job",
}
_S3 = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "POST": "s3:PutObject"}


@dataclass(frozen=True)
class Need:
    """A permission that somebody needs."""

    who: str
    action: str
    resource: str
    context: dict[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.who}: {self.action} on {self.resource}"


def policy(name: str, project: str, *, bucket: str = "models", prefix: str = "passerelle") -> list[dict[str, Any]]:
    """A policy's statements, filled in as the how-to says."""
    words = {"BUCKET": bucket, "PREFIX": prefix, "REGION": REGION, "ACCOUNT": ACCOUNT, "PROJECT": project}
    words["NAME"] = project.replace("_", "-")
    text = (POLICIES / f"{name}.json").read_text()
    filled = json.loads(re.sub(rf"\b({'|'.join(words)})\b", lambda found: words[found[1]], text))
    statements: list[dict[str, Any]] = filled["Statement"]
    return statements


def granting(statements: list[dict[str, Any]], need: Need) -> list[tuple[str, str, str]]:
    """The parts of a policy that grant something: statement, action, resource; none: it is refused."""
    return [
        (one["Sid"], action, resource)
        for one in statements
        if one["Effect"] == "Allow" and _holds(one.get("Condition", {}), need.context)
        for action in listed(one["Action"])
        for resource in listed(one["Resource"])
        if _like(action, need.action) and _like(resource, need.resource)
    ]


def outside(seen: list[dict[str, Any]], project: str) -> list[str]:
    """What was asked that no policy grants."""
    policies = {who: policy(name, project) for who, name in OF.items()}
    return sorted({str(need) for need in needs(seen) if not granting(policies[need.who], need)})


def needs(seen: list[dict[str, Any]]) -> Iterator[Need]:
    """The permissions that requests need, but for those of whoever looks on."""
    for one in seen:
        if one["who"] not in OF:
            continue
        if (one["service"], one.get("operation")) == ("sts", "GetCallerIdentity"):
            continue  # AWS answers it to everybody, even where a policy denies it
        if one["service"] == "s3":
            yield _of_s3(one)
        else:
            yield from _of_call(one["who"], one["service"], one["operation"], one["body"])


def _of_s3(one: dict[str, Any]) -> Need:
    bucket, _, key = one["path"].lstrip("/").partition("/")
    if not key:
        action = {"GET": "s3:ListBucket"}.get(one["method"], f"s3:{one['method']}Bucket")
        return Need(one["who"], action, f"arn:aws:s3:::{bucket}", {"s3:prefix": one["query"].get("prefix", "")})
    action = "s3:DeleteObject" if one["method"] == "DELETE" else _S3[one["method"]]
    return Need(one["who"], action, f"arn:aws:s3:::{bucket}/{key}")


def _of_call(who: str, service: str, operation: str, body: dict[str, Any]) -> Iterator[Need]:
    action, context = action_of(service, operation), {}
    if service == "application-autoscaling":
        context = {"application-autoscaling:service-namespace": body["ServiceNamespace"]}
    for resource in (resources := _resources(service, operation, body)):
        yield Need(who, action, resource, context)
        if service == "sagemaker" and body.get("Tags"):
            yield Need(who, "sagemaker:AddTags", resource)
    assert resources, f"{operation}: of what?"
    for role in (body.get("ExecutionRoleArn"), body.get("RoleArn")):
        if role:
            yield Need(who, "iam:PassRole", role, {"iam:PassedToService": "sagemaker.amazonaws.com"})
    if operation == "RegisterScalableTarget":
        of = "sagemaker.application-autoscaling.amazonaws.com"
        role = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/{of}/AWSServiceRoleForApplicationAutoScaling_SageMaker"
        yield Need(who, "iam:CreateServiceLinkedRole", role, {"iam:AWSServiceName": of})
    if operation == "CreateModel":
        yield Need("serving", "s3:GetObject", _object(body["PrimaryContainer"]["ModelDataUrl"]))
    if operation == "CreateTrainingJob":
        yield from _of_job(body)


def _of_job(body: dict[str, Any]) -> Iterator[Need]:
    given = body["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    left = f"{body['OutputDataConfig']['S3OutputPath']}/{body['TrainingJobName']}/output/model.tar.gz"
    bucket, _, key = given.removeprefix("s3://").partition("/")
    yield Need("training", "s3:ListBucket", f"arn:aws:s3:::{bucket}", {"s3:prefix": key})
    yield Need("training", "s3:GetObject", _object(f"{given}/project/passerelle.toml"))
    yield Need("training", "s3:PutObject", _object(left))


def _resources(service: str, operation: str, body: dict[str, Any]) -> list[str]:
    at = f"arn:aws:{service}:{REGION}:{ACCOUNT}"
    if operation.startswith("List") and operation != "ListTags":
        return ["*"]
    match service:
        case "application-autoscaling":
            found = ["*"] if operation.startswith("Describe") else [f"{at}:scalable-target/0ec5"]
        case "logs":
            stream = f":log-stream:{body['logStreamName']}" if "logStreamName" in body else ""
            found = [f"{at}:log-group:{body['logGroupName']}{stream}"]
        case "cloudwatch":
            names = body.get("AlarmNames") or [body.get("AlarmName")]
            found = ["*"] if operation == "DescribeAlarms" else [f"{at}:alarm:{one}" for one in names]
        case _:
            found = [body[member] for member in ("ResourceArn", "ModelPackageName") if member in body]
            found += [f"{at}:{kind}/{body[member]}" for member, kind in _KINDS.items() if member in body]
    if operation == "CreateModelPackage":
        found.append(f"{at}:model-package/{body['ModelPackageGroupName']}/1")
    return found


def _object(address: str) -> str:
    return f"arn:aws:s3:::{address.removeprefix('s3://')}"


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _holds(condition: dict[str, dict[str, Any]], context: dict[str, str]) -> bool:
    return all(
        key in context and any(_like(one, context[key]) for one in listed(values))
        for tests in condition.values()
        for key, values in tests.items()
    )


def _like(pattern: str, text: str) -> bool:
    """IAM's * and ?: any characters, / among them."""
    parts = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(parts, text) is not None
