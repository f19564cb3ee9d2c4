"""An Azure of one workspace: a server that judges each request by Microsoft's OpenAPI and remembers what was made.

What the description does not say (states, references, traffic's sums, names' lengths) is our reading of Microsoft's
documentation: RULES. Started by ``python azure_place.py FOLDER``; writes its addresses into FOLDER/addresses.json. At
``/_order`` failures are ordered, at ``/_there`` everything that is there is told, whoever made it.
"""

from __future__ import annotations

import copy
import json
import re
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from azure_openapi import ROOT, faults_of_answer, faults_of_request, find

TOKEN = "a token of the managed identity"  # noqa: S105  (of a test)
SECRET_HEADER = "the header of the managed identity"  # noqa: S105  (of a test)
_LONG = re.compile(r".*/onlineEndpoints/[^/]+(/deployments/[^/]+)?", re.IGNORECASE)
_COLLECTIONS = ("models", "environments", "onlineEndpoints", "deployments", "versions", "datastores", "jobs",
                "autoscalesettings", "metricAlerts")  # fmt: skip


#: What the role that our guide hands out allows: nothing else is.
ROLE = json.loads((ROOT / "docs/howto/policies/azureml-deployer.json").read_text())
ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"


def actions_of(verb: str, path: str, body: Any) -> list[str]:
    """What somebody must be allowed to do who sends a request, as Azure's roles call it."""
    provider, *parts = path.rstrip("/").rpartition("/providers/")[2].split("/")
    said = {"GET": "read", "PUT": "write", "DELETE": "delete", "POST": "action"}[verb]
    own = "/".join([provider, *parts[::2], said])
    identity = ((body or {}).get("identity") or {}).get("userAssignedIdentities")
    theirs = (((body or {}).get("properties") or {}).get("identity") or {}).get("resourceId")
    return [own, ASSIGN] if identity or theirs else [own]


class Refusal(Exception):  # noqa: N818  (it is an answer)
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.body = status, {"error": {"code": code, "message": message}}


