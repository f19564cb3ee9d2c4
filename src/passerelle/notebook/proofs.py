"""Proofs: what must hold before a submission is accepted. Each answers a sentence, or raises SubmissionError.

- inputs: which raw columns the features really read;
- batch independence: an event's features and answer do not depend on the events it is scored with;
- skew: the features of the raw rows are the X that the model was fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from passerelle.errors import PasserelleError, SubmissionError
from passerelle.notebook.compare import TOLERANCE, as_table, compare, named, unit_in_words
from passerelle.notebook.frame import shown, to_frame
from passerelle.schema import Columns, Schema, take

Features = Callable[[Any], Any]

#: Rows that the batch checks look at; how many of them alone; how many next to each other.
ROWS = 200
SINGLES = 64
NEIGHBOURS = 70
_SEVEN = 7
_INPUT_ROWS = 40


def features_of(features: Features, frame: pd.DataFrame, when: str) -> pd.DataFrame:
    """The features of a frame's rows, as a table with a row for each, in order. The frame itself is not changed.

    Raises SubmissionError if the function raises, loses rows, adds some or brings them into another order.
    """
    try:
        given = features(frame.copy())
    except PasserelleError:
        raise
    except Exception as error:
        raise SubmissionError(
            f"features fails on {when}: {described(error)}. An event comes without the target, alone or with others, "
            "and with an index of its own: features may use nothing but the event's own fields."
        ) from error
    table = as_table(given, "what features returns")
    if len(table) != len(frame):
        raise SubmissionError(
            f"features returns {len(table):,} rows for {len(frame):,} {when}: each event must be answered, so keep its "
            "row (fill what is missing, filter before features)."
        )
    moved = not table.index.equals(frame.index) and not table.index.equals(pd.RangeIndex(len(frame)))
    if moved and isinstance(given, pd.DataFrame) and table.index.sort_values().equals(frame.index.sort_values()):
        raise SubmissionError("features returns the rows in another order: end it with .loc[raw.index].")
    return table


def described(error: BaseException) -> str:
    """An exception in one line.

    >>> described(KeyError("temp"))
    "KeyError: 'temp'"
    """
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def find_inputs(features: Features, frame: pd.DataFrame) -> tuple[str, ...]:
    """The columns of ``frame`` that the features read: those without which they fail or give something else."""
    sample = frame.iloc[_spread(frame, _INPUT_ROWS)]
    whole = features_of(features, sample, "training rows")
    again = features_of(features, sample, "training rows")
    if list(whole.columns) != list(again.columns) or (unsteady := compare(whole, again)):
        column = unsteady[0].column if list(whole.columns) == list(again.columns) else "the columns"
        raise SubmissionError(
            f"features gives another {column!r} each time it is called: give it no randomness, no clock."
        )
    return tuple(str(name) for name in frame.columns if _is_read(features, sample, name, whole))


def _is_read(features: Features, sample: pd.DataFrame, name: Any, whole: pd.DataFrame) -> bool:
    try:
        table = as_table(features(sample.drop(columns=[name])), "what features returns")
    except Exception:  # noqa: BLE001  (whatever it raises without the column, it needs the column)
        return True
    return len(table) != len(whole) or list(table.columns) != list(whole.columns) or bool(compare(whole, table))


def _spread(frame: pd.DataFrame, rows: int, seed: int = 0) -> NDArray[Any]:
    """Positions of rows worth looking at: neighbours, random ones, and for each column some missing, the extremes."""
    if len(frame) <= rows:
        return np.arange(len(frame))
    random = np.random.default_rng(seed)
    picked = []
    for name in frame.columns:
        missing = np.flatnonzero(frame[name].isna())
        picked += list(random.choice(missing, min(3, len(missing)), replace=False))
        if pd.api.types.is_numeric_dtype(frame[name].dtype) and len(missing) < len(frame):
            picked += [int(frame[name].to_numpy(np.float64, na_value=np.nan).argmin()), int(np.nanargmax(frame[name]))]
    start = int(random.integers(0, len(frame) - min(NEIGHBOURS, rows // 3)))
    picked += range(start, start + min(NEIGHBOURS, rows // 3))
    picked += list(random.choice(len(frame), max(rows - len(set(picked)), rows // 4), replace=False))
    return np.array(sorted(set(picked)), dtype=np.int64)


def sample_rows(columns: Columns, schema: Schema, rows: int = ROWS) -> NDArray[Any]:
    """Positions of about ``rows`` rows to look at: the same each time, with missing values and extremes among them."""
    return _spread(to_frame(columns, schema), rows)


def _batches(rows: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Ways to cut rows into batches, each with its name for messages."""
    random = np.random.default_rng(7)
    alone = random.permutation(rows)[:SINGLES]
    yield from (("alone", np.array([row])) for row in sorted(alone))
    for start in range(0, rows, _SEVEN):
        yield "in sevens", np.arange(start, min(start + _SEVEN, rows))
    yield "shuffled", random.permutation(rows)


