"""Answers: what a model says of rows, as one float64 array, whichever library it comes from.

| task | outputs | shape |
|---|---|---|
| binary | probability of the positive class | (rows, 1) |
| multiclass | probability of each class, in the order of ``classes`` | (rows, classes) |
| regression | the number | (rows, 1) |

The same code answers in the notebook's kernel and in the process that serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerelle.errors import ScoringError, SubmissionError
from passerelle.notebook.frame import to_frame
from passerelle.project.settings import TaskKind
from passerelle.schema import Columns, Schema, count, plain_label

Label = str | int | bool
Features = Callable[[Any], Any]

_SHOWN = 5


def score(
    model: Any,
    features: Features | None,
    columns: Columns,
    *,
    schema: Schema,
    task: TaskKind,
    classes: Sequence[Label],
) -> NDArray[Any]:
    """The model's answers on events: float64 of shape (rows, outputs), all finite, in the order of the rows.

    Raises ScoringError if the features or the model do not answer on each row; lets their own exceptions through.
    """
    frame = to_frame(columns, schema)
    answers = answer(model, frame if features is None else features(frame), task=task, classes=classes)
    if len(answers) != count(columns):
        raise ScoringError(f"{count(columns)} events were asked and {len(answers)} answered: features loses rows.")
    return answers


def answer(model: Any, X: Any, *, task: TaskKind, classes: Sequence[Label]) -> NDArray[Any]:  # noqa: N803  (X is its name)
    """The model's answers on X: float64 of shape (rows, outputs), all finite.

    Takes any object with ``predict_proba`` or ``predict``, and LightGBM's, XGBoost's and CatBoost's own. From
    ``predict``, labels become probabilities of 0 and 1, and numbers between 0 and 1 are probabilities (binary).
    Raises ScoringError if the answers are of another shape, are no class there is, or are not finite.

    >>> class Half:
    ...     def predict(self, X):
    ...         return [0.5 for row in X]
    >>> answer(Half(), [[1], [2]], task="binary", classes=(False, True)).tolist()
    [[0.5], [0.5]]
    """
    said = _ask(model, X, task)
    if task == "regression":
        answers = _floats(said, model)
        answers = answers.reshape(len(answers), -1)
        if answers.shape[1] != 1:
            raise ScoringError(f"the model answers {answers.shape[1]} numbers a row, where one is wanted.")
    else:
        answers = _probabilities(said, model, task, classes)
    wrong = ~np.isfinite(answers).all(axis=1)
    if wrong.any():
        raise ScoringError(
            f"the model's answer is not a finite number in {wrong.sum()} of {len(answers)} rows "
            f"(first: row {int(np.flatnonzero(wrong)[0])})."
        )
    return answers


def _ask(model: Any, X: Any, task: TaskKind) -> NDArray[Any]:  # noqa: N803  (X is its name)
    library = type(model).__module__.partition(".")[0]
    name = type(model).__name__
    if library == "xgboost" and name == "Booster":
        import xgboost  # noqa: PLC0415  (only where the model is one of its own)

        return np.asarray(model.predict(xgboost.DMatrix(X, enable_categorical=True)))
    if task != "regression" and hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X))
    if library == "catboost" and name == "CatBoost" and task != "regression":
        return np.asarray(model.predict(X, prediction_type="Probability"))
    return np.asarray(model.predict(X))


def _floats(said: NDArray[Any], model: Any) -> NDArray[Any]:
    try:
        return said.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ScoringError(f"{type(model).__name__} answers {said.dtype}, where numbers are wanted: {error}") from error


def _probabilities(said: NDArray[Any], model: Any, task: TaskKind, classes: Sequence[Label]) -> NDArray[Any]:
    own = labels_of(model)
    if said.ndim == 2 and said.shape[1] > 1:  # noqa: PLR2004  (rows and classes)
        table = _floats(said, model)
        order = range(len(classes)) if own is None or len(own) != said.shape[1] else _order(own, classes)
        if own is None and said.shape[1] != len(classes):
            raise ScoringError(
                f"the model answers {said.shape[1]} numbers a row, and there are {len(classes)} classes."
            )
        table = np.column_stack([table[:, place] if place >= 0 else np.zeros(len(table)) for place in order])
        return table[:, 1:2] if task == "binary" else table
    flat = said.reshape(-1)
    if task == "binary" and flat.dtype.kind == "f":
        outside = flat[(flat < 0) | (flat > 1)]
        if len(outside):
            raise ScoringError(
                f"the model answers {outside[0]:g}, which is no probability: its predict must give a class, or the "
                "probability of the positive class."
            )
        return flat.astype(np.float64).reshape(-1, 1)
    places = _positions(flat, classes)
    table = np.zeros((len(flat), len(classes)))
    table[np.arange(len(flat)), places] = 1.0
    return table[:, 1:2] if task == "binary" else table


def _order(own: Sequence[Label], classes: Sequence[Label]) -> list[int]:
    """For each class, the place of the model's column for it; -1 if the model never met it."""
    places = {label: place for place, label in enumerate(own)}
    if any(label in places for label in classes):
        return [places.get(label, -1) for label in classes]
    return [places.get(code, -1) for code in range(len(classes))]


