"""The two calls that a notebook makes: training_data and submit. By hand they do the same as in the pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from passerelle.errors import SubmissionError


def training_data(table: str | None = None) -> Any:
    """The accepted rows to learn from, as a DataFrame: a fresh copy each time.

    Without a table's name: the main table with the target, the holdout left out; each row is an event, and its index
    says which. With a name: that table, whole. Raises DataError if there is no such table, or no data yet.
    """
    from passerelle.notebook.frame import to_frame
    from passerelle.notebook.session import current

    session = current()
    handout = session.handout
    name = table or handout.main
    columns = session.columns(name)
    frame = to_frame(columns, handout.tables[name]).copy()
    notes = "".join(f"; {note}" for note in handout.notes) if name == handout.main else ""
    session.tell(name, f"{name}: {len(frame):,} rows, {frame.shape[1]} columns{notes}")
    return frame


def submit(
    model: Any = None,
    X: Any = None,  # noqa: N803  (what everybody calls it)
    features: Callable[[Any], Any] | None = None,
    events: Callable[[dict[str, Any]], Any] | None = None,
    *,
    inputs: Sequence[str] | None = None,
    constants: Sequence[str] = (),
) -> None:
    """Hand the model over, once it is proved that it can be served; prints what was proved.

    Args:
        model: what was fitted: any object with ``predict`` or ``predict_proba``.
        X: what it was fitted on; its index says which raw rows it was made of.
        features: raw rows → X; leave it out if the model's own pipeline takes raw columns.
        events: tables (a dict of DataFrames) → one raw row per event, with the main table's index: what a caller of
            the endpoint sends. Leave it out if the main table's rows are the events.
        inputs: the raw columns that features read; found by trying where it is not given.
        constants: names computed on the training rows that features reads, and that shall stay as they are.

    Raises SubmissionError, saying which column and what to do next; nothing is written then.
    """
    from passerelle.notebook.crossing import cross
    from passerelle.notebook.session import cells, current

    if model is None or X is None:
        missing = "the model" if model is None else "X, what the model was fitted on"
        raise SubmissionError(f"submit needs {missing}: passerelle.submit(model, X=X_train, features=make_features).")
    session = current()
    replaced = session.submission.exists()
    if replaced and not session.by_hand:
        raise SubmissionError("submit was called twice in this run: a notebook hands over one model; keep one call.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # features runs many times here; its warnings were seen in the notebook
        crossing = cross(
            session,
            cells(),
            model,
            X,
            features=features,
            events=events,
            inputs=inputs,
            constants=tuple(constants),
        )
    crossing.write(session)
    session.submitted = crossing
    print(crossing.summary + ("\n  It replaces what was submitted before." if replaced else ""))  # noqa: T201  (for the notebook's reader)


def answer_holdout() -> None:
    """Answer the held-out rows with the very objects that were submitted; called after the last cell, by the run.

    Writes submission/holdout.msgpack. Raises SubmissionError if nothing was submitted, if the last cell has not run, or
    if events, features or the model fail on these rows.
    """
    from passerelle.notebook.session import current

    session = current()
    if session.submitted is None:
        raise SubmissionError("nothing was submitted in this kernel.")
    session.submitted.answer_holdout(session)
