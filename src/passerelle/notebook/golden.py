"""Golden rows: rows of the training data and rows at the edges, with what the notebook's model answers on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerelle.notebook.proofs import ROWS, sample_rows
from passerelle.notebook.submission import Answers
from passerelle.schema import Column, Columns, Schema, count, take

UNSEEN = "never seen in training"


def golden_rows(columns: Columns, schema: Schema, answers: Callable[[Columns], NDArray[Any]]) -> tuple[Answers, int]:
    """Up to 200 training rows, and the edge rows that the model answers on; and how many of those there are.

    ``answers`` gives the notebook's model's answers on events.
    """
    picked = sample_rows(columns, schema)[:ROWS]
    rows = take(columns, picked)
    kept = [(rows, answers(rows))]
    for edge in edge_rows(columns, schema):
        try:
            kept.append((edge, answers(edge)))
        except Exception:  # noqa: BLE001, S112  (a model need not answer at the edges; where it does, serving must agree)
            continue
    inputs = {name: np.concatenate([part[name] for part, _ in kept]) for name in schema.names}
    return Answers(inputs=inputs, outputs=np.concatenate([said for _, said in kept])), len(kept) - 1


def edge_rows(columns: Columns, schema: Schema) -> list[Columns]:
    """A typical row, changed in one field: missing, an unseen string, numbers at and beyond the ends.

    >>> schema = Schema(columns=(Column(name="hour", kind="integer", minimum=0, maximum=23),))
    >>> [int(row["hour"][0]) for row in edge_rows({"hour": np.array([5, 6, 7])}, schema)]
    [0, 23]
    """
    if count(columns) == 0:
        return []
    typical = take(columns, slice(count(columns) // 2, count(columns) // 2 + 1))
    found = []
    for column in schema.columns:
        for value in _edges(columns[column.name], column):
            row = {name: array.copy() for name, array in typical.items()}
            row[column.name][0] = value
            found.append(row)
    return found


def _edges(array: NDArray[Any], column: Column) -> list[Any]:
    edges: list[Any] = []
    if column.nullable:
        if array.dtype.kind == "M":
            edges.append(np.array("NaT", dtype=array.dtype)[()])
        else:
            edges.append(np.nan if array.dtype.kind == "f" else None)
    if column.kind == "string":
        edges += [UNSEEN, ""] if column.allowed is None else list(column.allowed)
    if column.kind in ("integer", "number"):
        present = array[~np.isnan(array)] if array.dtype.kind == "f" else array
        if len(present):
            low, high = float(present.min()), float(present.max())
            reach = max(high - low, 1.0)
            edges.append(low - reach if column.minimum is None else column.minimum)
            edges.append(high + reach if column.maximum is None else column.maximum)
            if column.kind == "integer":
                edges[-2:] = [int(np.ceil(edges[-2])), int(np.floor(edges[-1]))]
    if column.kind == "boolean":
        edges += [True, False]
    return edges
