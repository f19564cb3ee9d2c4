"""Microsoft's OpenAPI as a strict judge of requests and answers, with discriminators resolved.

Nothing of the specifications is kept here: they are read from ``../shared/reference/specs`` beside the checkout, or
from the folder that PASSERELLE_SPECS names.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).parents[3]
SPECS = Path(os.environ.get("PASSERELLE_SPECS") or ROOT.parent / "shared" / "reference" / "specs").resolve()
_OPENAPI = SPECS / "azure-openapi" / "specification"
_ML = _OPENAPI / "machinelearningservices/resource-manager/Microsoft.MachineLearningServices/stable/2023-04-01"
_INSIGHTS = _OPENAPI / "monitor/resource-manager/Microsoft.Insights/stable"
FILES = (
    _ML / "mfe.json",
    _INSIGHTS / "2018-03-01" / "metricAlert_API.json",
    _INSIGHTS / "2022-10-01" / "autoscale_API.json",
)
EXAMPLES = _ML / "examples"
ABSENT = None if FILES[0].exists() else f"{SPECS} has no Microsoft OpenAPI: set PASSERELLE_SPECS"

_DURATION = re.compile(r"P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}


class Operation(msgspec.Struct, frozen=True):
    """One thing that can be asked."""

    id: str
    verb: str
    pattern: re.Pattern[str]
    version: str
    file: Path
    definition: dict[str, Any]
    parameters: tuple[tuple[Path, dict[str, Any]], ...]


@functools.cache
def _load(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
    return loaded


def resolve(node: dict[str, Any], file: Path) -> tuple[dict[str, Any], Path]:
    """What a $ref points to, and in which file that is."""
    while "$ref" in node:
        place, _, pointer = node["$ref"].partition("#/")
        file = (file.parent / place).resolve() if place else file
        node = functools.reduce(lambda at, part: at[part], pointer.split("/"), _load(file))
    return node, file


@functools.cache
def operations() -> tuple[Operation, ...]:
    found = []
    for file in FILES:
        spec = _load(file)
        for path, item in spec["paths"].items():
            for verb in ("get", "put", "post", "patch", "delete"):
                if verb not in item:
                    continue
                definition = item[verb]
                given = [resolve(one, file) for one in [*item.get("parameters", ()), *definition.get("parameters", ())]]
                # ARM's paths do not mind capitals but in the names that people gave.
                pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))
                found.append(
                    Operation(
                        definition["operationId"],
                        verb.upper(),
                        re.compile(pattern, re.IGNORECASE),
                        spec["info"]["version"],
                        file,
                        definition,
                        tuple((where, one) for one, where in given),
                    )
                )
    return tuple(found)


def find(verb: str, path: str, version: str | None) -> Operation | None:
    for one in operations():
        if one.verb == verb and one.version == version and one.pattern.fullmatch(path):
            return one
    return None


def faults_of_request(verb: str, path: str, query: dict[str, str], body: Any) -> list[str]:  # noqa: C901, PLR0912  (a list of cases)
    """What Microsoft's description finds wrong with a request; [] if nothing is."""
    version = query.get("api-version")
    if version is None:
        return ["the query has no api-version"]
    one = find(verb, path, version)
    if one is None:
        return [f"there is no {verb} {path} in {version}"]
    match = one.pattern.fullmatch(path)
    assert match
    known, faults, expects = {"api-version"}, [], False
    for where, parameter in one.parameters:
        name = parameter["name"]
        if parameter["in"] == "body":
            expects = True
            if body is None:
                if parameter.get("required"):
                    faults.append("the body is missing")
            else:
                faults += list(faults_of(body, parameter["schema"], where, "body", request=True))
        elif parameter["in"] == "path":
            faults += list(faults_of(match[name], parameter, where, name, request=True))
        elif parameter["in"] == "query":
            known.add(name)
            if name in query:
                value: Any = query[name]
                if parameter["type"] == "integer" and value.isdigit():
                    value = int(value)
                faults += list(faults_of(value, parameter, where, name, request=True))
            elif parameter.get("required"):
                faults.append(f"the query has no {name}")
    faults += [f"the query has an unknown {name}" for name in query if name not in known]
    if body is not None and not expects:
        faults.append("there is a body, and none is expected")
    return faults


def faults_of_answer(one: Operation, status: int, body: Any) -> list[str]:
    """What the description finds wrong with an answer of ours."""
    answers = one.definition["responses"]
    answer = answers.get(str(status)) or (answers.get("default") if status >= 400 else None)
    if answer is None:
        return [f"{one.id} does not answer {status}"]
    if "schema" not in answer:
        return [] if body is None else [f"{one.id} answers {status} without a body"]
    return list(faults_of(body, answer["schema"], one.file, "answer", request=False))


