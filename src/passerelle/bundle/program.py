"""Program: runs a compiled form, in numpy float64 and ONNX Runtime; nothing per row in Python, nothing unpickled."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from itertools import groupby, repeat
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from passerelle.bundle.form import (
    Affine,
    Apply,
    Array,
    Average,
    Gather,
    Impute,
    Indicate,
    Interpolate,
    Linear,
    Lookup,
    OneHot,
    Recode,
    Slot,
    Trees,
    read_form,
    trees_file,
)
from passerelle.bundle.graph import refuse_other_operators
from passerelle.errors import BundleError, ScoringError
from passerelle.schema import Columns, count

Matrix = NDArray[np.float64]
Values = list[Matrix]
Run = Callable[[Columns, Values], Matrix]
"""A step, ready to run: the events and the matrices of the steps before it → its own."""


class Program:
    """A compiled form, loaded. Raises BundleError if it is damaged.

    >>> from passerelle.bundle.form import Form, Slot, write_form
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "inline"
    >>> steps = (Gather(slots=(Slot(field="hour"),)), Affine(source=0, divide=np.array([24.0])))
    >>> write_form(Form(outputs=1, steps=steps), folder, {})
    >>> Program(folder)({"hour": np.array([6, 12])}).tolist()
    [[0.25], [0.5]]
    """

    def __init__(self, folder: Path) -> None:
        form = read_form(folder)
        self.outputs = form.outputs
        self._runs: list[Run] = [ready(step, folder / trees_file(number)) for number, step in enumerate(form.steps)]

    def __call__(self, columns: Columns) -> Matrix:
        """Float64 answers of shape (rows, outputs), all finite, in the order of the rows; else ScoringError."""
        values: Values = []
        if count(columns) == 0:
            return np.empty((0, self.outputs))
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused below
                for run in self._runs:
                    values.append(run(columns, values))
        except KeyError as error:
            raise ScoringError(f"the events have no field {error.args[0]!r}: send it, or null.") from error
        except (ValueError, TypeError, IndexError) as error:
            raise ScoringError(f"the model cannot be computed on these events: {error}") from error
        answers = values[-1]
        if not np.isfinite(answers).all():
            rows = np.flatnonzero(~np.isfinite(answers).all(axis=1))
            raise ScoringError(f"the model's answer is not a finite number in {len(rows)} rows (first: row {rows[0]}).")
        return answers


@singledispatch
def ready(step: Any, _: Path) -> Run:
    """A step as a function to run; trees are loaded from the file."""
    raise BundleError(f"this Passerelle cannot run a step {type(step).__name__}: upgrade Passerelle.")


@ready.register
def _gather(step: Gather, _: Path) -> Run:
    # Neighbouring columns of one matrix are copied in one go.
    runs: list[tuple[int, int, int, int, str]] = []
    keyed = [(slot.field, slot.step, slot.column - at if not slot.field else -1) for at, slot in enumerate(step.slots)]
    at = 0
    for (field, source, offset), group in groupby(keyed):
        width = len(list(group))
        runs += (
            [(at + i, at + i + 1, -1, 0, field) for i in range(width)]
            if field
            else [(at, at + width, source, at + offset, "")]
        )
        at += width
    total = at

    def run(columns: Columns, values: Values) -> Matrix:
        matrix = np.empty((count(columns), total))
        for start, stop, source, first, field in runs:
            if field:
                matrix[:, start] = columns[field]
            else:
                matrix[:, start:stop] = values[source][:, first : first + stop - start]
        return matrix

    return run


def _equals(matrix: Matrix, missing: Array) -> NDArray[np.bool_]:
    value = missing[0]
    return np.isnan(matrix) if np.isnan(value) else matrix == value


@ready.register
def _impute(step: Impute, _: Path) -> Run:
    def run(_: Columns, values: Values) -> Matrix:
        matrix = values[step.source]
        return np.where(_equals(matrix, step.missing), step.fill, matrix)

    return run


@ready.register
def _indicate(step: Indicate, _: Path) -> Run:
    def run(_: Columns, values: Values) -> Matrix:
        return _equals(values[step.source][:, step.columns], step.missing).astype(np.float64)

    return run


@ready.register
def _affine(step: Affine, _: Path) -> Run:
    def run(_: Columns, values: Values) -> Matrix:
        matrix = values[step.source]
        if step.subtract is not None:
            matrix = matrix - step.subtract
        if step.divide is not None:
            matrix = matrix / step.divide
        if step.multiply is not None:
            matrix = matrix * step.multiply
        if step.add is not None:
            matrix = matrix + step.add
        if step.low is not None:
            matrix = np.clip(matrix, step.low, step.high)
        return matrix

    return run


def _sigmoid(x: Matrix) -> Matrix:
    return 1.0 / (1.0 + np.exp(-x))


def _softmax(x: Matrix) -> Matrix:
    shifted = np.exp(x - x.max(axis=1, keepdims=True))
    shares: Matrix = shifted / shifted.sum(axis=1, keepdims=True)
    return shares


def _normalise(x: Matrix) -> Matrix:
    """Shares of one; equal ones where all are 0, as scikit-learn's calibration does."""
    total = x.sum(axis=1, keepdims=True)
    shares: Matrix = np.where(total == 0, 1 / x.shape[1], x / total)
    return shares


