"""A project whose deliveries lie in a bucket; and landings that are killed at each of their steps in turn.

Usage: python bucket_project.py ROOT ADDRESS STRIDE. A line for each step, which is a line of data/bucket.py, met for
the first time. This process forks for each, and never uses a store or Delta itself, whose threads a fork would lose.
"""

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from passerelle.data import bucket
from passerelle.data.table import read, snapshot
from passerelle.loop.tick import Landed, land
from passerelle.project.settings import Project, load_project

NOW = datetime(2013, 3, 1, tzinfo=UTC)
SETTINGS = """
[project]
name = "trips"

[task]
kind = "binary"
target = "late"
key = ["id"]
time = "at"

[data]
main = "trips"
outcomes = "delays"
bucket = "{address}"
"""


def project_at(root: Path, address: str) -> Project:
    """A new project."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "passerelle.toml").write_text(SETTINGS.format(address=address))
    return load_project(root / "passerelle.toml")


def trips(first: int, last: int) -> bytes:
    """Rows of the main table."""
    rows = "".join(f"{number},2013-02-{1 + number % 27:02d}T00:00:00Z,{number}.5\n" for number in range(first, last))
    return b"id,at,distance\n" + rows.encode()


def delays(first: int, last: int) -> bytes:
    """Rows of the outcomes."""
    rows = "".join(
        f"{number},{str(number % 3 == 0).lower()},2013-02-{1 + number % 27:02d}T06:00:00Z\n"
        for number in range(first, last)
    )
    return b"id,late,known_at\n" + rows.encode()


def land_until(project: Project, last: int) -> Landed:
    """Land, and die at this step."""
    steps: set[int] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.endswith("passerelle/data/bucket.py"):
            return None
        if event == "line":
            steps.add(frame.f_lineno)
            if len(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    return land(project, now=NOW)


def in_child(act: Callable[[], object]) -> tuple[int, Any]:
    """Run in a child: how it ended, and what it answered."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(into, json.dumps(act()).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as answer:
        text = answer.read()
    return os.waitpid(child, 0)[1], json.loads(text) if text else None


def again(project: Project) -> dict[str, Any]:
    """Land twice: what is there then."""
    problem = land(project, now=NOW).problem
    return {
        "problem": problem,
        "more": land(project, now=NOW).deliveries,
        "rows": {name: read(project, name, version).num_rows for name, version in snapshot(project).tables.items()},
        "inbox": sorted(path.name for path in (project.root / project.data.inbox).iterdir()),
    }


def main(root: Path, address: str, stride: int) -> None:
    """Kill a landing at every step; say for each how it ended, and what is there after the next."""
    bucket.SETTLED = timedelta(seconds=-5)
    for step in itertools.count(1, stride):
        project = project_at(root / str(step), address)
        status, _ = in_child(lambda project=project, step=step: len(land_until(project, step).deliveries))  # type: ignore[misc]
        _, found = in_child(lambda project=project: again(project))  # type: ignore[misc]
        sys.stdout.write(json.dumps({"killed": status == signal.SIGKILL} | (found or {})) + "\n")
        if status != signal.SIGKILL:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
