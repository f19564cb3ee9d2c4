"""What a resource says in Azure's words: our settings → a request's body, and an answer → our settings; pure.

Only what we set is read out of an answer, so that what Azure adds by itself is no difference.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from passerelle.adapters.azureml_rules import PREFIX
from passerelle.adapters.packages import PACKAGE

#: The kinds of resources, in the order in which they are made.
ENVIRONMENTS, ENVIRONMENT = "environments", "environments/versions"
MODELS, MODEL = "models", "models/versions"
ENDPOINT, DEPLOYMENT = "onlineEndpoints", "onlineEndpoints/deployments"
AUTOSCALE, TRAFFIC, ALERT = "autoscalesettings", "onlineEndpoints/traffic", "metricAlerts"
KINDS = (PACKAGE, ENVIRONMENTS, ENVIRONMENT, MODELS, MODEL, ENDPOINT, DEPLOYMENT, AUTOSCALE, TRAFFIC, ALERT)

#: Tags of ours on each thing: whose it is, and the mark of what was asked for.
PROJECT_TAG, ENVIRONMENT_TAG, REVISION_TAG = f"{PREFIX}project", f"{PREFIX}environment", f"{PREFIX}revision"
ASKED_TAG, TRAFFIC_TAG = f"{PREFIX}asked", f"{PREFIX}asked-traffic"
#: Where the container answers; serving/contracts.py.
PORT = 8080
ROUTES = {"livenessRoute": "/v2/health/live", "readinessRoute": "/v2/health/ready", "scoringRoute": "/score"}
#: Seconds before the first probe, between two, for an answer; probes that must succeed, and may fail.
PROBES = {"initialDelay": 10, "period": 10, "timeout": 4, "successThreshold": 1, "failureThreshold": 30}
_SECONDS = ("initialDelay", "period", "timeout")
#: What we say of a rule.
_AUTOSCALED = ("deployment", "minimum", "maximum", "requests_per_minute", "enabled")
_ALERTED = ("metric", "threshold", "dimensions", "notify", "enabled")
#: What somebody's PUT may not say: Azure does, or keeps it.
_READ_ONLY = ("scoringUri", "swaggerUri", "provisioningState", "keys")
#: A machine is taken away where each has less to do than this share of what it could.
_FEWER = 0.6
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?")


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Where things are made."""

    #: The workspace's path, as ``/subscriptions/...``, and the group's.
    workspace: str
    group: str
    location: str
    #: The endpoint's name; models and environments are called the same.
    endpoint: str

    def path(self, kind: str, name: str) -> str:
        """The path of a resource of a kind."""
        if kind in (ENVIRONMENT, MODEL):
            container, _, version = name.partition("/")
            return f"{self.workspace}/{kind.partition('/')[0]}/{container}/versions/{version}"
        if kind == DEPLOYMENT:
            return f"{self.workspace}/onlineEndpoints/{self.endpoint}/deployments/{name}"
        if kind == TRAFFIC:
            return f"{self.workspace}/onlineEndpoints/{name}"
        if kind in (AUTOSCALE, ALERT):
            return f"{self.group}/providers/Microsoft.Insights/{kind}/{name}"
        return f"{self.workspace}/{kind}/{name}"


def duration(milliseconds: int) -> str:
    """Milliseconds in ISO 8601.

    >>> duration(30_000), duration(2_500)
    ('PT30S', 'PT2.5S')
    """
    return f"PT{milliseconds / 1000:g}S"


def milliseconds(duration: str) -> int:
    """What a duration of ISO 8601 lasts; Azure may write another than it was sent.

    >>> milliseconds("PT1M30S"), milliseconds("PT0.5S")
    (90000, 500)
    """
    match = _DURATION.fullmatch(duration)
    days, hours, minutes, seconds = match.groups() if match else (None,) * 4
    return round(
        ((int(days or 0) * 24 + int(hours or 0)) * 60 + int(minutes or 0)) * 60_000 + float(seconds or 0) * 1000
    )


def asset_body(settings: dict[str, Any], model_uri: str | None = None) -> dict[str, Any]:
    """Of a model, an environment, or a version of one."""
    properties: dict[str, Any] = {"tags": settings["tags"]}
    if "image" in settings:
        routes = {name: {"path": path, "port": PORT} for name, path in ROUTES.items()}
        properties |= {"image": settings["image"], "osType": "Linux", "inferenceConfig": routes}
    if model_uri is not None:
        properties |= {"modelType": "custom_model", "modelUri": model_uri}
    return {"properties": properties}


