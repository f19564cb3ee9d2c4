"""Openapi: the description of an endpoint, made from the schema and the classes of the revision that answers."""

from __future__ import annotations

from typing import Any

from passerelle.bundle.manifest import Manifest
from passerelle.schema import Column, Schema
from passerelle.serving.active import Active
from passerelle.serving.events import label_text

_TYPES: dict[str, dict[str, str]] = {
    "integer": {"type": "integer", "format": "int64"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "string": {"type": "string"},
    "timestamp": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
}
_EXAMPLES: dict[str, Any] = {
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "string": "text",
    "timestamp": "2013-01-31T12:00:00Z",
    "date": "2013-01-31",
}


def describe(active: Active, max_rows: int) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a revision."""
    deployment, manifest = active.deployment, active.manifest
    event = _event(active)
    truth = {
        "id": "event-1",
        "value": manifest.classes[-1] if manifest.classes else 1.5,
        "known_at": _EXAMPLES["timestamp"],
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{deployment.project}, {deployment.environment}",
            "version": f"revision {deployment.revision}",
            "description": f"Predicts {manifest.target} ({manifest.task}).",
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/predict": _post(
                "Answer one event, or many",
                _one_or_many("Event", "events", max_rows),
                {"one": event, "many": {"events": [event]}},
                {"oneOf": [_ref("Answer"), _list("Answer", "predictions")]},
                errors={"503": "Too busy, not ready, or the ledger cannot be written: send it again"},
                failed={"500": "The model failed on every event", "504": "The model did not answer in time"},
            ),
            "/outcomes": _post(
                "Say what became true of predictions",
                _one_or_many("Outcome", "outcomes", max_rows),
                {"one": truth, "many": {"outcomes": [truth]}},
                _object(
                    {
                        "recorded": {"type": "integer"},
                        "unknown_classes": {
                            "type": "integer",
                            "description": "Of these, how many are a class that the model never saw; absent if none is",
                        },
                    },
                    ["recorded"],
                ),
                errors={"409": "The ledger is off", "503": "Not ready, or the ledger cannot be written: send it again"},
            ),
            "/live": _get("Is the process there?", "application/json"),
            "/ready": _get(
                "Is a revision loaded, and which?", "application/json", failed={"503": "No revision is loaded"}
            ),
            "/metrics": _get("Measures for Prometheus", "text/plain"),
            "/openapi.json": _get("This document", "application/json", {"503": "No revision is loaded"}),
            "/docs": _get("This page", "text/html"),
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Inputs": _inputs(active.schema, {name for lane in active.live for name in lane.schema.names}),
                "Event": _object(
                    {
                        "id": {"type": ["string", "null"], "maxLength": 256, "minLength": 1},
                        "unit": {"type": ["string", "integer", "null"], "minLength": 1},
                        "at": {"type": ["string", "null"], "format": "date-time"},
                        "inputs": _ref("Inputs"),
                    },
                    ["inputs"],
                ),
                "Answer": _answer(manifest),
                "Outcome": _object(
                    {
                        "id": {"type": "string", "maxLength": 256, "minLength": 1},
                        "value": _truth(manifest),
                        "known_at": {"type": "string", "format": "date-time"},
                    },
                    ["id", "value", "known_at"],
                ),
                "Error": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {
                        "error": {"type": "string"},
                        "issues": {
                            "type": "array",
                            "items": _object(
                                {"row": {"type": "integer"}, "field": {"type": "string"}, "reason": {"type": "string"}},
                                ["row", "field", "reason"],
                            ),
                        },
                    },
                },
            },
        },
    }


def _event(active: Active) -> dict[str, Any]:
    return {"inputs": {column.name: _example(column) for column in active.schema.columns}}


def _example(column: Column) -> Any:
    if column.allowed:
        return column.allowed[0]
    if column.kind in ("integer", "number"):
        value = _EXAMPLES[column.kind]
        if column.minimum is not None:
            value = max(value, column.minimum)
        if column.maximum is not None:
            value = min(value, column.maximum)
        return int(value) if column.kind == "integer" else value
    return _EXAMPLES[column.kind]


def _inputs(schema: Schema, required: set[str]) -> dict[str, Any]:
    return _object(
        {column.name: _field(column) for column in schema.columns},
        [name for name in schema.names if name in required],
    )


def _field(column: Column) -> dict[str, Any]:
    field: dict[str, Any] = dict(_TYPES[column.kind])
    if column.nullable:
        field["type"] = [field["type"], "null"]
    if column.minimum is not None:
        field["minimum"] = column.minimum
    if column.maximum is not None:
        field["maximum"] = column.maximum
    if column.allowed is not None:
        field["enum"] = [*column.allowed, *([None] if column.nullable else [])]
    return field


def _truth(manifest: Manifest) -> dict[str, Any]:
    if not manifest.classes:
        return {"type": "number"}
    known = ", ".join(label_text(label) for label in manifest.classes)
    return {
        "type": ["string", "integer", "boolean"],
        "description": f"The class: {known}, or a new one, which is recorded and counted",
    }


def _answer(manifest: Manifest) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "id": {"type": "string"},
        "prediction": {"enum": list(manifest.classes)} if manifest.classes else {"type": "number"},
        "version": {"type": "integer"},
        "revision": {"type": "integer"},
        "error": {"type": "string"},
        "timed_out": {"type": "boolean"},
    }
    share = {"type": "number", "minimum": 0, "maximum": 1}
    if manifest.task == "binary":
        properties["probability"] = share | {"description": f"Of {label_text(manifest.classes[1])}"}
    elif manifest.task == "multiclass":
        properties["probability"] = _object({label_text(label): share for label in manifest.classes}, [])
    return _object(properties, ["id", "version", "revision"])


def _one_or_many(name: str, many: str, max_rows: int) -> dict[str, Any]:
    return {"oneOf": [_ref(name), _list(name, many, max_rows)]}


def _list(name: str, many: str, max_rows: int | None = None) -> dict[str, Any]:
    items: dict[str, Any] = {"type": "array", "items": _ref(name)}
    if max_rows is not None:
        items |= {"minItems": 1, "maxItems": max_rows}
    return _object({many: items}, [many])


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _post(
    summary: str,
    body: dict[str, Any],
    examples: dict[str, Any],
    answer: dict[str, Any],
    *,
    errors: dict[str, str],
    failed: dict[str, str] | None = None,
) -> dict[str, Any]:
    """``failed`` are the codes that answer in the form of a success, or of an error."""
    common = {
        "400": "The body is not JSON",
        "401": "A token is needed",
        "403": "The token does not allow it",
        "408": "The body did not arrive in time",
        "413": "Too many rows, or too large a body",
        "415": "The body is not sent as application/json",
        "421": "Asked for by a name that is not this machine's",
        "422": "A row does not fit; nothing was recorded",
    }
    either = {"anyOf": [answer, _ref("Error")]}
    return {
        "post": {
            "summary": summary,
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": body,
                        "examples": {name: {"value": value} for name, value in examples.items()},
                    }
                },
            },
            "responses": {"200": _content("Done", "application/json", answer)}
            | _errors(common | errors)
            | {code: _content(text, "application/json", either) for code, text in (failed or {}).items()},
        }
    }


def _get(
    summary: str, kind: str, errors: dict[str, str] | None = None, *, failed: dict[str, str] | None = None
) -> dict[str, Any]:
    """``failed`` are the codes that answer in the form of a success."""
    common = {"401": "A token is needed", "403": "The token does not allow it", "421": "Not this machine's name"}
    return {
        "get": {
            "summary": summary,
            "responses": {"200": _content("Done", kind, {})}
            | _errors(common | (errors or {}))
            | {code: _content(text, kind, {}) for code, text in (failed or {}).items()},
        }
    }


def _errors(errors: dict[str, str]) -> dict[str, Any]:
    return {code: _content(text, "application/json", _ref("Error")) for code, text in errors.items()}


def _content(text: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {kind: {"schema": schema}}}
