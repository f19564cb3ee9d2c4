"""Refusals of the server of googling.py."""

from __future__ import annotations

import re
from typing import Any

NOW = "2026-11-22T00:00:00Z"
TYPE = "type.googleapis.com/google.cloud.aiplatform.v1."
EMPTY = {"@type": "type.googleapis.com/google.protobuf.Empty"}
_LABEL, _VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")


class RefusalError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, reason: str = "", **metadata: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.metadata = status, reason, metadata

    def body(self, status: str) -> dict[str, Any]:
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": self.reason, "metadata": self.metadata}
        details = {"details": [info]} if self.reason else {}
        return {"code": self.status, "message": str(self), "status": status} | details


def demand(holds: object, message: str, status: int = 400) -> None:
    if not holds:
        raise RefusalError(status, message)


def check_labels(labels: dict[str, str]) -> None:
    for key, value in labels.items():
        demand(_LABEL.fullmatch(key) and _VALUE.fullmatch(value), f"label {key}={value} is not legal")
    demand(len(labels) <= 64, "more than 64 labels")
