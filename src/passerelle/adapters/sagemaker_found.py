"""What is there of an environment on SageMaker, found by names and tags, whoever made it and however far they came."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from passerelle.adapters.sagemaker_calls import Calls
from passerelle.adapters.sagemaker_rules import (
    ASKED,
    ENVIRONMENT,
    PROJECT,
    REVISION,
    WANTED,
    endpoint_name,
    revision_of,
)
from passerelle.adapters.sagemaker_wanted import (
    ALARM,
    CONFIG,
    DIMENSION,
    ENDPOINT,
    GROUP,
    KINDS,
    LASTING,
    MODEL,
    MODEL_PACKAGE,
    PACKAGE,
    SCALING,
    package_folder,
)
from passerelle.deployment.target import DriftError, Observed, Resource, TargetError
from passerelle.project.targets import SageMaker

CHANGING = frozenset(("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"))
FAILED = frozenset(("Failed", "OutOfService", "UpdateRollbackFailed"))
#: Names that one request may ask scalable targets for.
_MOST_IDS = 50
_VARIANT = ("VariantName", "ModelName", "InstanceType", "InitialInstanceCount", "InitialVariantWeight")
_ALARM = (
    "ActionsEnabled", "AlarmActions", "EvaluationPeriods", "DatapointsToAlarm", "ComparisonOperator", "Metrics",
    "Namespace", "MetricName", "Dimensions", "ExtendedStatistic", "Statistic", "Period", "Threshold",
    "TreatMissingData",
)  # fmt: skip


def bucket_and_key(uri: str) -> tuple[str, str]:
    """The bucket and the key of an s3:// address.

    >>> bucket_and_key("s3://models/flights/a.tar.gz")
    ('models', 'flights/a.tar.gz')
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


