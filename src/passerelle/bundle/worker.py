"""Worker: the child that holds a bundle's model and answers over pipes: ``python -I -m passerelle.bundle.worker``.

Started by bundle.child with a bundle's folder and its digest, in the environment that the model was fitted in: besides
Passerelle it needs numpy, pandas, msgspec and cloudpickle there. What the model prints goes to stderr.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from passerelle.bundle.child import (
    EVENTS,
    LENGTH,
    SCORE,
    EventRows,
    EventsRequest,
    Failure,
    Hello,
    Reply,
    Scored,
    Versions,
)
from passerelle.bundle.loading import Loaded, load
from passerelle.decoding import prepared
from passerelle.errors import PasserelleError, ScoringError
from passerelle.notebook.answers import score
from passerelle.notebook.frame import from_frame, to_frame
from passerelle.schema import decode_columns, encode_columns

_PR_SET_PDEATHSIG = 1


def main(bundle: Path, digest: str) -> None:
    """Load the model, say hello, then answer each request until stdin ends."""
    requests, replies = _take_pipes()
    _die_with_parent()
    try:
        loaded = load(bundle, digest)
    except BaseException as error:  # noqa: BLE001  (a pickle may raise anything, SystemExit too; it is told, and ends us)
        _send(replies, Failure(kind="load", error=_told(error)))
        return
    _send(replies, Hello(classes=loaded.classes, fields=loaded.fields))
    while (request := _read(requests)) is not None:
        try:
            reply = _answer(loaded, request[:1], request[1:])
        except (Exception, SystemExit) as error:  # noqa: BLE001  (the model's own code: whatever it raises is told)
            reply = Failure(kind="model", error=_told(error))
        _send(replies, reply)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the two pipes for ourselves: the model reads nothing, and what it prints, at any level, goes to stderr."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _die_with_parent() -> None:
    """End with the parent, and only with it: on Linux at once, elsewhere when stdin ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C and a service manager's SIGTERM reach the whole group: the parent still wants answers to drain.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _read(pipe: BinaryIO) -> bytes | None:
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = pipe.read(length)
    return data if len(data) == length else None


def _send(pipe: BinaryIO, reply: Reply) -> None:
    data = msgspec.msgpack.encode(reply)
    pipe.write(LENGTH.pack(len(data)) + data)
    pipe.flush()


def _answer(loaded: Loaded, letter: bytes, payload: bytes) -> Reply:
    if letter == SCORE:
        return _score(loaded, payload)
    if letter == EVENTS:
        return _events(loaded, msgspec.msgpack.decode(payload, type=prepared(EventsRequest)))
    return Versions(differences=_differences(loaded.manifest.environment.packages))


def _score(loaded: Loaded, payload: bytes) -> Scored:
    manifest = loaded.manifest
    outputs = score(
        loaded.model,
        loaded.features,
        decode_columns(payload),
        schema=manifest.schema,
        task=manifest.task,
        classes=manifest.classes,
    )
    rows, outputs_per_row = outputs.shape
    data = np.ascontiguousarray(outputs, dtype="<f8").tobytes()
    return Scored(outputs=data, rows=rows, outputs_per_row=outputs_per_row)


def _events(loaded: Loaded, request: EventsRequest) -> EventRows:
    frames = {name: to_frame(decode_columns(data), schema) for name, (schema, data) in request.tables.items()}
    # As in the notebook, which never gave events the target of its rows either.
    main = frames[request.main] = frames[request.main].drop(columns=[loaded.manifest.target], errors="ignore")
    rows = main
    if loaded.events is not None:
        rows = loaded.events({name: frame.copy() for name, frame in frames.items()})
        if not rows.index.sort_values().equals(main.index):
            raise ScoringError(
                f"events gives {len(rows)} rows for {len(main)} of {request.main!r}, or lost their index: it must give "
                "one row for each."
            )
        rows = rows.loc[main.index]
    return EventRows(columns=encode_columns(from_frame(rows, loaded.manifest.schema)))


def _differences(recorded: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Of the packages that are imported by now, those that are not of the recorded version."""
    imported = {name.partition(".")[0] for name in sys.modules}
    needed = {
        package
        for module, packages in importlib.metadata.packages_distributions().items()
        if module in imported
        for package in packages
    }
    found = {package: importlib.metadata.version(package) for package in needed}
    return {
        package: (recorded[package], version)
        for package, version in sorted(found.items())
        if package in recorded and recorded[package] != version
    }


def _told(error: BaseException) -> str:
    """An error in one line, with the function and line of the notebook's code that raised it, if it was its code."""
    place = ""
    for entry in traceback.extract_tb(error.__traceback__):
        if (
            "site-packages" not in entry.filename
            and "passerelle" not in entry.filename
            and "<frozen" not in entry.filename
        ):
            place = f" (in {entry.name}, line {entry.lineno})"
    name = "" if isinstance(error, PasserelleError) else f"{type(error).__name__}: "
    return f"{name}{str(error)[:500]}{place}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
