"""Alarms of a Vertex AI endpoint: alert policies of Cloud Monitoring, which outlive Passerelle."""

from __future__ import annotations

from typing import Any

from passerelle.adapters.vertex_plan import ALARM
from passerelle.adapters.vertex_rest import MissingError, Rest
from passerelle.adapters.vertex_rules import PREFIX
from passerelle.deployment.target import Resource
from passerelle.project.targets import Vertex

_ALARM, _SET = f"{PREFIX}alarm", f"{PREFIX}set"


class VertexAlarms:
    """The alert policies of a project's endpoints. Monitoring gives them numbers: they are found by their labels."""

    def __init__(self, rest: Rest, settings: Vertex, project: str) -> None:
        self._rest, self._settings, self._project = rest, settings, project

    def observe(self, environment: str) -> list[Resource]:
        """The policies of an environment; one that was made twice has its number beside its name."""
        names: set[str] = set()
        found = []
        for policy in sorted(self._all(environment), key=lambda one: str(one["name"])):
            name = policy["userLabels"].get(_ALARM, "")
            if name in names:
                name = f"{name}#{policy['name'].rpartition('/')[2]}"
            names.add(name)
            found.append(Resource(kind=ALARM, name=name, settings=_settings(policy), lasting=True))
        order = [one for one in found if one.name.endswith("-errors")]
        return order + [one for one in found if one not in order]

    def set(self, one: Resource) -> None:
        """Create or change a policy."""
        body, location = self._policy(one), f"projects/{self._settings.project}"
        there = self._find(one)
        if there is None:
            self._rest.make(lambda: self._find(one), lambda: self._rest.call("alertPolicies.create", location, body))
        elif _settings(there) != one.settings:
            mask = "displayName,combiner,conditions,notificationChannels,userLabels,documentation"
            self._rest.call("alertPolicies.patch", there["name"], body, {"updateMask": mask})

    def delete(self, one: Resource) -> None:
        """Remove a policy; nothing happens if it is gone."""
        there = self._find(one)
        if there is not None:
            try:
                self._rest.call("alertPolicies.delete", there["name"])
            except MissingError:
                return

    def _all(self, environment: str) -> list[dict[str, Any]]:
        wanted = f'user_labels.{PREFIX}project="{self._project}" AND user_labels.{PREFIX}environment="{environment}"'
        location = f"projects/{self._settings.project}"
        return list(self._rest.pages("alertPolicies.list", location, "alertPolicies", filter=wanted))

    def _find(self, one: Resource) -> dict[str, Any] | None:
        name, _, number = one.name.partition("#")
        mine = [
            policy
            for policy in sorted(self._all(one.settings["owner"]["environment"]), key=lambda found: str(found["name"]))
            if policy["userLabels"].get(_ALARM) == name and (not number or policy["name"].endswith(f"/{number}"))
        ]
        return mine[0] if mine else None

    def _policy(self, one: Resource) -> dict[str, Any]:
        settings, owner = one.settings, one.settings["owner"]
        aggregation = {
            "alignmentPeriod": "60s",
            "perSeriesAligner": settings["aligner"],
            "crossSeriesReducer": settings["reducer"],
            "groupByFields": ["resource.labels.endpoint_id"],
        }
        threshold: dict[str, Any] = {
            "filter": settings["filter"],
            "aggregations": [aggregation],
            "comparison": "COMPARISON_GT",
            "thresholdValue": settings["above"],
            "duration": f"{settings['for_s']}s",
        }
        if settings["denominator"]:
            threshold |= {"denominatorFilter": settings["denominator"], "denominatorAggregations": [aggregation]}
        return {
            "displayName": f"Passerelle: {one.name}",
            "combiner": "OR",
            "conditions": [{"displayName": one.name, "conditionThreshold": threshold}],
            "notificationChannels": settings["channels"],
            "documentation": {
                "content": f"Project {owner['project']}, environment {owner['environment']}: passerelle status says "
                "what Passerelle saw; passerelle rollback goes back to the revision before.",
                "mimeType": "text/markdown",
            },
            "userLabels": self._settings.tags
            | {
                f"{PREFIX}project": owner["project"],
                f"{PREFIX}environment": owner["environment"],
                _ALARM: one.name,
                _SET: settings["set"],
            },
        }


def _settings(policy: dict[str, Any]) -> dict[str, Any]:
    conditions = policy.get("conditions") or [{}]
    threshold = conditions[0].get("conditionThreshold", {})
    aggregation = (threshold.get("aggregations") or [{}])[0]
    labels = policy.get("userLabels", {})
    return {
        "filter": threshold.get("filter", ""),
        "denominator": threshold.get("denominatorFilter", ""),
        "above": threshold.get("thresholdValue", 0),
        "aligner": aggregation.get("perSeriesAligner", ""),
        "reducer": aggregation.get("crossSeriesReducer", ""),
        "for_s": int(float(str(threshold.get("duration", "0s")).rstrip("s"))),
        "channels": policy.get("notificationChannels", []),
        "set": labels.get(_SET, ""),
        "owner": {"project": labels.get(f"{PREFIX}project"), "environment": labels.get(f"{PREFIX}environment")},
    }
