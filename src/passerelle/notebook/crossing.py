"""Crossing: from a fitted model to a submission, through all the proofs, in the order in which they explain best."""

from __future__ import annotations

import platform
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from passerelle.errors import PasserelleError, SchemaError, SubmissionError
from passerelle.notebook.answers import are_codes, classes_of, score
from passerelle.notebook.captured import Cells, check_lineage, functions_of
from passerelle.notebook.clean import Question, check_clean
from passerelle.notebook.clock_reads import check_clock
from passerelle.notebook.environment import installed_packages
from passerelle.notebook.events import MakeEvents, check_events, make_events, place_rows, raw_schema
from passerelle.notebook.frame import from_frame, to_frame
from passerelle.notebook.golden import golden_rows
from passerelle.notebook.inputs import declared_inputs, inputs_of_features, inputs_of_model
from passerelle.notebook.pickling import pickled
from passerelle.notebook.proofs import (
    Features,
    check_answers,
    check_batches,
    check_skew,
    described,
    features_of,
    prepared,
)
from passerelle.notebook.session import Session
from passerelle.notebook.submission import GOLDEN, HANDOUT, HOLDOUT, MODEL, Answers, Submission
from passerelle.schema import Columns, Schema, count, decode_columns, take

_LINEAGE_ROWS = 60
_ORDER_ROWS = 2000


class Crossing:
    """A model that was proved, and what goes with it."""

    def __init__(
        self, model: Any, features: Features | None, events: MakeEvents | None, submission: Submission, task: Any
    ) -> None:
        self.model = model
        self.features = features
        self.events = events
        self.submission = submission
        self.task = task
        self.golden: Answers | None = None
        self.draft: Path | None = None

    def answers(self, columns: Columns) -> NDArray[Any]:
        """The model's answers on events, as serving will compute them. Raises SubmissionError if it fails on them."""
        try:
            return score(
                self.model,
                self.features,
                columns,
                schema=self.submission.schema,
                task=self.task,
                classes=self.submission.classes,
            )
        except PasserelleError as error:
            raise SubmissionError(str(error)) from error
        except Exception as error:
            raise SubmissionError(
                f"the model fails on raw rows: {described(error)}. It was given what "
                f"{'features returns' if self.features else 'training_data() gives of the columns of X'}."
            ) from error

    def prepared(self, columns: Columns) -> pd.DataFrame:
        """What the last step of the model's pipeline is given for these events."""
        frame = to_frame(columns, self.submission.schema)
        return prepared(self.model, frame if self.features is None else self.features(frame))

    @property
    def summary(self) -> str:
        """What was proved, for the reader of the notebook."""
        done = self.submission
        head = f"passerelle: submitted {type(self.model).__name__}, fitted on {done.rows:,} rows"
        lines = {"inputs": ", ".join(done.schema.names), "features": f"{len(done.x_columns)} columns", **done.proofs}
        return "\n".join([head, *(f"  {name:<19}{text}" for name, text in lines.items())])

    def write(self, session: Session) -> None:
        """Move the proved submission to its place, whole."""
        if self.draft is None:
            raise SubmissionError
        old = None
        if session.submission.exists():
            old = session.folder / f".replaced-{secrets.token_hex(4)}"
            session.submission.replace(old)
        self.draft.replace(session.submission)
        if old is not None:
            shutil.rmtree(old)

    def answer_holdout(self, session: Session) -> None:
        """Answer the held-out rows, which lie in the handout once the last cell has run; beside the submission."""
        handout = session.handout
        path = session.folder / HANDOUT / HOLDOUT
        if not path.is_file():
            raise SubmissionError("the held-out rows are answered after the last cell, by passerelle train alone.")
        held = decode_columns(path.read_bytes())
        tables = {name: session.columns(name) for name in handout.tables if name != handout.main}
        raw = make_events(self.events, handout, tables | {handout.main: held})
        rows = count(held)
        if len(raw) != rows:
            raise SubmissionError(
                f"events gives {len(raw):,} rows for {rows:,} held-out rows: each must become an event."
            )
        try:
            inputs = from_frame(raw.sort_index(), self.submission.schema)
        except SchemaError as error:
            raise SubmissionError(f"the held-out rows do not fit what was learned from: {error}") from error
        truth = {name: held[name] for name in handout.key}
        Answers(inputs=inputs, outputs=self.answers(inputs), truth=truth).write(session.submission / HOLDOUT)


