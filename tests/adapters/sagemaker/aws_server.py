"""AWS on this machine: moto's server as a process, with a door of ours in front.

The door (1) refuses what AWS's own service model does not allow (aws_check) of requests to SageMaker, CloudWatch,
Application Auto Scaling and Logs, and (2) fills moto's gaps: UpdateEndpoint, shadow variants, the removal of model
packages, StopTrainingJob, endpoints that take a while to change, names that are taken.

Shown by it: names, shapes and order of calls; references that are missing; what is left. Not shown: IAM, quotas, real
timing, routing, guardrails (a roll-back is ordered, not decided), image pull, that the container starts on SageMaker.
The logic of states is ours, from the documentation.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import moto.backends as moto_backends
from aws_check import SERVICES, faults_of
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

REGION = "eu-west-3"
#: The access key of another account.
ELSEWHERE, ELSEWHERE_ACCOUNT = "elsewhere", "999999999999"
#: How often an endpoint is described before its change has ended.
LOOKS = 2


class Refusal(Exception):  # noqa: N818  (what AWS answers is a refusal)
    def __init__(self, message: str, code: str = "ValidationException", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class Door:
    """A WSGI application round moto's."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.reset()

    def reset(self) -> None:
        for name in ("sagemaker", "cloudwatch", "applicationautoscaling", "s3", "logs"):
            moto_backends.get_backend(name).reset()  # type: ignore[call-overload]
        self._pending: dict[str, dict[str, Any]] = {}
        self._shadows: dict[str, Any] = {}
        self._orders: dict[str, Any] = {}
        self._log: list[str] = []
        self._bodies: list[dict[str, Any]] = []
        #: Each request: who asked, what.
        self._seen: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, body = environ.get("PATH_INFO", ""), _body(environ)
        if path.startswith("/_"):
            return self._control(path, json.loads(body or b"null"), start)
        prefix, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        service = SERVICES.get(prefix)
        try:
            who = re.search(r"Credential=([^/]+)/\d+/[\w-]+/([\w-]+)/", environ.get("HTTP_AUTHORIZATION", ""))
            seen = {"who": who[1] if who else "nobody", "service": service or "s3"}
            if service is None:
                return self._unnamed(environ, start, body, seen, sts=bool(who) and who[2] == "sts")
            asked = json.loads(body)
            self._seen.append(seen | {"operation": operation, "body": asked})
            self._log.append(f"{service}:{operation}")
            self._ordered(service, operation)
            if faults := faults_of(service, operation, asked):
                self._log.append(f"FAULT {service}:{operation} {faults}")
                raise Refusal("; ".join(faults))
            self._bodies.append({"operation": operation, **asked})
            ours = getattr(self, f"_do_{operation}", None)
            if service != "sagemaker" or ours is None:
                return self._moto(environ, start)
            found = ours(asked, lambda: _answer(self._moto, environ, body))
            return _say(start, "200 OK", found or {})
        except Refusal as error:
            code = f"{error.code}"
            if service is None:
                text = f"<Error><Code>{code}</Code><Message>{error}</Message></Error>".encode()
                environ["wsgi.input"].read(
                    int(environ.get("CONTENT_LENGTH") or 0)
                )  # who sends it waits until it is read
                length = ("Content-Length", str(len(text)))
                start(f"{error.status} Refused", [("Content-Type", "application/xml"), length])
                return [text]
            return _say(
                start, f"{error.status} Refused", {"__type": code, "message": str(error), "Message": str(error)}
            )

    def _unnamed(
        self, environ: dict[str, Any], start: Callable[..., Any], body: bytes, seen: dict[str, Any], *, sts: bool
    ) -> Iterable[bytes]:
        """What no header names: S3's requests, and STS's only one."""
        if sts:
            self._seen.append(seen | {"service": "sts", "operation": dict(parse_qsl(body.decode()))["Action"]})
            return _identity(start, ELSEWHERE_ACCOUNT if seen["who"] == ELSEWHERE else DEFAULT_ACCOUNT_ID)
        path, query = environ.get("PATH_INFO", ""), dict(parse_qsl(environ.get("QUERY_STRING", "")))
        keys = re.findall(r"<Key>([^<]+)</Key>", body.decode())  # of a removal of many
        method = "DELETE" if keys else environ["REQUEST_METHOD"]
        paths = [f"{path.rstrip('/')}/{key}" for key in keys] or [path]
        self._seen += [seen | {"method": method, "path": one, "query": query} for one in paths]
        self._ordered("s3", environ["REQUEST_METHOD"])
        return self._moto(environ, start)

    def _control(self, path: str, order: Any, start: Callable[..., Any]) -> Iterable[bytes]:
        if path == "/_reset":
            self.reset()
        elif path == "/_order":
            self._orders |= order
        return _say(start, "200 OK", {"/_log": self._log, "/_bodies": self._bodies, "/_seen": self._seen}.get(path, []))

    def _ordered(self, service: str, operation: str) -> None:
        """Refuse what was ordered to be refused, that many times."""
        order = self._orders.get("refuse", {}).get(f"{service}:{operation}")
        if order and order["times"] > 0:
            order["times"] -= 1
            raise Refusal(order["message"], order["code"], order.get("status", 400))

    @property
    def _there(self) -> Any:
        return moto_backends.get_backend("sagemaker")[DEFAULT_ACCOUNT_ID][REGION]

    def _do_CreateModel(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: N802  (AWS's name)
        _new(asked["ModelName"], self._there._models, "model")
        return go()

    def _do_CreateModelPackageGroup(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: N802  (the same)
        _new(asked["ModelPackageGroupName"], self._there.model_package_groups, "group")
        return go()

    def _do_CreateEndpointConfig(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: N802  (the same)
        _new(asked["EndpointConfigName"], self._there.endpoint_configs, "endpoint configuration")
        shadows = asked.get("ShadowProductionVariants", [])
        for one in shadows:
            if one["ModelName"] not in self._there._models:
                raise Refusal(f"Could not find model {one['ModelName']}.")
        if shadows and (len(shadows), len(asked["ProductionVariants"])) != (1, 1):
            raise Refusal("a shadow variant stands beside one production variant")
        answer = go()
        self._shadows[asked["EndpointConfigName"]] = shadows
        return answer

    def _do_DescribeEndpointConfig(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: N802  (the same)
        shadows = self._shadows.get(asked["EndpointConfigName"])
        return go() | ({"ShadowProductionVariants": shadows} if shadows else {})

    def _do_DeleteEndpointConfig(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: N802  (the same)
        for one in self._there.endpoints.values():
            pending = self._pending.get(one.endpoint_name, {}).get("config")
            if asked["EndpointConfigName"] in (one.endpoint_config_name, pending):
                raise Refusal("the configuration is in use")
        return go()

    def _do_CreateEndpoint(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: N802  (the same)
        name = asked["EndpointName"]
        _new(name, self._there.endpoints, "endpoint")
        answer = go()
        self._there.endpoints[name].endpoint_status = "Creating"
        ends = self._orders.pop("ends", None)
        self._pending[name] = {"config": asked["EndpointConfigName"], "looks": LOOKS, "ends": ends}
        return answer

    def _do_UpdateEndpoint(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: ARG002, N802  (the same)
        name, config = asked["EndpointName"], asked["EndpointConfigName"]
        one = self._idle(name)
        if config not in self._there.endpoint_configs:
            raise Refusal(f"Could not find endpoint configuration {config}.")
        if asked.get("DeploymentConfig") and asked.get("RetainDeploymentConfig"):
            raise Refusal("RetainDeploymentConfig goes without DeploymentConfig")
        one.endpoint_status, one.failure_reason = "Updating", None
        self._pending[name] = {"config": config, "looks": LOOKS, "ends": self._orders.pop("ends", None)}
        return {"EndpointArn": one.arn}

    def _idle(self, name: str) -> Any:
        """The endpoint, if it may be changed now: it is at rest, whole, and nothing scales it."""
        if name not in self._there.endpoints:
            raise Refusal(f"Could not find endpoint {name}.")
        one = self._there.endpoints[name]
        if one.endpoint_status not in ("InService", "Failed", "UpdateRollbackFailed"):
            raise Refusal(f"Cannot update in-progress endpoint {name}.")
        scaled = moto_backends.get_backend("applicationautoscaling")[DEFAULT_ACCOUNT_ID][REGION].targets
        if any(key.startswith(f"endpoint/{name}/") for by in scaled.values() for key in by):
            raise Refusal("the endpoint is still registered as a scalable target")
        return one

    def _do_DescribeEndpoint(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: N802  (the same)
        name = asked["EndpointName"]
        one, pending = self._there.endpoints.get(name), self._pending.get(name)
        if one is not None and pending is not None:
            pending["looks"] -= 1
            if pending["looks"] < 0:
                self._end(one, self._pending.pop(name))
                if one.endpoint_status == "Deleting":
                    del self._there.endpoints[name]
        answer = go()
        if name in self._pending and one is not None and one.endpoint_status == "Updating":
            answer["PendingDeploymentSummary"] = {"EndpointConfigName": self._pending[name]["config"]}
        return answer

    def _end(self, one: Any, pending: dict[str, Any]) -> None:
        """End a change: well, or as ordered. One that fails leaves the configuration before in service, if any."""
        if one.endpoint_status == "Deleting":
            return
        first, ends = one.endpoint_status == "Creating", pending["ends"]
        one.endpoint_status = "InService"
        if ends == "failed":
            one.failure_reason = "The container did not pass the ping health check, as ordered"
        if ends == "alarmed":
            one.failure_reason = "AutoRollback: alarm passerelle/trips-production/live/errors was in ALARM, as ordered"
        if ends == "failed" and first:
            one.endpoint_status = "Failed"
        if ends == "rollback failed":
            one.endpoint_status, one.failure_reason = "UpdateRollbackFailed", "both fleets are half there, as ordered"
        if ends is None:
            one.endpoint_config_name = pending["config"]
            variants = self._there.endpoint_configs[pending["config"]].production_variants
            one.production_variants = one._process_production_variants(variants)

    def _do_UpdateEndpointWeightsAndCapacities(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: ARG002, N802  (the same)
        """Moto forgets how many machines there are."""
        one = self._there.endpoints[asked["EndpointName"]]
        due = {each["VariantName"]: each["DesiredWeight"] for each in asked["DesiredWeightsAndCapacities"]}
        for variant in one.production_variants:
            weight = due.get(variant["VariantName"], variant["DesiredWeight"])
            variant |= {"DesiredWeight": weight, "CurrentWeight": weight}
        return {"EndpointArn": one.arn}

    def _do_DeleteEndpoint(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: ARG002, N802  (the same)
        self._idle(asked["EndpointName"]).endpoint_status = "Deleting"
        self._pending[asked["EndpointName"]] = {"config": None, "looks": 1, "ends": None}
        return {}

    def _do_CreateModelPackage(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: N802  (the same)
        """Moto numbers by how many there are, so that after a removal a new one would take an old one's place."""
        there, group = self._there.model_packages, asked["ModelPackageGroupName"]
        ours = [one for one in there.values() if one.model_package_group_name == group]
        newest = max((one.model_package_version for one in ours), default=0)
        gaps = {f"gap {number}": ours[0] for number in range(newest - len(ours))}
        there.update(gaps)
        try:
            return go()
        finally:
            for name in gaps:
                del there[name]

    def _do_DeleteModelPackage(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: ARG002, N802  (the same)
        found = self._there.model_packages.pop(asked["ModelPackageName"], None)
        if found is None:
            raise Refusal(f"Model package {asked['ModelPackageName']} not found")
        return {}

    def _do_DeleteModelPackageGroup(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: ARG002, N802  (the same)
        name = asked["ModelPackageGroupName"]
        if any(one.model_package_group_name == name for one in self._there.model_packages.values()):
            raise Refusal("the group still has model packages", "ConflictException")
        if self._there.model_package_groups.pop(name, None) is None:
            raise Refusal(f"ModelPackageGroup {name} does not exist.")
        return {}

    def _do_CreateTrainingJob(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: N802  (the same)
        _new(asked["TrainingJobName"], self._there.training_jobs, "job")
        answer, reason = go(), self._orders.pop("job fails", None)
        one = self._there.training_jobs[asked["TrainingJobName"]]
        one.training_job_status = "Failed" if reason else "InProgress"
        one.failure_reason = reason
        return answer

    def _do_DescribeTrainingJob(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: N802  (the same)
        """As the platform of a test says by the order "ended": job → its status, what failed, and the finer status."""
        if ended := self._orders.get("ended", {}).pop(asked["TrainingJobName"], None):
            one = self._there.training_jobs[asked["TrainingJobName"]]
            one.training_job_status, one.failure_reason, *finer = ended
            one.secondary_status = finer[0] if finer else one.training_job_status
        return go()

    def _do_StopTrainingJob(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: ARG002, N802  (the same)
        one = self._there.training_jobs[asked["TrainingJobName"]]
        if one.training_job_status != "InProgress":
            raise Refusal(f"The request was rejected because the training job is in status {one.training_job_status}.")
        one.training_job_status = "Stopped"
        return {}

    def _do_AddTags(self, asked: dict[str, Any], go: Callable[[], Any]) -> Any:  # noqa: ARG002, N802  (the same)
        one = self._there._get_resource_from_arn(asked["ResourceArn"])
        new = {tag["Key"]: tag["Value"] for tag in [*one.tags, *asked["Tags"]]}
        one.tags = [{"Key": key, "Value": value} for key, value in new.items()]
        return {"Tags": one.tags}


def _new(name: str, there: Any, what: str) -> None:
    if name in there:
        raise Refusal(f"Cannot create already existing {what} {name}.")


def _body(environ: dict[str, Any]) -> bytes:
    """The body, which stays to be read. Objects of S3 are left to moto: their bodies may be in chunks."""
    small = environ.get("HTTP_X_AMZ_TARGET") or environ.get("QUERY_STRING", "").startswith("delete")
    small = small or "/sts/aws4_request" in environ.get("HTTP_AUTHORIZATION", "")
    if not small and not environ.get("PATH_INFO", "").startswith("/_"):
        return b""
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _answer(app: Callable[..., Any], environ: dict[str, Any], body: bytes) -> Any:
    """What moto answers, as JSON; its refusals go on to the caller."""
    seen: list[str] = []
    environ["wsgi.input"] = io.BytesIO(body)
    text = b"".join(app(environ, lambda status, *_: seen.append(status)))
    found = json.loads(text or b"{}")
    if not seen[0].startswith("200"):
        raise Refusal(found.get("message") or found.get("Message", ""), found.get("__type", "ValidationException"))
    return found


def _identity(start: Callable[..., Any], account: str) -> Iterable[bytes]:
    inner = f"<GetCallerIdentityResult><Account>{account}</Account></GetCallerIdentityResult>"
    text = f"<GetCallerIdentityResponse>{inner}</GetCallerIdentityResponse>".encode()
    start("200 OK", [("Content-Type", "text/xml"), ("Content-Length", str(len(text)))])
    return [text]


def _say(start: Callable[..., Any], status: str, value: Any) -> Iterable[bytes]:
    body = json.dumps(value).encode()
    # Without a length whoever asked waits for the connection's end, 10 ms later.
    start(status, [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))])
    return [body]


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  (werkzeug's name)
        """Say nothing."""


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), Door(), threaded=False, request_handler=_Quiet)
