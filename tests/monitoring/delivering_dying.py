"""Deliver, killed at each STEP-th of its steps, then again.

``python delivering_dying.py PROJECT SCRATCH HOOK MAIL STEP``

A step is a write or a commit of the state, or the moment after a channel has accepted a message. HOOK and MAIL are
addresses in which ``NUMBER`` becomes the number of the death. Prints for each death, as JSON, the messages that had
been accepted by then and those that were noted as sent. Ends with a line for the run that nobody killed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dying_copies import copy_project, wait_until_dead

from passerelle.monitoring import channels
from passerelle.monitoring.messages import Channel, Message
from passerelle.project.settings import load_project
from passerelle.state import tables
from passerelle.state.database import open_state

NOW = datetime(2013, 2, 13, 12, tzinfo=UTC)


def _die_at(moment: int, accepted: int) -> None:
    """Be killed at the moment-th step from now on; what was accepted goes to the file descriptor first."""
    passed = 0

    def step() -> None:
        nonlocal passed
        passed += 1
        if passed == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(*arguments: Any) -> None:
        statement = arguments[2] if len(arguments) > 2 else "COMMIT"
        if str(statement).lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE", "COMMIT")):
            step()

    sent = channels._send

    def send(channel: Channel, message: Message) -> None:
        sent(channel, message)
        os.write(accepted, f"{message.id}\n".encode())
        step()

    channels._send = send
    sa.event.listen(sa.Engine, "before_cursor_execute", write)
    sa.event.listen(sa.Engine, "commit", write)


def _deliver(root: Path, die_at: int | None, *, now: datetime) -> tuple[bool, list[str]]:
    """In a child: did it live to its end, and what had been accepted until then?"""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _die_at(die_at or -1, writing)
            done = channels.deliver(load_project(root / "passerelle.toml"), now=now)
            if done.failed:
                sys.stderr.write(f"{done.failed}\n")
            os._exit(1 if done.failed else 0)
        except BaseException as error:  # noqa: BLE001  (it must not run on in the parent's code)
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        accepted = told.read().split()
    if not os.WIFSIGNALED(status) and status != 0:
        raise SystemExit("deliver failed")
    wait_until_dead()
    return not os.WIFSIGNALED(status), accepted


def _noted(root: Path) -> list[str]:
    """The messages that are noted as sent, read in a child: this process stays without threads."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        query = sa.select(tables.outbox.c.id).where(tables.outbox.c.sent_at.is_not(None))
        with open_state(root / ".passerelle").connect() as connection:
            os.write(writing, "\n".join(connection.execute(query).scalars()).encode())
        os._exit(0)
    os.close(writing)
    os.wait()
    with os.fdopen(reading) as told:
        return sorted(told.read().split())


def main() -> None:
    source, scratch, hook, mail = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    moment, step = 0, int(sys.argv[5])
    while True:
        moment += step
        root = scratch / str(moment)
        copy_project(source, root)
        os.environ["HOOK"], os.environ["MAIL"] = (one.replace("NUMBER", str(moment)) for one in (hook, mail))
        lived, accepted = _deliver(root, moment, now=NOW)
        noted = _noted(root)
        if not lived:
            _deliver(root, None, now=NOW + timedelta(hours=1))
        told = {"moment": moment, "lived": lived, "accepted": accepted, "noted": noted, "in the end": _noted(root)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        shutil.rmtree(root)
        if lived:
            return


if __name__ == "__main__":
    main()
