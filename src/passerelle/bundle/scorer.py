"""Scorer: the seam between events and a model. Rows in, numbers out; it does not know who asks."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from passerelle.schema import Columns


@runtime_checkable
class Scorer(Protocol):
    """Answers for one bundle. Used from one event loop; a batch at a time may be in flight.

    The service calls ``start`` once, before the first event (and a new revision waits for it while the old one
    answers); ``score`` for each micro-batch; ``close`` when no event needs it any more, also after a failed start.
    """

    #: "inline" or "process"; in metrics and in /ready.
    kind: str

    async def start(self) -> None:
        """Be ready to score, having reproduced the bundle's golden rows. BundleError or ScoringError if it cannot."""

    async def score(self, columns: Columns) -> NDArray[Any]:
        """Float64 answers of shape (rows, outputs), all finite, in the order of the rows.

        Raises ScoringError if the model fails on the batch (the service then tries its rows one by one),
        TimeoutError if it does not answer by its deadline (the rows are recorded as timed out).
        """

    async def close(self) -> None:
        """Give everything back; idempotent."""
