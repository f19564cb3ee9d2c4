"""Contracts at a real socket: what their tests share."""

from __future__ import annotations

from typing import Any

UA = {"distance": 250.0, "carrier": "UA", "plane": None}
DL = {"distance": 600.0, "carrier": "DL", "plane": "N1"}
AT = "2013-03-01T12:00:00Z"
MODEL = "/v2/models/flights"


def tensors(**columns: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "shape": [len(data)], "datatype": kind, "data": data} for name, (kind, data) in columns.items()
    ]


BOTH = tensors(distance=("FP64", [250.0, 600.0]), carrier=("BYTES", ["UA", "DL"]), plane=("BYTES", [None, "N1"]))
