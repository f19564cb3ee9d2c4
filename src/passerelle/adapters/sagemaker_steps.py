"""Taking a step on SageMaker: each looks whether it was taken before, and does nothing then."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from passerelle.adapters.sagemaker_calls import Calls, pause
from passerelle.adapters.sagemaker_found import (
    CHANGING,
    FAILED,
    bucket_and_key,
    log_lines,
    policies,
    registered,
    weights_of,
)
from passerelle.adapters.sagemaker_rules import ASKED, ENVIRONMENT, PROJECT, WANTED, revision_of
from passerelle.adapters.sagemaker_wanted import (
    ALARM,
    CONFIG,
    DIMENSION,
    ENDPOINT,
    GROUP,
    MODEL,
    MODEL_PACKAGE,
    PACKAGE,
    SCALING,
)
from passerelle.deployment.package import Package, tarball
from passerelle.deployment.target import DriftError, Resource, Step, TargetError

#: Seconds after which a change of the endpoint is no longer waited for.
MOST_WAIT_S = 4 * 3600
#: The first wait between two looks, doubled each time.
FIRST_WAIT_S = 0.5
#: Seconds that a scaled-out endpoint rests between two changes of its machines.
_COOLDOWN_S = {"ScaleInCooldown": 300, "ScaleOutCooldown": 60}
_MIME = {"SupportedContentTypes": ["application/json"], "SupportedResponseMIMETypes": ["application/json"]}


class Steps:
    """Takes steps. ``packages``: names in the store → what is to be put there."""

    def __init__(self, calls: Calls, packages: Mapping[str, Package], every_s: float) -> None:
        self._calls, self._packages, self._every_s = calls, packages, every_s
        self._acts: dict[str, tuple[Callable[[Resource], None], Callable[[Resource], None]]] = {
            PACKAGE: (self._put_package, self._delete_package),
            GROUP: (self._make_group, self._delete_group),
            MODEL_PACKAGE: (self._register, self._unregister),
            MODEL: (self._make_model, self._delete_model),
            CONFIG: (self._make_config, self._delete_config),
            ALARM: (self._put_alarm, self._delete_alarm),
            ENDPOINT: (self._make_endpoint, self._delete_endpoint),
            SCALING: (self._scale, self._leave_scaling),
        }

    def take(self, step: Step) -> None:
        """Take a step. Raises TargetError."""
        make, delete = self._acts[step.resource.kind]
        if step.act == "wait":
            self._wait(step.resource)
        elif step.act == "delete":
            delete(step.resource)
        else:
            make(step.resource)

    def _arn(self, kind: str, name: str) -> str:
        return f"arn:aws:sagemaker:{self._calls.region}:*:{kind}/{name}"

    def _put_package(self, one: Resource) -> None:
        bucket, key = bucket_and_key(one.name)
        on = f"arn:aws:s3:::{bucket}/{key}"
        if self._calls.ask("s3", "HeadObject", on, Bucket=bucket, Key=key) is not None:
            return  # the name holds the digest
        package = self._packages.get(one.name)
        if package is None:
            raise TargetError(f"{one.name} is to be put there, and what it holds is not here: plan again, then apply.")
        with tempfile.TemporaryDirectory(dir=package.folder.parent, prefix=".tarball-") as folder:
            path = tarball(package, Path(folder) / "model.tar.gz")
            with path.open("rb") as body:
                self._calls.call(
                    "s3", "PutObject", on, Bucket=bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256",
                    Metadata={"passerelle-digest": package.digest},
                )  # fmt: skip

    def _delete_package(self, one: Resource) -> None:
        bucket, key = bucket_and_key(one.name)
        self._calls.ask("s3", "DeleteObject", f"arn:aws:s3:::{bucket}/{key}", Bucket=bucket, Key=key)

    def _make_group(self, one: Resource) -> None:
        on = self._arn("model-package-group", one.name)
        name = {"ModelPackageGroupName": one.name}
        tags = _tags(one.settings["tags"])
        if (there := self._calls.ask("sagemaker", "DescribeModelPackageGroup", on, **name)) is not None:
            self._calls.call("sagemaker", "AddTags", on, ResourceArn=there["ModelPackageGroupArn"], Tags=tags)
            return
        description = "Versions that Passerelle deployed"
        self._calls.call(
            "sagemaker", "CreateModelPackageGroup", on, **name, ModelPackageGroupDescription=description, Tags=tags
        )

    def _delete_group(self, one: Resource) -> None:
        on = self._arn("model-package-group", one.name)
        self._calls.ask("sagemaker", "DeleteModelPackageGroup", on, ModelPackageGroupName=one.name)

    def _register(self, one: Resource) -> None:
        group = one.name.rsplit("-", 2)[0]
        if any(found.name == one.name for found, _ in registered(self._calls, group)):
            return
        container = {key: one.settings[key] for key in ("Image", "ModelDataUrl")}
        self._calls.call(
            "sagemaker",
            "CreateModelPackage",
            self._arn("model-package", f"{group}/*"),
            ModelPackageGroupName=group,
            InferenceSpecification={"Containers": [container], **_MIME},
            ModelApprovalStatus="Approved",  # whoever deploys has decided so
            CustomerMetadataProperties=one.settings["metadata"] | {"name": one.name},
        )

    def _unregister(self, one: Resource) -> None:
        for found, arn in registered(self._calls, one.name.rsplit("-", 2)[0]):
            if found.name == one.name:
                self._calls.ask("sagemaker", "DeleteModelPackage", arn, ModelPackageName=arn)

    def _make_model(self, one: Resource) -> None:
        on, settings = self._arn("model", one.name), one.settings
        if self._calls.ask("sagemaker", "DescribeModel", on, ModelName=one.name) is not None:
            return
        self._calls.call(
            "sagemaker",
            "CreateModel",
            on,
            ModelName=one.name,
            PrimaryContainer={key: settings[key] for key in ("Image", "ModelDataUrl", "Environment")},
            ExecutionRoleArn=settings["ExecutionRoleArn"],
            Tags=_tags(settings["tags"]),
        )

    def _delete_model(self, one: Resource) -> None:
        self._calls.ask("sagemaker", "DeleteModel", self._arn("model", one.name), ModelName=one.name)

    def _make_config(self, one: Resource) -> None:
        on, variants = self._arn("endpoint-config", one.name), dict(one.settings)
        tags = variants.pop("tags")
        name = {"EndpointConfigName": one.name}
        if self._calls.ask("sagemaker", "DescribeEndpointConfig", on, **name) is None:
            self._calls.call("sagemaker", "CreateEndpointConfig", on, **name, **variants, Tags=_tags(tags))

    def _delete_config(self, one: Resource) -> None:
        on = self._arn("endpoint-config", one.name)
        self._calls.ask("sagemaker", "DeleteEndpointConfig", on, EndpointConfigName=one.name)

    def _put_alarm(self, one: Resource) -> None:
        settings = dict(one.settings)
        description = f"Made by Passerelle: change passerelle.toml, not this (passerelle {settings.pop('asked')})"
        on = f"arn:aws:cloudwatch:{self._calls.region}:*:alarm:{one.name}"
        self._calls.call(
            "cloudwatch", "PutMetricAlarm", on, AlarmName=one.name, AlarmDescription=description, **settings
        )

    def _delete_alarm(self, one: Resource) -> None:
        on = f"arn:aws:cloudwatch:{self._calls.region}:*:alarm:{one.name}"
        self._calls.ask("cloudwatch", "DeleteAlarms", on, AlarmNames=[one.name])

    def _describe(self, name: str) -> dict[str, Any] | None:
        return self._calls.ask("sagemaker", "DescribeEndpoint", self._arn("endpoint", name), EndpointName=name)

    def _settle(self, name: str) -> dict[str, Any] | None:
        """The endpoint when it no longer changes; None if it is gone. Raises TargetError after MOST_WAIT_S."""
        until, wait_s = time.monotonic() + MOST_WAIT_S, min(FIRST_WAIT_S, self._every_s)
        while (there := self._describe(name)) is not None and there["EndpointStatus"] in CHANGING:
            if time.monotonic() > until:
                raise TargetError(
                    f"endpoint {name} has been {there['EndpointStatus']} for {MOST_WAIT_S // 3600} hours: look at its "
                    "log, passerelle target logs, then deploy again."
                )
            pause(wait_s)
            wait_s = min(2 * wait_s, self._every_s)
        return there

    def _make_endpoint(self, one: Resource) -> None:
        on, settings, name = self._arn("endpoint", one.name), one.settings, {"EndpointName": one.name}
        config = settings["EndpointConfigName"]
        tags = _tags(settings["tags"] | {WANTED: config})
        guards = {key: settings[key] for key in ("DeploymentConfig",) if key in settings}
        there = self._describe(one.name)
        if there is not None and not self._is_ours(there, settings["tags"]):
            raise TargetError(f"there is an endpoint {one.name} that Passerelle did not make: rename the project.")
        if there is not None and there["EndpointStatus"] in CHANGING:
            pending = there.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
            if there["EndpointStatus"] in ("Creating", "Updating") and config == (
                pending or there.get("EndpointConfigName")
            ):
                return  # asked for by an apply that died
            there = self._settle(one.name)
        if there is not None and there["EndpointStatus"] == "Failed":
            self._delete_endpoint(one)  # nothing else can be done to a failed endpoint
            there = None
        if there is None:
            self._calls.call("sagemaker", "CreateEndpoint", on, **name, EndpointConfigName=config, Tags=tags)
            return
        self._calls.call("sagemaker", "AddTags", on, ResourceArn=there["EndpointArn"], Tags=tags)
        if there.get("EndpointConfigName") == config and there["EndpointStatus"] not in FAILED:
            if (weights := settings.get("weights", {})) != weights_of(there):
                due = [{"VariantName": variant, "DesiredWeight": weight} for variant, weight in weights.items()]
                self._calls.call(
                    "sagemaker", "UpdateEndpointWeightsAndCapacities", on, **name, DesiredWeightsAndCapacities=due
                )
            return
        self._calls.call(
            "sagemaker",
            "UpdateEndpoint",
            on,
            **name,
            EndpointConfigName=config,
            RetainAllVariantProperties=True,  # as many machines as the load asks for now ...
            ExcludeRetainedVariantProperties=[  # ... and the new revision's weights
                {"VariantPropertyType": "DesiredWeight"},
                {"VariantPropertyType": "DataCaptureConfig"},
            ],
            RetainDeploymentConfig=False,
            **guards,
        )

    def _is_ours(self, there: dict[str, Any], tags: dict[str, str]) -> bool:
        """Is an endpoint ours, by its tags, or if it lost some, by those of the configuration it answers by?"""
        due = {key: tags.get(key) for key in (PROJECT, ENVIRONMENT)}
        found = self._tags_of(there["EndpointArn"])
        if due.items() <= {key: found.get(key) for key in due}.items():
            return True
        if any(found.get(key, value) != value for key, value in due.items()):
            return False
        config = there.get("EndpointConfigName", "")
        on = self._arn("endpoint-config", config)
        kept = self._calls.ask("sagemaker", "DescribeEndpointConfig", on, EndpointConfigName=config)
        return kept is not None and due.items() <= self._tags_of(kept["EndpointConfigArn"]).items()

    def _tags_of(self, arn: str) -> dict[str, str]:
        found = self._calls.pages("sagemaker", "ListTags", arn, "Tags", ResourceArn=arn)
        return {one["Key"]: one["Value"] for one in found}

    def _wait(self, one: Resource) -> None:
        there = self._settle(one.name)
        config = one.settings.get("EndpointConfigName")
        if config is None:
            return  # waited for before a change, or a removal, whatever became of it
        if there is None:
            raise DriftError(f"endpoint {one.name} was deleted while it was waited for: deploy again.")
        if there["EndpointStatus"] in FAILED:
            raise TargetError(
                f"endpoint {one.name} is {there['EndpointStatus']}: {there.get('FailureReason', 'no reason given')}. "
                f"{self._last_words(one.name)} Correct that, and deploy again."
            )
        if (found := there.get("EndpointConfigName")) != config:
            self._scale_again(there, one.settings.get("scaling", {}))
            reason = there.get("FailureReason")
            raise DriftError(
                f"endpoint {one.name}: revision {revision_of(config)} was applied ({config}), and {found} is in "
                "service: SageMaker rolled it back by itself, or somebody changed it meanwhile. "
                f"{f'It says: {reason}. ' if reason else ''}What answers was left whole. Find out why, then deploy "
                "again, or passerelle rollback."
            )
        self._calls.call(
            "sagemaker",
            "AddTags",
            self._arn("endpoint", one.name),
            ResourceArn=there["EndpointArn"],
            Tags=_tags({ASKED: config}),
        )

    def _scale_again(self, there: dict[str, Any], scaling: dict[str, dict[str, Any]]) -> None:
        """Put on again what scaled an endpoint that stayed as it was: it was taken off for the change."""
        variants = {one["VariantName"] for one in there.get("ProductionVariants", [])}
        for name, settings in scaling.items():
            if name.rpartition("/")[2] in variants:
                self._scale(Resource(kind=SCALING, name=name, settings=settings, lasting=True))

    def _last_words(self, endpoint: str) -> str:
        try:
            lines = log_lines(self._calls, endpoint, 3)
        except TargetError:
            lines = ()  # why it failed is more than why the log cannot be read
        said = "Its log ends: " + " | ".join(lines) if lines else "It has no log: the container did not start."
        if any("exec format error" in line for line in lines):
            said += ". The image is built for another processor: passerelle image --target NAME."
        return said

    def _delete_endpoint(self, one: Resource) -> None:
        there = self._settle(one.name)
        if there is None:
            return
        if not self._is_ours(there, one.settings["tags"]):
            raise TargetError(f"there is an endpoint {one.name} that Passerelle did not make: it is left.")
        self._calls.ask("sagemaker", "DeleteEndpoint", self._arn("endpoint", one.name), EndpointName=one.name)
        if (left := self._settle(one.name)) is not None:
            raise TargetError(f"endpoint {one.name} was deleted and is {left['EndpointStatus']}: try again.")

    def _scale(self, one: Resource) -> None:
        variant = {"ServiceNamespace": "sagemaker", "ResourceId": one.name, "ScalableDimension": DIMENSION}
        on = f"arn:aws:application-autoscaling:{self._calls.region}:*:scalable-target/*"
        bounds = {key: one.settings[key] for key in ("MinCapacity", "MaxCapacity")}
        policy = f"passerelle-{one.settings['asked']}"
        # Two policies on one measure are refused, and the mark of an old one does not fit other bounds: it goes first.
        for old in policies(self._calls, one.name):
            if old["PolicyName"] != policy:
                self._drop_policy(on, variant, old["PolicyName"])
        self._calls.call("application-autoscaling", "RegisterScalableTarget", on, **variant, **bounds)
        tracking = {
            "TargetValue": one.settings["TargetValue"],
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
            **_COOLDOWN_S,
        }
        self._calls.call(
            "application-autoscaling",
            "PutScalingPolicy",
            on,
            **variant,
            PolicyName=policy,
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=tracking,
        )

    def _drop_policy(self, on: str, variant: dict[str, str], name: str) -> None:
        self._calls.ask("application-autoscaling", "DeleteScalingPolicy", on, **variant, PolicyName=name)

    def _leave_scaling(self, one: Resource) -> None:
        variant = {"ServiceNamespace": "sagemaker", "ResourceId": one.name, "ScalableDimension": DIMENSION}
        on = f"arn:aws:application-autoscaling:{self._calls.region}:*:scalable-target/*"
        for policy in policies(self._calls, one.name):
            self._drop_policy(on, variant, policy["PolicyName"])
        self._calls.ask("application-autoscaling", "DeregisterScalableTarget", on, **variant)


def _tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
