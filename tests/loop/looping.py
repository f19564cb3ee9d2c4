"""The loop in processes that kill themselves: each line of input names a project, a moment and, perhaps, a point.

Everything is imported once; each request is a fork of its own, which opens the loop, ticks once and ends, or kills
itself by SIGKILL before or after the n-th call of a function. Its exit code is printed (-9: killed).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from passerelle.bundle.keys import own_key
from passerelle.loop import rollout, tick, train, trying, workflows
from passerelle.project.settings import FILE, load_project
from passerelle.registry import versions
from passerelle.state import runs
from passerelle.trial import trials

#: Where a function is looked up when it is called.
PLACES: dict[str, Any] = {
    **dict.fromkeys(("land", "gather", "fill", "judge", "look", "send", "decide", "make", "begin_trial"), tick),
    "run_notebook": train,
    "register": versions.Registry,
    "finish": runs,
    "put": rollout.Revisions,
    "reconcile": trying,
    "deploy": trying,
    "step": trying,
    "wait_observed": trying,
    "start": trials,
    "verdict": trials,
    "end": trials,
}
NAMES = {"verdict": "decide", "wait_observed": "_wait_observed"}


def kill_at(point: str) -> None:
    """Have this process kill itself ``before`` or ``after`` a function is called: before:register."""
    when, name = point.split(":")
    place, attribute = PLACES[name], NAMES.get(name, name)
    act: Callable[..., Any] = getattr(place, attribute)

    def killed(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        act(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(place, attribute, killed)


def live(request: dict[str, Any]) -> int:
    """One tick, in this process."""
    root = Path(request["root"])
    if request["point"]:
        kill_at(request["point"])
    try:
        with workflows.open_loop(load_project(root / FILE), key=own_key()) as loop:
            ticked = loop.tick(datetime.fromisoformat(request["now"]))
            for problem in ticked.problems:
                sys.stderr.write(f"{problem}\n")
            return 1 if ticked.problems else 0
    except Exception:  # noqa: BLE001  (the test sees the code)
        traceback.print_exc()
        return 2


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = live(json.loads(line))
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
