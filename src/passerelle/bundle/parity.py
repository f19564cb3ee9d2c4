"""Parity: does serving answer what the notebook answered, whatever company a row has in its batch?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from passerelle.bundle.scorer import Scorer
from passerelle.errors import KilledError, ParityError
from passerelle.notebook.submission import Answers
from passerelle.project.settings import TaskKind
from passerelle.schema import Columns, count, take

#: Where a probability becomes a decision, when flips are counted.
THRESHOLD = 0.5


class Worst(msgspec.Struct, frozen=True, kw_only=True):
    """The answer that is farthest from the notebook's."""

    #: The row's number in the answers that were compared.
    row: int
    #: How many rows were sent with it.
    chunk: int
    expected: tuple[float, ...]
    answered: tuple[float, ...]
    #: The input column most likely at fault, and why; None if none stands out.
    suspect: str | None = None


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison found."""

    #: How many rows there were; each was compared at least once.
    rows: int
    #: How many answers were compared, over all sizes of batches.
    comparisons: int
    #: The largest of ``differences``.
    max_abs_diff: float
    #: Answers that lead to another decision: another most probable class, or the other side of 0.5.
    flips: int
    #: None if there is no difference at all.
    worst: Worst | None = None


def differences(answered: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """The difference of each row (the largest of its outputs), to be held against schema.TOLERANCE.

    It is absolute for what is expected up to 1, hence for every probability, and a share of it beyond; infinite where
    either is no finite number, and everywhere if the shapes are not alike.

    >>> differences(np.array([[0.25], [110.0], [np.nan]]), np.array([[0.5], [100.0], [np.nan]])).tolist()
    [0.25, 0.1, inf]
    """
    if answered.shape != expected.shape:
        return np.full(len(expected), np.inf)
    with np.errstate(invalid="ignore"):
        gaps = np.abs(answered - expected) / np.maximum(1.0, np.abs(expected))
    found: NDArray[np.float64] = np.where(np.isfinite(gaps), gaps, np.inf).max(axis=1, initial=0.0)
    return found


async def compare(
    scorer: Scorer,
    answers: Answers,
    *,
    task: TaskKind,
    chunks: Sequence[int] = (1, 7, 1000),
    singles: int = 200,
    seed: int = 0,
    reference: Scorer | None = None,
) -> Parity:
    """Score the rows in batches of several sizes, and compare with the notebook's answers.

    The largest size takes every row in order; each smaller one takes ``singles`` batches of shuffled rows.
    ``reference`` is a scorer that is known to be right: with it, a suspect is found by substituting one column at a
    time in a row that agrees. Raises ScoringError if the model fails, ParityError if it is too slow,
    KilledError if its process is killed from outside.
    """
    rows = count(answers.inputs)
    comparisons = flips = 0
    wrong = np.zeros(rows, dtype=np.bool_)
    gap, worst = 0.0, None
    for size, index in _batches(rows, chunks, singles, seed):
        try:
            answered = await scorer.score(take(answers.inputs, index))
        except KilledError:
            raise  # not the model's fault
        except TimeoutError as error:
            raise ParityError(f"{error} The model is too slow to be served: raise serving.deadline_ms.") from error
        expected = answers.outputs[index]
        gaps = differences(answered, expected)
        comparisons += len(index)
        flips += _flips(answered, expected, task)
        wrong[index] |= gaps > 0
        here = int(np.argmax(gaps))
        if gaps[here] > gap:
            gap = float(gaps[here])
            shown = tuple(np.atleast_1d(answered[here]).tolist()) if len(answered) == len(index) else ()
            worst = Worst(row=int(index[here]), chunk=size, expected=tuple(expected[here].tolist()), answered=shown)
    if worst is not None:
        suspect = None
        if reference is not None:
            suspect = await _substitute(scorer, reference, answers, worst.row, wrong=wrong)
        worst = msgspec.structs.replace(worst, suspect=suspect or set_apart(answers.inputs, wrong))
    return Parity(rows=rows, comparisons=comparisons, max_abs_diff=gap, flips=flips, worst=worst)


def require(parity: Parity, *, tolerance: float) -> None:
    """Raise ParityError, naming the row and the suspected column, if a difference is above the tolerance."""
    worst = parity.worst
    if worst is None or parity.max_abs_diff <= tolerance:
        return
    company = "alone" if worst.chunk == 1 else f"in a batch of {worst.chunk}"
    suspect = worst.suspect or "no single column stands out: look at what features reads besides its rows."
    raise ParityError(
        f"row {worst.row}, scored {company}, answers {_shown(worst.answered)} where the notebook answered "
        f"{_shown(worst.expected)}: a difference of {parity.max_abs_diff:.3g}, and {tolerance:g} is allowed "
        f"({parity.flips} of {parity.comparisons} answers lead to another decision). Suspect: {suspect}"
    )


def set_apart(columns: Columns, wrong: NDArray[np.bool_]) -> str | None:
    """A column whose values set the wrong rows apart from the right ones, and how; None if there is none.

    >>> origins = np.array(["EWR", None, "JFK", None], dtype=object)
    >>> set_apart({"origin": origins}, np.array([False, True, False, True]))
    "'origin' is missing in each wrong row and in no right one."
    """
    if not wrong.any() or wrong.all():
        return None
    for name, values in columns.items():
        missing = np.array([value is None or value != value for value in values.tolist()])  # noqa: PLR0124  (NaN)
        if (missing == wrong).all():
            return f"{name!r} is missing in each wrong row and in no right one."
        if missing[wrong].any():
            continue
        apart = set(values[wrong].tolist())
        if len(apart) == 1 and not apart & set(values[~wrong & ~missing].tolist()):
            return f"{name!r} is {next(iter(apart))!r} in each wrong row and in no right one."
        if values.dtype.kind in "iufM":
            right = values[~wrong & ~missing]
            if right.size and values[wrong].min() > right.max():
                return f"{name!r} is above {right.max()} in each wrong row and in no right one."
            if right.size and values[wrong].max() < right.min():
                return f"{name!r} is below {right.min()} in each wrong row and in no right one."
    return None


async def _substitute(
    scorer: Scorer,
    reference: Scorer,
    answers: Answers,
    row: int,
    *,
    wrong: NDArray[np.bool_],
) -> str | None:
    """Put one value of the worst row at a time in a row that agrees: the column that brings the difference with it."""
    if wrong.all():
        return None
    inputs = answers.inputs
    agreeing = take(inputs, [int(np.flatnonzero(~wrong)[0])])
    found: list[tuple[float, str]] = []
    for name, values in inputs.items():
        trial = {**agreeing, name: values[[row]]}
        gap = differences(await scorer.score(trial), await reference.score(trial))[0]
        found.append((float(gap), f"{name!r}: its value {values[row]!r} alone makes the difference in another row."))
    gap, sentence = max(found)
    return sentence if gap > 0 else None


def _batches(rows: int, chunks: Sequence[int], singles: int, seed: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    generator = np.random.default_rng(seed)
    for size in sorted(chunks, reverse=True):
        if size == max(chunks):
            order, batches = np.arange(rows), rows
        else:
            order, batches = generator.permutation(rows), singles
        for start in range(0, min(rows, batches * size), size):
            yield size, order[start : start + size]


def _flips(answered: NDArray[Any], expected: NDArray[Any], task: TaskKind) -> int:
    if task == "regression":
        return 0
    if answered.shape != expected.shape:
        return len(expected)
    if task == "binary":
        return int(((answered >= THRESHOLD) != (expected >= THRESHOLD)).sum())
    return int((answered.argmax(axis=1) != expected.argmax(axis=1)).sum())


def _shown(values: Sequence[float]) -> str:
    text = ", ".join(f"{value:.17g}" for value in values[:5])
    return text if len(values) == 1 else f"[{text}{', …' if len(values) > 5 else ''}]"  # noqa: PLR2004  (a message)
