"""Attempt: the steps of a tick in their order, each tried; an error that was foreseen is told once, and ends the step.

The loop takes them as steps of a durable workflow, the delivery chain's job ``judge`` one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import SQLAlchemyError

from passerelle.errors import PasserelleError
from passerelle.loop import tick as steps
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.state.timeline import Event, events, record_once

#: The kind of the sentences that say which step fails, and that it works again.
KIND = "loop"
#: Under which a step answers why it failed, or what of it did.
PROBLEM = "problem"

#: A step's work; its answer is part of a Ticked.
Act = Callable[[], dict[str, Any]]


def in_order(
    project: Project, environment: str, *, key: Ed25519PrivateKey | None = None, now: datetime
) -> tuple[tuple[str, Act], ...]:
    """The steps of a tick: name and work, each to be attempted whatever became of the one before it.

    ``key`` signs trials that have ended, by default the user's own.
    """
    return (
        ("ingest", lambda: msgspec.structs.asdict(steps.land(project, now=now))),
        ("compact", lambda: {"segments": steps.gather(project, environment, now=now)}),
        ("gaps", lambda: {"filled": steps.fill(project, environment, now=now)}),
        ("trial", lambda: msgspec.structs.asdict(steps.judge(project, environment, key=key, now=now))),
        ("watch", lambda: {"alerts": steps.look(project, environment, now=now)}),
        ("deliver", lambda: steps.send(project, now=now)),
        ("decide", lambda: {"decision": steps.decide(project, environment, now=now)}),
    )


def attempt(state: Path, name: str, act: Act, at: datetime) -> dict[str, Any]:
    """Take a step; its answer as JSON. A foreseen error is told once, and so is that the step works again."""
    try:
        done = act()
    except (PasserelleError, OSError, SQLAlchemyError) as error:  # a full disk, a file that may not be written
        done = {PROBLEM: str(error)}
    if done.get(PROBLEM) is None:
        tell_well(state, name, at)
    else:
        tell(state, name, done[PROBLEM], at)
    found: dict[str, Any] = msgspec.to_builtins(done)
    return found


def tell(state: Path, step: str, problem: str, at: datetime) -> None:
    """Say that a step failed."""
    sentence = f"the step {step} failed: {problem}"
    event = Event(at=at, kind=KIND, subject=step, sentence=sentence, details={"problem": True})
    record_once(open_state(state), event)


def tell_well(state: Path, step: str, at: datetime) -> None:
    """Say that a step works again, if the last that was said of it is that it failed."""
    engine = open_state(state)
    told = events(engine, kind=KIND, subject=step, limit=1)
    if told and told[-1].details.get("problem"):
        record_once(engine, Event(at=at, kind=KIND, subject=step, sentence=f"the step {step} works again"))
