"""Contracts: the routes by which clouds and other servers' clients ask, beside our own; every event goes the one path.

| who | asks |
|---|---|
| SageMaker | GET /ping, POST /invocations |
| Vertex AI | GET $AIP_HEALTH_ROUTE (/health), POST $AIP_PREDICT_ROUTE (/predict) |
| Azure ML | GET /v2/health/live, GET /ping, POST /score |
| KServe V1 | GET /v1/models/M, POST /v1/models/M:predict |
| Open Inference Protocol (KServe V2, Triton, MLServer) | GET and POST /v2/... |
| MLflow | GET /ping, /health, /version, POST /invocations |

The routes that take events take all forms of a body alike: the body says which it is. See docs/contracts.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from typing import Any, Literal
from urllib.parse import quote, unquote

import msgspec

from passerelle.schema import Schema
from passerelle.serving.active import Active
from passerelle.serving.events import Answer, BodyError, Event, check_count, decode, read_events
from passerelle.serving.http import Http, Limits, Reply, Request, Route, UnknownModelError, status_of
from passerelle.serving.instances import RESERVED, Fields, form_of, made, read_csv, read_rows, write_csv
from passerelle.serving.service import Service
from passerelle.serving.tensors import InferRequest, metadata, read_request, read_tensors, write_tensors

CSV = "text/csv"
#: "" and octet-stream: what clients send that do not say; the body is then JSON.
JSON = "application/json"
UNSAID = ("application/octet-stream", "")
TAKES = (JSON, CSV, *UNSAID)

_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
#: Headers by which a platform hands a caller's id of the request through.
_ID_HEADERS = ("x-amzn-sagemaker-inference-id", "x-ms-client-request-id")
_BINARY = "inference-header-content-length"
_MOST_ATTRIBUTES = 1024
_FAILED = 500
_ANY = msgspec.json.Decoder()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request for predictions, read."""

    events: list[Event]
    #: own: as our own door takes them; predictions: {"predictions": [...]}; tensors: the V2 form.
    form: Literal["one", "predictions", "tensors"]
    #: Of the V2 form.
    request: InferRequest | None = None


def add_contracts(http: Http, service: Service, *, limits: Limits, variables: Mapping[str, str] = os.environ) -> None:
    """Add the routes of all contracts; ``variables`` may name Vertex's routes."""
    contracts = Contracts(service, limits)
    ready, live = contracts.ready, contracts.live
    healthy = {"/ping", "/health", "/v2/health/ready", variables.get("AIP_HEALTH_ROUTE") or "/health"}
    asked = {"/predict", "/invocations", "/score", variables.get("AIP_PREDICT_ROUTE") or "/predict"}
    model, one = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    http.add(
        [
            *(Route("GET", path, "nothing", ready) for path in sorted(healthy)),
            Route("GET", "/v2/health/live", "nothing", live),
            *(Route("POST", path, "predict", contracts.predict, TAKES) for path in sorted(asked)),
            Route("GET", "/version", "read", contracts.version),
            Route("GET", "/v1/models", "read", contracts.models),
            Route("POST", "/v1/models/{model}:predict", "predict", contracts.predict, TAKES),
            Route("GET", "/v1/models/{model}", "read", contracts.model),
            *(Route("GET", path, "read", contracts.server) for path in ("/v2", "/v2/")),
            *(Route("GET", f"{path}/ready", "nothing", contracts.model_ready) for path in (model, one)),
            *(Route("POST", f"{path}/infer", "predict", contracts.infer, (JSON, *UNSAID)) for path in (model, one)),
            *(Route("GET", path, "read", contracts.metadata) for path in (model, one)),
        ],
        instead=True,
    )


