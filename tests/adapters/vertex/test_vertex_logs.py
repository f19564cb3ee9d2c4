"""What the containers wrote last, from a server that speaks Cloud Logging's entries.list as its document says."""

from __future__ import annotations

from typing import Any

import pytest
from vertexing import PLACE, Google

from passerelle.deployment.target import Logs, TargetError

ENDPOINT = "aiplatform.googleapis.com/Endpoint"


def entry(minute: int, place: str = PLACE, kind: str = ENDPOINT, **payload: Any) -> dict[str, Any]:
    return {
        "insertId": f"{place}-{minute}",
        "logName": "projects/acme/logs/aiplatform.googleapis.com%2Fprediction_container",
        "timestamp": f"2026-11-22T00:{minute:02}:00Z",
        "resource": {"type": kind, "labels": {"endpoint_id": place}},
        **payload,
    }


def test_the_last_lines_of_the_endpoint_oldest_first(google: Google) -> None:
    entries = [entry(minute, textPayload=f"line {minute}\n") for minute in (3, 1, 2)]
    entries += [entry(4, jsonPayload={"message": "said"}), entry(5, jsonPayload={"a": 1})]
    entries += [entry(6, place="other", textPayload="other"), entry(7, kind="gce_instance", textPayload="machine")]
    google.order(set=[[["log", "entries"], entries]])
    target = google.open()
    assert isinstance(target, Logs)
    assert target.logs("production") == ("line 1", "line 2", "line 3", "said", '{"a":1}')
    assert target.logs("production", 3) == ("line 3", "said", '{"a":1}')


def test_nothing_is_there_or_not_for_us(google: Google) -> None:
    with pytest.raises(
        TargetError, match=r"nothing of endpoint trips-production: .*gcloud logging read 'resource.type"
    ):
        google.open().logs("production")
    google.order(refuse={"entries.list": {"status": 403, "message": "denied"}})
    with pytest.raises(TargetError, match=r"`- logging\.logEntries\.list`"):
        google.open().logs("production")
