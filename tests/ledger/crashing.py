"""A compaction that is killed at each of its steps in turn: python crashing.py FOLDER STRIDE. A line for each.

A step is a line, met for the first time, of the functions below (of ``delete``: for each segment). The process forks
for each: the child compacts a copy of the ledger and kills itself at its n-th step; then another child says what is
left, and compacts it. The parent never uses Delta itself, whose threads a fork would not survive.
"""

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from passerelle.ledger import compaction
from passerelle.ledger.views import ask

NOW = datetime(2013, 3, 1, tzinfo=UTC)
#: Where a crash could leave something half done.
FUNCTIONS = {"_move", "_commit", "sync_files", "_set_aside", "delete"}


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
    _, status = os.waitpid(child, 0)
    return status, json.loads(text) if text else None


def compact_until(folder: Path, last: int) -> None:
    """Compact, and die at this step."""
    steps: set[tuple[str, ...]] = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if "passerelle/ledger/" not in frame.f_code.co_filename or frame.f_code.co_name not in FUNCTIONS:
            return None
        if event == "line":
            steps.add((frame.f_code.co_name, str(frame.f_lineno), str(frame.f_locals.get("name"))))
            if len(steps) == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    compaction.compact(folder, now=NOW)
    sys.settrace(None)


def look(folder: Path) -> dict[str, Any]:
    """What the views say before and after another compaction."""
    question = "SELECT (SELECT count(*) FROM all_predictions), (SELECT count(*) FROM all_outcomes)"
    before = ask(folder, question).rows[0]
    done = compaction.compact(folder, now=NOW)
    return {
        "before": before,
        "after": ask(folder, question).rows[0],
        "left": len(list((folder / "segments").glob("*.seg"))),
        "damaged": len(list((folder / "damaged").glob("*.seg"))),
        "repeated": done.repeated,
    }


def main(folder: Path, stride: int) -> None:
    """Kill at step 1, 1 + stride ... until a compaction comes to its end."""
    for step in itertools.count(1, stride):
        copy = folder.with_name(f"{folder.name}-{step}")
        shutil.copytree(folder, copy)
        status, _ = in_child(lambda: compact_until(copy, step))  # noqa: B023  (runs at once)
        _, found = in_child(lambda: look(copy))  # noqa: B023  (the same)
        sys.stdout.write(json.dumps({"step": step, "killed": status == signal.SIGKILL, **found}) + "\n")
        if status == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