def faults_of(value: Any, schema: dict[str, Any], file: Path, at: str, *, request: bool) -> Iterator[str]:  # noqa: C901  (a list of cases)
    """What is wrong with a value by a schema: allOf, discriminator, additionalProperties, readOnly, format."""
    nullable = schema.get("x-nullable", False)
    schema, file = resolve(schema, file)
    if value is None:
        if not (nullable or schema.get("x-nullable") or not request):
            yield f"{at} is null"
        return
    kind = schema.get("type") or ("object" if "properties" in schema or "allOf" in schema else None)
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{at} is {value!r}, not {kind}"
        return
    choices = schema.get("enum")
    if choices and not schema.get("x-ms-enum", {}).get("modelAsString") and value not in choices:
        yield f"{at} is {value!r}, none of {choices}"
    elif choices and value not in choices:
        yield f"{at} is {value!r}, none of the known {choices}"
    if isinstance(value, str):
        yield from _text(value, schema, at)
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            yield f"{at} has {len(value)} items"
        for index, one in enumerate(value):
            yield from faults_of(one, schema["items"], file, f"{at}[{index}]", request=request)
    elif isinstance(value, dict) and kind == "object":
        yield from _object(value, schema, file, at, request=request)


def _text(value: str, schema: dict[str, Any], at: str) -> Iterator[str]:
    if schema.get("format") == "duration" and not _DURATION.fullmatch(value):
        yield f"{at} is {value!r}, no ISO 8601 duration"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at} is {value!r}, not like {schema['pattern']}"
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{at} has {len(value)} characters"


def _object(value: dict[str, Any], schema: dict[str, Any], file: Path, at: str, *, request: bool) -> Iterator[str]:  # noqa: C901  (a list of cases)
    discriminator = _discriminator(schema, file)
    if discriminator:
        said = value.get(discriminator)
        chosen = _kind(schema, file, said) if said is not None else None
        if said is not None and chosen is None:
            yield f"{at}.{discriminator} is {said!r}, which is unknown"
            return
        if chosen:
            schema, file = chosen
    properties, required, more = _members(schema, file)
    if not properties and more is None:
        return  # an object of which nothing is said
    for name in required:
        if name not in value:
            yield f"{at}.{name} is missing"
    for name, one in value.items():
        if name in properties:
            where, inner = properties[name]
            mutability = inner.get("x-ms-mutability")
            if request and (inner.get("readOnly") or mutability == ["read"]):
                yield f"{at}.{name} is read only"
            else:
                yield from faults_of(one, inner, where, f"{at}.{name}", request=request)
        elif isinstance(more, dict):
            yield from faults_of(one, more, file, f"{at}.{name}", request=request)
        else:
            yield f"{at}.{name} is unknown"


def _members(schema: dict[str, Any], file: Path) -> tuple[dict[str, tuple[Path, Any]], set[str], Any]:
    """Properties with the file that they are in, the required ones, and what else may be: also of what it inherits."""
    properties: dict[str, tuple[Path, Any]] = {}
    required, more = set(schema.get("required", ())), schema.get("additionalProperties")
    for part in schema.get("allOf", ()):
        inherited, where = resolve(part, file)
        inner, needs, _ = _members(inherited, where)
        properties |= inner
        required |= needs
    properties |= {name: (file, one) for name, one in schema.get("properties", {}).items()}
    if isinstance(more, dict) and properties and "allOf" not in schema:
        more = None  # Microsoft's own criteria allow objects beside their members: their kinds do not
    return properties, required, more


def _discriminator(schema: dict[str, Any], file: Path) -> str | None:
    if "discriminator" in schema:
        return str(schema["discriminator"])
    return next((found for part in schema.get("allOf", ()) if (found := _discriminator(*resolve(part, file)))), None)


def _kind(base: dict[str, Any], file: Path, said: str) -> tuple[dict[str, Any], Path] | None:
    """The definition that is a kind of ``base`` and is called so."""
    if base.get("x-ms-discriminator-value") == said:
        return base, file
    return next(
        (
            (one, file)
            for name, one in _load(file)["definitions"].items()
            if one.get("x-ms-discriminator-value", name) == said and _inherits(one, file, base)
        ),
        None,
    )


def _inherits(one: dict[str, Any], file: Path, base: dict[str, Any]) -> bool:
    return any(
        resolved is base or _inherits(resolved, where, base)
        for resolved, where in (resolve(part, file) for part in one.get("allOf", ()))
    )