def check_batches(columns: Columns, schema: Schema, features: Features) -> None:
    """Make features of sampled rows alone, in sevens, shuffled, with a new index and together: nothing may differ.

    Raises SubmissionError naming the columns that do.
    """
    picked = sample_rows(columns, schema)
    rows = take(columns, picked)
    frame = to_frame(rows, schema)
    together = features_of(features, frame, "rows with a new index")
    _same_features(together, features_of(features, frame.set_axis(picked), "training rows"), "the index")
    wrong: dict[str, str] = {}
    for way, batch in _batches(len(picked)):
        given = features_of(features, to_frame(take(rows, batch), schema), f"rows {way}")
        _same_columns(together, given, way)
        for one in compare(together.iloc[batch], given):
            wrong.setdefault(one.column, f"{shown(one.left)} together with others, {shown(one.right)} {way}")
    if wrong:
        first = next(iter(wrong))
        raise SubmissionError(
            f"{named(list(wrong))} depend{'s' if len(wrong) == 1 else ''} on the other rows of the batch ({first} is "
            f"{wrong[first]}): an event comes alone. Compute what is needed of the training rows once, in a "
            "transformer of the model's pipeline or in a constant that you declare, and use that in features."
        )


def prepared(model: Any, frame: Any) -> pd.DataFrame:
    """What the steps before the last of a scikit-learn pipeline make of X, with their names for its columns.

    Raises TypeError or AttributeError if the model is no such pipeline.
    """
    before = model[:-1]
    table = as_table(before.transform(frame), "the pipeline's preparation")
    try:
        names = [str(name) for name in before.get_feature_names_out()]
    except (AttributeError, ValueError):  # a step of it does not say
        return table
    return table.set_axis(names, axis=1) if len(names) == table.shape[1] else table


def check_answers(
    columns: Columns,
    schema: Schema,
    answers: Callable[[Columns], NDArray[Any]],
    preparation: Callable[[Columns], pd.DataFrame],
) -> str:
    """The same for the model's answers, which ``answers`` gives on events.

    ``preparation`` gives what the model's last step is given, to name its columns, or raises.
    """
    picked = sample_rows(columns, schema)
    rows = take(columns, picked)
    together = answers(rows)
    for way, batch in _batches(len(picked)):
        said = answers(take(rows, batch))
        if not _near(together[batch], said):
            furthest = float(np.abs(together[batch] - said).max())
            raise SubmissionError(
                f"the model answers differently when rows are scored {way} than together (by up to {furthest:.3g}): "
                f"a step of it looks at the other rows of the batch{_steps_columns(preparation, rows, batch)}. Let it "
                "learn what it needs in fit."
            )
    return f"{len(picked):,} rows alone, in sevens, shuffled, with a new index, together: the same features and answers"


def _steps_columns(preparation: Callable[[Columns], pd.DataFrame], rows: Columns, batch: NDArray[Any]) -> str:
    try:
        differences = compare(preparation(rows).iloc[batch], preparation(take(rows, batch)))
    except Exception:  # noqa: BLE001  (no pipeline, or one that does not let itself be looked into: no name then)
        return ""
    return f", in {named([one.column for one in differences])}" if differences else ""


def _same_features(left: pd.DataFrame, right: pd.DataFrame, what: str) -> None:
    if list(left.columns) == list(right.columns) and (differences := compare(right, left)):
        raise SubmissionError(
            f"{named([one.column for one in differences])} depend{'s' if len(differences) == 1 else ''} on {what} of "
            "the rows: an event has an index of its own, which says nothing. Look values up by a column."
        )


