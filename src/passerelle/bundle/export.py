"""Export: a fitted model described without code, in its own environment; needs numpy and the model's own library.

The second half, ``bundle.compile``, runs where Passerelle is at home.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from passerelle.bundle.estimators import estimate
from passerelle.bundle.form import Form, Linear, Slot, Unsupported, write_form
from passerelle.bundle.manifest import Label
from passerelle.bundle.preparation import Draft, Lane, kind_of
from passerelle.project.settings import TaskKind
from passerelle.schema import Kind, Schema

_KINDS: dict[Kind, Any] = {
    "integer": "number",
    "number": "number",
    "boolean": "number",
    "string": "text",
    "timestamp": "time",
    "date": "time",
}


def export(model: Any, schema: Schema, *, task: TaskKind, classes: Sequence[Label], into: Path) -> None:
    """Describe a model that takes the raw fields, and write its form to the folder ``into``; whole or not at all.

    Raises Unsupported, naming the step, if one has no code-free form; the model is then served by its process.
    """
    write_form(describe(model, schema, task=task, classes=classes), into, {})


def describe(model: Any, schema: Schema, *, task: TaskKind, classes: Sequence[Label]) -> Form:
    """The form of a fitted model whose inputs are the schema's fields. Raises Unsupported, naming the step."""
    draft = Draft()
    lanes = [
        Lane(slot=Slot(field=column.name), kind=_KINDS[column.kind], name=column.name) for column in schema.columns
    ]
    try:
        answer = estimate(draft, model, lanes)
        if task != "regression":
            answer = _in_order(draft, answer, model, task, classes)
        elif hasattr(model, "classes_"):
            raise Unsupported(f"{kind_of(model)} answers classes where numbers are wanted.")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # A library's version that we have not met keeps its fitted attributes elsewhere: that is no fault of the model.
        raise Unsupported(f"{kind_of(model)} is not built as expected ({type(error).__name__}: {error}).") from error
    if answer != len(draft.steps) - 1:
        raise Unsupported(f"{kind_of(model)} does not end in its answer.")
    outputs = len(classes) if task == "multiclass" else 1
    if draft.widths[answer] != outputs:
        raise Unsupported(f"{kind_of(model)} answers {draft.widths[answer]} numbers a row, and {outputs} are wanted.")
    return Form(outputs=outputs, steps=tuple(draft.steps))


def _in_order(draft: Draft, answer: int, model: Any, task: TaskKind, classes: Sequence[Label]) -> int:
    """The answers in the order of ``classes``: as notebook.answers puts them."""
    labels = getattr(model, "classes_", None)
    if labels is None:
        if kind_of(model) != "lightgbm.Booster":
            raise Unsupported(f"{kind_of(model)} does not say which classes it answers for.")
        return answer  # by places
    own = np.asarray(labels).tolist()
    order = [own.index(label) if label in own else -1 for label in classes]
    if not any(place >= 0 for place in order):
        order = [own.index(code) if code in own else -1 for code in range(len(classes))]
    if len(own) == 1 or not any(place >= 0 for place in order):
        raise Unsupported(f"{kind_of(model)} answers for the classes {own}, and {list(classes)} are wanted.")
    if task == "binary":
        order = order[1:]  # the probability of the positive class
    width = draft.widths[answer]
    if order == ([1] if width == 1 else list(range(width))):
        return answer
    weights, intercept = np.zeros((width, len(order))), np.zeros(len(order))
    for column, place in enumerate(order):
        if width == 1 and place >= 0:  # of two classes, the answer is the second's probability
            weights[0, column], intercept[column] = (1.0, 0.0) if place == 1 else (-1.0, 1.0)
        elif place >= 0:
            weights[place, column] = 1.0
    return draft.add(Linear(source=answer, weights=weights, intercept=intercept), len(order))
