"""submit in this process, on a handout of the pipeline: what crosses, and what is refused with which words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from trips_project import hand_out, held_out

import passerelle
from passerelle.bundle.child import environment
from passerelle.errors import DataError, SubmissionError
from passerelle.notebook.captured import Cells
from passerelle.notebook.environment import allowed_environment
from passerelle.notebook.handover import answer_holdout
from passerelle.notebook.submission import Submission, read_answers
from passerelle.schema import decode_columns, encode_columns

Run = Callable[[str], Path]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def start(task: str) -> Path:
        hand_out(tmp_path / "run", task)
        monkeypatch.setenv("PASSERELLE_RUN", str(tmp_path / "run"))
        monkeypatch.chdir(tmp_path)
        return tmp_path / "run"

    return start


def features(raw: Any) -> Any:
    return pd.DataFrame({"hour": raw["hour"], "temp": raw["temp"].fillna(10.0), "jfk": raw["origin"].eq("JFK")})


def fitted(raw: pd.DataFrame, x: Any = None) -> Any:
    return LogisticRegression(max_iter=500).fit(features(raw) if x is None else x, raw["late"])


def refusal(*arguments: Any, **keywords: Any) -> str:
    with pytest.raises(SubmissionError) as refused:
        passerelle.submit(*arguments, **keywords)
    return str(refused.value)


def submission(folder: Path) -> Submission:
    return msgspec.json.decode((folder / "submission" / "submission.json").read_bytes(), type=Submission)


def test_training_data_is_a_fresh_copy_each_time(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("binary")
    raw = passerelle.training_data()
    raw["hour"] = 0
    assert passerelle.training_data()["hour"].max() == 23
    assert len(passerelle.training_data("weather")) == 48
    assert capsys.readouterr().out == (
        "passerelle: trips: 420 rows, 8 columns; 100 rows held out\npasserelle: weather: 48 rows, 3 columns\n"
    )
    with pytest.raises(DataError, match="no table 'wether': the tables are trips, weather"):
        passerelle.training_data("wether")


def test_a_pipeline_on_raw_columns_needs_no_features(run: Run) -> None:
    folder = run("multiclass")
    raw = passerelle.training_data()
    columns = ["origin", "hour", "distance"]
    prepare = ColumnTransformer(
        [("one", OneHotEncoder(handle_unknown="ignore"), ["origin"]), ("scale", StandardScaler(), ["hour", "distance"])]
    )
    model = make_pipeline(prepare, RandomForestClassifier(20, random_state=0))
    x = raw[columns].sample(frac=0.7, random_state=2)
    passerelle.submit(model.fit(x, raw.loc[x.index, "late"]), X=x)
    with pytest.raises(SubmissionError, match="answered after the last cell, by passerelle train alone"):
        answer_holdout()
    held_rows = decode_columns(held_out(folder).read_bytes())
    del held_rows["late"]
    (folder / "handout" / "holdout.msgpack").write_bytes(encode_columns(held_rows))
    answer_holdout()

    done = submission(folder)
    assert done.schema.names == ("origin", "hour", "distance")
    assert done.classes == ("early", "fair", "late")
    assert not done.has_features
    held = read_answers(folder / "submission" / "holdout.msgpack")
    expected = model.predict_proba(pd.DataFrame({name: held.inputs[name] for name in columns}))
    np.testing.assert_allclose(held.outputs, expected, rtol=0, atol=1e-12)
    again = refusal(model, X=x)
    assert "submit was called twice in this run" in again


def test_a_clean_process_sees_no_more_than_serving_will(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        def predict(self, X: Any) -> Any:  # noqa: N803  (what everybody calls it)
            return X["hour"].to_numpy(dtype=float) * float(os.environ["SCALE"])

    folder = run("regression")
    monkeypatch.setenv("SCALE", "2.5")
    said = refusal(Reader(), passerelle.training_data()[["hour"]])
    assert "the model does not answer in a clean process: KeyError: 'SCALE'" in said
    assert "no variable of the environment" in said
    assert not (folder / "submission").exists()
    monkeypatch.setenv("VECLIB_MAXIMUM_THREADS", "3")
    assert environment() == allowed_environment()
    assert environment()["VECLIB_MAXIMUM_THREADS"] == "3"
    assert "SCALE" not in environment()


def test_arrays_go_by_position(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run("regression")
    raw = passerelle.training_data()

    def as_array(raw: Any) -> Any:
        return np.column_stack([raw["hour"], raw["temp"].fillna(0), raw["distance"]])

    model = LinearRegression().fit(as_array(raw), raw["late"])
    passerelle.submit(model, as_array(raw), as_array)
    done = submission(folder)
    assert done.classes == ()
    assert done.x_columns == ("0", "1", "2")
    assert done.schema.names == ("hour", "temp", "distance")
    golden = read_answers(folder / "submission" / "golden.msgpack")
    assert golden.inputs["hour"].max() == 23
    assert golden.inputs["distance"].max() > raw["distance"].max()
    assert "fitted on 420 rows\n  inputs" in capsys.readouterr().out
    assert "X is an array of 100 rows and there are 420" in refusal_in(folder, model, as_array(raw)[:100], as_array)


def refusal_in(folder: Path, *arguments: Any) -> str:
    """A refusal after something was submitted: the first is taken away."""
    (folder / "submission").rename(folder / "earlier")
    return refusal(*arguments)


def test_a_batch_mean_is_refused_with_its_column(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()

    def with_mean(raw: Any) -> Any:
        return features(raw).assign(temp_mean=raw["temp"].mean())

    said = refusal(fitted(raw, with_mean(raw)), with_mean(raw), with_mean)
    assert said.startswith("temp_mean depends on the other rows of the batch (temp_mean is ")
    assert not Path("run/submission").exists()


def test_columns_that_depend_on_the_batch_are_refused(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()

    def dummies(raw: Any) -> Any:
        return pd.get_dummies(raw[["hour", "origin"]])

    said = refusal(fitted(raw, dummies(raw)), dummies(raw), dummies)
    assert "the columns depend on the other rows of the batch: origin_" in said


def test_values_looked_up_by_index_are_refused(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()
    known = raw["temp"].fillna(0) * 2

    def by_index(raw: Any) -> Any:
        return features(raw).assign(double=known.loc[raw.index])

    said = refusal(fitted(raw, by_index(raw)), by_index(raw), by_index)
    assert said.startswith("double depends on the index of the rows")


def test_lost_and_moved_rows_are_refused(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()
    model = fitted(raw)
    assert "returns" in refusal(model, features(raw), lambda raw: features(raw.dropna()))
    moved = refusal(model, features(raw), lambda raw: features(raw.sort_values("hour")))
    assert "returns the rows in another order" in moved


def test_a_skewed_unit_is_named(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()
    x = features(raw).assign(temp=lambda frame: frame["temp"] * 1.8 + 32)
    said = refusal(fitted(raw, x), x, features)
    assert "column 'temp' of X is not what features gives: 420 of 420 rows differ, first the row 0: " in said
    assert "It looks like a unit: X = 1.8 · features + 32." in said


def test_an_index_that_was_numbered_anew_is_named(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()
    kept = raw["hour"] > 5
    said = f"X's index is 0…{kept.sum() - 1}, and its rows are those of other raw rows: keep raw's index"
    x = features(raw)[kept].reset_index(drop=True)
    model = fitted(raw)
    assert said in refusal(model, x, features)
    plain = raw.loc[kept, ["hour", "distance"]]
    pipeline = LogisticRegression().fit(plain, raw.loc[kept, "late"])
    assert said in refusal(pipeline, plain.reset_index(drop=True))
    first = features(raw.head(100)).assign(temp=lambda frame: frame["temp"] * 1.8 + 32)
    assert "It looks like a unit" in refusal(model, first, features)


def test_a_clock_is_refused_before_anything_else(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("binary")
    raw = passerelle.training_data()

    def age(raw: Any) -> Any:
        return features(raw).assign(age=(pd.Timestamp.now(tz="UTC") - raw["at"]).dt.days)

    cells = Cells(sources=("raw = passerelle.training_data()",), namespace=age.__globals__)
    monkeypatch.setattr("passerelle.notebook.session.cells", lambda: cells)
    assert "age reads the clock (pd.Timestamp.now)" in refusal(fitted(raw), age(raw), age)


def test_other_columns_are_named(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()
    x = features(raw).rename(columns={"temp": "degrees"})
    assert "only X has degrees; only features gives temp" in refusal(fitted(raw, x), x, features)
    x = raw[["hour", "distance"]].assign(far=1)
    assert "X has columns that the raw rows do not have (far)" in refusal(fitted(raw, x), x)
    x = raw[["hour", "distance"]].assign(hour=lambda frame: frame["hour"] + 1)
    assert "It looks like a unit: X = training_data() + 1." in refusal(fitted(raw, x), x)


def test_the_target_is_no_input(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()
    x = raw[["hour", "late"]]
    assert refusal(fitted(raw, x), x).startswith("the target 'late' is among the inputs")

    def peeks(raw: Any) -> Any:
        return features(raw).assign(known=raw["late"] * 1.0)

    assert refusal(fitted(raw, peeks(raw)), peeks(raw), peeks).startswith("the target 'late' is among the inputs")
    said = refusal(fitted(raw), features(raw), features, inputs=["hour", "late"])
    assert said.startswith("the target 'late' is among the inputs")


def test_bad_calls_say_what_to_write(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()
    model, x = fitted(raw), features(raw)
    assert "submit needs X" in refusal(model, features=features)
    assert "dict has no predict" in refusal({}, x, features)
    assert "LogisticRegression is a class" in refusal(LogisticRegression, x, features)
    assert "features is DataFrame: give the function itself" in refusal(model, x, features(raw))
    assert "X has the index 0 twice" in refusal(model, pd.concat([x, x]), features)
    assert "X has the index 5000, which no raw row has" in refusal(model, x.rename(index={3: 5000}), features)
    assert "X is an array of 419 rows" in refusal(model, x.to_numpy()[1:], features)
    assert "inputs names 'houre'" in refusal(model, x, features, inputs=["houre"])
    assert "features fails on" in refusal(model, x, features, inputs=["hour"])
    assert "'colour'" in refusal(model, x, lambda raw: raw[["colour"]])


def test_a_model_that_looks_at_its_batch_is_refused(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()
    centre = FunctionTransformer(lambda frame: frame.assign(hour=frame["hour"] - frame["hour"].mean()))
    model = make_pipeline(centre, LogisticRegression()).fit(raw[["hour", "distance"]], raw["late"])
    said = refusal(model, raw[["hour", "distance"]])
    assert "the model answers differently when rows are scored alone" in said
    assert "looks at the other rows of the batch, in hour. Let it" in said


def test_a_model_of_the_other_class_is_noticed(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()

    class Inverted:
        def __init__(self, model: Any) -> None:
            self.model = model

        def predict(self, x: Any) -> Any:
            return self.model.predict_proba(x)[:, 0]

    said = refusal(Inverted(fitted(raw)), features(raw), features)
    assert "it seems to give the probability of False" in said


def test_what_cannot_travel_is_named(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()
    model = fitted(raw)
    model.log = Path("log").open("w")  # noqa: SIM115  (what must not travel)
    assert "model cannot be written to a file" in refusal(model, features(raw), features)
    model.log.close()


def test_events_are_what_a_caller_sends(run: Run) -> None:
    run("binary")
    raw = passerelle.training_data()
    model, x = fitted(raw), features(raw)

    def doubled(tables: Any) -> Any:
        return pd.concat([tables["trips"], tables["trips"]])

    def shifted(tables: Any) -> Any:
        return tables["trips"][tables["trips"]["hour"] > 3].reset_index(drop=True)

    def inner(tables: Any) -> Any:
        return tables["trip"]

    assert "some twice or none's" in refusal(model, x, features, doubled)
    assert "'id' is not that of the same index" in refusal(model, x, features, shifted)
    assert "events fails: KeyError: 'trip'" in refusal(model, x, features, inner)


def test_events_that_look_at_the_other_rows_are_refused(run: Run) -> None:
    run("binary")

    def relative(tables: Any) -> Any:
        return tables["trips"].assign(rel=tables["trips"]["distance"] / tables["trips"]["distance"].mean())

    raw = passerelle.training_data()
    x = relative({"trips": raw})[["hour", "rel"]]
    said = refusal(
        LogisticRegression(max_iter=500).fit(x, raw["late"]), x, lambda rows: rows[["hour", "rel"]], relative
    )
    assert "rel of events depends on the other rows of 'trips'" in said
    assert "alone" in said
