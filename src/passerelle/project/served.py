"""Served: of a project's settings those that its container reads, always written alike.

They travel to targets, signed. A remark, a threshold of an alert or a milestone changes nothing there: what answers is
not made anew for it.
"""

from __future__ import annotations

import json
from typing import Any

from passerelle.project.settings import Project

#: Of [serving]; host, port and ledger are the platform's and the revision's there.
_SERVING = ("workers", "deadline_ms", "max_rows", "max_body_bytes")


def served(project: Project) -> bytes:
    """A passerelle.toml, in UTF-8, that load_project reads: the name, the task, and what [serving] limits."""
    task = project.task
    sections: dict[str, dict[str, Any]] = {
        "project": {"name": project.name},
        "task": {"kind": task.kind, "target": task.target, "key": list(task.key)},
        "serving": {name: getattr(project.serving, name) for name in _SERVING},
    }
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
    return "\n".join((*lines, "")).encode()


def _toml(value: Any) -> str:
    """Texts, whole numbers and lists of texts are written as in JSON, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
