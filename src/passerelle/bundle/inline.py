"""Inline: the scorer of a compiled form. It runs in the serving loop, and unpickles nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from passerelle.bundle.manifest import GOLDEN, INLINE, Manifest
from passerelle.bundle.parity import differences
from passerelle.bundle.program import Program
from passerelle.errors import BundleError, ScoringError
from passerelle.notebook.submission import Answers, read_answers
from passerelle.schema import TOLERANCE, Columns, count, take

#: How many golden rows are also scored alone at the start.
_ALONE = 5


class InlineScorer:
    """Answers with the compiled form of a bundle (see bundle.scorer.Scorer)."""

    kind = "inline"

    def __init__(self, bundle: Path, manifest: Manifest) -> None:
        self._bundle = bundle
        self._outputs = manifest.outputs
        self._program: Program | None = None

    async def start(self) -> None:
        """Load the form, and reproduce the golden rows together and alone.

        Raises BundleError if a file is damaged or an answer differs by more than TOLERANCE.
        """
        if self._program is not None:
            return
        program = Program(self._bundle / INLINE)
        if program.outputs != self._outputs:
            raise BundleError(
                f"{self._bundle}: its form answers {program.outputs} numbers, and {self._outputs} are wanted."
            )
        try:
            golden = read_answers(self._bundle / GOLDEN)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{self._bundle / GOLDEN} is damaged ({error}): fetch the bundle again.") from error
        for worst in (largest_difference(program, golden), *_alone(program, golden)):
            if not worst <= TOLERANCE:
                raise BundleError(
                    f"{self._bundle}: its compiled form differs from the model by {worst:.3g} on the golden rows: "
                    "train again, or deploy it without its form."
                )
        self._program = program

    async def score(self, columns: Columns) -> NDArray[Any]:
        """Float64 answers of shape (rows, outputs); ScoringError if one is not finite or a field cannot be read."""
        if self._program is None:
            raise ScoringError("the model is closed: start it before it is asked.")
        return self._program(columns)

    async def close(self) -> None:
        """Give the trees' memory back; idempotent."""
        self._program = None


def _alone(program: Program, golden: Answers) -> list[float]:
    rows = range(min(_ALONE, count(golden.inputs)))
    return [
        largest_difference(
            program,
            Answers(inputs=take(golden.inputs, slice(row, row + 1)), outputs=golden.outputs[row : row + 1]),
        )
        for row in rows
    ]


def largest_difference(program: Program, answers: Answers) -> float:
    """How far the form is at worst from the model's own answers (parity.differences); infinity if it cannot answer."""
    try:
        said = program(answers.inputs)
    except ScoringError:
        return float("inf")
    return float(differences(said, answers.outputs).max(initial=0.0))


async def equal(form: Path, answers: Answers) -> float:
    """How far a compiled form (its folder) is from the model's own answers: it may serve if this is <= TOLERANCE.

    Raises BundleError if the form cannot be loaded.
    """
    return largest_difference(Program(form), answers)
