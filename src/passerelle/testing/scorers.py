"""The in-memory twin of a scorer: answers with a plain function, so that a service can be tested without a bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerelle.errors import PasserelleError, ScoringError
from passerelle.schema import Columns, count


class MemoryScorer:
    """A Scorer (see bundle.scorer) that answers ``function(columns)``, one row of ``outputs`` numbers per event.

    ``broken``, if given, is raised by ``start``. ``closed`` says whether it was given back.

    >>> import asyncio
    >>> scorer = MemoryScorer(lambda columns: columns["hour"] / 24, outputs=1)
    >>> asyncio.run(scorer.start())
    >>> asyncio.run(scorer.score({"hour": np.array([6, 12])})).tolist()
    [[0.25], [0.5]]
    """

    kind = "memory"

    def __init__(
        self,
        function: Callable[[Columns], NDArray[Any]],
        outputs: int = 1,
        *,
        broken: PasserelleError | None = None,
    ) -> None:
        self._function = function
        self._outputs = outputs
        self._broken = broken
        self.closed = True

    async def start(self) -> None:
        """Be ready; raises ``broken`` if it was given."""
        if self._broken is not None:
            raise self._broken
        self.closed = False

    async def score(self, columns: Columns) -> NDArray[Any]:
        """The function's answers as float64 of shape (rows, outputs); ScoringError if it raises or is not finite."""
        if self.closed:
            raise ScoringError("the model is closed: start it before it is asked.")
        rows = count(columns)
        if rows == 0:
            return np.empty((0, self._outputs))
        try:
            answers = np.asarray(self._function(columns), dtype=np.float64).reshape(rows, self._outputs)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ScoringError(f"the model failed: {type(error).__name__}: {error}") from error
        if not np.isfinite(answers).all():
            raise ScoringError("the model's answer is not a finite number.")
        return answers

    async def close(self) -> None:
        """Refuse what comes next; idempotent."""
        self.closed = True