#: Name → function of a matrix. numpy's own have its names, so that FunctionTransformer(np.log1p) is found by it.
FUNCTIONS: dict[str, Callable[[Matrix], Matrix]] = {
    **{
        name: getattr(np, name)
        for name in (
            "absolute", "cbrt", "cos", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "negative",
            "sign", "sin", "sqrt", "square", "tan", "tanh", "trunc",
        )
    },
    "log1p_exp": lambda x: np.log1p(np.exp(x)),
    "normalise": _normalise,
    "sigmoid": _sigmoid,
    "signed_square": lambda x: np.sign(x) * x * x,
    "softmax": _softmax,
}  # fmt: skip


@ready.register
def _apply(step: Apply, _: Path) -> Run:
    function = FUNCTIONS.get(step.function)
    if function is None:
        raise BundleError(f"this Passerelle does not know the function {step.function!r}: upgrade Passerelle.")
    return lambda _, values: function(values[step.source])


def _column(slot: Slot) -> Callable[[Columns, Values], Array]:
    if slot.field:
        return lambda columns, _: columns[slot.field]
    return lambda _, values: values[slot.step][:, slot.column]


def _look_up(lookup: Lookup) -> Run:
    """The values of one column, as a vector."""
    keys = list(lookup.texts) if lookup.texts is not None else [] if lookup.numbers is None else lookup.numbers.tolist()
    *known, missing, other = lookup.values.tolist()
    table: dict[Any, float] = {**dict(zip(keys, known, strict=True)), None: missing}
    column = _column(lookup.slot)
    refuses = np.isinf(lookup.values).any()

    def run(columns: Columns, values: Values) -> Matrix:
        array = column(columns, values)
        found = np.fromiter(map(table.get, array.tolist(), repeat(other)), np.float64, len(array))
        if array.dtype.kind == "f":
            found[np.isnan(array)] = missing
        if refuses and np.isinf(found).any():
            row = int(np.flatnonzero(np.isinf(found))[0])
            where = f"field {lookup.slot.field!r}" if lookup.slot.field else "a prepared column"
            raise ScoringError(f"the model refuses {array[row]!r} in {where} (row {row}): it was not in its training.")
        return found

    return run


@ready.register
def _one_hot(step: OneHot, _: Path) -> Run:
    lookups = [_look_up(lookup) for lookup in step.lookups]

    def run(columns: Columns, values: Values) -> Matrix:
        rows = np.arange(count(columns))
        matrix = np.zeros((len(rows), step.width + 1))  # position -1 is one column too many: it takes what is unknown
        for look_up in lookups:
            matrix[rows, look_up(columns, values).astype(np.intp)] = 1.0
        return matrix[:, :-1]

    return run


@ready.register
def _recode(step: Recode, _: Path) -> Run:
    lookups = [_look_up(lookup) for lookup in step.lookups]

    def run(columns: Columns, values: Values) -> Matrix:
        matrix = np.empty((count(columns), len(lookups)))
        for number, look_up in enumerate(lookups):
            matrix[:, number] = look_up(columns, values)
        return matrix

    return run


@ready.register
def _interpolate(step: Interpolate, _: Path) -> Run:
    return lambda _, values: np.interp(values[step.source][:, 0], step.x, step.y)[:, None]


@ready.register
def _average(step: Average, _: Path) -> Run:
    def run(_: Columns, values: Values) -> Matrix:
        total: Matrix = sum((values[source] for source in step.sources[1:]), values[step.sources[0]])
        return total / len(step.sources)

    return run


def _refuse_nan(matrix: Matrix) -> None:
    if np.isnan(matrix).any():
        row = int(np.flatnonzero(np.isnan(matrix).any(axis=1))[0])
        raise ScoringError(f"the model refuses missing values, and row {row} has one: impute it in the model.")


@ready.register
def _linear(step: Linear, _: Path) -> Run:
    def run(_: Columns, values: Values) -> Matrix:
        matrix = values[step.source]
        _refuse_nan(matrix)
        answers: Matrix = matrix @ step.weights + step.intercept
        return answers

    return run


@ready.register
def _trees(step: Trees, file: Path) -> Run:
    if step.forest is not None and len(step.forest.roots):
        raise BundleError(f"{file.parent} is not compiled: compile it first.")
    # Where every tree is a single leaf, there is nothing to walk, and no file.
    session = _session(file) if step.forest is None else None
    tables = None if step.leaves is None else list(np.ascontiguousarray(step.leaves.T))

    def run(_: Columns, values: Values) -> Matrix:
        matrix = values[step.source]
        if step.rounded:
            matrix = matrix.astype(np.float32).astype(np.float64)
            if np.isinf(matrix).any():
                raise ScoringError("the model refuses a number beyond 3.4e38: its trees compute in float32.")
        if step.finite:
            _refuse_nan(matrix)
        raw = np.zeros((len(matrix), step.outputs))
        if session is not None:
            try:
                raw = session.run(["y"], {"x": np.ascontiguousarray(matrix)})[0]
            except Exception as error:  # ONNX Runtime's exceptions share no base class of its own
                raise ScoringError(f"the trees of {file.name} cannot be walked on these events: {error}") from error
        if tables is None:
            answers: Matrix = raw / step.divide + step.base
            return answers
        # An output at a time: all at once would need rows x trees x outputs numbers.
        rows = (raw + step.base).astype(np.intp)
        return np.stack([table[rows].sum(axis=1) for table in tables], axis=1) / step.divide

    return run


def _session(file: Path) -> onnxruntime.InferenceSession:
    """One thread: the serving loop has many batches to score, and its neighbours have their own processors."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        data = file.read_bytes()
        refuse_other_operators(data)
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of its own
        raise BundleError(f"{file} cannot be loaded ({error}): fetch the bundle again.") from error
