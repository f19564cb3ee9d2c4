"""Calls of AWS: bounded retries, and refusals told with what to do next: the permission, the quota, the region."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from typing import Any

import boto3
import botocore.loaders
import botocore.model
import botocore.session
import msgspec
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from passerelle.deployment.target import TargetError

#: Attempts of one request, by botocore's standard mode: of throttling and the server's faults, with growing pauses
#: and jitter.
ATTEMPTS = 6
_log = logging.getLogger(__name__)
_ABSENT_CODES = frozenset(
    ("404", "NoSuchKey", "ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException")
)
_ABSENT_WORDS = re.compile(
    r"could not find|does not exist|not found|no scalable target|no scaling policy", re.IGNORECASE
)
_DENIED = frozenset(("AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation", "NotAuthorized"))
_BAD_CREDENTIALS = frozenset(
    ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
     "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSignatureException")
)  # fmt: skip
_THROTTLED = frozenset(
    ("Throttling", "ThrottlingException", "TooManyRequestsException", "SlowDown", "RequestLimitExceeded")
)
_QUOTA = frozenset(("ResourceLimitExceeded", "LimitExceeded", "LimitExceededException", "LimitExceededFault"))
#: Requests whose permission is called otherwise.
_ACTIONS = {
    ("s3", "HeadObject"): "s3:GetObject",
    ("s3", "ListObjectsV2"): "s3:ListBucket",
}
_SAID = re.compile(r"not authorized to perform: ([\w-]+:\w+)(?: on resource: (\S+))?")


def action_of(service: str, operation: str) -> str:
    """The permission that a request needs, in IAM's words.

    >>> action_of("s3", "HeadObject"), action_of("sagemaker", "CreateModel")
    ('s3:GetObject', 'sagemaker:CreateModel')
    """
    return _ACTIONS.get((service, operation), f"{service}:{operation}")


@cache
def _loader() -> botocore.loaders.Loader:
    """Reads AWS's service models, which are large, once for a process."""
    return botocore.loaders.create_loader()


@cache
def _sagemaker() -> botocore.model.ServiceModel:
    return botocore.model.ServiceModel(_loader().load_service_model("sagemaker", "service-2"), "sagemaker")


