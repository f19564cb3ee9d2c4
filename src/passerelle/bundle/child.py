"""Child: how a bundle's own process is started and spoken to. Its other end is bundle.worker.

A frame is its length (4 bytes, little-endian) and its bytes. The child speaks first: a Hello frame. Then each request
is a frame of one letter and a payload, and its answer one frame:

| letter | payload | answer |
|---|---|---|
| S | Columns (schema.encode_columns) | Scored |
| E | EventsRequest | EventRows |
| V | nothing | Versions |

or a Failure in place of any answer. The child gets an environment without secrets, and ends when its stdin does.
"""

from __future__ import annotations

import re
import signal
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.manifest import Label
from passerelle.decoding import prepared
from passerelle.errors import BundleError, ScorerKilledError, ScoringError
from passerelle.notebook.environment import allowed_environment
from passerelle.schema import Columns, Schema, encode_columns

LENGTH = struct.Struct("<I")
SCORE, EVENTS, VERSIONS = b"S", b"E", b"V"

#: Seconds that a child may take to load its model and reproduce its golden rows.
START_S = 120.0
#: Seconds that a single request outside of serving may take.
ONCE_S = 900.0


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The model is loaded."""

    #: The model's own classes_, if it has them.
    classes: tuple[Label, ...]
    #: The columns that the model says it was fitted on, if it does.
    fields: tuple[str, ...] = ()


class Scored(msgspec.Struct, frozen=True, kw_only=True, tag="scored"):
    """The answers to a batch: float64, little-endian, row after row."""

    outputs: bytes
    rows: int
    outputs_per_row: int


class EventsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Tables of which event rows are to be made."""

    main: str
    tables: dict[str, tuple[Schema, bytes]]


class EventRows(msgspec.Struct, frozen=True, kw_only=True, tag="event_rows"):
    """Event rows: Columns of the manifest's schema."""

    columns: bytes


class Versions(msgspec.Struct, frozen=True, kw_only=True, tag="versions"):
    """Of the packages that the child has imported, those that are not of the recorded version: (recorded, found)."""

    differences: dict[str, tuple[str, str]]


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag="failure"):
    """What was asked could not be done: "load" (the model cannot be loaded), "model" (it failed on these rows)."""

    kind: Literal["load", "model"]
    error: str


Reply = Hello | Scored | EventRows | Versions | Failure
_decode: Callable[[bytes], Reply] = msgspec.msgpack.Decoder(prepared(Reply)).decode
_Wanted = TypeVar("_Wanted", Hello, Scored, EventRows, Versions)


def command(python: str, bundle: Path, digest: str) -> list[str]:
    """The child's command line: isolated from the current folder, the user's site and PYTHON… variables."""
    # -B: a model that brings modules of its own would write their bytecode into the bundle. A crash says its line.
    return [python, "-I", "-B", "-X", "faulthandler", "-m", "passerelle.bundle.worker", str(bundle.resolve()), digest]


def environment() -> dict[str, str]:
    """The child's environment: that of the clean process in which submit tried the model."""
    return allowed_environment()


def frame(letter: bytes, payload: bytes) -> bytes:
    """A request as it is sent.

    >>> frame(VERSIONS, b"")[4:]
    b'V'
    """
    return LENGTH.pack(len(letter) + len(payload)) + letter + payload


def read_reply(data: bytes, wanted: type[_Wanted], bundle: Path) -> _Wanted:
    """A frame of the child as the reply that is wanted.

    Raises BundleError if the model could not be loaded, ScoringError if it failed on the rows.
    """
    try:
        reply = _decode(data)
    except msgspec.DecodeError as error:
        raise ScoringError(f"the process of {bundle.name} answered what is no answer ({error}).") from error
    if isinstance(reply, Failure):
        if reply.kind == "load":
            raise BundleError(f"the model of {bundle} cannot be loaded in a clean process: {reply.error}")
        raise ScoringError(f"the model failed: {reply.error}")
    if not isinstance(reply, wanted):
        raise ScoringError(f"the process of {bundle.name} answered {type(reply).__name__}, not {wanted.__name__}.")
    return reply


