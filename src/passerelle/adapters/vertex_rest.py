"""Google's REST interfaces as Vertex AI targets use them: one call, its permission, its retries, its operations.

The calls are Vertex AI's v1, Cloud Monitoring's v3 and Cloud Logging's v2, as their discovery documents say; the tests
hold METHODS against those documents. Nothing here knows what a deployment is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import google.auth
import msgspec
import requests
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.auth.transport.requests import AuthorizedSession

from passerelle.adapters.backoff import backoff_s
from passerelle.deployment.policies import written
from passerelle.deployment.target import TargetError

#: Where to send requests instead of Google, for tests: an address of this machine, without credentials.
ADDRESS = "PASSERELLE_VERTEX_ADDRESS"
ROLE_FILE = "vertex-deployer.yaml"
_ROLE = written(ROLE_FILE)

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TRIES = 6
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 20.0
_REQUEST_TIMEOUT_S = 60
#: A first deployment on a machine that has to be found takes 5 to 30 minutes.
_OPERATION_TIMEOUT_S = 3600.0
_FIRST_POLL_S, _LONGEST_POLL_S = 0.01, 10.0
_CREATED, _NOT_FOUND, _CONFLICT, _TOO_MANY, _SERVER = 300, 404, 409, 429, 500
_FORBIDDEN, _UNAUTHENTICATED, _PRECONDITION = 403, 401, 412
#: google.rpc.Code, of operations that failed.
_CODES = {5: _NOT_FOUND, 6: _CONFLICT, 7: _FORBIDDEN, 8: _TOO_MANY, 10: _CONFLICT, 16: _UNAUTHENTICATED}


class Method(msgspec.Struct, frozen=True):
    """One method: the verb, the path with ``{}`` where the resource's name stands, the permission that it needs."""

    verb: str
    path: str
    permission: str
    #: May it be called again when no answer came? Not what begins an operation, or makes something that Google names.
    repeatable: bool = True


#: Id in the discovery document, without the service's name and "projects.locations." or "projects." → the method.
METHODS = {
    "models.upload": Method("POST", "v1/{}/models:upload", "aiplatform.models.upload", repeatable=False),
    "models.get": Method("GET", "v1/{}", "aiplatform.models.get"),
    "models.listVersions": Method("GET", "v1/{}:listVersions", "aiplatform.models.list"),
    "models.mergeVersionAliases": Method("POST", "v1/{}:mergeVersionAliases", "aiplatform.models.update"),
    "models.deleteVersion": Method("DELETE", "v1/{}:deleteVersion", "aiplatform.models.delete", repeatable=False),
    "models.delete": Method("DELETE", "v1/{}", "aiplatform.models.delete", repeatable=False),
    "models.operations.list": Method("GET", "v1/{}/operations", "aiplatform.operations.list"),
    "endpoints.create": Method("POST", "v1/{}/endpoints", "aiplatform.endpoints.create", repeatable=False),
    "endpoints.get": Method("GET", "v1/{}", "aiplatform.endpoints.get"),
    "endpoints.patch": Method("PATCH", "v1/{}", "aiplatform.endpoints.update"),
    "endpoints.update": Method("POST", "v1/{}:update", "aiplatform.endpoints.update", repeatable=False),
    "endpoints.deployModel": Method("POST", "v1/{}:deployModel", "aiplatform.endpoints.deploy", repeatable=False),
    "endpoints.mutateDeployedModel": Method(
        "POST", "v1/{}:mutateDeployedModel", "aiplatform.endpoints.deploy", repeatable=False
    ),
    "endpoints.undeployModel": Method("POST", "v1/{}:undeployModel", "aiplatform.endpoints.undeploy", repeatable=False),
    "endpoints.delete": Method("DELETE", "v1/{}", "aiplatform.endpoints.delete", repeatable=False),
    "endpoints.operations.list": Method("GET", "v1/{}/operations", "aiplatform.operations.list"),
    "models.operations.get": Method("GET", "v1/{}", "aiplatform.models.get"),
    "endpoints.operations.get": Method("GET", "v1/{}", "aiplatform.endpoints.get"),
    "customJobs.create": Method("POST", "v1/{}/customJobs", "aiplatform.customJobs.create", repeatable=False),
    "customJobs.list": Method("GET", "v1/{}/customJobs", "aiplatform.customJobs.list"),
    "customJobs.cancel": Method("POST", "v1/{}:cancel", "aiplatform.customJobs.cancel"),
    "alertPolicies.create": Method("POST", "v3/{}/alertPolicies", "monitoring.alertPolicies.create", repeatable=False),
    "alertPolicies.list": Method("GET", "v3/{}/alertPolicies", "monitoring.alertPolicies.list"),
    "alertPolicies.patch": Method("PATCH", "v3/{}", "monitoring.alertPolicies.update"),
    "alertPolicies.delete": Method("DELETE", "v3/{}", "monitoring.alertPolicies.delete"),
    "entries.list": Method("POST", "v2/entries:list", "logging.logEntries.list"),
}


