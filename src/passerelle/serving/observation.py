"""Observation: which revision each worker has applied, as files that anybody may read: ``observed/w<k>.json``."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import DeploymentError

FOLDER = "observed"
_LOOK_AGAIN_S = 0.05


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself."""

    pid: int
    #: The revision that answers; None before the first.
    revision: int | None
    #: When it was applied, or refused (machine time).
    at: datetime
    #: A newer revision that could not be loaded ...
    refused: int | None = None
    #: ... and why.
    problem: str | None = None


def observe(environment: Path, slot: str, observation: Observation) -> None:
    """Write a worker's observation below an environment's folder, whole or not at all."""
    folder = environment / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{slot}-{secrets.token_hex(8)}"
    draft.write_bytes(msgspec.json.encode(observation) + b"\n")
    draft.replace(folder / f"{slot}.json")


def observed(environment: Path) -> dict[str, Observation]:
    """Slot → its last observation, of dead workers too."""
    return {
        path.stem: msgspec.json.decode(path.read_bytes(), type=prepared(Observation))
        for path in sorted((environment / FOLDER).glob("w*.json"))
    }


def forget(environment: Path, *, workers: int) -> None:
    """Remove the observations of slots beyond these workers; called by the supervisor before it starts its own."""
    slots = {f"w{number}" for number in range(workers)}
    for path in (environment / FOLDER).glob("w*.json"):
        if path.stem not in slots:
            path.unlink(missing_ok=True)


def wait_observed(environment: Path, revision: int, workers: int | Collection[str], timeout_s: float) -> None:
    """Return when each of the workers lives and has applied this revision, or a newer one.

    ``workers`` are their slots or, if all are awaited, how many: w0 ... w<n-1>.

    Raises DeploymentError as soon as one says that it could not, with its reason, or after ``timeout_s``, naming the
    workers that have not.
    """
    deadline = time.monotonic() + timeout_s
    slots = [f"w{number}" for number in range(workers)] if isinstance(workers, int) else list(workers)
    while True:
        seen = observed(environment)
        missing = [slot for slot in slots if not _has_applied(seen.get(slot), revision)]
        if not missing:
            return
        for slot in missing:
            one = seen.get(slot)
            if one is not None and one.refused == revision and is_alive(one.pid):
                raise DeploymentError(f"revision {revision} could not be applied: {one.problem}")
        if time.monotonic() >= deadline:
            raise DeploymentError(
                f"after {timeout_s:g} s revision {revision} is not applied by {', '.join(missing)}: is passerelle "
                "serve running, with that many workers?"
            )
        time.sleep(_LOOK_AGAIN_S)


def is_alive(pid: int) -> bool:
    """Is there a process of this id on this machine?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _has_applied(observation: Observation | None, revision: int) -> bool:
    return observation is not None and (observation.revision or 0) >= revision and is_alive(observation.pid)
