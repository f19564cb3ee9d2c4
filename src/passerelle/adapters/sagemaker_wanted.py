"""A deployment in SageMaker's words: what is wanted, in the order in which it is made; pure.

What is made for a revision is never changed: its name holds the digest of its settings. The settings of a resource are
what is sent, so that a step is complete in itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from passerelle.adapters.packages import packages_folder
from passerelle.adapters.sagemaker_rules import ENVIRONMENT, PROJECT, REVISION, endpoint_name, variant_names
from passerelle.deployment.plan import mark
from passerelle.deployment.spec import Deployment, told
from passerelle.deployment.target import Resource
from passerelle.project.targets import SageMaker

PACKAGE, GROUP, MODEL_PACKAGE, MODEL = "S3Object", "ModelPackageGroup", "ModelPackage", "Model"
CONFIG, ALARM, ENDPOINT, SCALING = "EndpointConfig", "Alarm", "Endpoint", "ScalableTarget"
#: In the order in which they are made.
KINDS = (PACKAGE, GROUP, MODEL_PACKAGE, MODEL, CONFIG, ALARM, ENDPOINT, SCALING)
LASTING = frozenset((GROUP, ALARM, ENDPOINT, SCALING))
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
#: Seconds without a request after which an alarm says so: a day.
_SILENCE_S = 86_400
_DAY_PERIOD_S = 3600
_PERIOD_S, _PERIODS = 60, 3


def tags_of(settings: SageMaker, project: str, environment: str, revision: int | None = None) -> dict[str, str]:
    """The tags of what is made: ours, and those of the settings."""
    own = {PROJECT: project, ENVIRONMENT: environment}
    return settings.tags | own | ({} if revision is None else {REVISION: str(revision)})


def package_folder(settings: SageMaker, project: str, environment: str) -> str:
    """Where the packages of an environment are, as s3://..., with a / at its end."""
    return f"{packages_folder(settings.store, project, environment)}/"


def wanted(deployment: Deployment, settings: SageMaker, packages: dict[str, str]) -> list[Resource]:
    """What a deployment needs. ``packages``: name of each platform variant → its package's name in the store."""
    name = endpoint_name(deployment.project, deployment.environment)
    tags = tags_of(settings, deployment.project, deployment.environment, deployment.revision)
    lasting_tags = tags_of(settings, deployment.project, deployment.environment)
    folder = package_folder(settings, deployment.project, deployment.environment)

    def part(kind: str, content: dict[str, Any]) -> Resource:
        return Resource(kind=kind, name=f"{name}-{deployment.revision:06d}-{mark(content)[:8]}", settings=content)

    stored = {variant: f"{folder}{package}.tar.gz" for variant, package in packages.items()}
    registered = [
        part(MODEL_PACKAGE, {"Image": settings.image, "ModelDataUrl": data, "metadata": _metadata(deployment, variant)})
        for variant, data in stored.items()
    ]
    models = {
        variant: part(MODEL, _model(deployment, settings, data) | {"tags": tags}) for variant, data in stored.items()
    }
    config = part(CONFIG, _config(deployment, settings, {one: model.name for one, model in models.items()}, tags))
    alarms = [one for variant in _live(deployment, packages) for one in _alarms(settings, name, variant)]
    endpoint = {"EndpointConfigName": config.name, "tags": lasting_tags, "asked": config.name}
    if len(drawn := config.settings["ProductionVariants"]) > 1:
        endpoint["weights"] = {one["VariantName"]: one["InitialVariantWeight"] for one in drawn}
    return [
        *(Resource(kind=PACKAGE, name=one) for one in dict.fromkeys(stored.values())),
        Resource(kind=GROUP, name=name, settings={"tags": lasting_tags}, lasting=True),
        *registered,
        *models.values(),
        config,
        *alarms,
        Resource(kind=ENDPOINT, name=name, settings=endpoint, lasting=True),
        *(_scaling(settings, name, variant) for variant in _live(deployment, packages) if _scales(settings)),
    ]


def _scales(settings: SageMaker) -> bool:
    return settings.scaling.maximum > settings.scaling.minimum


def _live(deployment: Deployment, packages: dict[str, str]) -> list[str]:
    """The platform's variants that answer."""
    return (
        list(packages) if len(packages) == 1 else [k for k, v in variant_names(deployment).items() if v.mode == "live"]
    )


def _metadata(deployment: Deployment, variant: str) -> dict[str, str]:
    versions = " ".join(f"{one.version}:{one.mode}:{one.weight:g}" for one in deployment.variants)
    return {
        "project": deployment.project,
        "environment": deployment.environment,
        "revision": str(deployment.revision),
        "variant": variant,
        "versions": versions[:256],
        "champion_digest": deployment.champion.digest,
    }


def _model(deployment: Deployment, settings: SageMaker, data: str) -> dict[str, Any]:
    return {
        "ExecutionRoleArn": settings.role,
        "Image": settings.image,
        "ModelDataUrl": data,
        "Environment": settings.variables | told(deployment),
    }


