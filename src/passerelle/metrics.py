"""Losses, scores, calibration and cost: pure functions of plain arrays, for binary, multi-class and regression.

Outputs are what a Scorer answers: float64 of shape (rows, outputs). Truth is a class's position in ``classes``
(0 or 1 for binary; -1 for a class that the model does not know, which it is then wrong about), or the number itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerelle.schema import plain_label

Array = NDArray[Any]

#: A probability is kept this far from 0 and 1 before its logarithm is taken, so that one sure error is not infinite.
CLIP = 1e-15

#: Metrics where more is better; all others are losses.
SCORES = frozenset({"auc", "accuracy"})


def log_loss(probabilities: Array, truth: Array) -> float:
    """Mean of -ln(probability given to the true class). Shapes (rows, classes) and (rows,).

    >>> round(log_loss(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 0])), 6)
    0.164252
    """
    return float(row_losses("log_loss", probabilities, truth).mean())


def brier(probabilities: Array, truth: Array) -> float:
    """Mean squared distance of the probabilities from the truth (Brier 1950); for two classes, of one of them.

    >>> round(brier(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 0])), 6)
    0.025
    """
    return float(row_losses("brier", probabilities, truth).mean())


def auc(scores: Array, truth: Array) -> float:
    """Probability that a positive row scores above a negative one, ties counted half (Mann and Whitney 1947).

    NaN if there is only one class.

    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    truth = truth > 0
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    above = ranks[inverse][truth].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def accuracy(probabilities: Array, truth: Array) -> float:
    """Share of rows whose most probable class is the true one.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    return float((probabilities.argmax(axis=1) == truth).mean())


def calibration_error(scores: Array, truth: Array, *, groups: int = 10) -> float:
    """Mean over equal groups of the sorted scores of |mean score - share of positives| (expected calibration error).

    >>> calibration_error(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 1]), groups=2)
    0.0
    """
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, groups) if len(part)]
    gaps = [abs(float(scores[part].mean() - (truth[part] > 0).mean())) * len(part) for part in parts]
    return sum(gaps) / len(truth)


def cost(scores: Array, truth: Array, *, action: float, missed: float) -> float:
    """Cost per event if one acts where it pays by the model: where the probability is above action / missed.

    >>> cost(np.array([0.9, 0.1, 0.1]), np.array([1, 0, 1]), action=1, missed=4)
    1.6666666666666667
    """
    act = scores > action / missed
    return float((act * action + (~act & (truth > 0)) * missed).mean())


def rmse(values: Array, truth: Array) -> float:
    """Root of the mean squared error, in the target's unit.

    >>> rmse(np.array([1.0, 5.0]), np.array([1.0, 1.0])) == 8 ** 0.5
    True
    """
    return float(np.sqrt(((values - truth) ** 2).mean()))


def mae(values: Array, truth: Array) -> float:
    """Mean absolute error, in the target's unit.

    >>> mae(np.array([1.0, 5.0]), np.array([1.0, 1.0]))
    2.0
    """
    return float(np.abs(values - truth).mean())


def row_losses(loss: str, outputs: Array, truth: Array, *, cap: float | None = None) -> NDArray[np.float64]:
    """The loss of each row, of shape (rows,); ``cap`` is the largest that counts in full.

    ``outputs`` of shape (rows, outputs): one column is the probability of the second of two classes, or a number.

    >>> row_losses("brier", np.array([[0.9], [0.2]]), np.array([1, 0])).round(6).tolist()
    [0.01, 0.04]
    >>> row_losses("squared", np.array([[1.0], [5.0]]), np.array([1.0, 1.0]), cap=9.0).tolist()
    [0.0, 9.0]
    """
    if loss in ("squared", "absolute"):
        gap = np.abs(outputs[:, 0] - truth)
        found = gap**2 if loss == "squared" else gap
    else:
        chances = np.column_stack([1 - outputs[:, 0], outputs[:, 0]]) if outputs.shape[1] == 1 else outputs
        found = _class_losses(loss, chances, truth.astype(np.int64))
    return np.asarray(found if cap is None else np.minimum(found, cap), dtype=np.float64)


def _class_losses(loss: str, chances: Array, truth: Array) -> Any:
    rows = np.arange(len(truth))
    if loss == "zero_one":
        return (chances.argmax(axis=1) != truth).astype(np.float64)
    if loss == "log_loss":
        return -np.log(np.clip(np.where(truth >= 0, chances[rows, truth], 0.0), CLIP, 1))
    if loss == "brier":
        hot = np.zeros((len(truth), chances.shape[1] + 1))
        hot[rows, truth] = 1  # a class never seen, -1, is the column beside the others
        hot[:, :-1] -= chances
        return (hot**2).sum(axis=1) / (2 if chances.shape[1] == 2 else 1)  # noqa: PLR2004  (two classes)
    raise ValueError(f"{loss!r} is no loss of a row: name brier, log_loss, zero_one, squared or absolute")


def largest_loss(loss: str, *, cap: float | None, classes: int = 2) -> float | None:
    """The largest that one row's loss can be, with this cap and so many classes; None: it has no bound.

    >>> largest_loss("brier", cap=None), largest_loss("brier", cap=None, classes=3), largest_loss("squared", cap=None)
    (1.0, 2.0, None)
    """
    bound = {"brier": 2.0 if classes > 2 else 1.0, "zero_one": 1.0}.get(loss)  # noqa: PLR2004  (two classes)
    return cap if bound is None else bound if cap is None else min(bound, cap)


def positions(labels: Sequence[Any], classes: Sequence[Any]) -> Array:
    """Each label's position in classes; -1 for a label that is not one of them. True is not 1; 1.0 is.

    >>> positions([True, False, True], (False, True))
    array([1, 0, 1])
    """
    place = {_typed(name): number for number, name in enumerate(classes)}
    return np.array([place.get(_typed(label), -1) for label in labels], dtype=np.int64)


def _typed(label: Any) -> tuple[type, Any]:
    """True is not 1, but 1.0 is."""
    plain = plain_label(label)
    return type(plain), plain


def evaluate(task: str, outputs: Array, truth: Array, *, action: float = 1.0, missed: float = 4.0) -> dict[str, float]:
    """Every metric of a task. Outputs of shape (rows, outputs); truth as positions (classes) or numbers.

    Raises ValueError if there is no row.

    >>> evaluate("regression", np.array([[1.0], [5.0]]), np.array([1.0, 1.0]))["mae"]
    2.0
    """
    if len(truth) == 0:
        raise ValueError("there is no row to evaluate")
    if task == "regression":
        values = outputs[:, 0]
        return {"rmse": rmse(values, truth), "mae": mae(values, truth)}
    if task == "binary":
        scores = outputs[:, 0]
        both = np.column_stack([1 - scores, scores])
        return {
            "log_loss": log_loss(both, truth),
            "brier": brier(both, truth),
            "auc": auc(scores, truth),
            "accuracy": accuracy(both, truth),
            "calibration_error": calibration_error(scores, truth),
            "cost": cost(scores, truth, action=action, missed=missed),
        }
    return {
        "log_loss": log_loss(outputs, truth),
        "brier": brier(outputs, truth),
        "accuracy": accuracy(outputs, truth),
    }


def constant_answer(task: str, learnt: Array, classes: int, rows: int) -> Array:
    """What knows nothing but the training rows' truths answers to each of ``rows`` rows: their shares, or their mean.

    >>> constant_answer("binary", np.array([1, 0, 0, 0]), 2, 1)
    array([[0.25]])
    """
    if task == "regression":
        return np.full((rows, 1), learnt.mean())
    shares = np.bincount(learnt[learnt >= 0].astype(np.int64), minlength=classes) / max(1, (learnt >= 0).sum())
    return np.tile(shares[1:2] if task == "binary" else shares, (rows, 1))


def rates_by_value(values: Array, truth: Array, asked: Array, *, weight: float = 20.0) -> Array:
    """What a one-column table would answer: the mean truth per value (or per tenth, for numbers), pulled to the mean.

    ``values`` and ``truth`` are learnt from, ``asked`` are the values to answer for; all of shape (rows,). A value seen
    n times counts n against ``weight`` rows at the overall mean. Values never seen get the overall mean.

    >>> rates_by_value(np.array(["a", "a", "b"]), np.array([1, 1, 0]), np.array(["a", "c"]), weight=0.0).tolist()
    [1.0, 0.6666666666666666]
    """
    overall = float(truth.mean())
    if values.dtype.kind == "f" and len(np.unique(values)) > 50:  # noqa: PLR2004  (beyond that a number is continuous)
        edges = np.nanquantile(values, np.linspace(0.1, 0.9, 9))
        values, asked = np.searchsorted(edges, values), np.searchsorted(edges, asked)
    names, inverse = np.unique([str(value) for value in values.tolist()], return_inverse=True)
    counts = np.bincount(inverse)
    sums = np.bincount(inverse, weights=truth)
    rates = dict(zip(names.tolist(), ((sums + weight * overall) / (counts + weight)).tolist(), strict=True))
    return np.array([rates.get(str(value), overall) for value in asked.tolist()])
