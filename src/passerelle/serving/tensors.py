"""Tensors: events and answers in the form of the Open Inference Protocol (V2: KServe, Triton, MLServer). Pure.

Each field is an input of shape [n] or [n, 1]; or, where a model's fields are all of one type, one input of shape
[n, fields] holds them in the order of the model's metadata. Data may be nested or flat, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from passerelle.bundle.manifest import Manifest
from passerelle.decoding import prepared
from passerelle.schema import Kind
from passerelle.serving.events import Answer, Event, fault, invalid, label_text
from passerelle.serving.instances import RESERVED, Fields, event_of

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]

#: What a field's kind is called here; moments and days travel as text.
DATATYPES: dict[Kind, Datatype] = {
    "integer": "INT64",
    "number": "FP64",
    "boolean": "BOOL",
    "string": "BYTES",
    "timestamp": "BYTES",
    "date": "BYTES",
}
_BINARY = "binary_data_size"


class Tensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An input, or an output."""

    name: str
    shape: tuple[int, ...]
    datatype: Datatype
    parameters: dict[str, Any] = {}
    data: list[Any] = msgspec.field(default_factory=list)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request. Its parameters are not read."""

    id: str | None = None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...] = ()


class InferReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of an answer."""

    model_name: str
    #: The version that answered; absent if several did, each its units.
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: tuple[Tensor, ...]


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]


def read_request(sent: Mapping[str, Any]) -> InferRequest:
    """A body, already decoded, as a request. Raises RowsError."""
    try:
        return msgspec.convert(sent, prepared(InferRequest))
    except msgspec.ValidationError as error:
        raise invalid(error) from error


def read_tensors(request: InferRequest, fields: Fields) -> list[Event]:
    """The events of a request. Raises RowsError, naming the input.

    >>> from passerelle.schema import Column, Schema
    >>> hour = Schema(columns=(Column(name="hour", kind="integer"),))
    >>> sent = {"inputs": [{"name": "hour", "shape": [2, 1], "datatype": "INT64", "data": [5, 6]}]}
    >>> [one.inputs for one in read_tensors(read_request(sent), Fields(schema=hour, order=("hour",)))]
    [{'hour': 5}, {'hour': 6}]
    """
    columns: dict[str, list[Any]] = {}
    known = {*fields.schema.names, *RESERVED}
    rows: int | None = None
    for tensor in request.inputs:
        values = _values(tensor)
        length, width = tensor.shape[0] if tensor.shape else 0, math.prod(tensor.shape[1:])
        if rows is not None and length != rows:
            raise fault(0, tensor.name, f"has {length} rows, and {request.inputs[0].name!r} has {rows}")
        rows = length
        if tensor.name not in known and len(request.inputs) == 1 and len(tensor.shape) == 2:  # noqa: PLR2004  (a matrix)
            if width != len(fields.order):
                there = ", ".join(fields.order)
                raise fault(0, tensor.name, f"has {width} columns, and the fields are {len(fields.order)}: {there}")
            columns = {name: values[place::width] for place, name in enumerate(fields.order)}
            break
        if tensor.name in columns:
            raise fault(0, tensor.name, "stands twice among the inputs")
        if width != 1:
            raise fault(0, tensor.name, f"has the shape {list(tensor.shape)}: a field has the shape [n] or [n, 1]")
        columns[tensor.name] = values
    names = list(columns)
    return [
        event_of(dict(zip(names, row, strict=True)), number, fields)
        for number, row in enumerate(zip(*columns.values(), strict=True))
    ]


def write_tensors(
    manifest: Manifest, answers: Sequence[Answer], *, request: InferRequest, model: str, revision: int
) -> InferReply:
    """The answers, none of which is an error, as outputs: prediction, probability, id, version; those asked for.

    Raises RowsError for an output that there is not.
    """
    outputs = _outputs(manifest, answers)
    if unknown := [one.name for one in request.outputs if one.name not in outputs]:
        raise fault(0, unknown[0], f"is not an output of this model; they are {', '.join(outputs)}")
    wanted = [one.name for one in request.outputs] or list(outputs)
    versions = {answer.version for answer in answers}
    return InferReply(
        model_name=model,
        model_version=str(versions.pop()) if len(versions) == 1 else None,
        id=request.id,
        parameters={"revision": revision},
        outputs=tuple(outputs[name] for name in wanted),
    )


