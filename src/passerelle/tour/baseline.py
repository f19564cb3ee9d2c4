"""Baseline: the best table with one column, which anybody could make without a model; chosen on the first holdout."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.keys import trusted
from passerelle.bundle.verify import verify
from passerelle.loop.train import holdout_path
from passerelle.metrics import auc, positions, rates_by_value
from passerelle.notebook.submission import HANDOUT
from passerelle.project.settings import Project
from passerelle.registry.versions import Registry
from passerelle.schema import Columns, count, decode_columns


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """A column, its values and labels as the first version learned from them; None: there is no such table."""

    column: str | None
    values: NDArray[Any]
    labels: NDArray[Any]

    def scores(self, rows: Columns) -> NDArray[np.float64]:
        """The table's answer for each row; nothing where there is no table."""
        if self.column is None or self.column not in rows:
            return np.zeros(0)
        return np.asarray(rates_by_value(self.values, self.labels, rows[self.column]), dtype=np.float64)


def choose_baseline(project: Project, registry: Registry) -> Baseline:
    """The column of the model's inputs whose table ranks the first version's held-out rows best; for two classes."""
    none = Baseline(column=None, values=np.zeros(0), labels=np.zeros(0))
    if project.task.kind != "binary":
        return none
    version = registry.get(1)
    manifest = verify(version.path, digest=version.digest, trusted_keys=trusted(project.state)).manifest
    run = version.tags["run"]
    rows = decode_columns((project.state / "runs" / run / HANDOUT / f"{project.data.main}.msgpack").read_bytes())
    held_out = decode_columns(holdout_path(project, run).read_bytes())
    labels, checks = (positions(part[project.task.target].tolist(), manifest.classes) for part in (rows, held_out))
    names = [name for name in manifest.schema.names if name in rows]
    if not names or not count(held_out):
        return none
    scores = {name: auc(rates_by_value(rows[name], labels, held_out[name]), checks) for name in names}
    best = max(scores, key=lambda name: scores[name])
    return Baseline(column=best, values=rows[best], labels=labels)
