"""What the server of googling.py keeps, and Google's rules that stand in prose only."""

from __future__ import annotations

import copy
import re
from typing import Any

from cloud_endpoints import Endpoints
from cloud_rules import EMPTY, NOW, TYPE, RefusalError, check_labels, demand


class Cloud(Endpoints):
    """All that is there."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.models: dict[str, list[dict[str, Any]]] = {}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, bytes] = {}
        self.log: dict[str, list[dict[str, Any]]] = {"entries": []}
        self.calls: list[str] = []
        self.orders: dict[str, Any] = {}
        self.needs: dict[str, str] = {}
        self.granted: set[str] | None = None
        self.used: set[str] = set()
        self.numbers = 0

    def state(self) -> dict[str, Any]:
        return {
            "models": self.models,
            "endpoints": self.endpoints,
            "jobs": self.jobs,
            "policies": self.policies,
            "objects": {key: len(value) for key, value in self.objects.items()},
            "operations": [one["name"] for one in self.operations.values() if not one["done"]],
            "calls": self.calls,
            "used": sorted(self.used),
        }

    def order(self, orders: dict[str, Any]) -> None:
        """clear: forget all; set: [path, value] in what is there; else, for the next time that a method is called:

        refuse: {method: {status, message, times, ...}}, fail: {method: error of its operation}, lose: [methods whose
        answers are lost], ignore: [methods that change nothing and say that they did], hold: [methods whose operations
        are never done]. role: {needs: method → permission, granted: [permissions]}, from now on.
        """
        if orders.pop("clear", False):
            self.clear()
        for path, value in orders.pop("set", []):
            where: Any = {
                "endpoints": self.endpoints,
                "policies": self.policies,
                "jobs": self.jobs,
                "models": self.models,
                "log": self.log,
            }
            for name in path[:-1]:
                where = where[name]
            where[path[-1]] = value
        if role := orders.pop("role", None):
            self.needs, self.granted = role["needs"], set(role["granted"])
        self.orders = orders or self.orders

    def may(self, permission: str) -> bool:
        """Does the role grant it? Without a role everything is granted."""
        self.used.add(permission)
        return self.granted is None or permission in self.granted

    def call(self, method: str, names: list[str], query: dict[str, str], body: dict[str, Any]) -> Any:
        if method in self.needs and not self.may(self.needs[method]):
            raise RefusalError(403, "Permission denied", reason="IAM_PERMISSION_DENIED", permission=self.needs[method])
        refusals = self.orders.get("refuse", {})
        if method in refusals:
            one = dict(refusals[method])
            refusals[method]["times"] = one.pop("times", 1) - 1
            if not refusals[method]["times"]:
                del refusals[method]
            raise RefusalError(one.pop("status"), one.pop("message", "refused, as was ordered"), **one)
        kept = copy.deepcopy((self.models, self.endpoints, self.jobs, self.policies))
        act = getattr(self, "do_" + method.replace(".", "_"), None)
        demand(act, f"{method} is not kept by this server", 501)
        answer = act(names, query, body)
        if method in self.orders.get("ignore", []):
            self.orders["ignore"].remove(method)
            self.models, self.endpoints, self.jobs, self.policies = kept
        if method in self.orders.get("lose", []):
            self.orders["lose"].remove(method)
            return None
        return answer

    def number(self) -> str:
        self.numbers += 1
        return str(self.numbers)

    # --- operations: done when they are asked for

    def begin(self, method: str, parent: str, then: Any) -> dict[str, Any]:
        name = f"{parent}/operations/{self.number()}"
        failed = self.orders.get("fail", {}).pop(method, None)
        held = method in self.orders.get("hold", [])
        operation = {"name": name, "done": False, "asked": 0, "then": then, "failed": failed, "held": held}
        self.operations[name] = operation
        return self.shown(operation)

    def shown(self, one: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in one.items() if key in ("name", "done", "error", "response")}

    def do_operations_get(self, names: list[str], _query: dict[str, str], _: Any) -> Any:
        return self._poll("projects/{}/locations/{}/operations/{}".format(*names))

    def do_models_operations_get(self, names: list[str], _query: dict[str, str], _: Any) -> Any:
        return self._poll("projects/{}/locations/{}/models/{}/operations/{}".format(*names))

    def do_endpoints_operations_get(self, names: list[str], _query: dict[str, str], _: Any) -> Any:
        return self._poll("projects/{}/locations/{}/endpoints/{}/operations/{}".format(*names))

    def _poll(self, name: str) -> dict[str, Any]:
        demand(name in self.operations, f"{name} is not found", 404)
        one = self.operations[name]
        one["asked"] += 1
        if not one["done"] and not one["held"] and one["asked"] >= 1:
            one["done"] = True
            if one["failed"]:
                one["error"] = one["failed"]
            else:
                try:
                    one["response"] = one["then"]()
                except RefusalError as error:
                    one["error"] = {"code": 6 if error.status == 409 else 9, "message": str(error)}
        return self.shown(one)

    def _listed(self, kind: str, names: list[str]) -> dict[str, Any]:
        project, region, place = names
        start = f"projects/{project}/locations/{region}/{kind}/{place}/operations/"
        return {"operations": [self.shown(one) for name, one in self.operations.items() if name.startswith(start)]}

    def do_models_operations_list(self, names: list[str], _query: dict[str, str], _: Any) -> Any:
        return self._listed("models", names)

    def do_endpoints_operations_list(self, names: list[str], _query: dict[str, str], _: Any) -> Any:
        return self._listed("endpoints", names)

    # --- models

    def do_models_upload(self, names: list[str], _query: dict[str, str], body: dict[str, Any]) -> Any:
        parent = "projects/{}/locations/{}".format(*names)
        model = body.get("model", {})
        demand(model.get("displayName"), "model.displayName is required")
        container = model.get("containerSpec", {})
        demand(
            container.get("imageUri", "").startswith(f"{names[1]}-docker.pkg.dev/"), "the image is not of the region"
        )
        check_labels(model.get("labels", {}))
        for alias in model.get("versionAliases", []):
            demand(re.fullmatch(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]", alias), f"alias {alias!r}")
        for one in container.get("env", []):
            demand(not one["name"].startswith("AIP_"), f"{one['name']} is Vertex AI's")
        key = model.get("artifactUri", "").split("/", 3)[-1]
        demand(any(name.startswith(f"{key}/") for name in self.objects), f"nothing is at {model.get('artifactUri')}")
        place = body.get("modelId") or body.get("parentModel", "").rpartition("/")[2] or self.number()
        demand(re.fullmatch(r"[a-z_0-9][a-z0-9_-]{0,62}", place), f"modelId {place!r}")
        demand("parentModel" not in body or place in self.models, "parentModel is not found", 404)
        demand("parentModel" in body or place not in self.models, f"{place} exists already", 409)

        def then() -> dict[str, Any]:
            demand("parentModel" in body or place not in self.models, f"{place} exists already", 409)
            versions = self.models.setdefault(place, [])
            number = str(max((int(one["versionId"]) for one in versions), default=0) + 1)
            aliases = list(model.get("versionAliases", []))
            for one in versions:
                one["versionAliases"] = [alias for alias in one["versionAliases"] if alias not in aliases]
            if not versions and "default" not in aliases:
                aliases.append("default")
            name = f"{parent}/models/{place}"
            versions.append(model | {"name": name, "versionId": number, "versionAliases": aliases, "createTime": NOW})
            return {"@type": f"{TYPE}UploadModelResponse", "model": name, "modelVersionId": number}

        return self.begin("models.upload", f"{parent}/models/{place}", then)

    def _version(self, name: str) -> dict[str, Any]:
        place, _, wanted = name.partition("@")
        demand(self.models.get(place), f"model {place} is not found", 404)
        found = [
            one for one in self.models[place] if (wanted or "default") in (one["versionId"], *one["versionAliases"])
        ]
        demand(found, f"version {name} is not found", 404)
        return found[0]

    def do_models_get(self, names: list[str], _query: dict[str, str], _: Any) -> Any:
        return self._version(names[2])

    def do_models_listVersions(self, names: list[str], query: dict[str, str], _: Any) -> Any:  # noqa: N802
        demand(self.models.get(names[2]), f"model {names[2]} is not found", 404)
        start = int(query.get("pageToken") or 0)
        more = {"nextPageToken": str(start + 2)} if len(self.models[names[2]]) > start + 2 else {}
        return {"models": self.models[names[2]][start : start + 2]} | more

    def do_models_mergeVersionAliases(self, names: list[str], _query: dict[str, str], body: Any) -> Any:  # noqa: N802
        found = self._version(names[2])
        for alias in body["versionAliases"]:
            for one in self.models[names[2].partition("@")[0]]:
                one["versionAliases"] = [other for other in one["versionAliases"] if other != alias]
            found["versionAliases"].append(alias)
        return found

    def _used(self, place: str, number: str | None) -> bool:
        return any(
            one["model"].endswith(f"/models/{place}") and number in (None, one["modelVersionId"])
            for endpoint in self.endpoints.values()
            for one in endpoint["deployedModels"]
        )

    def do_models_deleteVersion(self, names: list[str], _query: dict[str, str], _: Any) -> Any:  # noqa: N802
        demand("@" in names[2], "a version is required")
        found, place = self._version(names[2]), names[2].partition("@")[0]
        demand(not self._used(place, found["versionId"]), "the version is deployed")
        demand(len(self.models[place]) > 1, "the only version of a model: delete the model")
        demand("default" not in found["versionAliases"], "the default version: give the alias to another first")

        def then() -> dict[str, Any]:
            if found in self.models.get(place, []):
                self.models[place].remove(found)
            return EMPTY

        return self.begin("models.deleteVersion", "projects/{}/locations/{}/models/{}".format(*names[:2], place), then)

    def do_models_delete(self, names: list[str], _query: dict[str, str], _: Any) -> Any:
        self._version(names[2])
        demand(not self._used(names[2], None), "the model is deployed")

        def then() -> dict[str, Any]:
            self.models.pop(names[2], None)
            return EMPTY

        return self.begin("models.delete", "projects/{}/locations/{}/models/{}".format(*names), then)

    # --- logging.v2: two to a page, the first one empty

    def do_entries_list(self, _names: list[str], _query: dict[str, str], body: dict[str, Any]) -> Any:
        demand(body.get("resourceNames"), "resource_names is required")
        demand(re.fullmatch(r"projects/[a-z0-9-]+", body["resourceNames"][0]), "resource_names[0]")
        demand(body.get("orderBy") in ("timestamp asc", "timestamp desc"), "order_by")
        wanted = re.fullmatch(r'resource\.type="([^"]+)" AND resource\.labels\.endpoint_id="([^"]+)"', body["filter"])
        demand(wanted, "the filter is not understood by this server")
        if "pageToken" not in body and self.log["entries"]:
            return {"nextPageToken": "0"}
        kind, place = wanted.groups()  # type: ignore[union-attr]
        found = [
            one
            for one in sorted(
                self.log["entries"], key=lambda one: one["timestamp"], reverse=body["orderBy"].endswith("desc")
            )
            if one["resource"] == {"type": kind, "labels": {"endpoint_id": place}}
        ]
        start = int(body.get("pageToken", 0))
        end = start + min(body["pageSize"], 2)
        return {"entries": found[start:end]} | ({"nextPageToken": str(end)} if end < len(found) else {})

    # --- storage.v1, of the same objects

    def do_storage_objects_list(self, names: list[str], query: dict[str, str], _: Any) -> Any:
        found = [name for name in sorted(self.objects) if name.startswith(query.get("prefix", ""))]
        items = [{"name": name, "bucket": names[0], "size": str(len(self.objects[name]))} for name in found]
        return {"kind": "storage#objects", "items": items}

    def do_storage_objects_get(self, names: list[str], query: dict[str, str], _: Any) -> Any:
        demand(names[1] in self.objects, f"{names[1]} is not found", 404)
        if query.get("alt") == "media":
            return self.objects[names[1]]
        return {"name": names[1], "bucket": names[0], "size": str(len(self.objects[names[1]]))}
