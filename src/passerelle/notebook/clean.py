"""Clean process: load a submission where nothing of the notebook is left, and answer its golden rows again.

Run as ``python -I -m passerelle.notebook.clean FOLDER``: without the working directory, the user's packages and the
secrets of the environment. It is a check that the model can travel, not a sandbox.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import msgspec
import numpy as np

from passerelle.decoding import prepared
from passerelle.errors import SubmissionError
from passerelle.notebook.answers import score
from passerelle.notebook.compare import TOLERANCE
from passerelle.notebook.environment import allowed_environment
from passerelle.notebook.submission import GOLDEN, MODEL, read_answers
from passerelle.project.settings import TaskKind
from passerelle.schema import Schema, count

TIMEOUT_S = 600


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the clean process needs to know besides the files."""

    schema: Schema
    task: TaskKind
    classes: tuple[str | int | bool, ...]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What it found."""

    #: The largest difference from the notebook's own answers; None if it could not answer.
    largest: float | None = None
    #: "load" or "answer": where it failed; the exception in one line; the module or name that is not there.
    failed: str | None = None
    error: str = ""
    missing: str | None = None


def check_clean(folder: Path, question: Question) -> str:
    """Answer the golden rows of a submission's folder in a clean process and compare; one sentence of what was found.

    Raises SubmissionError, naming the function or module that could not be loaded, or by how much the answers differ.
    """
    command = [sys.executable, "-I", "-m", "passerelle.notebook.clean", str(folder.resolve())]
    with tempfile.TemporaryDirectory() as elsewhere:
        try:
            done = subprocess.run(  # noqa: S603  (our own interpreter and module)
                command,
                input=msgspec.json.encode(question),
                capture_output=True,
                cwd=elsewhere,
                env=allowed_environment(),
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SubmissionError(f"a clean process did not answer the golden rows in {TIMEOUT_S} s.") from error
    try:
        finding = msgspec.json.decode(done.stdout.rpartition(b"\n")[2], type=prepared(Finding))
    except msgspec.DecodeError as error:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise SubmissionError(
            f"the model cannot be loaded in a clean process, which ended with {done.returncode}: {last[0]}"
        ) from error
    if finding.failed == "load":
        raise SubmissionError(
            f"{finding.missing or 'the submission'} cannot be loaded in a clean process: {finding.error}. Define it in "
            "a cell, put its module below the project's folder, or install it in the notebook's environment."
        )
    if finding.failed is not None:
        raise SubmissionError(
            f"the model does not answer in a clean process: {finding.error}. It may use only what travels with it: no "
            "file beside the notebook, no variable of the environment."
        )
    rows = count(read_answers(folder / GOLDEN).inputs)
    if finding.largest is None or finding.largest > TOLERANCE:
        raise SubmissionError(
            f"a clean process answers the {rows} golden rows otherwise than the notebook, by up to {finding.largest}: "
            "something that the answer depends on (a seed, an option, a changed global) does not travel with the model."
        )
    return f"{rows} golden rows answered alike by a fresh interpreter (largest difference {finding.largest:g})"


def find(folder: Path, question: Question) -> Finding:
    """The clean process's part: load, answer, compare."""
    import cloudpickle  # noqa: PLC0415  (a fault in importing it is one to report)

    try:
        parts = cloudpickle.loads((folder / MODEL).read_bytes())
    except Exception as error:  # noqa: BLE001  (a pickle may raise anything; it is reported)
        return Finding(failed="load", error=_one_line(error), missing=_missing(error))
    golden = read_answers(folder / GOLDEN)
    try:
        said = score(
            parts["model"],
            parts["features"],
            golden.inputs,
            schema=question.schema,
            task=question.task,
            classes=question.classes,
        )
    except ModuleNotFoundError as error:
        return Finding(failed="load", error=_one_line(error), missing=_missing(error))
    except Exception as error:  # noqa: BLE001  (the user's code may raise anything; it is reported)
        return Finding(failed="answer", error=f"{_one_line(error)}{_place(error)}")
    scale = np.maximum(1.0, np.abs(golden.outputs))
    return Finding(largest=float((np.abs(said - golden.outputs) / scale).max(initial=0.0)))


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _missing(error: BaseException) -> str | None:
    if isinstance(error, ModuleNotFoundError):
        return f"module {error.name!r}"
    match = re.search(r"Can't get attribute '([^']+)' on <module '([^']+)'", str(error))
    return f"{match[1]!r} of module {match[2]!r}" if match else None


def _place(error: BaseException) -> str:
    """The notebook's function in which it happened."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "passerelle" not in frame.filename]
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    return f" (in {own[-1].name})" if own else ""


def main() -> None:
    """Read the question, answer with one line of JSON, the last of what is printed."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints does not mix with the finding
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=prepared(Question))
    finding = find(Path(sys.argv[1]), question)
    os.write(out, msgspec.json.encode(finding))


if __name__ == "__main__":
    main()