class MissingError(TargetError):
    """There is no such thing at Google's."""


class ConflictError(TargetError):
    """It is there already, or was changed in between."""


class UnansweredError(TargetError):
    """The answer was lost: it may have been done, or not."""


class Rest:
    """Calls of one project and region. The first call looks for credentials: Google's application default ones."""

    def __init__(self, project: str, region: str) -> None:
        self.project, self.region = project, region
        self._session: requests.Session | None = None

    @property
    def location(self) -> str:
        """What the names of models and endpoints begin with."""
        return f"projects/{self.project}/locations/{self.region}"

    def call(
        self, method: str, name: str, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Call a method of METHODS on the resource ``name``; returns the answer's JSON.

        Asked too often (429), without an answer or a broken server (5xx): again after a random wait that doubles, six
        times in all. Raises MissingError, ConflictError, UnansweredError for what may not be repeated, and TargetError.
        """
        how = METHODS[method]
        url = f"{self._address(how.path)}/{how.path.format(quote(name, safe='/@:'))}"
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                answer = self._open().request(how.verb, url, json=body, params=query, timeout=_REQUEST_TIMEOUT_S)
            except GoogleAuthError as error:
                raise TargetError(_no_credentials(error)) from error
            except requests.RequestException as error:
                if not how.repeatable:
                    raise UnansweredError(f"{method} {name}: no answer ({error}).") from error
                if last:
                    raise TargetError(
                        f"{method} {name}: {url} cannot be reached ({error}): look at the network and at the region "
                        f"({self.region}), then try again."
                    ) from error
            else:
                if answer.status_code < _CREATED:
                    found: dict[str, Any] = answer.json() if answer.content else {}
                    return found
                if answer.status_code >= _SERVER and not how.repeatable:
                    raise UnansweredError(f"{method} {name}: {answer.status_code} {answer.text[:300]}")
                if last or (answer.status_code < _SERVER and answer.status_code != _TOO_MANY):
                    raise self._error(method, name, answer.status_code, _details(answer))
            time.sleep(backoff_s(attempt, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S))
        raise AssertionError  # pragma: no cover  (the last attempt returned or raised)

    def pages(self, method: str, name: str, key: str, **query: str) -> Iterator[dict[str, Any]]:
        """What a method lists, page after page; nothing if the resource is not there."""
        token = ""
        while True:
            try:
                page = self.call(method, name, query={**query, **({"pageToken": token} if token else {})})
            except MissingError:
                return
            yield from page.get(key, ())
            token = page.get("nextPageToken", "")
            if not token:
                return

    def make(self, find: Callable[[], Any], create: Callable[[], Any]) -> None:
        """Create what ``find`` does not find; after a lost answer it is looked for before it is created again.

        ``create`` may as well change or delete, when ``find`` says whether that is done.
        """
        for attempt in range(_TRIES):
            if find():
                return
            try:
                create()
            except (ConflictError, UnansweredError):
                if attempt == _TRIES - 1:
                    raise
                time.sleep(backoff_s(attempt, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S))
            else:
                return

    def finish(self, operation: Mapping[str, Any], what: str) -> dict[str, Any]:
        """Wait until a long-running operation is done; returns its response. ``what``: of whom an error speaks."""
        until, pause_s = time.monotonic() + _OPERATION_TIMEOUT_S, _FIRST_POLL_S
        found = dict(operation)
        kind = "endpoints" if "/endpoints/" in operation["name"] else "models"
        while not found.get("done"):
            if time.monotonic() > until:
                raise TargetError(
                    f"{what}: {found['name']} is not done after {_OPERATION_TIMEOUT_S / 60:.0f} minutes: look at the "
                    "endpoint's log in the console, then deploy again: it is taken up where it stands."
                )
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_POLL_S)
            found = self.call(f"{kind}.operations.get", found["name"])
        problem = found.get("error")
        if problem:
            code = _CODES.get(problem.get("code", 0), 0)
            raise self._error(what, str(operation["name"]).partition("/operations/")[0], code, problem)
        return dict(found.get("response", {}))

    def pending(self, kind: str, name: str) -> list[dict[str, Any]]:
        """The operations on an endpoint or a model ("endpoints", "models") that are not done yet."""
        return [one for one in self.pages(f"{kind}.operations.list", name, "operations") if not one.get("done")]

    def settle(self, kind: str, name: str) -> None:
        """Wait for the operations that somebody began on an endpoint or a model; whether they failed is not asked."""
        for operation in self.pending(kind, name):
            try:
                self.finish(operation, f"{kind} {name}")
            except TargetError as error:
                if "is not done after" in str(error):
                    raise

    def _address(self, path: str) -> str:
        own = os.environ.get(ADDRESS)
        if own:
            return own.rstrip("/")
        hosts = {"v1": f"{self.region}-aiplatform", "v2": "logging", "v3": "monitoring"}
        return f"https://{hosts[path[:2]]}.googleapis.com"

    def _open(self) -> requests.Session:
        if self._session is None:
            own = os.environ.get(ADDRESS)
            if own and urlsplit(own).hostname not in ("127.0.0.1", "localhost", "::1"):
                raise TargetError(f"{ADDRESS} is {own!r}: it may name this machine only (http://127.0.0.1:PORT).")
            if own:
                credentials: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth has no types
            else:
                try:
                    credentials, _ = google.auth.default(scopes=[_SCOPE])
                except DefaultCredentialsError as error:
                    raise TargetError(_no_credentials(error)) from error
            self._session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]  # google-auth has no types
        return self._session

    def _error(self, method: str, name: str, status: int, problem: Mapping[str, Any]) -> TargetError:
        text = str(problem.get("message", ""))
        info: Mapping[str, Any] = next((one for one in problem.get("details", ()) if "reason" in one), {})
        metadata = info.get("metadata", {})
        where = f"{method} {name}"
        if status == _NOT_FOUND:
            return MissingError(
                f"{where}: there is no such thing in {self.project}, {self.region}: {text} Is the region right?"
            )
        if status in (_CONFLICT, _PRECONDITION):
            return ConflictError(f"{where}: {text} Deploy again: it is taken up where it stands.")
        if status == _UNAUTHENTICATED:
            return TargetError(f"{where}: {_no_credentials(text)}")
        if status == _FORBIDDEN:
            return TargetError(f"{where}: {self._forbidden(method, text, info)}")
        if status == _TOO_MANY:
            metric = metadata.get("quota_metric") or metadata.get("quota_limit") or ""
            return TargetError(
                f"{where}: over the quota{f' of {metric}' if metric else ''} (RESOURCE_EXHAUSTED): {text} Ask for more "
                f"under IAM & Admin > Quotas for {self.region}, or take fewer or smaller machines."
            )
        return TargetError(f"{where}: {status or 'the operation failed'}: {text} Correct what is named, deploy again.")

    def _forbidden(self, method: str, text: str, info: Mapping[str, Any]) -> str:
        metadata = info.get("metadata", {})
        if info.get("reason") == "SERVICE_DISABLED":
            service = metadata.get("service", "aiplatform.googleapis.com")
            return f"{service} is not enabled: gcloud services enable {service} --project {self.project}"
        known = METHODS[method].permission if method in METHODS else "the one that it names"
        permission = metadata.get("permission", known)
        return (
            f"permission {permission} is missing (PERMISSION_DENIED): {text} The role in {_ROLE} grants it by the "
            f"line `- {permission}`: gcloud projects add-iam-policy-binding {self.project} "
            f"--role projects/{self.project}/roles/passerelleDeployer --member user:YOU"
        )


def _details(answer: requests.Response) -> dict[str, Any]:
    try:
        problem = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {"message": answer.text[:300]}
    return problem if isinstance(problem, dict) else {"message": str(problem)}


def _no_credentials(error: object) -> str:
    return (
        f"Google does not know who asks ({error}): run gcloud auth application-default login, or set "
        "GOOGLE_APPLICATION_CREDENTIALS to a service account's key or a workload identity's file."
    )
