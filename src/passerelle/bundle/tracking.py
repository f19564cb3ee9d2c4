"""Tracking: MLflow, told to be quiet: no telemetry, no log lines of its own, no warnings about its own parts.

Import ``mlflow`` from here, so that what must be set before its import is set.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# MLflow reads these when it is imported, and would report to its makers otherwise.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow

__all__ = ["mlflow", "quiet"]

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.ERROR)


@contextmanager
def quiet() -> Iterator[None]:
    """While MLflow works: its warnings concern its own parts, and no one who reads them could act on them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
