"""A server for kubectl, of ours: it is no Kubernetes.

It speaks discovery, get by labels, server-side apply by one manager, and delete, over HTTP; every body is checked
against the official schemas (kubernetes-validate's, strictly; KServe's own fields as its package has them, see
kserve_fields), every request against the Role of docs/howto. A roll-out ends at the third look at it, well or as was
ordered. What it does not show: admission, scheduling, pods, probes, and who anybody is.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kserve_fields
import kubernetes_validate
import yaml

KINDS = {
    "pods": ("", "v1", "Pod"),
    "deployments": ("apps", "v1", "Deployment"),
    "services": ("", "v1", "Service"),
    "horizontalpodautoscalers": ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    "inferenceservices": ("serving.kserve.io", "v1beta1", "InferenceService"),
}
VERSION = kserve_fields.VERSION
ROLE_FILE = Path(__file__).parents[3] / "docs/howto/policies/kubernetes-deployer.yaml"
ROLE, BINDING = yaml.safe_load_all(ROLE_FILE.read_text())
PATH = re.compile(
    r"/apis?/(?P<version>.+)/namespaces/(?P<namespace>[^/]+)/(?P<kind>\w+)(?:/(?P<name>[^/]+))?(?P<log>/log)?"
)


def check(body: dict[str, Any]) -> None:
    """Raise an error for a manifest that the official schema refuses."""
    if body["kind"] == "InferenceService":
        kserve_fields.check(body)
    else:
        kubernetes_validate.validate(body, VERSION, strict=True)


class Place(ThreadingHTTPServer):
    """What is there: (kind, name) → object."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        #: By which it is addressed: "localhost" is another cluster to whoever goes by addresses.
        self.host = "127.0.0.1"
        self.fails = False
        #: Is KServe installed?
        self.kserve = True
        #: What pods wrote, by their names.
        self.logs: dict[str, list[str]] = {}
        self.count = 0
        #: What the Role allows, (group, kind's name, verb), and what of it was asked for.
        self.allowed = {
            (group, plural, verb)
            for rule in ROLE["rules"]
            for group in rule["apiGroups"]
            for plural in rule["resources"]
            for verb in rule["verbs"]
        }
        self.used: set[tuple[str, str, str]] = set()
        self.requests: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.server_port}"

    def kubeconfig(self) -> dict[str, Any]:
        """By which kubectl finds it."""
        context = {"cluster": "here", "user": "nobody"}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "here", "context": context}],
            "current-context": "here",
        }

    def pod(self) -> dict[str, Any]:
        """The pod of what is in service, as whoever makes pods of it would make it; reached by the Service."""
        workload = next(one for (kind, _), one in self.objects.items() if kind in ("Deployment", "InferenceService"))
        if workload["kind"] == "InferenceService":
            spec: dict[str, Any] = workload["spec"]["predictor"]
            return spec
        template = workload["spec"]["template"]
        (service,) = [one["spec"] for (kind, _), one in self.objects.items() if kind == "Service"]
        assert service["selector"].items() <= template["metadata"]["labels"].items()
        (port,) = template["spec"]["containers"][0]["ports"]
        assert service["ports"][0]["targetPort"] == port["name"]
        found: dict[str, Any] = template["spec"]
        return found

    def put(self, kind: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """One manager owns all: what it leaves out goes, what others added (status) stays."""
        old = self.objects.get((kind, name))
        self.count += 1
        metadata = body["metadata"] | {"resourceVersion": str(self.count), "uid": name, "generation": 1}
        made = body | {"metadata": metadata}
        made["spec"] = {"addedByTheCluster": True} | body["spec"]
        if old is not None:
            made["status"] = old.get("status", {})
            metadata["generation"] = old["metadata"]["generation"] + (old["spec"] != made["spec"])
            if kind == "InferenceService":
                metadata["generation"] = old["metadata"]["generation"] + 1
        rolls = kind in ("Deployment", "InferenceService")
        if rolls and (old is None or old["metadata"]["generation"] != metadata["generation"]):
            made["status"] = {"observedGeneration": metadata["generation"], "looks": 0, "fails": self.fails}
            self.fails = False
        self.objects[kind, name] = made
        return made

    def look(self, one: dict[str, Any]) -> dict[str, Any]:
        """The roll-out goes on by a step with each look."""
        status = one.get("status")
        if status is not None and "looks" in status:
            status["looks"] += 1
            if status["looks"] >= 3 and one["kind"] == "InferenceService":
                failed = {"lastFailureInfo": {"message": "as you ordered"}}
                status |= (
                    {"modelStatus": failed}
                    if status["fails"]
                    else {"conditions": [{"type": "Ready", "status": "True"}]}
                )
            elif status["looks"] >= 3:
                reason = "ProgressDeadlineExceeded" if status["fails"] else "NewReplicaSetAvailable"
                status["conditions"] = [{"type": "Progressing", "reason": reason, "message": "as you ordered"}]
                if not status["fails"]:
                    count = one["spec"].get("replicas", 1)
                    status |= dict.fromkeys(("updatedReplicas", "replicas", "availableReplicas"), count)
        return one


@contextmanager
def running() -> Iterator[Place]:
    """A server, until the block ends."""
    made = Place()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Place

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        query = {key: value[0] for key, value in parse_qs(path.query).items()}
        self.server.requests.append(f"GET {path.path}")
        found = PATH.fullmatch(path.path)
        if found is None:
            self.answer(*discovered(path.path, kserve=self.server.kserve))
            return
        kind = KINDS[found["kind"]][2]
        if found["log"]:
            if self.may(found, "get", "/log"):
                lines = self.server.logs[found["name"]][-int(query["tailLines"]) :]
                self.write("".join(f"{line}\n" for line in lines).encode(), "text/plain")
            return
        if not self.may(found, "get" if found["name"] else "watch" if "watch" in query else "list"):
            return
        if found["name"] is not None:
            one = self.server.objects.get((kind, found["name"]))
            self.answer(*((200, self.server.look(one)) if one else missing(found["kind"], found["name"])))
            return
        wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
        items = [
            self.server.look(one)
            for (of, _), one in self.server.objects.items()
            if of == kind and wanted.items() <= one["metadata"].get("labels", {}).items()
        ]
        self.answer(
            200,
            {
                "apiVersion": "v1" if kind == "Service" else found["version"],
                "kind": f"{kind}List",
                "items": items,
                "metadata": {},
            },
        )

    def do_PATCH(self) -> None:
        path = urlsplit(self.path)
        query = parse_qs(path.query)
        self.server.requests.append(f"PATCH {path.path}")
        found = PATH.fullmatch(path.path)
        assert found is not None
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Content-Type"] != "application/apply-patch+yaml" or query["fieldManager"] != ["passerelle"]:
            self.answer(400, status(400, "BadRequest", "server-side apply by passerelle is wanted"))
            return
        try:
            check(body)
        except Exception as error:  # noqa: BLE001
            self.answer(422, status(422, "Invalid", str(error)[:500]))
            return
        assert found["name"] == body["metadata"]["name"]
        if not self.may(found, "patch"):
            return
        # Who applies what is not there yet creates it.
        if (body["kind"], found["name"]) not in self.server.objects and not self.may(found, "create"):
            return
        self.answer(200, self.server.put(body["kind"], found["name"], body))

    def do_DELETE(self) -> None:
        found = PATH.fullmatch(urlsplit(self.path).path)
        assert found is not None
        self.server.requests.append(f"DELETE {self.path}")
        if not self.may(found, "delete"):
            return
        gone = self.server.objects.pop((KINDS[found["kind"]][2], found["name"]), None)
        self.answer(*((200, status(200, "Success", "")) if gone else missing(found["kind"], found["name"])))

    def may(self, found: re.Match[str], verb: str, part: str = "") -> bool:
        """Does the Role allow it? If not, that is said as Kubernetes says it."""
        plural, group = found["kind"] + part, KINDS[found["kind"]][0]
        self.server.used.add((group, plural, verb))
        if (group, plural, verb) in self.server.allowed:
            return True
        said = f'{plural}.{group} is forbidden: User "ci" cannot {verb} resource "{plural}" in API group "{group}" '
        self.answer(403, status(403, "Forbidden", f'{said}in the namespace "{found["namespace"]}"'))
        return False

    def answer(self, code: int, body: dict[str, Any]) -> None:
        self.write(json.dumps(body).encode(), "application/json", code)

    def write(self, data: bytes, kind: str, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def missing(kind: str, name: str) -> tuple[int, dict[str, Any]]:
    return 404, status(404, "NotFound", f'{kind} "{name}" not found')


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    said = "Success" if code == 200 else "Failure"
    return {"apiVersion": "v1", "kind": "Status", "status": said, "code": code, "reason": reason, "message": message}


def discovered(path: str, *, kserve: bool) -> tuple[int, dict[str, Any]]:
    """What there is, as kubectl asks for it before anything else."""
    there = {plural: one for plural, one in KINDS.items() if kserve or one[0] != "serving.kserve.io"}
    groups = [
        {
            "name": group,
            "versions": [{"groupVersion": f"{group}/{version}", "version": version}],
            "preferredVersion": {"groupVersion": f"{group}/{version}", "version": version},
        }
        for group, version, _ in there.values()
        if group
    ]
    if path == "/api":
        return 200, {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    verbs = ["get", "list", "patch", "delete", "create", "watch"]
    resources = [
        {"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
        for plural, (group, version, kind) in there.items()
        if path == (f"/apis/{group}/{version}" if group else f"/api/{version}")
    ]
    if not resources:
        return missing("path", path)
    of = path.removeprefix("/apis/").removeprefix("/api/")
    return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": of, "resources": resources}
