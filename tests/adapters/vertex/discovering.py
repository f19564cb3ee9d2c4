"""Google's discovery documents as a judge of requests and answers: they come with google-api-python-client.

What they say is checked strictly: paths, verbs, query parameters, fields, types, enumerations, int64 and int32,
durations, field masks, fields that are output only. Google itself is laxer: it takes snake_case names and
ignores what is output only. What they do not say (required fields, sums, patterns) is in cloud.py and
cloud_endpoints.py, as rules of ours.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import googleapiclient

FOLDER = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
DOCUMENTS = ("aiplatform.v1", "monitoring.v3", "logging.v2", "storage.v1")
_FORMATS = {
    "int64": r"-?\d{1,19}",
    "uint64": r"\d{1,20}",
    "google-duration": r"-?\d+(\.\d{1,9})?s",
    "google-datetime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
    "google-fieldmask": r"[a-zA-Z0-9.]+(,[a-zA-Z0-9.]+)*",
}
_INT32 = 2**31


class Method:
    """One method of a document."""

    def __init__(self, document: dict[str, Any], found: dict[str, Any]) -> None:
        self.document, self.found = document, found
        self.id = re.sub(r"^aiplatform\.projects\.locations\.|^monitoring\.projects\.|^logging\.", "", found["id"])
        path = document["servicePath"] + found.get("flatPath", found["path"])
        # A {+name} or the last part may hold an alias (@2); nothing holds a / but an object's key.
        parts = re.split(r"(\{\+?\w+\})", path)
        self.pattern = re.compile(
            "/" + "".join("([^/:?]+)" if part.startswith("{") else re.escape(part) for part in parts)
        )
        self.template = re.sub(r"\{\+?\w+\}", "{}", found["path"])

    def faults(self, query: dict[str, str], body: Any, *, lax: bool = False) -> list[str]:
        """What is wrong with a request; ``lax``: enumerations as numbers, as Google's own clients send them."""
        known = self.document["parameters"] | {
            name: one for name, one in self.found.get("parameters", {}).items() if one["location"] == "query"
        }
        faults = [f"query {name} is unknown" for name in query if name not in known and name != "$alt"]
        for name, value in query.items():
            one = known.get(name, {})
            pattern = r"-?\d+" if one.get("type") == "integer" else _FORMATS.get(one.get("format", ""), r"[\s\S]*")
            if not re.fullmatch(pattern, value):
                faults.append(f"query {name} is {value!r}")
        schema = self.found.get("request")
        if schema is None:
            return [*faults, "a body where none is taken"] if body else faults
        return [*faults, *self._check(schema, body or {}, "body", sent=True, lax=lax)]

    def answer_faults(self, body: Any) -> list[str]:
        """What is wrong with an answer."""
        schema = self.found.get("response")
        return [] if schema is None else self._check(schema, body, "answer", sent=False, lax=False)

    def _check(self, schema: dict[str, Any], value: Any, at: str, *, sent: bool, lax: bool) -> list[str]:
        if "$ref" in schema:
            if sent and schema.get("readOnly"):
                return [f"{at} is output only"]
            schema = self.document["schemas"][schema["$ref"]]
        if sent and schema.get("readOnly"):
            return [f"{at} is output only"]
        kind = schema.get("type")
        if kind == "object":
            return self._check_object(schema, value, at, sent=sent, lax=lax)
        if kind == "array":
            if not isinstance(value, list):
                return [f"{at} is no list"]
            return [
                fault
                for index, one in enumerate(value)
                for fault in self._check(schema["items"], one, f"{at}[{index}]", sent=sent, lax=lax)
            ]
        return (
            [] if _is_plain(schema, value, lax=lax) else [f"{at} is {value!r}, not {kind} {schema.get('format', '')}"]
        )

    def _check_object(self, schema: dict[str, Any], value: Any, at: str, *, sent: bool, lax: bool) -> list[str]:
        if not isinstance(value, dict):
            return [f"{at} is no object"]
        faults = []
        for name, one in value.items():
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if inner is None:
                faults.append(f"{at}.{name} is unknown")
            else:
                faults += self._check(inner, one, f"{at}.{name}", sent=sent, lax=lax)
        return faults


def _is_plain(schema: dict[str, Any], value: Any, *, lax: bool) -> bool:
    kind, form = schema.get("type"), schema.get("format", "")
    if kind == "any":
        return True
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool) and -_INT32 <= value < _INT32
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if "enum" in schema:
        return value in schema["enum"] or (lax and isinstance(value, int) and 0 <= value < len(schema["enum"]))
    return isinstance(value, str) and re.fullmatch(_FORMATS.get(form, r"[\s\S]*"), value) is not None


def _methods(document: dict[str, Any], resources: dict[str, Any], *, below: str = "") -> list[Method]:
    found = []
    for name, resource in resources.items():
        path = f"{below}.{name}" if below else name
        found += [Method(document, one) for one in resource.get("methods", {}).values()]
        found += _methods(document, resource.get("resources", {}), below=path)
    return found


class Documents:
    """The methods of the documents that this project's calls belong to."""

    WANTED = re.compile(
        r"aiplatform\.projects\.locations\.(models|endpoints|operations|customJobs|models\.operations|"
        r"endpoints\.operations)\.[a-zA-Z]+|monitoring\.projects\.alertPolicies\.[a-z]+|logging\.entries\.list|"
        r"storage\.objects\.[a-z]+"
    )

    def __init__(self) -> None:
        self.methods: list[Method] = []
        for name in DOCUMENTS:
            document = json.loads((FOLDER / f"{name}.json").read_text())
            every = _methods(document, document["resources"])
            self.methods += [one for one in every if self.WANTED.fullmatch(one.found["id"])]

    def find(self, verb: str, path: str) -> Method | None:
        """The method that a request calls."""
        return next(
            (one for one in self.methods if one.found["httpMethod"] == verb and one.pattern.fullmatch(path)), None
        )
