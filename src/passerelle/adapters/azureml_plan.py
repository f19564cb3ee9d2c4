"""What an environment needs at Azure ML, what of the revision before is kept, and what to know about it; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from passerelle.adapters import azureml_rules as rules
from passerelle.adapters.azureml_bodies import (
    ALERT,
    AUTOSCALE,
    DEPLOYMENT,
    ENDPOINT,
    ENVIRONMENT,
    ENVIRONMENT_TAG,
    ENVIRONMENTS,
    MODEL,
    MODELS,
    PROBES,
    PROJECT_TAG,
    ROUTES,
    TRAFFIC,
)
from passerelle.adapters.packages import PACKAGE, package_resource
from passerelle.deployment.package import Package
from passerelle.deployment.plan import mark, percentages
from passerelle.deployment.spec import Deployment, Variant, told
from passerelle.deployment.target import Resource
from passerelle.project.targets import AzureML

#: Requests that a machine is given at a time: the container batches what comes together.
CONCURRENT = 64
#: How Azure's gateway knows a caller: by the endpoint's two keys.
AUTH = "Key"
#: What the gateway answers when a request failed, be it the container's fault (424) or its own.
FAILURES = ["424", "500", "502", "503", "504"]


def tags(project: str, environment: str, settings: AzureML) -> dict[str, str]:
    """What everything of an environment bears."""
    return settings.tags | {PROJECT_TAG: project, ENVIRONMENT_TAG: environment}


def image_version(settings: AzureML) -> str:
    """The version of the environment that runs the image: another one for another image or other routes."""
    return f"i-{rules.digest([settings.image, ROUTES])}"


def wanted(deployment: Deployment, settings: AzureML, pack: Callable[[Deployment], Package]) -> list[Resource]:
    """All that a revision needs, in the order in which it is made."""
    endpoint = rules.endpoint_name(deployment.project, deployment.environment)
    ours = tags(deployment.project, deployment.environment, settings)
    image = {"image": settings.image, "tags": ours}
    assets = [
        Resource(kind=ENVIRONMENTS, name=endpoint, settings={"tags": ours}, lasting=True),
        Resource(kind=ENVIRONMENT, name=f"{endpoint}/{image_version(settings)}", settings=image),
        Resource(kind=MODELS, name=endpoint, settings={"tags": ours}, lasting=True),
    ]
    packages: list[Resource] = []
    deployments: list[Resource] = []
    names: dict[int, str] = {}
    alone = settings.strategy == "platform"
    for variant in deployment.variants if alone else (None,):
        answered = deployment if variant is None else rules.one_variant(deployment, variant)
        package = pack(answered)
        packages.append(package_resource(settings.store, deployment.project, deployment.environment, package))
        path = f"{_folder(settings.store)}packages/{packages[-1].name}"
        model = Resource(kind=MODEL, name=f"{endpoint}/{package.name}", settings={"path": path, "tags": ours})
        assets.append(model)
        deployments.append(
            _deployment(answered, variant, settings, model=model.name, environment=assets[1].name, ours=ours)
        )
        names[0 if variant is None else variant.version] = deployments[-1].name
    made = {"auth": AUTH, "identity": settings.identity, "tags": ours}
    scaling = settings.scaling
    scaled = [
        _marked(
            AUTOSCALE,
            f"{endpoint}-{one.name}",
            {
                "deployment": one.name,
                "minimum": scaling.minimum,
                "maximum": scaling.maximum,
                "requests_per_minute": scaling.requests_per_minute,
                "enabled": True,
                "tags": ours,
            },
        )
        for one in deployments
        if scaling.maximum > scaling.minimum
    ]
    return [
        *packages,
        *assets,
        _marked(ENDPOINT, endpoint, made, lasting=True),
        *deployments,
        *scaled,
        _traffic(endpoint, deployment, names, alone=alone),
        *_alerts(endpoint, settings, ours),
    ]


def kept(there: Sequence[Resource], due: Sequence[Resource]) -> Callable[[Resource], bool]:
    """What may stay: the deployments that answer now, else the newest but the wanted ones, with all that they need."""
    wanted_names = {one.name for one in due if one.kind == DEPLOYMENT}
    traffic = next((one.settings for one in there if one.kind == TRAFFIC), {})
    answering = {*traffic.get("traffic", ()), *traffic.get("mirror", ())} - wanted_names
    others = [
        one
        for one in there
        if one.kind == DEPLOYMENT and one.name not in wanted_names and PROJECT_TAG in one.settings["tags"]
    ]
    previous = [one for one in others if one.name in answering]
    if not previous:
        ready = [one for one in others if not one.settings.get("failed")]
        previous = sorted(ready, key=lambda one: (number(one.name), one.name))[-1:]
    keep = {(DEPLOYMENT, one.name) for one in previous}
    keep |= {(MODEL, one.settings["model"]) for one in previous}
    keep |= {(ENVIRONMENT, one.settings["environment"]) for one in previous}
    folders = [one.settings["path"] for one in there if one.kind == MODEL and (MODEL, one.name) in keep]
    names = {one.name for one in previous}

    def keeps(one: Resource) -> bool:
        if one.kind == AUTOSCALE:
            return one.settings["deployment"] in names
        if one.kind == PACKAGE:
            return any(folder.endswith(f"packages/{one.name}") for folder in folders)
        return (one.kind, one.name) in keep

    return keeps


def in_use(there: Sequence[Resource], due: Sequence[Resource]) -> list[Resource]:
    """All but what is only kept to go back to: whoever changed that by hand is in nobody's way."""
    wanted_names = {(one.kind, one.name) for one in due}
    answering = {name for one in there if one.kind == TRAFFIC for name in one.settings["traffic"]}
    return [
        one
        for one in there
        if (one.kind, one.name) in wanted_names
        or one.kind not in (DEPLOYMENT, AUTOSCALE)
        or (one.name if one.kind == DEPLOYMENT else one.settings["deployment"]) in answering
    ]


