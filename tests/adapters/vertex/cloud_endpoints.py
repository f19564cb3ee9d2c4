"""Endpoints, jobs and alert policies of the server of googling.py, with Google's rules that stand in prose."""

from __future__ import annotations

import re
from typing import Any

from cloud_rules import EMPTY, NOW, TYPE, check_labels, demand


class Endpoints:
    """Part of Cloud."""

    endpoints: dict[str, dict[str, Any]]
    jobs: dict[str, dict[str, Any]]
    policies: dict[str, dict[str, Any]]
    models: dict[str, list[dict[str, Any]]]
    number: Any
    begin: Any
    _version: Any

    def _endpoint(self, names: list[str]) -> dict[str, Any]:
        demand(names[2] in self.endpoints, f"endpoint {names[2]} is not found", 404)
        return self.endpoints[names[2]]

    def _split(self, endpoint: dict[str, Any], split: dict[str, int], new: str = "") -> dict[str, int]:
        found = {(new if key == "0" and new else key): share for key, share in split.items()}
        known = {one["id"] for one in endpoint["deployedModels"]} | {new}
        demand(not found or sum(found.values()) == 100, f"trafficSplit {split} must add up to 100")
        demand(set(found) <= known, f"trafficSplit names what is not deployed: {set(found) - known}")
        demand(all(share >= 0 for share in found.values()), "a share below 0")
        return found

    def do_endpoints_create(self, names: list[str], query: dict[str, str], body: dict[str, Any]) -> Any:
        place = query.get("endpointId") or self.number()
        demand(re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}", place), f"endpointId {place!r}")
        demand(body.get("displayName"), "displayName is required")
        demand(place not in self.endpoints, f"endpoint {place} exists already", 409)
        check_labels(body.get("labels", {}))
        name = "projects/{}/locations/{}/endpoints/{}".format(*names, place)

        def then() -> dict[str, Any]:
            demand(place not in self.endpoints, f"endpoint {place} exists already", 409)
            beside = {"name": name, "deployedModels": [], "etag": self.number(), "createTime": NOW}
            dns = {"dedicatedEndpointDns": f"{place}.prediction.vertexai.goog"}
            self.endpoints[place] = body | beside | (dns if body.get("dedicatedEndpointEnabled") else {})
            return {"@type": f"{TYPE}Endpoint", "name": name}

        return self.begin("endpoints.create", name, then)

    def do_endpoints_get(self, names: list[str], _query: dict[str, str], _: Any) -> Any:
        return self._endpoint(names)

    def do_endpoints_patch(self, names: list[str], query: dict[str, str], body: dict[str, Any]) -> Any:
        found = self._endpoint(names)
        mask = [field for field in query.get("updateMask", "").split(",") if field]
        demand(mask, "updateMask is required")
        allowed = {"displayName", "labels", "description", "trafficSplit", "predictRequestResponseLoggingConfig"}
        demand(set(mask) <= allowed, f"updateMask {mask}: endpoints.patch changes {sorted(allowed)}")
        demand(body.get("etag", found["etag"]) == found["etag"], "the etag is not the endpoint's", 409)
        check_labels(body.get("labels", {}))
        for field in mask:
            value = body.get(field)
            if field == "trafficSplit":
                value = self._split(found, value or {})
            if value:
                found[field] = value
            else:
                found.pop(field, None)
        found["etag"] = self.number()
        return found

    def do_endpoints_update(self, names: list[str], _query: dict[str, str], body: dict[str, Any]) -> Any:
        found, wanted = self._endpoint(names), body.get("endpoint", {})
        demand(
            set(wanted) <= {"name", "clientConnectionConfig"}, "endpoints.update changes clientConnectionConfig only"
        )

        def then() -> dict[str, Any]:
            found["clientConnectionConfig"] = wanted["clientConnectionConfig"]
            found["etag"] = self.number()
            return {"@type": f"{TYPE}Endpoint", "name": found["name"]}

        return self.begin("endpoints.update", found["name"], then)

    def _machines(self, machines: dict[str, Any]) -> None:
        least = machines.get("minReplicaCount", 0)
        demand(least >= 1, "minReplicaCount must be 1 or more")
        demand(machines.get("maxReplicaCount", least) >= least, "maxReplicaCount is below minReplicaCount")
        names = [one.get("metricName", "") for one in machines.get("autoscalingMetricSpecs", [])]
        known = "aiplatform.googleapis.com/prediction/online/"
        demand(all(name.startswith(known) for name in names), f"metricName {names}")
        demand(len(set(names)) == len(names), "a metric twice")

    def do_endpoints_deployModel(self, names: list[str], _query: dict[str, str], body: dict[str, Any]) -> Any:  # noqa: N802
        found, wanted = self._endpoint(names), body.get("deployedModel", {})
        number = wanted.get("id") or self.number()
        demand(re.fullmatch(r"[0-9]{1,10}", number), f"deployedModel.id {number!r}: 1 to 10 digits")
        version = self._version(wanted.get("model", "").rpartition("/")[2])
        machines = wanted.get("dedicatedResources", {})
        demand(machines.get("machineSpec", {}).get("machineType"), "machineSpec.machineType is required")
        self._machines(machines)
        taken = f"deployed model {number} exists already"
        demand(number not in [one["id"] for one in found["deployedModels"]], taken, 409)
        self._split(found, body.get("trafficSplit", {}), number)

        def then() -> dict[str, Any]:
            demand(number not in [one["id"] for one in found["deployedModels"]], taken, 409)
            model = version["name"]
            beside = {"id": number, "model": model, "modelVersionId": version["versionId"], "createTime": NOW}
            found["deployedModels"].append({"displayName": version["displayName"]} | wanted | beside)
            if body.get("trafficSplit"):
                found["trafficSplit"] = self._split(found, body["trafficSplit"], number)
            found["etag"] = self.number()
            return {"@type": f"{TYPE}DeployModelResponse", "deployedModel": {"id": number, "model": model}}

        return self.begin("endpoints.deployModel", found["name"], then)

    def _deployed(self, found: dict[str, Any], number: str) -> dict[str, Any]:
        mine = [one for one in found["deployedModels"] if one["id"] == number]
        demand(mine, f"deployed model {number} is not found", 404)
        return mine[0]

    def do_endpoints_mutateDeployedModel(self, names: list[str], _query: Any, body: dict[str, Any]) -> Any:  # noqa: N802
        found, wanted = self._endpoint(names), body.get("deployedModel", {})
        one = self._deployed(found, wanted.get("id", ""))
        fields = [field.partition(".")[2] for field in body.get("updateMask", "").split(",") if field]
        allowed = {"minReplicaCount", "maxReplicaCount", "requiredReplicaCount", "autoscalingMetricSpecs"}
        demand(fields and set(fields) <= allowed, f"updateMask {fields}: these can be changed: {sorted(allowed)}")
        machines = wanted.get("dedicatedResources", {})
        changed = one["dedicatedResources"] | {field: machines[field] for field in fields}
        self._machines(changed)

        def then() -> dict[str, Any]:
            one["dedicatedResources"] = changed
            response = {"id": one["id"], "model": one["model"]}
            return {"@type": f"{TYPE}MutateDeployedModelResponse", "deployedModel": response}

        return self.begin("endpoints.mutateDeployedModel", found["name"], then)

    def do_endpoints_undeployModel(self, names: list[str], _query: Any, body: dict[str, Any]) -> Any:  # noqa: N802
        found, number = self._endpoint(names), body.get("deployedModelId", "")
        self._deployed(found, number)
        split = body.get("trafficSplit") or found.get("trafficSplit", {})
        last = len(found["deployedModels"]) == 1
        demand(last or not split.get(number), f"deployed model {number} has traffic: take it away first")

        def then() -> dict[str, Any]:
            found["deployedModels"] = [one for one in found["deployedModels"] if one["id"] != number]
            found["trafficSplit"] = {} if last else {key: share for key, share in split.items() if key != number}
            found["etag"] = self.number()
            return {"@type": f"{TYPE}UndeployModelResponse"}

        return self.begin("endpoints.undeployModel", found["name"], then)

    def do_endpoints_delete(self, names: list[str], _query: dict[str, str], _: Any) -> Any:
        found = self._endpoint(names)
        demand(not found["deployedModels"], "models are deployed on the endpoint: undeploy them first")

        def then() -> dict[str, Any]:
            self.endpoints.pop(names[2], None)
            return EMPTY

        return self.begin("endpoints.delete", found["name"], then)

    # --- jobs

    def do_customJobs_create(self, names: list[str], _query: dict[str, str], body: dict[str, Any]) -> Any:  # noqa: N802
        spec = body.get("jobSpec", {})
        pools = spec.get("workerPoolSpecs", [])
        demand(body.get("displayName") and pools, "displayName and jobSpec.workerPoolSpecs are required")
        for pool in pools:
            demand(pool.get("containerSpec", {}).get("imageUri"), "containerSpec.imageUri is required")
            demand(pool.get("machineSpec", {}).get("machineType"), "machineSpec.machineType is required")
        check_labels(body.get("labels", {}))
        name = "projects/{}/locations/{}/customJobs/{}".format(*names, self.number())
        self.jobs[name.rpartition("/")[2]] = body | {"name": name, "state": "JOB_STATE_PENDING", "createTime": NOW}
        return self.jobs[name.rpartition("/")[2]]

    def do_customJobs_list(self, _names: list[str], query: dict[str, str], _: Any) -> Any:  # noqa: N802
        wanted = re.fullmatch(r"labels\.([a-z0-9_-]+)=([a-z0-9_-]+)", query.get("filter", ""))
        demand(wanted, f"filter {query.get('filter')!r}")
        assert wanted is not None
        return {"customJobs": [one for one in self.jobs.values() if one["labels"].get(wanted[1]) == wanted[2]]}

    def do_customJobs_cancel(self, names: list[str], _query: dict[str, str], _: Any) -> Any:  # noqa: N802
        demand(names[2] in self.jobs, f"{names[2]} is not found", 404)
        demand(self.jobs[names[2]]["state"] in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"), "the job has ended")
        self.jobs[names[2]]["state"] = "JOB_STATE_CANCELLED"
        return {}

    # --- alert policies

    def _policy(self, body: dict[str, Any]) -> None:
        demand(body.get("displayName"), "displayName is required")
        demand(body.get("combiner") and body.get("conditions"), "combiner and conditions are required")
        check_labels(body.get("userLabels", {}))
        for one in body["conditions"]:
            threshold = one["conditionThreshold"]
            demand(threshold.get("comparison") in ("COMPARISON_GT", "COMPARISON_LT"), "only GT and LT are supported")
            demand("metric.type" in threshold.get("filter", ""), "the filter must name a metric")
            demand(int(threshold.get("duration", "1s")[:-1]) % 60 == 0, "duration must be a multiple of a minute")
            for aggregation in threshold.get("aggregations", []):
                demand(int(aggregation.get("alignmentPeriod", "0s")[:-1]) >= 60, "alignmentPeriod: 60s or more")

    def do_alertPolicies_create(self, names: list[str], _query: dict[str, str], body: dict[str, Any]) -> Any:  # noqa: N802
        self._policy(body)
        demand("name" not in body, "name is given by Monitoring")
        number = self.number()
        self.policies[number] = body | {"name": f"projects/{names[0]}/alertPolicies/{number}", "enabled": True}
        return self.policies[number]

    def do_alertPolicies_list(self, _names: list[str], query: dict[str, str], _: Any) -> Any:  # noqa: N802
        wanted = re.findall(r'user_labels\.([a-z_-]+)="([^"]*)"', query.get("filter", ""))
        demand(wanted, f"filter {query.get('filter')!r}")
        found = [
            one for one in self.policies.values() if all(one["userLabels"].get(key) == value for key, value in wanted)
        ]
        return {"alertPolicies": found}

    def do_alertPolicies_patch(self, names: list[str], query: dict[str, str], body: dict[str, Any]) -> Any:  # noqa: N802
        demand(names[1] in self.policies, f"{names[1]} is not found", 404)
        self._policy(body)
        mask = query.get("updateMask", "").split(",")
        self.policies[names[1]] |= {field: body[field] for field in mask if field in body}
        return self.policies[names[1]]

    def do_alertPolicies_delete(self, names: list[str], _query: dict[str, str], _: Any) -> Any:  # noqa: N802
        demand(self.policies.pop(names[1], None), f"{names[1]} is not found", 404)
        return {}
