"""From what is wanted and what is there to the steps on Vertex AI; pure, but for packing.

| kind | name | made |
|---|---|---|
| packages | PROJECT/ENVIRONMENT/PACKAGE, in the store | for each revision |
| models/versions | ENDPOINT/ALIAS | for each revision (container) or version (platform) |
| endpoints | ENDPOINT | once |
| endpoints/deployedModels | ENDPOINT/ID | with its version |
| endpoints/trafficSplit | ENDPOINT | changed: this is what a revision's answering is |
| alertPolicies | ENDPOINT-errors, ENDPOINT-latency | once |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec

from passerelle.adapters import vertex_rules as rules
from passerelle.adapters.packages import PACKAGE, package_resource
from passerelle.deployment.package import Package
from passerelle.deployment.plan import changed, percentages, refuse_drift, steps
from passerelle.deployment.spec import Deployment, Variant
from passerelle.deployment.target import Observed, Plan, Resource, Step
from passerelle.project.targets import Vertex

VERSION, ENDPOINT = "models/versions", "endpoints"
DEPLOYED, TRAFFIC, ALARM = "endpoints/deployedModels", "endpoints/trafficSplit", "alertPolicies"
#: The routes of the container (serving/contracts.py).
PREDICT_ROUTE, HEALTH_ROUTE, PORT = "/predict", "/health", 8080

_ALARM_S = 300


def container_spec(settings: Vertex, told: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """The container of a version, in the interface's words; ``told``: variables besides those of the settings."""
    spec: dict[str, Any] = {
        "imageUri": settings.image,
        "args": ["serve"],
        "ports": [{"containerPort": PORT}],
        "predictRoute": PREDICT_ROUTE,
        "healthRoute": HEALTH_ROUTE,
    }
    if variables := {**settings.variables, **told}:
        spec["env"] = [{"name": name, "value": value} for name, value in sorted(variables.items())]
    return spec


def want(
    deployment: Deployment, settings: Vertex, observed: Observed, pack: Callable[[Deployment], Package]
) -> tuple[Resource, ...]:
    """The resources that a deployment wants, in the order in which they are made."""
    endpoint = rules.endpoint_id(deployment.project, deployment.environment)
    owner = {"project": deployment.project, "environment": deployment.environment}
    parts: list[Resource] = []
    split: dict[str, int] = {}
    platform = settings.strategy == "platform"
    shares = percentages([one.weight for one in deployment.live]) if platform else [100]
    alias = ""
    for variant, percent in zip(deployment.live if platform else (None,), shares, strict=True):
        package, version = _part(deployment, variant, settings, observed, pack)
        deployed = _deployed(version, settings, observed, endpoint, deployment.revision)
        parts += [*package, version, deployed]
        split[deployed.name.partition("/")[2]] = percent
        if not alias or variant == deployment.champion:
            alias = version.name.partition("/")[2]
    place = Resource(
        kind=ENDPOINT,
        name=endpoint,
        settings=marked({"timeout": f"{settings.timeout_ms / 1000:g}s", "tags": rules.digest(settings.tags)})
        | {"owner": owner},
        lasting=True,
    )
    traffic = Resource(
        kind=TRAFFIC,
        name=endpoint,
        settings=marked({"split": split})
        | {"revision": deployment.revision, "default": alias, "capacity": _capacity(settings)},
        lasting=True,
    )
    order = {PACKAGE: 0, VERSION: 1, DEPLOYED: 3}
    made = [*parts, place]
    made.sort(key=lambda one: order.get(one.kind, 2))
    return (*made, traffic, *_alarms(endpoint, owner, settings))


