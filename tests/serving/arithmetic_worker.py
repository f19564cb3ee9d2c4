"""A real worker whose model is arithmetic: version / 1000 for every event. Started by the supervisor of these tests.

A version above 900 cannot be loaded, version 666 raises for every event; the carrier "slow" takes half a second.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from passerelle.bundle.manifest import read_manifest
from passerelle.errors import ScoringError
from passerelle.schema import Columns, count
from passerelle.serving import workers
from passerelle.testing.scorers import MemoryScorer

RAISES = 666


def open_scorer(bundle: Path, **_: Any) -> MemoryScorer:
    version = int(read_manifest(bundle)[0].constants[0])

    def answer(columns: Columns) -> Any:
        if "slow" in columns["carrier"]:
            time.sleep(0.5)
        if version == RAISES:
            raise ScoringError("the model divides by zero")
        return np.full(count(columns), version / 1000)

    broken = ScoringError(f"version {version} lost its golden rows") if version > 900 else None
    return MemoryScorer(answer, broken=broken)


if __name__ == "__main__":
    workers.main(open_scorer=open_scorer)