class Calls:
    """The clients of one region. Credentials are found as every AWS tool finds them (AWS_PROFILE, a role ...)."""

    def __init__(self, region: str) -> None:
        self.region = region
        session = botocore.session.get_session()
        session.register_component("data_loader", _loader())
        self._session = boto3.Session(botocore_session=session, region_name=region)
        self._config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS}, connect_timeout=10, read_timeout=30
        )
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """The client of a service, made when it is first needed."""
        if service not in self._clients:
            made = self._session.client(service, config=self._config)  # type: ignore[call-overload]  # the name is a variable
            made.meta.events.register("needs-retry", _tell_delay)
            self._clients[service] = made
        return self._clients[service]

    def types(self, shape: str) -> frozenset[str]:
        """The values that SageMaker's interface description knows for an enumeration; asks for no credentials."""
        found: Any = _sagemaker().shape_for(shape)
        return frozenset(found.enum)

    def ask(self, service: str, operation: str, on: str, **arguments: Any) -> dict[str, Any] | None:
        """What a request answers; None if what it is about is not there. ``on``: what that is, for the error.

        Raises TargetError for a refusal, saying the permission, the quota or the region that is missing.
        """
        return self._request(service, operation, on, arguments, forgiving=True)

    def call(self, service: str, operation: str, on: str, **arguments: Any) -> dict[str, Any]:
        """As ask; raises TargetError, with AWS's words, too, if something that it names is not there."""
        return self._request(service, operation, on, arguments, forgiving=False) or {}

    def _request(
        self, service: str, operation: str, on: str, arguments: dict[str, Any], *, forgiving: bool
    ) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = getattr(self.client(service), xform_name(operation))(**arguments)
        except ClientError as error:
            if forgiving and _is_absent(error):
                return None
            raise self._refusal(error, service, operation, on) from error
        except ProfileNotFound as error:
            raise TargetError(
                f"{error}: AWS_PROFILE names a profile of ~/.aws/config. aws configure list-profiles says which there "
                "are; name one of them, or unset AWS_PROFILE."
            ) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise TargetError(
                f"there are no AWS credentials here ({error}): run aws sso login or aws configure, or set AWS_PROFILE."
            ) from error
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            elsewhere = next((name for name in os.environ if name.startswith("AWS_ENDPOINT_URL")), None)
            look = (
                f"is {elsewhere} right, which sends it there?"
                if elsewhere
                else ("is it a region of AWS that has SageMaker, and is there a way out of this network?")
            )
            raise TargetError(f"{service} cannot be reached in region {self.region!r} ({error}): {look}") from error
        except BotoCoreError as error:
            raise TargetError(f"{operation} on {on} could not be asked: {error}") from error
        return answer

    def pages(self, service: str, operation: str, on: str, key: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The items under ``key`` of every page of a list."""
        marker = "ContinuationToken" if service == "s3" else "NextToken"
        after: dict[str, str] = {}
        while True:
            answer = self.ask(service, operation, on, **arguments, **after) or {}
            yield from answer.get(key, [])
            token = answer.get("NextContinuationToken" if service == "s3" else "NextToken")
            if not token:
                return
            after = {marker: token}

    def _refusal(self, error: ClientError, service: str, operation: str, on: str) -> TargetError:
        said = error.response["Error"]
        code, message = said.get("Code", ""), said.get("Message", "")
        if code in _DENIED:
            found = _SAID.search(message)
            action = found[1] if found else action_of(service, operation)
            resource = (found[2] if found and found[2] else on).rstrip(".,;")
            line = msgspec.json.encode({"Effect": "Allow", "Action": action, "Resource": resource}).decode()
            return TargetError(
                f"you may not {action} on {resource}. Have this line added to your policy (passerelle target "
                f"policies writes the whole of it, sagemaker-deployer.json): {line}"
            )
        if code == "NoSuchBucket":
            bucket = on.removeprefix("arn:aws:s3:::").partition("/")[0]
            return TargetError(
                f"there is no bucket {bucket!r}: aws s3 mb s3://{bucket} --region {self.region} makes it, if the name "
                "is right; else correct store in passerelle.toml."
            )
        if code in _BAD_CREDENTIALS:
            return TargetError(
                f"AWS does not take the credentials ({code}: {message}): sign in again, then deploy again."
            )
        if code in _QUOTA:
            return TargetError(
                f"{operation} on {on}: a quota of the account is used up ({message}) Ask for more in Service Quotas, "
                f"region {self.region}, or take another instance; then deploy again."
            )
        if code in _THROTTLED:
            return TargetError(
                f"{operation} on {on}: AWS asked {ATTEMPTS} times to go slower ({code}): wait a minute, then "
                "deploy again."
            )
        return TargetError(f"{operation} on {on} was refused ({code}): {message}")


def _tell_delay(
    response: tuple[Any, dict[str, Any]] | None,
    operation: Any,
    attempts: int,
    caught_exception: Exception | None,
    **_: Any,
) -> None:
    """Say that a request will be sent again, which may take half a minute: nobody should take that for a standstill."""
    said = response[1].get("Error", {}) if response is not None else {}
    fault = response is not None and response[0].status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    if attempts < ATTEMPTS and (fault or said.get("Code") in _THROTTLED or caught_exception is not None):
        why = said.get("Code") or type(caught_exception).__name__
        _log.warning("AWS: %s was put off (%s); attempt %d of %d", operation.name, why, attempts + 1, ATTEMPTS)


def _is_absent(error: ClientError) -> bool:
    said = error.response["Error"]
    return said.get("Code") in _ABSENT_CODES or (
        said.get("Code") in ("ValidationException", "ValidationError")
        and _ABSENT_WORDS.search(said.get("Message", "")) is not None
    )


def pause(seconds: float) -> None:
    """Wait between two looks."""
    time.sleep(seconds)
