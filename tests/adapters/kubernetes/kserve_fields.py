"""KServe's own fields of an InferenceService's predictor, out of KServe's own package; the rest of it is a PodSpec.

kserve_fields.json is made by this file, and by nothing else, from the wheel of PyPI's ``kserve`` (Copyright The KServe
Authors, Apache License 2.0), whose models are generated from KServe's API::

    pip download --no-deps kserve==0.21.0
    python kserve_fields.py kserve-0.21.0-py3-none-any.whl >kserve_fields.json
"""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import kubernetes_validate

HERE = Path(__file__).parent
#: Of Kubernetes, whose schemas judge what is not KServe's own.
VERSION, _NEWEST = "1.32", "1.36"
_MODEL = "kserve/models/v1beta1_predictor_spec.py"
_TYPES: dict[str, type] = {"int": int, "str": str, "bool": bool, "dict(str, str)": dict}
_FIELDS: dict[str, str] = (
    json.loads((HERE / "kserve_fields.json").read_text())["fields"] if (HERE / "kserve_fields.json").exists() else {}
)


def read(wheel: Path) -> dict[str, str]:
    """The predictor's fields and their types, without those that a PodSpec has."""
    with zipfile.ZipFile(wheel) as archive:
        (model,) = [one for one in ast.parse(archive.read(_MODEL)).body if isinstance(one, ast.ClassDef)]
    tables = {
        target.id: ast.literal_eval(one.value)
        for one in model.body
        if isinstance(one, ast.Assign)
        for target in one.targets
        if isinstance(target, ast.Name) and target.id in ("openapi_types", "attribute_map")
    }
    types, names = tables["openapi_types"], tables["attribute_map"]
    return {names[field]: kind for field, kind in types.items() if not _of_a_pod(names[field])}


def _of_a_pod(name: str) -> bool:
    """Has a PodSpec a field of this name?"""
    try:
        kubernetes_validate.validate(_pod({"containers": [{"name": "x"}], name: ()}), _NEWEST, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"('{name}' was unexpected)" not in str(error)
    return True


def check(body: dict[str, Any]) -> None:
    """Raise ValueError or kubernetes_validate.ValidationError for an InferenceService that is none."""
    unknown = [key for key in body if key not in ("apiVersion", "kind", "metadata", "spec")]
    predictor = dict(body["spec"]["predictor"])
    if unknown or list(body["spec"]) != ["predictor"] or body["apiVersion"] != "serving.kserve.io/v1beta1":
        raise ValueError(f"{body['apiVersion']} with {unknown or list(body['spec'])}")
    own = {name: predictor.pop(name) for name in _FIELDS if name in predictor}
    for name, value in own.items():
        wanted = _TYPES.get(_FIELDS[name], dict)
        if type(value) is not wanted:
            raise ValueError(f"{name} is {value!r}, no {wanted.__name__}")
    kubernetes_validate.validate(_pod(predictor, body["metadata"]), VERSION, strict=True)
    if "deploymentStrategy" in own:
        kubernetes_validate.validate(_workload(own["deploymentStrategy"]), VERSION, strict=True)


def _pod(spec: dict[str, Any], metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata or {"name": "x"}, "spec": spec}


def _workload(strategy: dict[str, Any]) -> dict[str, Any]:
    labels = {"matchLabels": {"a": "b"}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x"}]}}
    spec = {"selector": labels, "template": template, "strategy": strategy}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": spec}


if __name__ == "__main__":
    found = Path(sys.argv[1])
    said = f"KServe's own fields of a predictor, by kserve_fields.py from {found.name}, Apache License 2.0"
    sys.stdout.write(json.dumps({"$comment": said, "fields": read(found)}, indent=1) + "\n")
