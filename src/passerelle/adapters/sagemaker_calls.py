"""Calls of AWS: bounded retries, and refusals told with what to do next: the permission, the quota, the region."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import boto3
import botocore.loaders
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
)

from passerelle.deployment.target import TargetError

#: Attempts of one request, by botocore's standard mode: of throttling and the server's faults, with growing pauses
#: and jitter.
ATTEMPTS = 6
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


class Calls:
    """The clients of one region. Credentials are found as every AWS tool finds them (AWS_PROFILE, a role ...)."""

    def __init__(self, region: str) -> None:
        self.region = region
        session = botocore.session.get_session()
        session.register_component("data_loader", _loader())
        self._session = boto3.Session(botocore_session=session, region_name=region)
        self._config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS}, connect_timeout=10, read_timeout=60
        )
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """The client of a service, made when it is first needed."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service, config=self._config)  # type: ignore[call-overload]  # the name is a variable
        return self._clients[service]

    def types(self, shape: str) -> frozenset[str]:
        """The values that SageMaker's interface description knows for an enumeration."""
        return frozenset(self.client("sagemaker").meta.service_model.shape_for(shape).enum)

    def ask(self, service: str, operation: str, on: str, **arguments: Any) -> dict[str, Any] | None:
        """What a request answers; None if what it is about is not there. ``on``: what that is, for the error.

        Raises TargetError for a refusal, saying the permission, the quota or the region that is missing.
        """
        try:
            answer: dict[str, Any] = getattr(self.client(service), xform_name(operation))(**arguments)
        except ClientError as error:
            said = error.response["Error"]
            if said.get("Code") in _ABSENT_CODES or (
                said.get("Code") in ("ValidationException", "ValidationError")
                and _ABSENT_WORDS.search(said.get("Message", ""))
            ):
                return None
            raise self._refusal(error, service, operation, on) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise TargetError(
                f"there are no AWS credentials here ({error}): run aws sso login or aws configure, or set AWS_PROFILE."
            ) from error
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            raise TargetError(
                f"{service} cannot be reached in region {self.region!r} ({error}): is it a region of AWS that has "
                "SageMaker, and is there a way out of this network?"
            ) from error
        except BotoCoreError as error:
            raise TargetError(f"{operation} on {on} could not be asked: {error}") from error
        return answer

    def call(self, service: str, operation: str, on: str, **arguments: Any) -> dict[str, Any]:
        """As ask; raises TargetError, too, if what it is about is not there."""
        answer = self.ask(service, operation, on, **arguments)
        if answer is None:
            raise TargetError(f"{operation} on {on}: something that it names is not there: deploy again.")
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
                f"you may not {action} on {resource}. Have this line added to your policy (the whole policy is in "
                f"docs/howto/policies/sagemaker-deployer.json): {line}"
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


def pause(seconds: float) -> None:
    """Wait between two looks."""
    time.sleep(seconds)