def metadata(manifest: Manifest, fields: Fields, *, model: str, versions: Sequence[int]) -> Metadata:
    """What a model takes and gives; -1: as many rows as are sent."""
    columns = (fields.schema.column(name) for name in fields.order)
    return Metadata(
        name=model,
        versions=tuple(str(version) for version in versions),
        platform="passerelle",
        inputs=tuple({"name": one.name, "datatype": DATATYPES[one.kind], "shape": [-1]} for one in columns),
        outputs=tuple(
            {"name": one.name, "datatype": one.datatype, "shape": [-1, *one.shape[1:]]}
            for one in _outputs(manifest, ()).values()
        ),
    )


def _outputs(manifest: Manifest, answers: Sequence[Answer]) -> dict[str, Tensor]:
    rows = len(answers)
    kind, labels = _labels(manifest)
    predictions = [answer.prediction for answer in answers]
    outputs = [
        Tensor(
            name="prediction",
            shape=(rows,),
            datatype=kind,
            data=[label_text(one) for one in predictions] if labels else predictions,  # type: ignore[arg-type]  # no errors here
        )
    ]
    if manifest.task == "binary":
        shares = [answer.probability for answer in answers]
        outputs.append(Tensor(name="probability", shape=(rows,), datatype="FP64", data=shares))
    elif manifest.task == "multiclass":
        classes = [label_text(label) for label in manifest.classes]
        flat = [answer.probability[name] for answer in answers for name in classes]  # type: ignore[index]  # a dict here
        outputs.append(
            Tensor(
                name="probability",
                shape=(rows, len(classes)),
                datatype="FP64",
                data=flat,
                parameters={"classes": classes},
            )
        )
    outputs += [
        Tensor(name="id", shape=(rows,), datatype="BYTES", data=[answer.id for answer in answers]),
        Tensor(name="version", shape=(rows,), datatype="INT64", data=[answer.version for answer in answers]),
    ]
    return {one.name: one for one in outputs}


def _labels(manifest: Manifest) -> tuple[Datatype, bool]:
    """The datatype of predictions, and whether they travel as text."""
    kinds = {type(label) for label in manifest.classes}
    if not kinds:
        return "FP64", False
    if kinds == {bool}:
        return "BOOL", False
    return ("INT64", False) if kinds == {int} else ("BYTES", True)


def _values(tensor: Tensor) -> list[Any]:
    """A tensor's data, flat, checked against its shape and type."""
    if _BINARY in tensor.parameters:
        raise fault(0, tensor.name, "is sent as binary data: send it as JSON (tritonclient: binary_data=False)")
    if any(size < 0 for size in tensor.shape):
        raise fault(0, tensor.name, f"has the shape {list(tensor.shape)}: no size is negative")
    values: list[Any] = []
    pending = [iter(tensor.data)]
    while pending:
        for value in pending[-1]:
            if isinstance(value, list):
                pending.append(iter(value))
                break
            values.append(value)
        else:
            pending.pop()
    if len(values) != math.prod(tensor.shape) or not tensor.shape:
        raise fault(0, tensor.name, f"has {len(values)} values, and its shape is {list(tensor.shape)}")
    fits = _FITS[tensor.datatype]
    for place, value in enumerate(values):
        if value is not None and not fits(value):
            raise fault(place // max(1, math.prod(tensor.shape[1:])), tensor.name, f"{value!r} is no {tensor.datatype}")
    return values


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_FITS: dict[str, Callable[[Any], bool]] = {
    "BOOL": lambda value: isinstance(value, bool),
    **{f"UINT{bits}": _whole(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": _whole(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **dict.fromkeys(("FP16", "FP32", "FP64"), _is_number),
    "BYTES": lambda value: isinstance(value, str),
}