def _positions(said: NDArray[Any], classes: Sequence[Label]) -> NDArray[Any]:
    places = {label: place for place, label in enumerate(classes)}
    if not any(plain_label(label) in places for label in said[:_SHOWN]):
        places = {**{code: code for code in range(len(classes))}, **places}
    try:
        return np.array([places[plain_label(label)] for label in said], dtype=np.int64)
    except KeyError as error:
        raise ScoringError(f"the model answers {error.args[0]!r}, which is not one of {list(classes)}.") from error


def labels_of(model: Any) -> list[Label] | None:
    """The classes that a model says it answers for, in its order, as JSON writes them; None if it does not say."""
    own = getattr(model, "classes_", None)
    return None if own is None or len(own) == 0 else [plain_label(label) for label in np.asarray(own).reshape(-1)]


def classes_of(model: Any, truth: Sequence[Any], task: TaskKind, positive: Label) -> tuple[Label, ...]:
    """The classes in the order of the answers, as JSON writes them: (negative, positive) for binary.

    ``truth`` is the target of the training rows. Raises SubmissionError if the target's values do not fit the task,
    or if the model answers other classes than it has (numbers 0, 1, 2 ... are taken as places in sorted order).

    >>> classes_of(object(), ["no", "yes", "no"], "binary", "yes")
    ('no', 'yes')
    """
    if task == "regression":
        return ()
    there = {plain_label(value) for value in truth}
    labels = sorted(there, key=lambda label: (isinstance(label, str), label))
    if task == "binary":
        if len(labels) > 2 or positive not in there:  # noqa: PLR2004  (two classes)
            shown = ", ".join(map(repr, labels[:_SHOWN]))
            raise SubmissionError(
                f"the target's values are {shown}{' ...' if len(labels) > _SHOWN else ''}, where a binary task has "
                f"two, one of them {positive!r}: correct [task] kind or positive in passerelle.toml."
            )
        yes = next(label for label in labels if label == positive)
        no = next((label for label in labels if label != positive), _opposite(yes))
        labels = [no, yes]
    own = labels_of(model)
    codes = list(range(len(labels)))
    if own is None or set(own) <= set(labels) or own == codes:
        return tuple(labels)
    if task == "multiclass" and set(labels) <= set(own):
        return tuple(own)
    raise SubmissionError(
        f"the model answers {own[:_SHOWN]} and the target's values are {labels[:_SHOWN]}: fit it on the target itself, "
        "or on its places in sorted order (sklearn's LabelEncoder)."
    )


def _opposite(yes: Label) -> Label:
    if isinstance(yes, bool):
        return not yes
    return 0 if yes != 0 and isinstance(yes, int) else f"not {yes}"


def are_codes(model: Any, classes: Sequence[Label]) -> bool:
    """Does the model answer by places or by a bare number, so that its order of classes is an assumption to check?"""
    own = labels_of(model)
    return own is None or not set(own) & set(classes)
