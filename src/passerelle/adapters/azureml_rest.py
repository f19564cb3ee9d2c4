"""Azure's resource manager (ARM) by REST: who we are, one request, its retries, its pages, and what went wrong.

Nothing here knows what a deployment is. API_VERSION is the newest stable one whose whole description (OpenAPI) the
tests hold, so that each request is checked against it, word for word; it has all that is used: traffic, mirrored
traffic, custom containers with their probes, command jobs.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential

from passerelle.adapters.backoff import backoff_s
from passerelle.deployment.policies import written
from passerelle.deployment.target import TargetError
from passerelle.project.targets import AzureML

#: Of Microsoft.MachineLearningServices, and of Microsoft.Insights' two kinds.
API_VERSION = "2023-04-01"
AUTOSCALE_VERSION = "2022-10-01"
ALERT_VERSION = "2018-03-01"
#: Where to send requests instead of Azure's public cloud: another of Azure's clouds, or a test's server.
ADDRESS = "PASSERELLE_AZURE_ADDRESS"
PUBLIC = "https://management.azure.com"
ROLE_FILE = "azureml-deployer.json"
_ROLE = written(ROLE_FILE)

#: The SDK's own account of each credential that it tried, to who keeps a log; our error says what to do.
logging.getLogger("azure").addHandler(logging.NullHandler())

_TRIES = 6
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
#: The longest that Azure may ask us to wait before a request is sent again.
_PATIENCE_S = 120.0
_REQUEST_TIMEOUT_S = 60
_FORBIDDEN, _NOT_FOUND, _TOO_MANY = 403, 404, 429
_AGAIN = frozenset({408, _TOO_MANY, 500, 502, 503, 504})
_AUTHORIZATION = re.compile(r"perform action '([^']+)' over scope '([^']+)'")
#: A code of Azure's, or a part of it → what to do.
_ADVICE = {
    "quota": "ask for more of this machine in this region (Azure portal, Quotas), or take a smaller or another one",
    "capacity": "Azure has none of these machines left in this region just now: try later, or take another one",
    "location": "take a region that has Azure ML, the workspace's own: location in passerelle.toml",
    "sku": "take a machine that Azure ML's online endpoints offer in this region: instance in passerelle.toml",
    "instancetype": "take a machine that Azure ML's online endpoints offer in this region: instance in passerelle.toml",
    "image": "see that the image is in the registry, and that the endpoint's identity has the role AcrPull there",
    "resourcegroupnotfound": "see subscription and resource_group in passerelle.toml",
    "subscriptionnotfound": "see subscription in passerelle.toml, and az account show",
    "conflict": "another change is going on: wait for it, then deploy again; or the name is taken in this region: "
    "rename the project or the environment",
}


class Arm:
    """Requests of one workspace. The first one looks for credentials: azure-identity's default ones.

    Paths begin with ``/subscriptions``: see ``workspace`` and ``group``.
    """

    def __init__(self, settings: AzureML) -> None:
        #: Of the resource group, and of the workspace in it.
        self.group = f"/subscriptions/{settings.subscription}/resourceGroups/{settings.resource_group}"
        self.workspace = f"{self.group}/providers/Microsoft.MachineLearningServices/workspaces/{settings.workspace}"
        #: The workspace in the addresses of its datastores, behind ``azureml:/``.
        self.workspace_uri = (
            f"/subscriptions/{settings.subscription}/resourcegroups/{settings.resource_group}"
            f"/workspaces/{settings.workspace}"
        )
        self._base = os.environ.get(ADDRESS, PUBLIC).rstrip("/")
        parts = urlsplit(self._base)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
            raise TargetError(f"{ADDRESS} is {self._base!r}: a token is sent there, so it begins with https://.")
        self._session = requests.Session()
        self._credential: DefaultAzureCredential | None = None
        self._token: tuple[str, float] = ("", 0.0)

    def get(self, path: str, version: str = API_VERSION) -> dict[str, Any] | None:
        """A resource; None if there is none."""
        return self._json(self._send("GET", path, version, missing=True))

    def list(self, path: str, version: str = API_VERSION) -> Iterator[dict[str, Any]]:
        """All resources of a collection, page by page; none if what it belongs to is not there."""
        page = self.get(path, version)
        while page is not None:
            yield from page.get("value") or ()
            link = page.get("nextLink")
            page = self._json(self._send("GET", link, None)) if link else None

    def put(self, path: str, body: dict[str, Any], version: str = API_VERSION) -> str | None:
        """Create or replace a resource. Returns where to ask how far it has come, if Azure says so."""
        answer = self._send("PUT", path, version, body=body)
        assert answer is not None
        return self._operation(answer)

    def delete(self, path: str, version: str = API_VERSION) -> str | None:
        """Delete a resource; nothing happens if there is none. Returns where to ask how far it has come."""
        answer = self._send("DELETE", path, version, missing=True)
        return None if answer is None else self._operation(answer)

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Do what a resource can do, as cancel; None if there is no such resource, or nothing to say."""
        return self._json(self._send("POST", path, API_VERSION, body=body, missing=True))

    def problem(self, operation: str | None) -> str | None:
        """Why an operation failed, in Azure's words with what to do; None if it did not fail, or Azure does not say."""
        answer = self._look(operation)
        found = self._json(answer) or {}
        if found.get("status") not in ("Failed", "Canceled"):
            return None
        return explain(found.get("error") or {"message": f"it is {found['status']}"})

    def ended(self, operation: str | None) -> bool:
        """Has an operation ended, well or not? True if Azure says nothing of it: what it is of tells, too."""
        answer = self._look(operation)
        if answer is None:
            return True
        state = (self._json(answer) or {}).get("status", "Succeeded")
        return answer.status_code != requests.codes.accepted and state in ("Succeeded", "Failed", "Canceled")

    def _look(self, operation: str | None) -> requests.Response | None:
        """How far an operation is; None to who may not ask: it is the subscription's, and the role a group's."""
        return self._send("GET", operation, None, missing=True, denied=True) if operation else None

    def _operation(self, answer: requests.Response) -> str | None:
        return answer.headers.get("Azure-AsyncOperation") or answer.headers.get("Location")

    def _send(
        self,
        verb: str,
        path: str,
        version: str | None,
        *,
        body: Any = None,
        missing: bool = False,
        denied: bool = False,
    ) -> requests.Response | None:
        """One request, tried again while Azure is busy. None for what may be ``missing`` or ``denied``, and is."""
        if not path.startswith("/") and not path.startswith(f"{self._base}/"):
            # A page's or an operation's address comes from an answer: the token goes nowhere else.
            raise TargetError(f"{verb}: Azure sent us on to {urlsplit(path).netloc}, which is not {self._base}.")
        url = path if not path.startswith("/") else self._base + path
        what = f"{verb} {urlsplit(url).path}"
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            wait_s = backoff_s(attempt, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S)
            try:
                answer = self._session.request(
                    verb,
                    url,
                    params={"api-version": version} if version else None,
                    json=body,
                    headers={"Authorization": f"Bearer {self._bearer()}"},
                    timeout=_REQUEST_TIMEOUT_S,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                if last:
                    raise TargetError(
                        f"{what}: {self._base} cannot be reached ({type(error).__name__}): look at the network and at "
                        f"{ADDRESS}, then try again."
                    ) from error
            else:
                if answer.ok:
                    return answer
                if answer.status_code == _NOT_FOUND and missing and not _elsewhere(answer):
                    return None
                if answer.status_code == _FORBIDDEN and denied:
                    return None
                if answer.status_code not in _AGAIN or last:
                    raise TargetError(f"{what}: {answer.status_code} {self._explained(answer)}")
                wait_s += _asked_s(answer)
            time.sleep(wait_s)
        raise AssertionError  # pragma: no cover  (the last try returned or raised)

    def _bearer(self) -> str:
        value, until = self._token
        if time.time() < until - 300:
            return value
        try:
            self._credential = self._credential or DefaultAzureCredential()
            token = self._credential.get_token(f"{self._base}/.default")
        except (AzureError, ValueError) as error:  # of who we are, of the way there, or of a variable that is no id
            raise TargetError(
                f"Azure does not know who asks ({str(error).strip().partition(chr(10))[0]}): run az login, or say who "
                "you are by AZURE_TENANT_ID, AZURE_CLIENT_ID and a secret or a federated token; see "
                "docs/howto/azureml.md."
            ) from error
        self._token = (token.token, float(token.expires_on))
        return token.token

    def _explained(self, answer: requests.Response) -> str:
        try:
            problem = answer.json()["error"]
        except (ValueError, KeyError, TypeError):
            return answer.text[:300]
        if answer.status_code == _TOO_MANY:
            return f"{explain(problem)} It was tried {_TRIES} times: wait some minutes, then deploy again."
        return explain(problem)

    def _json(self, answer: requests.Response | None) -> dict[str, Any] | None:
        if answer is None or not answer.content:
            return None
        try:
            found = answer.json()
        except ValueError as error:
            what = f"{answer.request.method} {urlsplit(answer.url).path}"
            raise TargetError(
                f"{what}: {answer.status_code}, and what {urlsplit(answer.url).netloc} answered is no JSON "
                f"({answer.text[:60]!r}): a proxy in between may have answered; look at the network and at {ADDRESS}, "
                "then try again."
            ) from error
        return found if isinstance(found, dict) else {"value": found}


def explain(problem: dict[str, Any]) -> str:
    """Azure's error in a sentence, with the next action; for a missing permission, the line of the role that grants it.

    >>> print(explain({"code": "AuthorizationFailed", "message": "The client 'a' does not have authorization to "
    ... "perform action 'X/read' over scope '/subscriptions/s'."}))
    permission X/read is missing on /subscriptions/s (AuthorizationFailed): the role in \
azureml-deployer.json (passerelle target policies writes it) grants it by the line "X/read"; \
have it assigned to you there.
    """
    code, text = str(problem.get("code", "")), str(problem.get("message", "")).strip().rstrip(".")
    missing = _AUTHORIZATION.search(text)
    if missing:
        action, scope = missing.groups()
        return (
            f"permission {action} is missing on {scope} ({code}): the role in {_ROLE} grants it by the line "
            f'"{action}"; have it assigned to you there.'
        )
    inner = " ".join(
        f"{one.get('code', '')}: {str(one.get('message', '')).rstrip('.')}."
        for one in problem.get("details") or ()
        if isinstance(one, dict)
    )
    said = f"{code}: {text}." + (f" {inner}" if inner else "")
    advice = next((do for part, do in _ADVICE.items() if part in (code + inner.partition(":")[0]).lower()), None)
    return said + (f" What to do: {advice}." if advice else "")


def _elsewhere(answer: requests.Response) -> bool:
    """Is it the workspace, the group or the subscription that is not there, and not what was asked for in them?"""
    try:
        code = str(answer.json()["error"]["code"])
        text = str(answer.json()["error"].get("message", ""))
    except (ValueError, KeyError, TypeError):
        return False
    return code in ("ResourceGroupNotFound", "SubscriptionNotFound", "InvalidSubscriptionId") or (
        code == "ResourceNotFound" and bool(re.search(r"/workspaces/[^/']+'", text))
    )


def _asked_s(answer: requests.Response) -> float:
    """Seconds that the answer asks to wait."""
    try:
        return min(float(answer.headers.get("Retry-After", 0)), _PATIENCE_S)
    except ValueError:
        return 0.0
