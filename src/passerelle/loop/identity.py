"""Identity: a job of a delivery service shows a cloud who it is by the service's own token. No credential is stored.

The token of GitHub Actions, GitLab CI or Azure Pipelines (OIDC) is written into a file that only this user may read,
and the clouds' usual variables point at it: their libraries exchange it for credentials that last an hour.

| cloud | asked for by the variables | what is set |
|---|---|---|
| AWS | AWS_ROLE_ARN | AWS_WEB_IDENTITY_TOKEN_FILE |
| Azure | AZURE_CLIENT_ID, AZURE_TENANT_ID | AZURE_FEDERATED_TOKEN_FILE |
| Google | GOOGLE_WORKLOAD_PROVIDER (projects/…/providers/…), GOOGLE_SERVICE_ACCOUNT | GOOGLE_APPLICATION_CREDENTIALS |
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from passerelle.errors import PasserelleError

_AWS = "sts.amazonaws.com"
_AZURE = "api://AzureADTokenExchange"
_TIMEOUT_S = 30.0


class IdentityError(PasserelleError):
    """The delivery service gave no token: see the rights of the job (GitHub: permissions: id-token: write)."""


def identify(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Fetch the tokens that the variables ask for, into files below ``folder``; the variables to set.

    Where a cloud is named already by credentials of the machine (its variable is set), nothing is done for it. Raises
    IdentityError if a cloud is asked for and the service gives no token.
    """
    found: dict[str, str] = {}
    if "AWS_ROLE_ARN" in variables and "AWS_WEB_IDENTITY_TOKEN_FILE" not in variables:
        found["AWS_WEB_IDENTITY_TOKEN_FILE"] = _keep(folder / "aws", _token(variables, _AWS))
    if "AZURE_CLIENT_ID" in variables and not {"AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_SECRET"} & set(variables):
        found["AZURE_FEDERATED_TOKEN_FILE"] = _keep(folder / "azure", _token(variables, _AZURE))
    provider = variables.get("GOOGLE_WORKLOAD_PROVIDER")
    if provider and "GOOGLE_APPLICATION_CREDENTIALS" not in variables:
        audience = f"//iam.googleapis.com/{provider}"
        path = _keep(folder / "google-token", _token(variables, f"https:{audience}"))
        account = {
            "type": "external_account",
            "audience": audience,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": {"file": path},
        }
        if service := variables.get("GOOGLE_SERVICE_ACCOUNT"):
            at = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
            account["service_account_impersonation_url"] = f"{at}/{service}:generateAccessToken"
        found["GOOGLE_APPLICATION_CREDENTIALS"] = _keep(folder / "google.json", json.dumps(account))
    return found


def _token(variables: Mapping[str, str], audience: str) -> str:
    if given := variables.get("PASSERELLE_ID_TOKEN"):  # GitLab puts it there: id_tokens in the job
        return given
    if at := variables.get("ACTIONS_ID_TOKEN_REQUEST_URL"):
        query = urllib.parse.urlencode({"audience": audience})
        return _ask(f"{at}&{query}", variables.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", ""), "value", method="GET")
    if at := variables.get("SYSTEM_OIDCREQUESTURI"):
        connection = variables.get("PASSERELLE_SERVICE_CONNECTION", "")
        query = urllib.parse.urlencode({"api-version": "7.1", "serviceConnectionId": connection})
        return _ask(f"{at}?{query}", variables.get("SYSTEM_ACCESSTOKEN", ""), "oidcToken", method="POST")
    raise IdentityError(
        f"a token for {audience} is needed, and this job has none to ask for: GitHub: permissions: id-token: write; "
        "GitLab: id_tokens: PASSERELLE_ID_TOKEN; Azure Pipelines: SYSTEM_ACCESSTOKEN and PASSERELLE_SERVICE_CONNECTION."
    )


def _ask(address: str, bearer: str, field: str, *, method: str) -> str:
    headers = {"Authorization": f"Bearer {bearer}", "Accept": "application/json", "Content-Length": "0"}
    request = urllib.request.Request(address, headers=headers, method=method)  # noqa: S310  (the service's own address)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  (the service's own address)
            return str(json.loads(answer.read())[field])
    except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError) as error:
        host = urllib.parse.urlsplit(address).hostname
        raise IdentityError(f"{host} gave no token ({error}): see the rights of the job, and run it again.") from error


def _keep(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return str(path.absolute())
