"""Whoever applies is killed by SIGKILL, before and after requests to Google: applied again, the end is the same.

Every request of a creation, a change and a removal with PASSERELLE_SOAK; else a few, from a start that turns with
the step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from vertexing import Google, deployment

from passerelle.deployment.applying import apply_deployment

SOAK = bool(os.environ.get("PASSERELLE_SOAK"))
Walk = Callable[[int | None, int, str], int]


@pytest.fixture
def walk(google: Google) -> Iterator[Walk]:
    script = Path(__file__).with_name("walking.py")
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def run(revision: int | None, at: int, when: str) -> int:
        order = {"address": google.address, "folder": str(google.folder)}
        process.stdin.write(json.dumps(order | {"revision": revision, "at": at, "when": when}) + "\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return int(process.stdout.readline())  # type: ignore[union-attr]

    yield run
    process.stdin.close()
    process.wait(20)
    process.stdout.close()


def apply(google: Google, *revisions: int | None) -> None:
    for one in revisions:
        apply_deployment(google.open(), None if one is None else deployment(one), "production")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("before", "to"), [((), 1), ((1,), 2), ((1, 2), None)], ids=["create", "change", "remove"])
def test_killed_at_a_request_and_applied_again(
    before: tuple[int, ...], to: int | None, google: Google, walk: Walk
) -> None:
    apply(google, *before)
    start = len(google.state()["calls"])
    apply(google, to)
    requests = len(google.state()["calls"]) - start
    due = google.there()
    assert requests > 20
    points = [(at, when) for at in range(1, requests + 1) for when in ("before", "after")]
    points = points if SOAK else points[len(before) :: 23]
    if to is not None:
        points.append((0, "half"))
    for at, when in points:
        apply(google, None)
        assert google.there() == []
        apply(google, *before)
        assert walk(to, at, when) == -9, f"it was killed {when} request {at}"
        apply(google, to)
        assert google.there() == due, f"after a death {when} request {at}"
    apply(google, None)
    assert google.there() == []
    assert google.state()["operations"] == []