def cross(
    session: Session,
    cells: Cells,
    model: Any,
    X: Any,  # noqa: N803  (what everybody calls it)
    *,
    features: Features | None,
    events: MakeEvents | None,
    inputs: Sequence[str] | None,
    constants: tuple[str, ...],
) -> Crossing:
    """Prove that a model can be served, and write what was proved to a draft. Raises SubmissionError if it cannot."""
    handout = session.handout
    _refuse_bad_calls(model, features, events)
    check_clock([*filter(None, (features, events)), *functions_of(model)], cells.namespace)
    tables = {name: session.columns(name) for name in handout.tables}
    raw = make_events(events, handout, tables)
    fitted, places = place_rows(X, raw)
    if handout.target in fitted.columns:
        raise SubmissionError(
            f"the target {handout.target!r} is among the inputs: X has it as a column. Drop it from X and fit again."
        )
    usable = raw_schema(raw, handout)
    rows = _columns(raw.iloc[places], usable.schema)
    target = session.columns(handout.main)[handout.target]
    truth = target[raw.index[places].to_numpy(dtype=np.int64)]  # the main table's index is 0, 1, 2 ...
    if inputs is not None:
        names = declared_inputs(inputs, usable, handout.target)
    if features is None:
        if inputs is not None and set(names) != set(fitted.columns):
            raise SubmissionError("inputs and X's columns differ: without features the inputs are X's columns.")
        names = inputs_of_model(X, usable)
    elif inputs is None:
        frame = to_frame(rows, usable.schema)
        names = inputs_of_features(features, frame, usable, pd.Series(truth, name=handout.target))
    schema = usable.schema.select(names)
    joined = {"events": check_events(events, handout, tables, raw, names)} if events else {}
    rows = {name: rows[name] for name in names}
    frame = to_frame(rows, schema).set_axis(raw.index[places], axis=0)

    if features is None:
        source = "events" if events else "training_data()"
        skew = check_skew(
            frame, fitted, named_columns=True, source=source, everywhere=lambda: raw[list(fitted.columns)]
        )
        x_columns = schema.names
    else:
        check_batches(rows, schema, features)
        given = features_of(features, frame, "training rows")
        skew = check_skew(
            given,
            fitted,
            named_columns=isinstance(X, pd.DataFrame),
            source="features",
            everywhere=lambda: features_of(features, to_frame(_columns(raw, schema), schema), "raw rows"),
        )
        x_columns = tuple(given.columns)

    lineage = check_lineage(
        [*([] if features is None else [features]), *functions_of(model)],
        features or (lambda raw: prepared(model, raw)),
        frame.iloc[:_LINEAGE_ROWS],
        cells,
        main=handout.main,
        constants=constants,
    )
    submission = Submission(
        schema=schema,
        classes=classes_of(model, target.tolist(), handout.task, handout.positive),
        x_columns=x_columns,
        constants=constants,
        rows=len(fitted),
        proofs={},
        python=sys.executable,
        python_version=platform.python_version(),
        platform=platform.platform(),
        packages=installed_packages(),
        has_features=features is not None,
    )
    crossing = Crossing(model, features, events, submission, handout.task)
    _check_order(crossing, rows, truth)
    batches = check_answers(rows, schema, crossing.answers, crossing.prepared)
    golden, edges = golden_rows(rows, schema, crossing.answers)
    proofs = {**joined, "skew": skew, "batch independence": batches, "lineage": lineage}
    _write_draft(crossing, session, golden, edges, proofs)
    return crossing


def _refuse_bad_calls(model: Any, features: Any, events: Any) -> None:
    if not (hasattr(model, "predict") or hasattr(model, "predict_proba")):
        raise SubmissionError(f"{type(model).__name__} has no predict: give an object that answers, once it is fitted.")
    if isinstance(model, type):
        raise SubmissionError(f"{model.__name__} is a class: give the fitted object, {model.__name__}(...).fit(X, y).")
    for name, function in (("features", features), ("events", events)):
        if function is not None and not callable(function):
            raise SubmissionError(f"{name} is {type(function).__name__}: give the function itself, without calling it.")


def _columns(frame: pd.DataFrame, schema: Schema) -> Columns:
    try:
        return from_frame(frame, schema)
    except SchemaError as error:
        raise SubmissionError(f"events gives rows that no event can be: {error}") from error


def _check_order(crossing: Crossing, rows: Columns, truth: NDArray[Any]) -> None:
    """Where a model does not name its classes: do its answers on its own training rows point the right way?"""
    classes = crossing.submission.classes
    if not classes or not are_codes(crossing.model, classes):
        return
    some = np.unique(np.linspace(0, len(truth) - 1, min(_ORDER_ROWS, len(truth))).astype(np.int64))
    said = crossing.answers(take(rows, some))
    place = {label: number for number, label in enumerate(classes)}
    true = np.array([place[label] for label in truth[some].tolist()])
    if crossing.task == "binary":
        yes, no = said[true == 1, 0], said[true == 0, 0]
        if len(yes) and len(no) and yes.mean() < no.mean():
            raise SubmissionError(
                f"the model answers {yes.mean():.3g} on average where the truth is {classes[1]!r}, and "
                f"{no.mean():.3g} where it is {classes[0]!r}: it seems to give the probability of {classes[0]!r}. "
                f"Fit it on y == {classes[1]!r}, or correct [task] positive in passerelle.toml."
            )
        return
    guessed = said.argmax(axis=1)
    best = {code: int(np.bincount(true[guessed == code]).argmax()) for code in np.unique(guessed)}
    other = np.array([best[code] for code in guessed])
    if len(set(best.values())) == len(best) and (other == true).mean() > (guessed == true).mean():
        raise SubmissionError(
            f"the model's classes 0, 1, 2 ... are not {list(classes)} in this order, by its answers on its own "
            "training rows: fit it on the target itself, or on its places in sorted order (sklearn's LabelEncoder)."
        )


def _write_draft(crossing: Crossing, session: Session, golden: Answers, edges: int, proofs: dict[str, str]) -> None:
    draft = session.folder / f".draft-{secrets.token_hex(4)}"
    draft.mkdir(parents=True)
    try:
        parts = {"model": crossing.model, "features": crossing.features, "events": crossing.events}
        (draft / MODEL).write_bytes(pickled(parts, session.root))
        golden.write(draft / GOLDEN)
        done = crossing.submission
        question = Question(schema=done.schema, task=crossing.task, classes=done.classes)
        proofs["clean process"] = f"{check_clean(draft, question)}; {edges} of them at the edges"
        crossing.submission = msgspec.structs.replace(done, proofs=proofs)
        encoded = msgspec.json.format(msgspec.json.encode(crossing.submission), indent=2)
        (draft / "submission.json").write_bytes(encoded + b"\n")
    except BaseException:
        shutil.rmtree(draft)
        raise
    crossing.draft = draft