class Contracts:
    """What the routes answer."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service = service
        self._limits = limits

    async def live(self, _: Request) -> Reply:
        """The process is there."""
        return Reply(200, b'{"live":true}')

    async def ready(self, _: Request) -> Reply:
        """200 if a revision answers; 503 while it is being loaded."""
        ready = self._service.revision is not None
        return Reply(200 if ready else 503, msgspec.json.encode({"ready": ready}))

    async def version(self, _: Request) -> Reply:
        """Of this program: what MLflow's client asks."""
        return Reply(200, installed_version("passerelle").encode(), "text/plain; charset=utf-8")

    async def predict(self, request: Request) -> Reply:
        """Answer events in whichever form they came, in the answers' form of that contract."""
        active = self._service.active
        if "model" in request.names:
            _check_model(active, request.names)
        return await self._answer(self._read(request, active), request, active)

    async def infer(self, request: Request) -> Reply:
        """Answer a V2 request; at a version only if it is the only one that answers."""
        active = self._service.active
        _check_model(active, request.names)
        live = [lane.variant.version for lane in active.live]
        if "version" in request.names and len(live) > 1:
            raise UnknownModelError(
                f"versions {live} answer, each its share of the units: a caller cannot choose, or the trial would mean "
                "nothing. Ask without a version."
            )
        asked = self._read(request, active)
        if asked.request is None:
            raise BodyError('the body is not of the V2 form: send {"inputs": [{name, shape, datatype, data}, ...]}.')
        return await self._answer(asked, request, active)

    async def models(self, _: Request) -> Reply:
        """The model's names."""
        return Reply(200, msgspec.json.encode({"models": _names(self._service.active)}))

    async def model(self, request: Request) -> Reply:
        """Is it ready, in KServe's V1 words?"""
        active = self._service.active
        _check_model(active, request.names)
        return Reply(200, msgspec.json.encode({"name": request.names["model"], "ready": True}))

    async def server(self, _: Request) -> Reply:
        """Who answers, in V2's words."""
        said = {"name": "passerelle", "version": installed_version("passerelle"), "extensions": []}
        return Reply(200, msgspec.json.encode(said))

    async def model_ready(self, request: Request) -> Reply:
        """200 if this model, of this version, answers."""
        if self._service.revision is not None:
            _check_model(self._service.active, request.names)
        return await self.ready(request)

    async def metadata(self, request: Request) -> Reply:
        """What the model takes and gives."""
        active = self._service.active
        _check_model(active, request.names)
        versions = [lane.variant.version for lane in active.live]
        said = metadata(active.manifest, _fields(active), model=request.names["model"], versions=versions)
        return Reply(200, msgspec.json.encode(said))

    def _read(self, request: Request, active: Active) -> Asked:
        fields = _fields(active)
        most = self._limits.max_rows
        if request.header(_BINARY) is not None:
            raise BodyError("the body holds binary data: send it as JSON (tritonclient: binary_data=False).")
        if request.kind == CSV:
            asked = Asked(events=read_csv(request.body, fields), form="predictions")
        else:
            sent = _decoded(request.body)
            if not isinstance(sent, dict):
                raise BodyError(
                    'the body is not a JSON object: send {"instances": [...]}, or another form of the docs.'
                )
            form = form_of(sent)
            if form is None:
                events, many = read_events(request.body, max_rows=most)
                asked = Asked(events=events, form="predictions" if many else "one")
            elif form == "tensors":
                read = read_request(sent)
                asked = Asked(events=read_tensors(read, fields), form="tensors", request=read)
            else:
                asked = Asked(events=read_rows(sent, form, fields), form="predictions")
        check_count(len(asked.events), most, "events")
        return msgspec.structs.replace(asked, events=_with_headers(asked, request))

    async def _answer(self, asked: Asked, request: Request, active: Active) -> Reply:
        answers = await self._service.predict(asked.events)
        status, headers = status_of(answers), _attributes(answers)
        accepted = (request.header("accept") or "").partition(";")[0].strip().lower()
        if asked.request is not None:
            if failed := [(row, one) for row, one in enumerate(answers) if one.error is not msgspec.UNSET]:
                row, one = failed[0]
                text = f"{len(failed)} of {len(answers)} rows have no answer; row {row}, id {one.id!r}: {one.error}"
                return Reply(max(status, _FAILED), msgspec.json.encode({"error": text}), headers=headers)
            reply = write_tensors(
                active.manifest,
                answers,
                request=asked.request,
                model=request.names.get("model") or active.deployment.project,
                revision=active.deployment.revision,
            )
            return Reply(status, msgspec.json.encode(reply), headers=headers)
        if accepted == CSV:
            return Reply(status, write_csv(answers), f"{CSV}; charset=utf-8", headers)
        body: Any = answers[0] if asked.form == "one" else {"predictions": answers}
        return Reply(status, msgspec.json.encode(body), headers=headers)


def _decoded(body: bytes) -> Any:
    """A body as JSON; NaN, which Python's clients write for what is missing and JSON has not, is null."""
    try:
        return decode(_ANY, body)
    except BodyError:
        if b"NaN" not in body:
            raise
    try:
        return json.loads(body, parse_constant={"NaN": None}.__getitem__)
    except (ValueError, KeyError, RecursionError) as error:
        raise BodyError(
            f"the body is not JSON that can be read ({error}): beside JSON, NaN alone is taken, for null."
        ) from error


def _fields(active: Active) -> Fields:
    required = {name for lane in active.live for name in lane.schema.names}
    schema: Schema = active.schema
    return Fields(schema=schema, order=tuple(name for name in schema.names if name in required))


def _names(active: Active) -> list[str]:
    deployment = active.deployment
    return [deployment.project, f"{deployment.project}-{deployment.environment}"]


def _check_model(active: Active, names: Mapping[str, str]) -> None:
    """Raise UnknownModelError for a model or a version that does not answer here."""
    if names["model"] not in (known := _names(active)):
        raise UnknownModelError(f"there is no model {names['model']!r} here: ask for {' or '.join(known)}.")
    live = [str(lane.variant.version) for lane in active.live]
    if names.get("version", live[0]) not in live:
        raise UnknownModelError(f"version {names['version']!r} does not answer here; {', '.join(live)} does.")


def _with_headers(asked: Asked, request: Request) -> list[Event]:
    """The events, with what the request says of them where they do not say it themselves.

    Of several events the request's id, with the row's number, is each one's: sent again, they have the same.
    """
    said: dict[str, Any] = {}
    for part in (request.header(_ATTRIBUTES) or "").split(","):
        name, _, value = part.strip().partition("=")
        if name in RESERVED and value:
            said[RESERVED[name]] = unquote(value)
    ids = (said.get("id"), asked.request and asked.request.id, *map(request.header, _ID_HEADERS))
    given = next((one for one in ids if one), None)
    if not said and not given:
        return asked.events
    events = []
    for row, event in enumerate(asked.events):
        own = {name: getattr(event, name) for name in ("id", "unit", "at") if getattr(event, name) is not None}
        derived = {"id": given if len(asked.events) == 1 else f"{given}-{row}"} if given else {}
        events.append(made(said | derived | own | {"inputs": event.inputs}, row))
    return events


def _attributes(answers: Sequence[Answer]) -> tuple[tuple[str, str], ...]:
    """What SageMaker hands back to its caller beside the body."""
    said = {"passerelle_revision": str(answers[0].revision)}
    if len(answers) == 1:
        said |= {"passerelle_id": quote(answers[0].id, safe=""), "passerelle_version": str(answers[0].version)}
    text = ",".join(f"{name}={value}" for name, value in said.items())
    return (("X-Amzn-SageMaker-Custom-Attributes", text),) if len(text) <= _MOST_ATTRIBUTES else ()