def number(deployment: str) -> int:
    """The revision, or the version, in the name of a deployment of ours.

    >>> number("r12-0a1b2c3d"), number("blue")
    (12, 0)
    """
    digits = deployment.partition("-")[0][1:]
    return int(digits) if digits.isdigit() else 0


def notes(deployment: Deployment, settings: AzureML) -> tuple[str, ...]:
    """What somebody who accepts the plan should know."""
    said = []
    if settings.strategy == "platform":
        said.append(
            "Azure ML draws a deployment for each request, not for each unit: these weights are for a canary, and no "
            "trial is judged by them; predictions name the version's own revision."
        )
        if deployment.shadows:
            said.append("mirrored requests that are pinned to a deployment by their header are not mirrored.")
    elif deployment.trial is not None:
        said.append(f"trial {deployment.trial}: the container routes by unit and scores shadows itself, paired.")
    said.append("the deployment before stays, without traffic, to roll back to at once: its machines are paid for.")
    if settings.alarms.error_share is not None:
        said.append(
            "Azure's metric alerts compare no shares: the alert on failures counts requests a minute, for each status, "
            "against error_share of requests_per_minute on the fewest machines."
        )
    return tuple(said)


def _deployment(
    deployment: Deployment,
    variant: Variant | None,
    settings: AzureML,
    *,
    model: str,
    environment: str,
    ours: dict[str, str],
) -> Resource:
    fixed: dict[str, Any] = {
        "model": model,
        "environment": environment,
        "variables": settings.variables | told(deployment),
        "instance": settings.instance,
        "timeout_ms": settings.timeout_ms,
        "concurrent": CONCURRENT,
        "probe": dict(PROBES),
    }
    scaled = settings.scaling.maximum > settings.scaling.minimum
    machines = {} if scaled else {"machines": settings.scaling.minimum}
    name = rules.deployment_name(deployment, variant, fixed)
    return _marked(DEPLOYMENT, name, fixed | machines | {"tags": ours})


def _traffic(endpoint: str, deployment: Deployment, names: dict[int, str], *, alone: bool) -> Resource:
    live = {names[0]: 100} if not alone else {}
    mirror: dict[str, int] = {}
    if alone:
        shares = percentages([one.weight for one in deployment.live])
        live = {names[one.version]: share for one, share in zip(deployment.live, shares, strict=True)}
        mirror = {names[one.version]: int(rules.mirrored(one)) for one in deployment.shadows}
    return _marked(
        TRAFFIC, endpoint, {"traffic": live, "mirror": mirror, "revision": str(deployment.revision)}, lasting=True
    )


def _alerts(endpoint: str, settings: AzureML, ours: dict[str, str]) -> list[Resource]:
    alarms, made = settings.alarms, []
    if alarms.error_share is not None:
        busy = settings.scaling.requests_per_minute * settings.scaling.minimum
        failing = {
            "metric": "RequestsPerMinute",
            "threshold": alarms.error_share * busy,
            "dimensions": {"statusCode": FAILURES},
        }
        made.append(("errors", failing))
    if alarms.latency_ms is not None:
        slow = {"metric": "RequestLatency_P99", "threshold": float(alarms.latency_ms), "dimensions": {}}
        made.append(("latency", slow))
    rest = {"notify": alarms.notify, "enabled": True, "tags": ours}
    return [_marked(ALERT, f"{endpoint}-{name}", what | rest, lasting=True) for name, what in made]


def _marked(kind: str, name: str, settings: dict[str, Any], *, lasting: bool = False) -> Resource:
    return Resource(kind=kind, name=name, settings=settings | {"asked": mark(settings)}, lasting=lasting)


def _folder(store: str) -> str:
    """The folder of a store's address within its container, with a / at its end; "" for the container itself."""
    folder = store.partition("://")[2].partition("/")[2].strip("/")
    return f"{folder}/" if folder else ""