def read_outputs(reply: Scored, *, rows: int, outputs: int) -> NDArray[Any]:
    """The answers, float64 of shape (rows, outputs). Raises ScoringError if there are others, or one is not finite."""
    if (reply.rows, reply.outputs_per_row) != (rows, outputs):
        raise ScoringError(
            f"the model answered {reply.rows} rows of {reply.outputs_per_row} to {rows} rows that need {outputs} each."
        )
    values = np.frombuffer(reply.outputs, dtype="<f8").reshape(rows, outputs).astype(np.float64)
    if not np.isfinite(values).all():
        row, output = np.argwhere(~np.isfinite(values))[0].tolist()
        raise ScoringError(
            f"the model answered {values[row, output]} for row {row}: an answer must be a finite number."
        )
    return values


def missing_interpreter(python: str, bundle: Path, error: OSError) -> BundleError:
    """The message for an interpreter that cannot be started."""
    return BundleError(
        f"{python}, the interpreter that {bundle} is scored with, cannot be started ({error.strerror or error}): make "
        "its environment again at that place, or name another under [notebook] python and make the version anew: it "
        "keeps the interpreter that it was made with."
    )


def death(python: str, code: int | None, stderr: str) -> str:
    """Why a child ended, in a sentence: by its exit code (negative: a signal) and the end of what it printed."""
    if "No module named 'passerelle" in stderr or "No module named passerelle" in stderr:
        return f"{python} has no Passerelle: run {python} -m pip install passerelle, in the version that is used here."
    if code is not None and code < 0:
        try:
            how = f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"was killed by signal {-code}"
    else:
        how = f"ended by itself with exit code {code}"
    # Of a crash in native code, the lines of the thread that crashed: below them are other threads and long lists.
    crash = re.search(r"^Current thread .*\n((?:  File .*\n)+)", stderr, re.MULTILINE)
    said = " ".join(crash[1].split())[:400] if crash else " ".join(stderr.split())[-400:]
    return f"the model's process {how}" + (f"; its last words: {said}" if said else "")


def is_killed(code: int | None) -> bool:
    """Did a child with this exit code end by a signal that is sent from outside, not by a fault of its own?"""
    return code in (-signal.SIGKILL, -signal.SIGTERM)


def _run_once(bundle: Path, digest: str, asked: bytes, python: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603  (the interpreter that the manifest or the project names)
            command(python, bundle, digest),
            input=asked,
            capture_output=True,
            env=environment(),
            check=False,
            timeout=ONCE_S,
        )
    except OSError as error:
        raise missing_interpreter(python, bundle, error) from error
    except subprocess.TimeoutExpired as error:
        raise ScoringError(
            f"the model of {bundle} did not answer within {ONCE_S:g} s: look at what it waits for."
        ) from error


def ask_once(
    bundle: Path, digest: str, requests: Sequence[bytes], wanted: Sequence[type[Any]], *, python: str
) -> list[Any]:
    """Start a child, ask it these requests, and let it end: its replies, the Hello before them.

    One that is killed from outside is asked once more; ScorerKilledError if that one is, too.
    """
    ended = _run_once(bundle, digest, b"".join(requests), python)
    if is_killed(ended.returncode):
        ended = _run_once(bundle, digest, b"".join(requests), python)
    replies: list[Any] = []
    rest = ended.stdout
    expected: list[type[Any]] = [Hello, *wanted]
    for kind in expected:
        length = LENGTH.unpack_from(rest)[0] if len(rest) >= LENGTH.size else -1
        data, rest = rest[LENGTH.size : LENGTH.size + length], rest[LENGTH.size + length :]
        if len(data) != length:
            raise (ScorerKilledError if is_killed(ended.returncode) else BundleError)(
                f"{bundle}: {death(python, ended.returncode, ended.stderr.decode(errors='replace'))}"
            )
        replies.append(read_reply(data, kind, bundle))
    return replies


def score_once(bundle: Path, digest: str, columns: Columns, *, rows: int, outputs: int, python: str) -> NDArray[Any]:
    """The model's answers to a few rows, from a child of their own; errors as read_reply and read_outputs have them."""
    request = frame(SCORE, encode_columns(columns))
    scored: Scored = ask_once(bundle, digest, [request], [Scored], python=python)[1]
    return read_outputs(scored, rows=rows, outputs=outputs)
