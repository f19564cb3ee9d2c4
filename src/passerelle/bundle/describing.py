"""Describing: the child that describes a fresh submission's model without code, in the model's own environment.

``python -I -m passerelle.bundle.describing SUBMISSION INTO TASK``; it prints why there is no form, if there is none.
Like every load of a fresh submission it is a check in a clean process, not a sandbox.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from passerelle.bundle.child import environment
from passerelle.bundle.form import Unsupported
from passerelle.decoding import prepared
from passerelle.errors import SubmissionError
from passerelle.notebook.submission import MODEL, Submission

TIMEOUT_S = 600


def describe_submission(submission: Path, *, python: str, task: str, into: Path) -> str | None:
    """Write the form of a submission's model to ``into``; or why it has none.

    Raises SubmissionError if the child ends in another way than by saying so.
    """
    command = [python, "-I", "-m", "passerelle.bundle.describing", str(submission.resolve()), str(into.resolve()), task]
    try:
        done = subprocess.run(  # noqa: S603  (the interpreter that the project names)
            command, capture_output=True, text=True, env=environment(), timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it was not described within {TIMEOUT_S} s"
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SubmissionError(f"the model could not be described in a clean process: {last}")
    return done.stdout.strip().rpartition("\n")[2] or None


def main(submission: Path, into: Path, task: Any) -> None:
    """Load the model and describe it."""
    from passerelle.bundle.export import export  # noqa: PLC0415  (a broken library of the model's is then told, not fatal)

    submitted = msgspec.json.decode((submission / "submission.json").read_bytes(), type=prepared(Submission))
    if submitted.has_features:
        sys.stdout.write("the features are a function of the notebook's, which is code\n")
        return
    with (submission / MODEL).open("rb") as file:
        model = pickle.load(file)["model"]  # noqa: S301  (the run's own fresh submission, in a clean process)
    try:
        export(model, submitted.schema, task=task, classes=submitted.classes, into=into)
    except Unsupported as error:
        sys.stdout.write(f"{error}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