def endpoint_body(settings: dict[str, Any], found: dict[str, Any] | None, location: str) -> dict[str, Any]:
    """Of an endpoint: what is there stays, as its traffic, but for what ``settings`` say."""
    kept = {key: value for key, value in ((found or {}).get("properties") or {}).items() if key not in _READ_ONLY}
    ours = {
        key: value for key, value in ((found or {}).get("tags") or {}).items() if key in (REVISION_TAG, TRAFFIC_TAG)
    }
    identity: dict[str, Any] = {"type": "SystemAssigned"}
    if settings["identity"]:
        identity = {"type": "UserAssigned", "userAssignedIdentities": {settings["identity"]: {}}}
    return {
        "location": location,
        "identity": identity,
        "tags": settings["tags"] | {ASKED_TAG: settings["asked"]} | ours,
        "properties": {"traffic": {}} | kept | {"authMode": settings["auth"]},
    }


def traffic_body(settings: dict[str, Any] | None, found: dict[str, Any]) -> dict[str, Any]:
    """Of an endpoint, with other traffic; None: with none. All else stays as it is there."""
    kept = {key: value for key, value in found["properties"].items() if key not in _READ_ONLY}
    tags = {key: value for key, value in (found.get("tags") or {}).items() if key not in (REVISION_TAG, TRAFFIC_TAG)}
    kept |= {"traffic": {}, "mirrorTraffic": {}}
    if settings is not None:
        kept |= {"traffic": settings["traffic"], "mirrorTraffic": settings["mirror"]}
        tags |= {REVISION_TAG: settings["revision"], TRAFFIC_TAG: settings["asked"]}
    body = {"location": found["location"], "tags": tags, "properties": kept}
    identity = found.get("identity")
    if identity:
        body["identity"] = {"type": identity["type"]}
        if identity.get("userAssignedIdentities"):
            body["identity"]["userAssignedIdentities"] = {name: {} for name in identity["userAssignedIdentities"]}
    return body


def deployment_body(settings: dict[str, Any], where: Where, machines: int) -> dict[str, Any]:
    """Of a deployment, on ``machines`` machines."""
    probe = {key: duration(value * 1000) if key in _SECONDS else value for key, value in settings["probe"].items()}
    return {
        "location": where.location,
        "tags": settings["tags"] | {ASKED_TAG: settings["asked"]},
        "sku": {"name": "Default", "capacity": machines},
        "properties": {
            "endpointComputeType": "Managed",
            "model": where.path(MODEL, settings["model"]),
            "environmentId": where.path(ENVIRONMENT, settings["environment"]),
            "environmentVariables": settings["variables"],
            "instanceType": settings["instance"],
            "requestSettings": {
                "requestTimeout": duration(settings["timeout_ms"]),
                "maxConcurrentRequestsPerInstance": settings["concurrent"],
            },
            "livenessProbe": probe,
            "readinessProbe": probe,
            "scaleSettings": {"scaleType": "Default"},
        },
    }


def autoscale_body(settings: dict[str, Any], where: Where, name: str) -> dict[str, Any]:
    """Of a rule that adds a machine where those that are there have too much to do, and takes one where too little."""
    target = where.path(DEPLOYMENT, settings["deployment"])
    low, high = settings["requests_per_minute"] * _FEWER, float(settings["requests_per_minute"])

    def rule(operator: str, threshold: float, direction: str, cooldown: str) -> dict[str, Any]:
        trigger = {
            "metricName": "RequestsPerMinute",
            "metricResourceUri": target,
            "timeGrain": "PT1M",
            "statistic": "Average",
            "timeWindow": "PT5M",
            "timeAggregation": "Average",
            "operator": operator,
            "threshold": threshold,
            "dividePerInstance": True,
        }
        action = {"direction": direction, "type": "ChangeCount", "value": "1", "cooldown": cooldown}
        return {"metricTrigger": trigger, "scaleAction": action}

    capacity = {"minimum": str(settings["minimum"]), "maximum": str(settings["maximum"])}
    profile = {
        "name": "requests",
        "capacity": capacity | {"default": str(settings["minimum"])},
        "rules": [rule("GreaterThan", high, "Increase", "PT5M"), rule("LessThan", low, "Decrease", "PT10M")],
    }
    return {
        "location": where.location,
        "tags": settings["tags"] | {ASKED_TAG: settings["asked"]},
        "properties": {
            "name": name,
            "enabled": settings["enabled"],
            "targetResourceUri": target,
            "profiles": [profile],
        },
    }


def alert_body(settings: dict[str, Any], where: Where) -> dict[str, Any]:
    """Of a rule that watches one metric of the endpoint, minute by minute, over five."""
    criterion = {
        "criterionType": "StaticThresholdCriterion",
        "name": "above",
        "metricNamespace": "Microsoft.MachineLearningServices/workspaces/onlineEndpoints",
        "metricName": settings["metric"],
        "timeAggregation": "Average",
        "operator": "GreaterThan",
        "threshold": settings["threshold"],
        "dimensions": [
            {"name": name, "operator": "Include", "values": values} for name, values in settings["dimensions"].items()
        ],
    }
    return {
        "location": "global",
        "tags": settings["tags"] | {ASKED_TAG: settings["asked"]},
        "properties": {
            "description": "Made by Passerelle",
            "severity": 2,
            "enabled": settings["enabled"],
            "scopes": [where.path(ENDPOINT, where.endpoint)],
            "evaluationFrequency": "PT1M",
            "windowSize": "PT5M",
            "criteria": {
                "odata.type": "Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria",
                "allOf": [criterion],
            },
            "autoMitigate": True,
            "actions": [{"actionGroupId": settings["notify"]}] if settings["notify"] else [],
        },
    }


