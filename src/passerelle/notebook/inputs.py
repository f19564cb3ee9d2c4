"""Inputs: which raw columns make an event. The target is never one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from passerelle.errors import SubmissionError
from passerelle.notebook.compare import named
from passerelle.notebook.events import RawSchema
from passerelle.notebook.proofs import Features, find_inputs


def declared_inputs(declared: Sequence[str], raw: RawSchema, target: str) -> tuple[str, ...]:
    """The inputs that submit names, in the order of the raw columns. Raises SubmissionError for what cannot be one."""
    if isinstance(declared, str):
        raise SubmissionError(f"inputs is {declared!r}: give a list of names, [{declared!r}].")
    for name in declared:
        if name == target:
            raise SubmissionError(f"the target {name!r} is among the inputs: an event does not have it.")
        if name in raw.unusable:
            raise SubmissionError(raw.unusable[name])
        if name not in raw.schema.names:
            raise SubmissionError(
                f"inputs names {name!r}, which is no raw column: they are {', '.join(raw.schema.names)}."
            )
    return tuple(name for name in raw.schema.names if name in set(declared))


def inputs_of_model(X: Any, raw: RawSchema) -> tuple[str, ...]:  # noqa: N803  (what everybody calls it)
    """The inputs of a model that takes raw columns: X's. Raises SubmissionError if one of them is none."""
    if not isinstance(X, pd.DataFrame):
        raise SubmissionError("X is an array, whose columns have no names: pass X as a DataFrame of raw columns.")
    names = [str(name) for name in X.columns]
    strays = [name for name in names if name not in raw.schema.names]
    if strays:
        why = raw.unusable.get(strays[0], "pass features, the function that makes X of raw rows.")
        raise SubmissionError(f"X has columns that the raw rows do not have ({named(strays)}): {why}")
    return tuple(names)


def inputs_of_features(
    features: Features, frame: pd.DataFrame, raw: RawSchema, truth: pd.Series[Any]
) -> tuple[str, ...]:
    """The raw columns that features reads, found by trying it without each.

    ``frame`` has no target; ``truth`` is the target of its rows, and serves to say that features reads it.
    """
    try:
        return find_inputs(features, frame)
    except SubmissionError as error:
        if error.__cause__ is not None and _works(features, frame.assign(**{str(truth.name): truth})):
            raise SubmissionError(
                f"the target {truth.name!r} is among the inputs: features reads it, and an event does not have it. "
                "Compute the target outside features."
            ) from error
        for name, why in raw.unusable.items():
            if name in str(error):
                raise SubmissionError(f"features reads {name!r}, and {why}") from error
        raise


def _works(features: Features, frame: pd.DataFrame) -> bool:
    try:
        features(frame.copy())
    except Exception:  # noqa: BLE001  (whatever it raises, the target is not what it missed)
        return False
    return True
