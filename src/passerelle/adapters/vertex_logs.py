"""What an endpoint's containers wrote last, as Cloud Logging keeps it."""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec

from passerelle.adapters.vertex_rest import Rest
from passerelle.deployment.target import TargetError

_MOST_PAGES = 10


def last_lines(rest: Rest, endpoint: str, lines: int) -> tuple[str, ...]:
    """The last lines of an endpoint's containers, oldest first. Raises TargetError, also if there is none."""
    wanted = f'resource.type="aiplatform.googleapis.com/Endpoint" AND resource.labels.endpoint_id="{endpoint}"'
    body = {
        "resourceNames": [f"projects/{rest.project}"],
        "filter": wanted,
        "orderBy": "timestamp desc",
        "pageSize": min(lines, 1000),
    }
    found: list[dict[str, Any]] = []
    for _ in range(_MOST_PAGES):  # a page may be empty, and more follow
        page = rest.call("entries.list", f"projects/{rest.project}", body)
        found += page.get("entries", ())
        if len(found) >= lines or "nextPageToken" not in page:
            break
        body["pageToken"] = page["nextPageToken"]
    if not found:
        raise TargetError(
            f"Cloud Logging has nothing of endpoint {endpoint}: deploy first, or wait a minute for what was written; "
            f"gcloud logging read '{wanted}' --project {rest.project} asks the same."
        )
    return tuple(reversed([_text(one) for one in islice(found, lines)]))


def _text(entry: dict[str, Any]) -> str:
    """What was written: as text, as a message, or else as it is kept."""
    said = entry.get("textPayload") or entry.get("jsonPayload", {}).get("message")
    if said is None:
        said = msgspec.json.encode(entry.get("jsonPayload") or entry.get("protoPayload") or {}).decode()
    return str(said).rstrip()