def marked(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a mark of them: what is there and does not fit its mark was changed by somebody else."""
    return settings | {"set": rules.digest(settings)}


def to_nothing(observed: Observed, target: str, environment: str) -> Plan:
    """The plan that leaves nothing."""
    deletes = steps((), observed.resources)
    return Plan(target=target, environment=environment, revision=None, steps=(*_waiting(observed), *deletes))


def to_deployment(
    deployment: Deployment, settings: Vertex, observed: Observed, wanted: Sequence[Resource], target: str
) -> Plan:
    """The plan that leads to a deployment. Raises DriftError for what was changed by hand, if the settings say so."""
    traffic = next((one.settings for one in observed.resources if one.kind == TRAFFIC), {})
    refuse_drift(wanted, observed.resources, drift=settings.drift, by_hand=partial(_by_hand, traffic))
    kept = set() if deployment.rolls_back_to is not None else _kept(observed, wanted)
    made = steps(wanted, observed.resources, keep=lambda one: (one.kind, one.name) in kept)
    back = _back_at_once(deployment, observed)
    notes = _notes(settings, kept, deployment)
    return Plan(
        target=target,
        environment=deployment.environment,
        revision=deployment.revision,
        steps=(*_waiting(observed), *back, *made),
        notes=notes,
    )


def _part(
    deployment: Deployment,
    variant: Variant | None,
    settings: Vertex,
    observed: Observed,
    pack: Callable[[Deployment], Package],
) -> tuple[list[Resource], Resource]:
    """Package and version of the container (variant None) or of one variant.

    A variant that is there already stays as it is, in the package of the revision that brought it: only weights change.
    """
    immutable: list[Any] = [container_spec(settings), settings.store]
    endpoint = rules.endpoint_id(deployment.project, deployment.environment)
    found = None
    if variant is not None:
        name = f"{endpoint}/{rules.part_name(deployment, variant, immutable)}"
        found = next((one for one in observed.resources if (one.kind, one.name) == (VERSION, name)), None)
    if found is not None:  # its package may have been removed: Vertex AI keeps a copy
        uri = found.settings["artifactUri"]
        return [one for one in observed.resources if one.kind == PACKAGE and one.settings["uri"] == uri], found
    alone = deployment
    if variant is not None:
        alone = msgspec.structs.replace(deployment, variants=(msgspec.structs.replace(variant, weight=1.0),))
    packed = pack(alone)
    package = package_resource(settings.store, deployment.project, deployment.environment, packed)
    alias = rules.part_name(deployment, variant, immutable if variant else [*immutable, packed.digest])
    version = Resource(
        kind=VERSION,
        name=f"{endpoint}/{alias}",
        settings={
            "artifactUri": package.settings["uri"],
            "image": settings.image,
            "revision": deployment.revision,
            "owner": {"project": deployment.project, "environment": deployment.environment},
        },
    )
    return [package], version


def _deployed(version: Resource, settings: Vertex, observed: Observed, endpoint: str, revision: int) -> Resource:
    alias = version.name.partition("/")[2]
    fixed = {"model": alias, "machine": settings.instance, "service_account": settings.service_account}
    wanted = fixed | scaling(settings)
    there = next(
        (
            one
            for one in observed.resources
            if one.kind == DEPLOYED and {key: one.settings.get(key) for key in fixed} == fixed
        ),
        None,
    )
    name = there.name if there else f"{endpoint}/{rules.deployed_id(revision, alias, fixed)}"
    return Resource(kind=DEPLOYED, name=name, settings=wanted)


def scaling(settings: Vertex) -> dict[str, Any]:
    """How many machines, and the requests a minute above which one more is started; None: never."""
    how = settings.scaling
    grows = how.maximum > how.minimum
    return {
        "minimum": how.minimum,
        "maximum": how.maximum,
        "requests_per_minute": how.requests_per_minute if grows else None,
    }


def _capacity(settings: Vertex) -> str:
    return rules.digest(scaling(settings))


def _alarms(endpoint: str, owner: dict[str, str], settings: Vertex) -> list[Resource]:
    alarms, found = settings.alarms, []
    online = "aiplatform.googleapis.com/prediction/online"
    of_endpoint = f'resource.type = "aiplatform.googleapis.com/Endpoint" AND resource.labels.endpoint_id = "{endpoint}"'
    channels = [alarms.notify] if alarms.notify else []
    if alarms.error_share is not None:
        settings_of = {
            "filter": f'metric.type = "{online}/error_count" AND {of_endpoint}',
            "denominator": f'metric.type = "{online}/response_count" AND {of_endpoint}',
            "above": alarms.error_share,
            "aligner": "ALIGN_RATE",
            "reducer": "REDUCE_SUM",
        }
        found.append(("errors", settings_of))
    if alarms.latency_ms is not None:
        settings_of = {
            "filter": f'metric.type = "{online}/prediction_latencies" AND metric.labels.latency_type = "total" AND '
            + of_endpoint,
            "denominator": "",
            "above": alarms.latency_ms,
            "aligner": "ALIGN_PERCENTILE_99",
            "reducer": "REDUCE_MAX",
        }
        found.append(("latency", settings_of))
    return [
        Resource(
            kind=ALARM,
            name=f"{endpoint}-{name}",
            settings=marked(one | {"for_s": _ALARM_S, "channels": channels}) | {"owner": owner},
            lasting=True,
        )
        for name, one in found
    ]


def _waiting(observed: Observed) -> tuple[Step, ...]:
    """What somebody began, who may be dead, is let end before anything else is done."""
    places = [one for one in observed.resources if one.kind == ENDPOINT]
    if observed.state != "changing" or not places:
        return ()
    place = msgspec.structs.replace(places[0], settings={})
    return (Step(act="wait", resource=place, why="an operation has begun that is not done"),)


def _back_at_once(deployment: Deployment, observed: Observed) -> tuple[Step, ...]:
    """A roll-back to what is kept takes effect in seconds, before the revision that stands for it is made."""
    traffic = next((one for one in observed.resources if one.kind == TRAFFIC), None)
    if deployment.rolls_back_to is None or traffic is None or observed.revision == deployment.revision:
        return ()
    goal = f"revision-{deployment.rolls_back_to}-"
    for one in observed.resources:
        if one.kind == DEPLOYED and str(one.settings.get("model", "")).startswith(goal):
            number = one.name.partition("/")[2]
            settings = marked({"split": {number: 100}}) | {
                "revision": deployment.rolls_back_to,
                "default": one.settings["model"],
                "capacity": rules.digest({key: one.settings[key] for key in _MACHINES}),
            }
            if traffic.settings.get("split") != {number: 100}:
                step = msgspec.structs.replace(traffic, settings=settings)
                why = f"roll back at once, to what is kept of revision {deployment.rolls_back_to}"
                return (Step(act="change", resource=step, before=traffic.settings, why=why),)
    return ()


def _kept(observed: Observed, wanted: Sequence[Resource]) -> set[tuple[str, str]]:
    """What stays although it is not wanted: the part that answers now, or else the newest one, to roll back to.

    After a roll-back nothing does: what it went back to is what answers, and what it left is not to be gone to.
    """
    names = {one.name for one in wanted if one.kind == DEPLOYED}
    others = [one for one in observed.resources if one.kind == DEPLOYED and one.name not in names]
    answering: dict[str, int] = next(
        (one.settings.get("split", {}) for one in observed.resources if one.kind == TRAFFIC), {}
    )
    stay = [one for one in others if one.name.partition("/")[2] in answering]
    if not stay and others:
        newest = max(rules.revision_of(one.name.partition("/")[2]) for one in others)
        stay = [one for one in others if rules.revision_of(one.name.partition("/")[2]) == newest]
    aliases = {str(one.settings.get("model")) for one in stay}
    versions = [one for one in observed.resources if one.kind == VERSION and one.name.partition("/")[2] in aliases]
    uris = {one.settings.get("artifactUri") for one in versions}
    packages = [one for one in observed.resources if one.kind == PACKAGE and one.settings.get("uri") in uris]
    return {(one.kind, one.name) for one in (*stay, *versions, *packages)}


def _by_hand(traffic: dict[str, Any], now: Resource, due: Resource | None) -> list[str]:
    """See plan.by_hand. The mark is a label of the endpoint's or the policy's; of machines that of the traffic."""
    found, goal = now.settings, due.settings if due else {}
    if "set" in found:
        own = {key: value for key, value in found.items() if key not in _BESIDE}
        aim = {key: value for key, value in goal.items() if key not in _BESIDE}
        mark = found["set"]
    elif now.kind == DEPLOYED and now.name.partition("/")[2] in traffic.get("split", {}):
        own = {key: found.get(key) for key in _MACHINES}
        aim = {key: goal.get(key) for key in own} if due else {}
        mark = traffic.get("capacity")
    else:
        return []
    if own == aim or rules.digest(own) == mark:
        return []
    return list(changed(aim, own)) if due else [f"it is {own}"]


#: Of a DeployedModel's settings those that can be changed; see scaling.
_MACHINES = ("minimum", "maximum", "requests_per_minute")
#: Settings that stand beside the mark: not part of what it marks.
_BESIDE = ("set", "owner", "revision", "default", "capacity")


def _notes(settings: Vertex, kept: set[tuple[str, str]], deployment: Deployment) -> tuple[str, ...]:
    notes = []
    if settings.strategy == "platform":
        notes.append(
            "Vertex AI splits by request, not by unit: this is a canary, and no verdict comes of it. A variant keeps "
            "the revision that brought it in its predictions."
        )
    elif len(deployment.variants) > 1:
        notes.append("One container serves every variant: it routes by unit and scores shadows itself.")
    again = sum(kind == DEPLOYED for kind, _ in kept)
    if again:
        notes.append(
            f"The revision before stays at 0 %, to roll back to within seconds: {again * settings.scaling.minimum} "
            f"more {settings.instance} to pay until the next one."
        )
    return tuple(notes)
