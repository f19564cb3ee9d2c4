"""A request of AWS checked against AWS's own service model (in botocore), strictly: boto3 itself checks the half of it.

Members that the model does not know, members that it requires, types, enumerations, patterns, least and most.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ServiceModel

#: What precedes the dot of X-Amz-Target → botocore's name of the service.
SERVICES = {
    "SageMaker": "sagemaker",
    "GraniteServiceVersion20100801": "cloudwatch",
    "AnyScaleFrontendService": "application-autoscaling",
    "Logs_20140328": "logs",
}
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "boolean": (bool,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float),
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
}


@cache
def model_of(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def faults_of(service: str, operation: str, body: dict[str, Any]) -> list[str]:
    """What is wrong with a request's body; empty: nothing."""
    shape = model_of(service).operation_model(operation).input_shape
    return [] if shape is None else _faults(shape, body, operation)


def _faults(shape: Any, value: Any, at: str) -> list[str]:
    kind = shape.type_name
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return [f"{at}: {value!r} is no {kind}"]
    found = _bounds(shape, value, at)
    if kind == "structure":
        found += [f"{at}: {name} is required" for name in shape.required_members if name not in value]
        found += [f"{at}: {name} is not known" for name in value if name not in shape.members]
        for name, one in value.items():
            if name in shape.members:
                found += _faults(shape.members[name], one, f"{at}.{name}")
    elif kind == "map":
        for key, one in value.items():
            found += _faults(shape.key, key, f"{at} key") + _faults(shape.value, one, f"{at}[{key}]")
    elif kind == "list":
        for number, one in enumerate(value):
            found += _faults(shape.member, one, f"{at}[{number}]")
    return found


def _bounds(shape: Any, value: Any, at: str) -> list[str]:
    limits = shape.metadata
    size = value if isinstance(value, int | float) else len(value)
    found = []
    if "min" in limits and size < limits["min"]:
        found.append(f"{at}: {value!r} is below {limits['min']}")
    if "max" in limits and size > limits["max"]:
        found.append(f"{at}: {value!r} is above {limits['max']}")
    if limits.get("enum") and value not in limits["enum"]:
        found.append(f"{at}: {value!r} is not among {limits['enum'][:5]} ...")
    if "pattern" in limits and not re.fullmatch(_python(limits["pattern"]), value):
        found.append(f"{at}: {value!r} does not match {limits['pattern']}")
    return found


#: Java's classes of characters, which Python has not; beyond ASCII letters only.
_CLASSES = {
    "L": r"a-zA-Z\u00c0-\uffff",
    "M": "",
    "N": "0-9",
    "P": r"!-#%-*,-/:;?@\[-\]_{}",
    "S": r"$+<=>^`|~",
    "Z": r" \u00a0",
}


def _python(pattern: str) -> str:
    """A pattern of Java's as one of Python's; a bound behind its end ("$" and "{1,128}") is left out."""
    pattern = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", "\U00010000-\U0010ffff")  # pairs of surrogates
    pattern = pattern.replace(r"\p{Print}", "[ -~]")
    bounded = re.sub(r"\$\{\d+,\d+\}", "$", pattern)
    return re.sub(r"\\p\{(\w)\w*\}", lambda found: _CLASSES[found[1]], bounded)
