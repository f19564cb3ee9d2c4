"""The same data through every library's own way of answering."""

from __future__ import annotations

import warnings
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import LabelEncoder
from sklearn.svm import LinearSVC

from passerelle.errors import ScoringError, SubmissionError
from passerelle.notebook.answers import answer, are_codes, classes_of

RANDOM = np.random.default_rng(0)
X = pd.DataFrame({"a": RANDOM.normal(size=120), "b": RANDOM.integers(0, 5, 120)})
WORDS = np.array(["early", "fair", "late"])[np.digitize(X["a"], [-0.4, 0.4])]
YES = (X["a"] + 0.1 * X["b"] > 0).to_numpy()
CLASSES = ("early", "fair", "late")
CODES = LabelEncoder().fit_transform(WORDS)
QUIET = {"verbose": -1, "num_threads": 1}


class Says:
    """An object with nothing but predict."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def predict(self, _: Any) -> Any:
        return self.said


def test_binary_answers_are_the_positive_classs_probability() -> None:
    model = LogisticRegression().fit(X, YES)
    expected = model.predict_proba(X)[:, 1:]
    np.testing.assert_array_equal(answer(model, X, task="binary", classes=(False, True)), expected)
    turned = answer(model, X, task="binary", classes=(True, False))
    np.testing.assert_array_equal(turned, model.predict_proba(X)[:, :1])


def test_multiclass_answers_are_in_the_order_of_the_classes() -> None:
    model = LogisticRegression().fit(X, WORDS)
    order = ("late", "early", "fair")
    expected = model.predict_proba(X)[:, [2, 0, 1]]
    np.testing.assert_array_equal(answer(model, X, task="multiclass", classes=order), expected)
    on_codes = LogisticRegression().fit(X, CODES)
    np.testing.assert_array_equal(answer(on_codes, X, task="multiclass", classes=CLASSES), on_codes.predict_proba(X))
    labels_only = LinearSVC().fit(X, WORDS)
    hot = answer(labels_only, X, task="multiclass", classes=CLASSES)
    assert [CLASSES[place] for place in hot.argmax(axis=1)] == labels_only.predict(X).tolist()
    assert set(hot.reshape(-1)) == {0.0, 1.0}


def test_a_class_that_the_model_never_met_has_probability_0() -> None:
    some = WORDS != "fair"
    model = LogisticRegression().fit(X[some], WORDS[some])
    answers = answer(model, X, task="multiclass", classes=CLASSES)
    assert (answers[:, 1] == 0).all()
    np.testing.assert_array_equal(answers[:, [0, 2]], model.predict_proba(X))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_boosters_answer_as_their_estimators_do(task: Any) -> None:
    truth = {"binary": YES.astype(int), "multiclass": CODES, "regression": X["a"] * 2 + 1}[task]
    classes = {"binary": (0, 1), "multiclass": CLASSES, "regression": ()}[task]
    outputs = 3 if task == "multiclass" else 1
    objective = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}[task]
    more = {"num_class": 3} if task == "multiclass" else {}
    light = lightgbm.train({"objective": objective, **more, **QUIET}, lightgbm.Dataset(X, truth), 5)
    np.testing.assert_array_equal(
        answer(light, X, task=task, classes=classes), np.asarray(light.predict(X)).reshape(len(X), outputs)
    )
    goal = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}[task]
    extreme = xgboost.train({"objective": goal, "nthread": 1, **more}, xgboost.DMatrix(X, truth), 5)
    estimator = (xgboost.XGBRegressor if task == "regression" else xgboost.XGBClassifier)(n_estimators=5, n_jobs=1)
    estimator.fit(X, truth)
    np.testing.assert_array_equal(
        answer(extreme, X, task=task, classes=classes), answer(estimator, X, task=task, classes=classes)
    )


@pytest.mark.parametrize(
    ("loss", "task"), [("Logloss", "binary"), ("MultiClass", "multiclass"), ("RMSE", "regression")]
)
def test_catboosts_plain_class_answers_probabilities(loss: str, task: Any) -> None:
    truth = {"binary": YES.astype(int), "multiclass": WORDS, "regression": X["a"]}[task]
    classes = {"binary": (0, 1), "multiclass": CLASSES, "regression": ()}[task]
    settings = {"loss_function": loss, "iterations": 4, "verbose": 0, "thread_count": 1, "allow_writing_files": False}
    plain = catboost.CatBoost(settings).fit(X, truth)
    other = (catboost.CatBoostRegressor if task == "regression" else catboost.CatBoostClassifier)(**settings)
    np.testing.assert_array_equal(
        answer(plain, X, task=task, classes=classes), answer(other.fit(X, truth), X, task=task, classes=classes)
    )


@pytest.mark.parametrize(
    ("said", "task", "classes", "expected"),
    [
        ([0.25, 0.75], "binary", ("no", "yes"), [[0.25], [0.75]]),
        (["no", "yes"], "binary", ("no", "yes"), [[0.0], [1.0]]),
        ([False, True], "binary", (False, True), [[0.0], [1.0]]),
        ([0, 1], "binary", ("no", "yes"), [[0.0], [1.0]]),
        ([[0.25, 0.75]], "binary", ("no", "yes"), [[0.75]]),
        ([[0.25], [0.5]], "binary", ("no", "yes"), [[0.25], [0.5]]),
        ([2, 0], "multiclass", ("a", "b", "c"), [[0, 0, 1], [1, 0, 0]]),
        ([3.0, 1.0], "multiclass", (1, 2, 3), [[0, 0, 1], [1, 0, 0]]),
        (pd.Series([1, 2]), "regression", (), [[1.0], [2.0]]),
        ([[1.5], [2.5]], "regression", (), [[1.5], [2.5]]),
    ],
)
def test_any_object_with_predict_answers(said: Any, task: Any, classes: Any, expected: Any) -> None:
    answers = answer(Says(said), None, task=task, classes=classes)
    assert answers.dtype == np.float64
    assert answers.tolist() == expected


@pytest.mark.parametrize(
    ("said", "task", "classes", "says"),
    [
        ([0.5, np.nan], "binary", ("no", "yes"), "not a finite number in 1 of 2 rows (first: row 1)"),
        ([1.0, np.inf], "regression", (), "not a finite number in 1 of 2 rows"),
        ([3.5, 0.5], "binary", ("no", "yes"), "answers 3.5, which is no probability"),
        (["no", "maybe"], "binary", ("no", "yes"), "answers 'maybe', which is not one of ['no', 'yes']"),
        ([[0.1, 0.9]], "multiclass", ("a", "b", "c"), "answers 2 numbers a row, and there are 3 classes"),
        ([[0.1, 0.9]], "regression", (), "answers 2 numbers a row, where one is wanted"),
        (["many"], "regression", (), "where numbers are wanted"),
    ],
)
def test_answers_that_cannot_be_served_are_refused(said: Any, task: Any, classes: Any, says: str) -> None:
    with pytest.raises(ScoringError) as refused:
        answer(Says(said), None, task=task, classes=classes)
    assert says in str(refused.value)


def test_classes_are_json_and_in_order() -> None:
    assert classes_of(Says(None), WORDS, "multiclass", positive=True) == CLASSES
    assert classes_of(LogisticRegression().fit(X, WORDS), WORDS[:5], "multiclass", positive=True) == CLASSES
    assert classes_of(LogisticRegression().fit(X, YES), YES, "binary", positive=True) == (False, True)
    found = classes_of(Says(None), YES.astype(np.int64), "binary", positive=True)
    assert found == (0, 1)
    assert all(type(label) is int for label in found)
    assert classes_of(Says(None), ["good", "bad"], "binary", "bad") == ("good", "bad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert classes_of(LinearRegression(), [1.5], "regression", positive=True) == ()
    with pytest.raises(SubmissionError, match="values are 'early', 'fair', 'late', where a binary task has two"):
        classes_of(Says(None), WORDS, "binary", positive=True)
    with pytest.raises(SubmissionError, match="one of them 'yes'"):
        classes_of(Says(None), ["ja", "nein"], "binary", "yes")
    model = LogisticRegression().fit(X, CODES + 7)
    with pytest.raises(SubmissionError, match=r"the model answers \[7, 8, 9\]"):
        classes_of(model, WORDS, "multiclass", positive=True)


def test_an_assumed_order_is_known_as_one() -> None:
    assert are_codes(Says(None), CLASSES)
    assert are_codes(LogisticRegression().fit(X, CODES), CLASSES)
    assert not are_codes(LogisticRegression().fit(X, WORDS), CLASSES)