class Look:
    """Looks at one environment of a project."""

    def __init__(self, calls: Calls, settings: SageMaker, project: str, environment: str) -> None:
        self._calls, self._settings = calls, settings
        self._project, self._environment = project, environment
        self.name = endpoint_name(project, environment)

    def observed(self) -> Observed:
        """What there is. Raises TargetError if our endpoint's name is somebody else's."""
        endpoint = self._calls.ask("sagemaker", "DescribeEndpoint", self._on("endpoint"), EndpointName=self.name)
        found = [*self._parts(), *self._alarms()]
        found += self._scaling(_variants([endpoint or {}, *(one.settings for one in found if one.kind == CONFIG)]))
        wanted = None
        if endpoint is not None:
            ours = any(one.kind == CONFIG and one.name == endpoint.get("EndpointConfigName") for one in found)
            one, wanted = self._endpoint(endpoint, ours=ours)
            found.append(one)
        found.sort(key=lambda one: (KINDS.index(one.kind), one.name))
        if endpoint is None:
            return Observed(state="absent", resources=tuple(found))
        status = endpoint["EndpointStatus"]
        state: Literal["changing", "failed", "serving"]
        state = "changing" if status in CHANGING else "failed" if status in FAILED else "serving"
        answers = None
        if status not in ("Creating", "Deleting", *FAILED):
            in_service = endpoint.get("EndpointConfigName")
            config = next((one for one in found if one.kind == CONFIG and one.name == in_service), None)
            answers = int(config.settings["tags"][REVISION]) if config else None
        problem = endpoint.get("FailureReason") or (status if state == "failed" else None)
        if state == "serving" and wanted not in (None, endpoint.get("EndpointConfigName")):
            state = "failed"  # it answers, and not as it was asked to
            problem = (
                f"{wanted} was asked for and {endpoint.get('EndpointConfigName')} is in service: it was rolled back, a "
                f"deploy was cut short, or somebody changed it by hand. {problem or ''}"
            ).rstrip()
        return Observed(
            state=state,
            revision=answers,
            resources=tuple(found),
            problem=problem,
        )

    def _on(self, kind: str, name: str | None = None) -> str:
        return f"arn:aws:sagemaker:{self._calls.region}:*:{kind}/{name or self.name}"

    def _tags(self, arn: str) -> dict[str, str]:
        """The tags that we would set, of those that a resource has."""
        found = self._calls.pages("sagemaker", "ListTags", arn, "Tags", ResourceArn=arn)
        return {
            one["Key"]: one["Value"]
            for one in found
            if one["Key"].startswith("passerelle:") or one["Key"] in self._settings.tags
        }

    def _ours(self, tags: dict[str, str]) -> bool:
        return (tags.get(PROJECT), tags.get(ENVIRONMENT)) == (self._project, self._environment)

    def _clash(self, kind: str, tags: dict[str, str]) -> TargetError:
        if PROJECT in tags:
            whose = f"is of project {tags[PROJECT]!r}, environment {tags.get(ENVIRONMENT)!r}"
        else:
            whose = "was not made by Passerelle"
        return TargetError(
            f"the {kind} {self.name} {whose}, and project {self._project!r}, environment {self._environment!r} would "
            "be called the same here: rename one of them, or remove it."
        )

    def _endpoint(self, endpoint: dict[str, Any], *, ours: bool) -> tuple[Resource, str | None]:
        """The endpoint, and the configuration that it was last asked to answer by. ``ours``: it answers by one of ours.

        Raises DriftError if it lost the tags by which it is found.
        """
        tags = self._tags(endpoint["EndpointArn"])
        due = {PROJECT: self._project, ENVIRONMENT: self._environment}
        if (not ours and not self._ours(tags)) or due | tags != tags | due:
            raise self._clash("endpoint", tags)
        if not self._ours(tags) and self._settings.drift == "refuse":
            back = " ".join(f"Key={key},Value={value}" for key, value in due.items())
            arn = endpoint["EndpointArn"]
            raise DriftError(
                f"the endpoint {self.name} lost tags of Passerelle's: somebody removed them by hand. Put them back "
                f"(aws sagemaker add-tags --region {self._calls.region} --resource-arn {arn} --tags "
                f'{back}), or say drift = "restore" for this target, and deploy.'
            )
        asked, wanted = tags.pop(ASKED, None), tags.pop(WANTED, None)
        settings = {"EndpointConfigName": endpoint.get("EndpointConfigName"), "tags": tags, "asked": asked}
        if weights := weights_of(endpoint):
            settings["weights"] = weights
        return Resource(kind=ENDPOINT, name=self.name, settings=settings, lasting=True), wanted

    def _parts(self) -> list[Resource]:
        folder = package_folder(self._settings, self._project, self._environment)
        bucket, prefix = bucket_and_key(folder)
        on, found = f"arn:aws:s3:::{bucket}", list[Resource]()
        if folder.startswith("s3://"):  # else plan refuses it, by the rule's name
            listed = self._calls.pages("s3", "ListObjectsV2", on, "Contents", Bucket=bucket, Prefix=prefix)
            keys = (one["Key"] for one in listed)
            found += [Resource(kind=PACKAGE, name=f"s3://{bucket}/{key}") for key in keys if revision_of(key)]
        group = self._calls.ask(
            "sagemaker",
            "DescribeModelPackageGroup",
            self._on("model-package-group"),
            ModelPackageGroupName=self.name,
        )
        if group is not None:
            tags = self._tags(group["ModelPackageGroupArn"])
            if not self._ours(tags):
                raise self._clash("model package group", tags)
            found += [Resource(kind=GROUP, name=self.name, settings={"tags": tags}, lasting=True)]
            found += [one for one, _ in registered(self._calls, self.name)]
        for one in self._named("ListModels", "Models", "Model"):
            model = self._calls.ask("sagemaker", "DescribeModel", self._on("model", one), ModelName=one)
            if model is not None and self._ours(tags := self._tags(model["ModelArn"])):
                container = model.get("PrimaryContainer", {})
                settings = {"ExecutionRoleArn": model.get("ExecutionRoleArn"), "tags": tags}
                settings |= {key: container.get(key) for key in ("Image", "ModelDataUrl", "Environment")}
                found.append(Resource(kind=MODEL, name=one, settings=settings))
        for one in self._named("ListEndpointConfigs", "EndpointConfigs", "EndpointConfig"):
            config = self._calls.ask(
                "sagemaker", "DescribeEndpointConfig", self._on("endpoint-config", one), EndpointConfigName=one
            )
            if config is not None and self._ours(tags := self._tags(config["EndpointConfigArn"])):
                found.append(Resource(kind=CONFIG, name=one, settings=_config(config) | {"tags": tags}))
        return found

    def _named(self, operation: str, key: str, kind: str) -> list[str]:
        listed = self._calls.pages("sagemaker", operation, "*", key, NameContains=self.name)
        pattern = re.compile(rf"{re.escape(self.name)}-\d{{6}}-[0-9a-f]{{8}}")
        return [one[f"{kind}Name"] for one in listed if pattern.fullmatch(one[f"{kind}Name"])]

    def _alarms(self) -> list[Resource]:
        prefix = f"passerelle/{self.name}/"
        on = f"arn:aws:cloudwatch:{self._calls.region}:*:alarm:{prefix}*"
        listed = self._calls.pages("cloudwatch", "DescribeAlarms", on, "MetricAlarms", AlarmNamePrefix=prefix)
        return [
            Resource(kind=ALARM, name=one["AlarmName"], settings=_alarm(one), lasting=ALARM in LASTING)
            for one in listed
        ]

    def _scaling(self, variants: list[str]) -> list[Resource]:
        """What scales those variants. An account has hundreds of scalable targets, so they are asked for by name."""
        on = f"arn:aws:application-autoscaling:{self._calls.region}:*:scalable-target/*"
        named = [f"endpoint/{self.name}/variant/{one}" for one in variants]
        listed = [
            one
            for first in range(0, len(named), _MOST_IDS)
            for one in self._calls.pages(
                "application-autoscaling",
                "DescribeScalableTargets",
                on,
                "ScalableTargets",
                ServiceNamespace="sagemaker",
                ScalableDimension=DIMENSION,
                ResourceIds=named[first : first + _MOST_IDS],
            )
        ]
        found = []
        for one in listed:
            settings: dict[str, Any] = {"MinCapacity": one["MinCapacity"], "MaxCapacity": one["MaxCapacity"]}
            for policy in policies(self._calls, one["ResourceId"]):
                target = policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]
                settings |= {"TargetValue": float(target), "asked": policy["PolicyName"].removeprefix("passerelle-")}
            found.append(Resource(kind=SCALING, name=one["ResourceId"], settings=settings, lasting=True))
        return found


