from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from inline_cases import FITTED, NUMBERS, assert_crosses, assert_equal, crossed, flights
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import GradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from passerelle.bundle.compile import compile_form
from passerelle.bundle.export import describe, export
from passerelle.bundle.form import Trees, Unsupported, read_form
from passerelle.bundle.program import Program
from passerelle.errors import BundleError
from passerelle.notebook.frame import infer_schema
from passerelle.schema import Column, Schema

CANCER = load_breast_cancer(as_frame=True)


class Shifted(StandardScaler):  # type: ignore[misc]  # scikit-learn has no types
    """A user's own class: it may compute anything."""


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (SVC(), "sklearn.SVC"),
        (KNeighborsClassifier(), "sklearn.KNeighborsClassifier"),
        (make_pipeline(PolynomialFeatures(2), DecisionTreeClassifier()), "sklearn.PolynomialFeatures"),
        (make_pipeline(KBinsDiscretizer(3, encode="ordinal"), GaussianNB()), "sklearn.KBinsDiscretizer"),
        (make_pipeline(Shifted(), DecisionTreeClassifier()), r"Shifted has no code-free form"),
        (CalibratedClassifierCV(SVC(), cv=2), "sklearn.SVC"),
        (GradientBoostingClassifier(n_estimators=2, init=DecisionTreeClassifier()), "init=sklearn.DecisionTree"),
        (DummyClassifier(), "sklearn.DummyClassifier"),
    ],
)
@pytest.mark.filterwarnings("ignore:Bins whose width are too small:UserWarning")
@pytest.mark.filterwarnings("ignore:The current default behavior, quantile_method:FutureWarning")
def test_a_model_without_a_form_names_its_step(model: Any, says: str, tmp_path: Path) -> None:
    model.fit(CANCER.data, CANCER.target)
    with pytest.raises(Unsupported, match=says):
        crossed(model, CANCER.data, tmp_path, classes=(0, 1))
    assert not list(tmp_path.iterdir())


def test_an_inverse_that_is_not_numpys_names_itself() -> None:
    model = TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=lambda y: np.exp(y) - 1)
    model.fit(CANCER.data, CANCER.target)
    with pytest.raises(Unsupported, match="inverse_func"):
        describe(model, infer_schema(CANCER.data, {}), task="regression", classes=())


def test_strings_and_moments_that_are_read_as_numbers_name_their_field() -> None:
    model = LogisticRegression(max_iter=5000).fit(CANCER.data[["mean radius"]].to_numpy(), CANCER.target)
    for kind in ("string", "timestamp"):
        schema = Schema(columns=(Column(name="when", kind=kind),))
        with pytest.raises(Unsupported, match="LogisticRegression reads 'when'"):
            describe(model, schema, task="binary", classes=(0, 1))


def test_another_number_of_fields_than_the_model_was_fitted_on() -> None:
    model = LogisticRegression(max_iter=5000).fit(CANCER.data.iloc[:, :3].to_numpy(), CANCER.target)
    schema = infer_schema(CANCER.data.iloc[:, :2], {})
    with pytest.raises(Unsupported, match="fitted on 3 columns, and here there are 2"):
        describe(model, schema, task="binary", classes=(0, 1))


def test_classes_that_are_not_the_models() -> None:
    model = LogisticRegression(max_iter=5000).fit(CANCER.data, np.where(CANCER.target, "benign", "malignant"))
    schema = infer_schema(CANCER.data, {})
    with pytest.raises(Unsupported, match="answers for the classes"):
        describe(model, schema, task="binary", classes=("no", "yes"))
    with pytest.raises(Unsupported, match="answers classes where numbers are wanted"):
        describe(model, schema, task="regression", classes=())


def test_a_library_that_is_built_otherwise_is_unsupported_and_no_crash() -> None:
    model = LogisticRegression(max_iter=5000).fit(CANCER.data, CANCER.target)
    del model.coef_
    with pytest.raises(Unsupported, match=r"LogisticRegression is not built as expected \(AttributeError"):
        describe(model, infer_schema(CANCER.data, {}), task="binary", classes=(0, 1))