class Place:
    """What is there, by its path in small letters; changes take effect after some questions how far they have come."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.made: dict[str, dict[str, Any]] = {}
        #: path → [questions left, what it becomes, the state it ends in]
        self.going: dict[str, list[Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []
        self.actions: set[str] = set()
        #: What is ordered: polls a change takes; ends: "failed" or "rolled back" for the next; refusals: [...]
        self.orders: dict[str, Any] = {"polls": 1, "ends": None, "refusals": [], "page": 100, "without": []}

    def put(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any], str | None]:
        key = path.lower()
        self.obey(key, body)
        new = key not in self.made
        one = copy.deepcopy(body) | {"id": path, "name": path.rpartition("/")[2], "type": _type(path)}
        if new and (match := re.fullmatch(r"(.*/(?:models|environments)/[^/]+)/versions/[^/]+", path, re.IGNORECASE)):
            self.made.setdefault(match[1].lower(), {
                "id": match[1], "name": match[1].rpartition("/")[2], "type": _type(match[1]), "properties": {},
            })  # fmt: skip
        if not new and re.fullmatch(r".*/(models|environments)/[^/]+/versions/[^/]+", key):
            for fixed in ("image", "inferenceConfig", "modelUri"):
                if self.made[key]["properties"].get(fixed) != one["properties"].get(fixed):
                    raise Refusal(409, "Conflict", f"{fixed} of a version cannot be changed: register another version.")
        if "/jobs/" in key:
            if not new:
                raise Refusal(409, "Conflict", "a job of this name is there")
            one["properties"]["status"] = "Running"
        if not _LONG.fullmatch(path):
            self.made[key] = one
            return (201 if new else 200), one, None
        if key in self.going:
            raise Refusal(409, "Conflict", "another operation is going on on this resource")
        before = self.made.get(key)
        one["properties"]["provisioningState"] = "Creating" if new else "Updating"
        if "/deployments/" not in key:
            one["properties"]["scoringUri"] = f"https://{one['name']}.westeurope.inference.ml.azure.com/score"
        self.made[key] = one
        ends, self.orders["ends"] = (self.orders["ends"], None) if self.due(key, body) else (None, self.orders["ends"])
        becomes = copy.deepcopy(before if ends == "rolled back" and before else one)
        becomes["properties"]["provisioningState"] = "Failed" if ends == "failed" else "Succeeded"
        operation = f"{len(self.operations)}"
        self.operations[operation] = {"status": "InProgress"}
        error = {"code": "ContainerCrashed", "message": "the container ended with code 1"} if ends == "failed" else None
        self.going[key] = [self.orders["polls"], becomes, operation, error]
        return (201 if new else 200), one, operation

    def due(self, key: str, body: dict[str, Any]) -> bool:
        """Failures are of deployments, silent roll-backs of traffic."""
        if self.orders["ends"] == "failed":
            return "/deployments/" in key
        return self.orders["ends"] == "rolled back" and bool(body["properties"].get("traffic"))

    def obey(self, key: str, body: dict[str, Any]) -> None:  # noqa: C901, PLR0912  (a list of cases)
        """RULES: what Microsoft says in prose."""
        properties = body["properties"]
        if re.fullmatch(r".*/onlineendpoints/[^/]+", key):
            traffic, mirror = properties.get("traffic") or {}, properties.get("mirrorTraffic") or {}
            if traffic and sum(traffic.values()) not in (0, 100):
                raise Refusal(400, "BadRequest", f"traffic sums to {sum(traffic.values())}, not 100")
            if sum(mirror.values()) > 50 or len(mirror) > 1 or set(mirror) & {n for n, s in traffic.items() if s}:
                raise Refusal(400, "BadRequest", f"mirrorTraffic {mirror}: one deployment, 50 % at most, not live")
            for name in [*traffic, *mirror]:
                one = self.made.get(f"{key}/deployments/{name.lower()}")
                if one is None or one["properties"]["provisioningState"] != "Succeeded":
                    raise Refusal(400, "BadRequest", f"deployment {name} of the traffic is not ready")
        if match := re.fullmatch(r"(.*/onlineendpoints/[^/]+)/deployments/([^/]+)", key):
            if self.made.get(match[1], {}).get("properties", {}).get("provisioningState") != "Succeeded":
                raise Refusal(404, "ResourceNotFound", f"The endpoint {match[1]} was not found or is not ready.")
            if not re.fullmatch(r"[a-z][a-z0-9-]{2,31}", match[2]):
                raise Refusal(400, "BadArgument", f"{match[2]} is no name of a deployment: 3-32 characters")
            for what in ("model", "environmentId"):
                if properties[what].lower() not in self.made:
                    raise Refusal(400, "BadRequest", f"{what} {properties[what]} is not there")
            now = self.made.get(key)
            if now and now["properties"]["instanceType"] != properties["instanceType"]:
                raise Refusal(400, "BadRequest", "instanceType cannot be changed")
        elif "/onlineendpoints/" in key and not re.fullmatch(r"[a-z][a-z0-9-]{1,30}[a-z0-9]", key.rpartition("/")[2]):
            raise Refusal(400, "BadArgument", "an endpoint's name has 3-32 characters")
        if "modelUri" in properties and not re.match(
            r"azureml://subscriptions/.+/datastores/.+", properties["modelUri"]
        ):
            raise Refusal(400, "ValidationError", f"{properties['modelUri']} is no datastore's")
        if "targetResourceUri" in properties and properties["targetResourceUri"].lower() not in self.made:
            raise Refusal(404, "ResourceNotFound", "the target of the autoscale setting is not there")

    def delete(self, path: str) -> tuple[int, str | None]:
        key = path.lower()
        if key not in self.made:
            return 204, None
        if key in self.going:
            raise Refusal(409, "Conflict", "another operation is going on on this resource")
        if match := re.fullmatch(r"(.*/onlineendpoints/[^/]+)/deployments/([^/]+)", key):
            properties = self.made[match[1]]["properties"]
            if {**(properties.get("traffic") or {}), **(properties.get("mirrorTraffic") or {})}.get(match[2]):
                raise Refusal(400, "BadRequest", f"deployment {match[2]} has traffic: set it to 0 first")
        versions = [one for one in self.made if one.startswith(key + "/")]
        if versions and re.fullmatch(r".*/(models|environments)/[^/]+", key):
            raise Refusal(409, "Conflict", "the container has versions")
        deployed = [one for name, one in self.made.items() if "/deployments/" in name]
        parts = ("model", "environmentId")
        users = [one["name"] for one in deployed if key in {one["properties"][part].lower() for part in parts}]
        if users:
            raise Refusal(409, "Conflict", f"{path} is used by {users}")
        if not _LONG.fullmatch(path):
            del self.made[key]
            return 200, None
        self.made[key]["properties"]["provisioningState"] = "Deleting"
        operation = f"{len(self.operations)}"
        self.operations[operation] = {"status": "InProgress"}
        self.going[key] = [self.orders["polls"], None, operation, None]
        return 202, operation

    def tick(self, key: str) -> None:
        """A question how far a change has come: it comes further."""
        if key in self.going:
            self.going[key][0] -= 1
            if self.going[key][0] < 0:
                _, becomes, operation, error = self.going.pop(key)
                if becomes is None:
                    for name in [one for one in self.made if one == key or one.startswith(key + "/")]:
                        del self.made[name]
                else:
                    self.made[key] = becomes
                self.operations[operation] = {"status": "Failed", "error": error} if error else {"status": "Succeeded"}


def _type(path: str) -> str:
    provider, *parts = path.rpartition("/providers/")[2].split("/")
    return "/".join([provider, *parts[::2]])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    place: Place

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(6, 1, 1)  # TCP_NODELAY

    def log_message(self, *_: object) -> None:
        pass

    def handle_any(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(size)
        parts = urlsplit(self.path)
        with self.place.lock:
            try:
                status, body, headers = self.answer(parts.path, dict(parse_qsl(parts.query)), raw)
            except Refusal as refusal:
                status, body, headers = refusal.status, refusal.body, {}
        data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = handle_any  # noqa: N815  (http.server's names)

    def answer(self, path: str, query: dict[str, str], raw: bytes) -> tuple[int, Any, dict[str, str]]:  # noqa: C901, PLR0911, PLR0912  (a list of cases)
        place = self.place
        if path == "/_order":
            place.orders |= json.loads(raw)
            return 200, {}, {}
        if path == "/_put":  # somebody's hand
            for key, one in json.loads(raw).items():
                place.made[key.lower()] = one
            return 200, {}, {}
        if path == "/_there":
            return 200, {"made": place.made, "log": place.log, "actions": sorted(place.actions)}, {}
        if path == "/_clear":
            place.__init__()  # type: ignore[misc]
            return 200, {}, {}
        if path == "/msi/token":
            if self.headers.get("X-IDENTITY-HEADER") != SECRET_HEADER:
                return 401, {"error": {"message": "who are you"}}, {}
            until = str(int(time.time()) + 3600)
            return (
                200,
                {"access_token": TOKEN, "expires_on": until, "resource": query["resource"], "token_type": "Bearer"},
                {},
            )
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refusal(401, "AuthenticationFailed", "the token is missing or not ours")
        for refusal in place.orders["refusals"]:
            if refusal["verb"] == self.command and re.search(refusal["path"], path) and refusal["times"] > 0:
                refusal["times"] -= 1
                return refusal["status"], refusal["body"], refusal.get("headers", {})
        if path.startswith("/operations/"):
            number = path.rpartition("/")[2]
            for key in [one for one, going in place.going.items() if going[2] == number]:
                place.tick(key)
            return 200, place.operations[number], {}
        if page := re.fullmatch(r"/pages/(\d+)(/.+)", path):  # a link of ours, as opaque as Azure's
            return *self.act(page[2], query, None, start=int(page[1]))[:2], {}
        body = json.loads(raw) if raw else None
        faults = faults_of_request(self.command, path, query, body)
        operation = find(self.command, path, query.get("api-version"))
        place.log.append(f"{self.command} {operation.id if operation else path}")
        if faults or operation is None:
            raise Refusal(400, "StrictlyRefused", "; ".join(faults))
        granted = {one.lower() for one in ROLE["Actions"] if one not in place.orders["without"]}
        for action in actions_of(self.command, path, body):
            place.actions.add(action.lower())
            if action.lower() not in granted:
                said = "does not have authorization to perform action"
                raise Refusal(403, "AuthorizationFailed", f"The client 'me' {said} '{action}' over scope '{path}'.")
        status, found, headers = self.act(path, query, body)
        wrong = faults_of_answer(operation, status, found)
        if wrong:
            raise Refusal(500, "OurServerIsWrong", f"{operation.id}: {'; '.join(wrong)}")
        return status, found, headers

    def act(self, path: str, query: dict[str, str], body: Any, start: int = 0) -> tuple[int, Any, dict[str, str]]:
        place, key = self.place, path.lower().rstrip("/")
        base = f"{'https' if isinstance(self.connection, ssl.SSLSocket) else 'http'}://{self.headers['Host']}"
        if self.command == "PUT":
            status, found, operation = place.put(path, body)
            return status, found, {"Azure-AsyncOperation": f"{base}/operations/{operation}"} if operation else {}
        if self.command == "DELETE":
            status, operation = place.delete(path)
            return status, None, {"Location": f"{base}/operations/{operation}"} if operation else {}
        if self.command == "POST" and key.endswith("/cancel"):
            place.made[key.removesuffix("/cancel")]["properties"]["status"] = "Canceled"
            return 200, None, {}
        if self.command == "POST":
            return 200, {"content": "Traceback\nno package at the model's folder"}, {}
        place.tick(key)
        if key.rpartition("/")[2] not in [name.lower() for name in _COLLECTIONS]:
            if key not in place.made:
                raise Refusal(404, "ResourceNotFound", f"The Resource '{path}' was not found.")
            return 200, place.made[key], {}
        for name in list(place.going):
            if name.rpartition("/")[0] == key:
                place.tick(name)
        every = [one for name, one in sorted(place.made.items()) if name.rpartition("/")[0] == key]
        size = 100 if key.endswith("metricalerts") else place.orders["page"]  # alerts have no pages
        answer: dict[str, Any] = {"value": every[start : start + size]}
        if start + size < len(every):
            answer["nextLink"] = f"{base}/pages/{start + size}{path}?api-version={query['api-version']}"
        return 200, answer, {}


def main(folder: Path) -> None:
    Handler.place = Place()
    plain = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ports = {"http": f"http://127.0.0.1:{plain.server_port}"}
    if (folder / "key.pem").exists():
        safe = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        safe.socket = context.wrap_socket(safe.socket, server_side=True)
        threading.Thread(target=safe.serve_forever, daemon=True).start()
        ports["https"] = f"https://localhost:{safe.server_port}"
    draft = folder / "addresses.draft"
    draft.write_text(json.dumps(ports))
    draft.rename(folder / "addresses.json")
    plain.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