def _same_columns(left: pd.DataFrame, right: pd.DataFrame, way: str) -> None:
    if list(left.columns) == list(right.columns):
        return
    odd = [name for name in left.columns if name not in right.columns]
    odd += [name for name in right.columns if name not in left.columns]
    raise SubmissionError(
        f"the columns depend on the other rows of the batch: {named(odd) if odd else 'their order'} "
        f"{'differ' if odd else 'differs'} {way}. Fix the columns: a OneHotEncoder fitted in the model's pipeline, or "
        "categories written out, instead of get_dummies on the batch."
    )


def _near(one: NDArray[Any], two: NDArray[Any]) -> bool:
    return one.shape == two.shape and bool(
        (np.abs(one - two) <= TOLERANCE * np.maximum(1.0, np.maximum(np.abs(one), np.abs(two)))).all()
    )


def check_skew(
    given: pd.DataFrame,
    fitted: pd.DataFrame,
    *,
    named_columns: bool,
    source: str,
    everywhere: Callable[[], pd.DataFrame] | None = None,
) -> str:
    """Compare the features of the raw rows with the X that the model was fitted on, all rows, all columns.

    ``named_columns`` is False where X is an array, whose columns go by position. ``source`` names the features'
    side in messages; ``everywhere`` makes the same of every raw row, and is asked if X seems to have lost its index.
    Raises SubmissionError naming the column, how many rows differ, the first and both values.
    """
    if not named_columns:
        if given.shape[1] != fitted.shape[1]:
            raise SubmissionError(
                f"X has {fitted.shape[1]} columns and {source} gives {given.shape[1]}: fit on its output."
            )
        fitted = fitted.set_axis(given.columns, axis=1)
    if list(given.columns) != list(fitted.columns):
        raise _other_columns(list(given.columns), list(fitted.columns), source)
    differences = compare(given, fitted)
    if not differences:
        return f"{source} gives X in all {len(fitted):,} rows and {fitted.shape[1]} columns"
    if everywhere is not None and _numbered_anew(fitted, everywhere):
        raise SubmissionError(
            f"X's index is 0…{len(fitted) - 1}, and its rows are those of other raw rows: keep raw's index (no "
            "reset_index, no ignore_index), by which each row of X is compared with the raw row it was made of."
        )
    worst = differences[0]
    others = f"; {named([one.column for one in differences[1:]])} too" if len(differences) > 1 else ""
    message = (
        f"column {worst.column!r} of X is not what {source} gives: {worst.rows:,} of {len(fitted):,} rows differ, "
        f"first the row {shown(fitted.index[worst.first])}: {shown(worst.right)} in X, {shown(worst.left)} from "
        f"{source}{others}."
    )
    if worst.unit is not None:
        message += f" It looks like a unit: {unit_in_words(worst.unit, source, 'X')}."
    elif given[worst.column].dtype != fitted[worst.column].dtype:
        message += f" X holds {fitted[worst.column].dtype}, {source} gives {given[worst.column].dtype}."
    raise SubmissionError(f"{message} Fit the model on {source}'s own output, on the rows of training_data().")


def _numbered_anew(fitted: pd.DataFrame, everywhere: Callable[[], pd.DataFrame]) -> bool:
    """Is X's index 0, 1, 2 ..., while each of its rows is what some raw row gives?"""
    if not fitted.index.equals(pd.RangeIndex(len(fitted))):
        return False
    rows = set(_texts(fitted))
    if len(rows) < len(fitted) / 2:  # rows that are alike are found anywhere, and say nothing
        return False
    try:
        return rows <= set(_texts(everywhere()))
    except Exception:  # noqa: BLE001  (features may fail on rows that the notebook left out)
        return False


def _texts(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Each row as texts in which a number is alike whatever its dtype, to 12 digits."""
    columns = [
        [f"{float(value):.12g}" if isinstance(value, int | float | np.number) else str(value) for value in table[name]]
        for name in table.columns
    ]
    return list(zip(*columns, strict=True))


def _other_columns(given: Sequence[str], fitted: Sequence[str], source: str) -> SubmissionError:
    only_x = [name for name in fitted if name not in given]
    only_features = [name for name in given if name not in fitted]
    parts = []
    if only_x:
        parts.append(f"only X has {named(only_x)}")
    if only_features:
        parts.append(f"only {source} gives {named(only_features)}")
    return SubmissionError(
        f"X and {source} do not have the same columns: {'; '.join(parts) or 'their order differs'}. "
        f"Fit the model on {source}'s own output."
    )