def seen(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    """Our settings, as an answer says them."""
    properties = found["properties"]
    every = found.get("tags") if kind in (ENDPOINT, DEPLOYMENT, AUTOSCALE, TRAFFIC, ALERT) else properties.get("tags")
    every = every or {}
    tags = {key: value for key, value in every.items() if key not in (ASKED_TAG, TRAFFIC_TAG)}
    asked = every.get(ASKED_TAG)
    if kind == TRAFFIC:
        return {
            "traffic": _some(properties.get("traffic")),
            "mirror": _some(properties.get("mirrorTraffic")),
            "revision": tags.get(REVISION_TAG),
            "asked": every.get(TRAFFIC_TAG),
        }
    if kind == ENDPOINT:
        tags.pop(REVISION_TAG, None)
        identities = (found.get("identity") or {}).get("userAssignedIdentities") or {}
        settings = {"auth": properties["authMode"], "identity": next(iter(identities), None)}
    elif kind == DEPLOYMENT:
        settings = _deployment_seen(found)
    elif kind in (AUTOSCALE, ALERT):
        try:
            settings = (_autoscale_seen if kind == AUTOSCALE else _alert_seen)(properties)
        except (LookupError, TypeError, ValueError):  # somebody made a rule of another sort of it
            settings = dict.fromkeys(_AUTOSCALED if kind == AUTOSCALE else _ALERTED)
            if kind == AUTOSCALE:
                settings["deployment"] = str(properties.get("targetResourceUri")).rpartition("/")[2]
    else:
        settings = {} if kind in (MODELS, ENVIRONMENTS) else {"image": properties.get("image")}
        if kind == MODEL:
            settings = {"path": str(properties.get("modelUri")).rpartition("/paths/")[2].strip("/")}
        return settings | {"tags": tags}
    state = properties.get("provisioningState")
    if state in ("Failed", "Canceled", "Deleting"):  # it is to be made again, and nobody's hand did it
        return settings | {"failed": state, "tags": tags, "asked": None}
    return settings | {"tags": tags, "asked": asked}


def _deployment_seen(found: dict[str, Any]) -> dict[str, Any]:
    properties = found["properties"]
    requests = properties.get("requestSettings") or {}
    probe = properties.get("livenessProbe") or {}
    return {
        "model": _version(properties.get("model")),
        "environment": _version(properties.get("environmentId")),
        "variables": properties.get("environmentVariables") or {},
        "instance": properties.get("instanceType"),
        "timeout_ms": milliseconds(requests.get("requestTimeout", "")),
        "concurrent": requests.get("maxConcurrentRequestsPerInstance"),
        "probe": {
            key: milliseconds(probe.get(key, "")) // 1000 if key in _SECONDS else probe.get(key) for key in PROBES
        },
        "machines": (found.get("sku") or {}).get("capacity"),
    }


def _autoscale_seen(properties: dict[str, Any]) -> dict[str, Any]:
    (profile,) = properties["profiles"]
    more, fewer = (one["metricTrigger"]["threshold"] for one in profile["rules"])
    return {
        "deployment": properties["targetResourceUri"].rpartition("/")[2],
        "minimum": int(profile["capacity"]["minimum"]),
        "maximum": int(profile["capacity"]["maximum"]),
        "requests_per_minute": round(more),
        "enabled": properties["enabled"] and round(fewer) == round(more * _FEWER),
    }


def _alert_seen(properties: dict[str, Any]) -> dict[str, Any]:
    (criterion,) = properties["criteria"]["allOf"]
    return {
        "metric": criterion["metricName"],
        "threshold": float(criterion["threshold"]),
        "dimensions": {one["name"]: one["values"] for one in criterion.get("dimensions") or ()},
        "notify": next((one["actionGroupId"] for one in properties.get("actions") or ()), None),
        "enabled": properties["enabled"],
    }


def _version(path: str | None) -> str:
    """The name and version at the end of a path, which Azure writes in letters of its own case."""
    parts = (path or "").split("/")
    return f"{parts[-3]}/{parts[-1]}" if len(parts) > 3 else path or ""  # noqa: PLR2004  (NAME/versions/VERSION)


def _some(shares: dict[str, int] | None) -> dict[str, int]:
    return {name: share for name, share in (shares or {}).items() if share}