def _variants(described: Iterable[dict[str, Any]]) -> list[str]:
    """The variants of an endpoint and of its configurations: only they can be scaled; and the one that always is."""
    names = {each["VariantName"] for one in described for each in one.get("ProductionVariants", [])}
    return sorted(names | {"live"})


def weights_of(endpoint: dict[str, Any]) -> dict[str, float]:
    """How an endpoint draws among its variants, which a hand can change in place; {} for one variant."""
    variants = endpoint.get("ProductionVariants", [])
    if len(variants) == 1:
        return {}
    return {one["VariantName"]: float(one.get("DesiredWeight", one.get("CurrentWeight", 0))) for one in variants}


def log_lines(calls: Calls, endpoint: str, lines: int) -> tuple[str, ...]:
    """The last lines that an endpoint's containers wrote, oldest first; empty if they wrote none yet."""
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    on = f"arn:aws:logs:{calls.region}:*:log-group:{group}:*"
    newest = calls.ask(
        "logs", "DescribeLogStreams", on, logGroupName=group, orderBy="LastEventTime", descending=True, limit=3
    )
    events: list[dict[str, Any]] = []
    for stream in (newest or {}).get("logStreams", []):
        name = stream["logStreamName"]
        found = calls.ask("logs", "GetLogEvents", on, logGroupName=group, logStreamName=name, limit=lines)
        events += (found or {}).get("events", [])
    events.sort(key=lambda one: one["timestamp"])
    return tuple(one["message"].rstrip("\n") for one in events[-lines:])


def policies(calls: Calls, resource_id: str) -> list[dict[str, Any]]:
    """The scaling policies of a variant."""
    on = f"arn:aws:application-autoscaling:{calls.region}:*:scalable-target/*"
    listed = calls.pages(
        "application-autoscaling",
        "DescribeScalingPolicies",
        on,
        "ScalingPolicies",
        ServiceNamespace="sagemaker",
        ResourceId=resource_id,
        ScalableDimension=DIMENSION,
    )
    return list(listed)


def registered(calls: Calls, group: str) -> list[tuple[Resource, str]]:
    """The model packages of a group that we registered, each with its ARN: their own metadata says what they are."""
    on = f"arn:aws:sagemaker:{calls.region}:*:model-package/{group}/*"
    listed = calls.pages("sagemaker", "ListModelPackages", on, "ModelPackageSummaryList", ModelPackageGroupName=group)
    found = []
    for summary in listed:
        arn = summary["ModelPackageArn"]
        one = calls.ask("sagemaker", "DescribeModelPackage", arn, ModelPackageName=arn)
        metadata = dict((one or {}).get("CustomerMetadataProperties", {}))
        name = metadata.pop("name", None)
        if one is None or name is None:
            continue
        container = one["InferenceSpecification"]["Containers"][0]
        settings = {key: container.get(key) for key in ("Image", "ModelDataUrl")} | {"metadata": metadata}
        found.append((Resource(kind=MODEL_PACKAGE, name=name, settings=settings), arn))
    return found


def _config(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: [{name: one.get(name) for name in _VARIANT} for one in config[key]]
        for key in ("ProductionVariants", "ShadowProductionVariants")
        if config.get(key)
    }


def _alarm(alarm: dict[str, Any]) -> dict[str, Any]:
    settings = {key: alarm[key] for key in _ALARM if alarm.get(key) not in (None, "", []) or key == "AlarmActions"}
    if "Metrics" in settings:
        settings.pop("Dimensions", None)
        settings["Metrics"] = [_query(one) for one in settings["Metrics"]]
    found = re.search(r"passerelle ([0-9a-f]{16})", alarm.get("AlarmDescription") or "")
    return settings | {"AlarmActions": alarm.get("AlarmActions", []), "asked": found[1] if found else None}


def _query(query: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in query.items() if value not in (None, "", [])}