def test_raw_numbers_straight_into_a_model_of_arrays(tmp_path: Path) -> None:
    model = LogisticRegression(max_iter=5000).fit(CANCER.data.to_numpy(), CANCER.target)
    frame = CANCER.data
    schema = infer_schema(frame, {})
    export(model, schema, task="binary", classes=(0, 1), into=tmp_path / "described")
    compile_form(tmp_path / "described", tmp_path / "inline")
    said = Program(tmp_path / "inline")({name: frame[name].to_numpy() for name in frame})
    np.testing.assert_allclose(said[:, 0], model.predict_proba(frame.to_numpy())[:, 1], atol=1e-12)


def test_trees_of_one_leaf_need_no_file(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]})
    model = RandomForestRegressor(5, random_state=0).fit(frame, [7.5] * 4)
    program, answers, _ = crossed(model, frame, tmp_path, task="regression", classes=())
    assert program(answers.inputs).tolist() == [[7.5]] * 4
    assert sorted(path.name for path in (tmp_path / "inline").iterdir()) == ["arrays.npz", "form.json"]


def test_a_described_form_is_not_yet_a_program(tmp_path: Path) -> None:
    fields, late, _ = flights()
    model = DecisionTreeClassifier(max_depth=3).fit(fields[["distance"]][:FITTED], late[:FITTED])
    program, answers, _ = crossed(model, fields[["distance"]], tmp_path)
    assert_equal(program, answers)
    assert sorted(path.name for path in (tmp_path / "inline").iterdir()) == ["arrays.npz", "form.json", "trees-1.onnx"]
    with pytest.raises(BundleError, match="is not compiled"):
        Program(tmp_path / "described")


def test_a_form_replaces_what_was_there_and_leaves_no_draft(tmp_path: Path) -> None:
    fields, late, _ = flights()
    for depth in (2, 3):
        model = DecisionTreeClassifier(max_depth=depth).fit(fields[["distance"]][:FITTED], late[:FITTED])
        assert_crosses(model, fields[["distance"]], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["described", "inline"]


def test_describing_needs_neither_onnx_nor_a_runtime_nor_pandas(tmp_path: Path) -> None:
    """The child runs in the model's environment, where Passerelle's own libraries are not."""
    script = """
import sys
for name in ("onnx", "onnxruntime", "pandas", "pyarrow", "lightgbm", "mlflow"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from passerelle.bundle.export import export
from passerelle.schema import Column, Schema
X = np.random.default_rng(0).normal(size=(400, 2))
model = HistGradientBoostingClassifier(max_iter=5).fit(X, X[:, 0] > 0)
schema = Schema(columns=(Column(name="a", kind="number"), Column(name="b", kind="number")))
export(model, schema, task="binary", classes=(False, True), into=Path(sys.argv[1]))
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "described")], check=True, timeout=60)
    form = read_form(tmp_path / "described")
    trees = next(step for step in form.steps if isinstance(step, Trees))
    assert trees.forest is not None
    assert len(trees.forest.roots) == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda form: form | {"format": 99}, "format 99 and this Passerelle reads 1: upgrade"),
        (lambda form: form | {"steps": []}, "has no steps"),
        (lambda form: form | {"steps": [form["steps"][0], form["steps"][1] | {"source": 1}]}, "reads a later one"),
        (lambda form: form | {"steps": [{"type": "Shell", "command": "ls"}]}, "is damaged"),
        (lambda form: form | {"steps": [form["steps"][0], form["steps"][1] | {"divide": "a99"}]}, "is damaged"),
    ],
)
def test_a_damaged_form_is_refused(change: Any, says: str, tmp_path: Path) -> None:
    model = ColumnTransformer([("s", StandardScaler(), NUMBERS[:2])])
    fields, late, _ = flights()
    pipeline = make_pipeline(model, LogisticRegression()).fit(fields[:FITTED], late[:FITTED])
    export(
        pipeline, infer_schema(fields[NUMBERS[:2]], {}), task="binary", classes=(False, True), into=tmp_path / "form"
    )
    path = tmp_path / "form" / "form.json"
    steps = json.loads(path.read_bytes())
    path.write_bytes(msgspec.json.encode(change(steps)))
    with pytest.raises(BundleError, match=says):
        read_form(tmp_path / "form")
