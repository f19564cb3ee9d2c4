"""Measuring: what a day's mature predictions lost, beside what the model expected of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerelle.bundle.manifest import Manifest
from passerelle.metrics import cost, positions, row_losses
from passerelle.monitoring.parts import Bin, Slice, binned, sliced
from passerelle.notebook.submission import HOLDOUT, SUBMISSION, read_answers
from passerelle.project.settings import Loss, Project, TaskKind
from passerelle.schema import decode_columns


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a day."""

    #: Live predictions that were scored, with their outcome; without one when the horizon had passed; and failed ones.
    rows: int
    unlabelled: int
    failed: int
    #: Mean loss of the rows, and what the model's own probabilities expected of it; None without rows (for numbers).
    loss: float | None
    expected: float | None
    #: Variance of one row's loss within the day.
    variance: float | None = None
    #: Version → its rows and mean loss, where several answered.
    versions: dict[str, dict[str, float]] = {}
    #: Mean business cost of a row, in the unit of [costs]; None where none are declared, or the task is not binary.
    cost: float | None = None
    #: Input field → value in words → its rows, of the fields that [monitoring] slices names. They raise no alert.
    slices: dict[str, dict[str, Slice]] = {}
    #: Calibration of the day, without empty bins, by score; () where the task is not binary.
    bins: tuple[Bin, ...] = ()


def expected_loss(loss: Loss, outputs: NDArray[Any], task: TaskKind) -> NDArray[np.float64] | None:
    """The loss that each row's probabilities expect of themselves, if they are right; None for numbers.

    >>> expected_loss("brier", np.array([[0.25]]), "binary")
    array([0.1875])
    """
    if task == "regression":
        return None
    both = np.column_stack([1 - outputs[:, 0], outputs[:, 0]]) if task == "binary" else outputs
    if loss == "brier":
        total = 1 - (both**2).sum(axis=1)
        return np.asarray(total / 2 if both.shape[1] == 2 else total, dtype=np.float64)  # noqa: PLR2004  (two classes)
    if loss == "zero_one":
        return np.asarray(1 - both.max(axis=1), dtype=np.float64)
    safe = np.clip(both, 1e-300, 1)
    return np.asarray(-(both * np.log(safe)).sum(axis=1), dtype=np.float64)


def measure(
    rows: pa.Table, project: Project, classes: Sequence[Any], slices: Mapping[str, Mapping[str, str]] | None = None
) -> tuple[Figures, NDArray[np.float64]]:
    """A day's figures, of its live rows (as maturity.Day has them), and each row's loss, of shape (rows,).

    ``slices``: field → id → slice (slicing).
    """
    live = rows.filter(pc.equal(rows["role"], "live"))
    scored = live.filter(pc.equal(live["status"], "scored"))
    known = scored.filter(pc.is_valid(scored["truth"]))
    counts = {"unlabelled": scored.num_rows - known.num_rows, "failed": live.num_rows - scored.num_rows}
    if known.num_rows == 0:
        return Figures(rows=0, loss=None, expected=None, **counts), np.zeros(0)
    labels = [msgspec.json.decode(text) for text in known["truth"].to_pylist()]
    outputs = _outputs(known)
    figures, losses = _figures(project, outputs, labels, classes)
    happened = _happened(project, labels, classes)
    versions = known["version"].to_numpy()
    several = np.unique(versions)
    by_version = {
        str(version): _of_version(project, losses, outputs, happened, versions == version)
        for version in (several.tolist() if len(several) > 1 else ())
    }
    by_slice = {
        field: sliced(
            [names.get(one, "missing") for one in known["id"].to_pylist()],
            losses,
            lambda mine: _cost(project, outputs[mine], None if happened is None else happened[mine]),
        )
        for field, names in (slices or {}).items()
    }
    return msgspec.structs.replace(figures, versions=by_version, slices=by_slice, **counts), losses


def held_out_days(project: Project, manifest: Manifest) -> list[tuple[datetime, Figures]]:
    """The days that the champion's run held out, with its losses there: the reference that exists at once.

    Empty if the run's files are gone, the model was imported, or the project has no time column.
    """
    run, time = manifest.provenance.run, project.task.time
    kept = project.state / "holdouts" / f"{run}.msgpack"
    answers = project.state / "runs" / f"{run}" / SUBMISSION / HOLDOUT
    if run is None or time is None or not kept.is_file() or not answers.is_file():
        return []
    rows = decode_columns(kept.read_bytes())
    outputs = read_answers(answers).outputs
    lead = np.timedelta64(round(project.task.lead_hours * 3600), "s")
    days = (rows[time].astype("datetime64[us]") - lead).astype("datetime64[D]")
    labels = rows[project.task.target]
    found = []
    for day in np.unique(days):
        chosen = days == day
        figures, _ = _figures(project, outputs[chosen], labels[chosen].tolist(), manifest.classes)
        start = datetime.combine(day.astype(object), datetime.min.time(), UTC)
        found.append((start, figures))
    most = max(figures.rows for _, figures in found)
    return [one for one in found if one[1].rows >= most / 2]  # the first and the last day are cut


def _figures(
    project: Project, outputs: NDArray[Any], labels: Sequence[Any], classes: Sequence[Any]
) -> tuple[Figures, NDArray[np.float64]]:
    """The figures of rows that all have their outcome, and each row's loss."""
    losses, expected = _losses(project, outputs, labels, classes)
    happened = _happened(project, labels, classes)
    figures = Figures(
        rows=len(losses),
        unlabelled=0,
        failed=0,
        loss=float(losses.mean()),
        expected=None if expected is None else float(expected.mean()),
        variance=float(losses.var()),
        cost=_cost(project, outputs, happened),
        bins=() if happened is None else binned(outputs[:, 0], happened),
    )
    return figures, losses


def _of_version(
    project: Project,
    losses: NDArray[np.float64],
    outputs: NDArray[Any],
    happened: NDArray[np.bool_] | None,
    mine: NDArray[np.bool_],
) -> dict[str, float]:
    paid = _cost(project, outputs[mine], None if happened is None else happened[mine])
    found = {"rows": int(mine.sum()), "loss": float(losses[mine].mean())}
    return found if paid is None else {**found, "cost": paid}


def _happened(project: Project, labels: Sequence[Any], classes: Sequence[Any]) -> NDArray[np.bool_] | None:
    """Whether each row is of the positive class; None where the task is not binary."""
    return np.asarray(positions(labels, classes) == 1) if project.task.kind == "binary" else None


def _cost(project: Project, outputs: NDArray[Any], happened: NDArray[np.bool_] | None) -> float | None:
    costs = project.costs
    if costs is None or happened is None or not len(happened):
        return None
    return cost(outputs[:, 0], happened, action=costs.action, missed=costs.missed)


def _losses(
    project: Project, outputs: NDArray[Any], labels: Sequence[Any], classes: Sequence[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Each row's loss, and what its own probabilities expected of it."""
    task = project.task.kind
    truth = np.array(labels, dtype=np.float64) if task == "regression" else positions(labels, classes)
    losses = row_losses(project.loss, outputs, truth, cap=project.trial.cap)
    return losses, expected_loss(project.loss, outputs, task)


def _outputs(rows: pa.Table) -> NDArray[Any]:
    """The outputs of scored rows, of shape (rows, outputs)."""
    column = rows["output"].combine_chunks()
    return np.asarray(column.flatten()).reshape(rows.num_rows, -1)
