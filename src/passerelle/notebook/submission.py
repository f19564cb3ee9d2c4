"""What crosses between the pipeline and a notebook's kernel, both ways: two folders of files, no code shared but these.

Handout (written by the pipeline before the run, read by training_data): see passerelle.data.layout.

Submission (written by submit, read by the bundle room):

    submission/submission.json  Submission
    submission/model.pkl        {"model", "features", "events"}, by cloudpickle
    submission/golden.msgpack   Answers on golden rows: rows of the training data, and edge rows
    submission/holdout.msgpack  Answers on the whole holdout, written by the kernel after the last cell
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.data.layout import HANDOUT, HANDOUT_FILE, HOLDOUT, Handout, table_file
from passerelle.schema import Columns, Schema, decode_columns, encode_columns

__all__ = [
    "GOLDEN",
    "HANDOUT",
    "HANDOUT_FILE",
    "HOLDOUT",
    "MODEL",
    "RUN_FOLDER",
    "SUBMISSION",
    "Answers",
    "Handout",
    "Submission",
    "read_answers",
    "table_file",
]

#: The kernel finds the run's folder under this name in its environment; by hand it is not set.
RUN_FOLDER = "PASSERELLE_RUN"

SUBMISSION = "submission"
GOLDEN = "golden.msgpack"
MODEL = "model.pkl"


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What a notebook handed over, besides its model."""

    #: The fields of an event: what the features (or the model) really read.
    schema: Schema
    #: The classes in the order of the model's answers; for binary (negative, positive); empty for a number.
    classes: tuple[str | int | bool, ...]
    #: The columns of X, in order.
    x_columns: tuple[str, ...]
    #: Names computed from training rows that the features read, declared by the notebook.
    constants: tuple[str, ...]
    #: How many rows the model was fitted on.
    rows: int
    #: Check → what it found, in one sentence each: skew, batch independence, clean process.
    proofs: dict[str, str]
    #: Interpreter and distributions of the kernel.
    python: str
    python_version: str
    platform: str
    packages: dict[str, str]
    #: True if features is a function, False if the model takes the raw fields.
    has_features: bool


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Rows and what the notebook's model answered on them, computed in the notebook's own process.

    ``inputs`` are the events (no target); ``outputs`` are float64 of shape (rows, outputs); ``truth`` is what
    says which rows they are: of the holdout the columns of the key, else nothing. The target is not among them: what a
    kernel says about the truth proves nothing.
    """

    inputs: Columns
    outputs: NDArray[Any]
    truth: Columns = {}

    def write(self, path: Path) -> None:
        """Write to a file, whole or not at all."""
        packed = {
            "inputs": encode_columns(self.inputs),
            "outputs": encode_columns(
                {"outputs": self.outputs.reshape(-1), "width": np.array([self.outputs.shape[1]])}
            ),
            "truth": encode_columns(self.truth),
        }
        draft = path.with_suffix(".draft")
        draft.write_bytes(msgspec.msgpack.encode(packed))
        draft.replace(path)


def read_answers(path: Path) -> Answers:
    """Read what Answers.write wrote."""
    packed = msgspec.msgpack.decode(path.read_bytes(), type=dict[str, bytes])
    outputs = decode_columns(packed["outputs"])
    return Answers(
        inputs=decode_columns(packed["inputs"]),
        outputs=outputs["outputs"].reshape(-1, int(outputs["width"][0])),
        truth=decode_columns(packed["truth"]),
    )
