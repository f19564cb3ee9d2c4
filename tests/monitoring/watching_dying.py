"""Watch, killed at each STEP-th of its writes and commits, then again.

``python watching_dying.py PROJECT SCRATCH STEP``
Prints, for each such moment, what the state holds in the end, as JSON; the first line is of a run that nobody killed.
Each attempt is a process of its own, forked before any library has made a thread, and ended by SIGKILL.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dying_copies import copy_project, wait_until_dead

from passerelle.monitoring.watching import watch
from passerelle.project.settings import load_project
from passerelle.state import tables
from passerelle.state.database import open_state

NOW = datetime(2013, 2, 13, 12, tzinfo=UTC)


def _die_at(moment: int) -> None:
    """Be killed at the moment-th write or commit from now on."""
    passed = 0

    def step(*arguments: Any) -> None:
        nonlocal passed
        statement = arguments[2] if len(arguments) > 2 else "COMMIT"
        if str(statement).lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE", "COMMIT")):
            passed += 1
            if passed == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "before_cursor_execute", step)
    sa.event.listen(sa.Engine, "commit", step)


def _watch(root: Path, die_at: int | None) -> bool:
    """In a child: did it live to its end?"""
    child = os.fork()
    if child == 0:
        if die_at is not None:
            _die_at(die_at)
        try:
            watch(load_project(root / "passerelle.toml"), "production", now=NOW)
        except BaseException as error:  # noqa: BLE001  (it must not run on in the parent's code)
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    wait_until_dead()
    if os.WIFSIGNALED(status):
        return False
    if status != 0:
        raise SystemExit("watch failed")
    return True


def _held(root: Path) -> str:
    """Everything that watching wrote."""
    held = {}
    with open_state(load_project(root / "passerelle.toml").state).connect() as connection:
        for table in (tables.windows, tables.alerts, tables.outbox, tables.timeline):
            rows = [[str(value) for value in row] for row in connection.execute(sa.select(table))]
            held[table.name] = sorted(row[1:] if table is tables.timeline else row for row in rows)
    return json.dumps(held)


def main() -> None:
    source, scratch, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    moment = 0
    while True:
        root = scratch / str(moment)
        copy_project(source, root)
        lived = _watch(root, moment or None)
        if not lived:
            _watch(root, None)
        # The state is read in a child, too, so that this process stays without threads.
        if os.fork() == 0:
            sys.stdout.write(_held(root) + "\n")
            sys.stdout.flush()
            os._exit(0)
        os.wait()
        shutil.rmtree(root)
        if lived and moment:
            return
        moment += step if moment else 1  # within one transaction every write is like the next


if __name__ == "__main__":
    main()
