"""Graph: is an ONNX file one TreeEnsemble and nothing else? Asked before ONNX Runtime sees a form that nobody signed.

An ONNX file is data, but a graph may loop for ever, call functions or name files to read. So the file is walked, as
protobuf (https://protobuf.dev/programming-guides/encoding), against the few fields that ``bundle.compile`` writes; the
numbers are those of onnx.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LAST = 0x80

#: Runs of AttributeProto.ints, one field each: millions in a large forest, so they are skipped in one go.
_INTEGERS = re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f])+")

#: Message → the fields that it may have.
_MODEL = {"ir_version": 1, "producer_name": 2, "graph": 7, "opset_import": 8}
_GRAPH = {"node": 1, "name": 2, "input": 11, "output": 12}
_NODE = {"input": 1, "output": 2, "name": 3, "op_type": 4, "attribute": 5, "domain": 7}
_ATTRIBUTE = {"name": 1, "i": 3, "t": 5, "ints": 8, "type": 20}
_TENSOR = {"dims": 1, "data_type": 2, "name": 8, "raw_data": 9}


def refuse_other_operators(data: bytes) -> None:
    """Raise ValueError, saying what was found, unless the file is one TreeEnsemble with its tensors inside.

    >>> refuse_other_operators(bytes([0x72, 0x00]))
    Traceback (most recent call last):
    ValueError: a field 14 where none is written
    """
    graph = _only(_fields(data, _MODEL), _MODEL["graph"], "graph")
    node = _only(_fields(graph, _GRAPH), _GRAPH["node"], "operator")
    found = {_NODE["op_type"]: b"", _NODE["domain"]: b""}
    for number, value in _fields(node, _NODE):
        if number in found:
            found[number] = value
        elif number == _NODE["attribute"]:
            for inner, tensor in _fields(value, _ATTRIBUTE):
                if inner == _ATTRIBUTE["t"]:
                    list(_fields(tensor, _TENSOR))
    if list(found.values()) != [b"TreeEnsemble", b"ai.onnx.ml"]:
        names = b" of ".join(found.values()).decode(errors="replace")
        raise ValueError(f"an operator {names}, where TreeEnsemble of ai.onnx.ml is written")


def _only(fields: Iterator[tuple[int, bytes]], number: int, what: str) -> bytes:
    values = [value for found, value in fields if found == number]
    if len(values) != 1:
        raise ValueError(f"{len(values)} times a {what}, where one is written")
    return values[0]


def _fields(data: bytes, known: dict[str, int]) -> Iterator[tuple[int, bytes]]:
    """The fields of a message: number and bytes (empty for numbers, whose values play no part)."""
    at = 0
    while at < len(data):
        if known is _ATTRIBUTE and (run := _INTEGERS.match(data, at)):
            at = run.end()
            continue
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number not in known.values():
            raise ValueError(f"a field {number} where none is written")
        if wire == _BYTES:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("cut short")
            yield number, data[at : at + size]
            at += size
        elif wire == _VARINT:
            _, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"a field of wire type {wire}, which nobody writes")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift < 64:  # noqa: PLR2004  (bits)
        byte = data[at]
        number |= (byte & ~_LAST) << shift
        at, shift = at + 1, shift + 7
        if byte < _LAST:
            return number, at
    raise ValueError("cut short")