def _config(
    deployment: Deployment, settings: SageMaker, models: dict[str, str], tags: dict[str, str]
) -> dict[str, Any]:
    weights = {"live": 1.0} if len(models) == 1 else {k: v.weight or 1.0 for k, v in variant_names(deployment).items()}
    modes = {"live": "live"} if len(models) == 1 else {k: v.mode for k, v in variant_names(deployment).items()}

    def variants(mode: str) -> list[dict[str, Any]]:
        return [
            {
                "VariantName": variant,
                "ModelName": model,
                "InstanceType": settings.instance,
                "InitialInstanceCount": settings.scaling.minimum,
                "InitialVariantWeight": weights[variant],
            }
            for variant, model in models.items()
            if modes[variant] == mode
        ]

    shadows = variants("shadow")
    made = {"ProductionVariants": variants("live")}
    return made | ({"ShadowProductionVariants": shadows} if shadows else {}) | {"tags": tags}


def guarded(settings: SageMaker, resources: Sequence[Resource]) -> dict[str, Any]:
    """How the endpoint is changed: all at once, or a canary that the alarms among ``resources`` roll back."""
    if settings.canary_percent is None:
        return {}
    alarms = [one.name for one in resources if one.kind == ALARM and not one.name.endswith("/silence")]
    routing = {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": settings.canary_percent},
        "WaitIntervalInSeconds": settings.canary_wait_s,
    }
    policy = {
        "TrafficRoutingConfiguration": routing,
        "TerminationWaitInSeconds": min(settings.canary_wait_s, 600),
        "MaximumExecutionTimeoutInSeconds": settings.canary_wait_s + 3600,
    }
    rollback = {"Alarms": [{"AlarmName": one} for one in alarms[:10]]}
    return {"DeploymentConfig": {"BlueGreenUpdatePolicy": policy, "AutoRollbackConfiguration": rollback}}


def _scaling(settings: SageMaker, name: str, variant: str) -> Resource:
    content = {
        "MinCapacity": settings.scaling.minimum,
        "MaxCapacity": settings.scaling.maximum,
        "TargetValue": float(settings.scaling.requests_per_minute),
    }
    return Resource(
        kind=SCALING,
        name=f"endpoint/{name}/variant/{variant}",
        settings=content | {"asked": mark(content)},
        lasting=True,
    )


def _alarms(settings: SageMaker, name: str, variant: str) -> list[Resource]:
    """Errors as a share of the requests, the 99th percentile of the latency, and a day without a request."""
    alarms = settings.alarms
    dimensions = [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": variant}]
    common = {"ActionsEnabled": True, "AlarmActions": [alarms.notify] if alarms.notify else []}
    often = {"EvaluationPeriods": _PERIODS, "DatapointsToAlarm": 2, "ComparisonOperator": "GreaterThanThreshold"}
    made: dict[str, dict[str, Any]] = {}
    if alarms.error_share is not None:
        errors, all_of = (
            {
                "Id": key,
                "MetricStat": {
                    "Metric": {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": dimensions},
                    "Period": _PERIOD_S,
                    "Stat": "Sum",
                },
                "ReturnData": False,
            }
            for key, metric in (("errors", "Invocation5XXErrors"), ("requests", "Invocations"))
        )
        share = {"Id": "share", "Expression": "IF(requests > 0, errors / requests, 0)", "ReturnData": True}
        share |= {"Label": "share of the requests that failed"}
        made["errors"] = often | {
            "Metrics": [share, errors, all_of],
            "Threshold": float(alarms.error_share),
            "TreatMissingData": "notBreaching",
        }
    if alarms.latency_ms is not None:
        made["latency"] = often | {
            "Namespace": "AWS/SageMaker",
            "MetricName": "ModelLatency",
            "Dimensions": dimensions,
            "ExtendedStatistic": "p99",
            "Period": _PERIOD_S,
            "Threshold": float(alarms.latency_ms * 1000),  # ModelLatency is in microseconds
            "TreatMissingData": "notBreaching",
        }
    if made:
        made["silence"] = {
            "Namespace": "AWS/SageMaker",
            "MetricName": "Invocations",
            "Dimensions": dimensions,
            "Statistic": "Sum",
            "Period": _DAY_PERIOD_S,
            "EvaluationPeriods": _SILENCE_S // _DAY_PERIOD_S,
            "DatapointsToAlarm": _SILENCE_S // _DAY_PERIOD_S,
            "ComparisonOperator": "LessThanThreshold",
            "Threshold": 1.0,
            "TreatMissingData": "breaching",
        }
    return [
        Resource(
            kind=ALARM,
            name=f"passerelle/{name}/{variant}/{which}",
            settings=common | content | {"asked": mark(common | content)},
            lasting=True,
        )
        for which, content in made.items()
    ]
