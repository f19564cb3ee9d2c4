from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline_cases import FITTED, NUMBERS, assert_crosses, assert_equal, crossed, flights
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from passerelle.errors import ScoringError

SCALED_LOGISTIC = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))

CLASSIFIERS = {
    "logistic": SCALED_LOGISTIC,
    "one tree": DecisionTreeClassifier(max_depth=6, random_state=0),
    "stump": DecisionTreeClassifier(max_depth=1, random_state=0),
    "forest": RandomForestClassifier(60, random_state=0),
    "extra trees": ExtraTreesClassifier(40, random_state=0, bootstrap=True),
    "boosting": GradientBoostingClassifier(n_estimators=20, random_state=0),
    "boosting from zero": GradientBoostingClassifier(n_estimators=10, init="zero", random_state=0),
    "histogram boosting": HistGradientBoostingClassifier(max_iter=20, random_state=0),
    "calibrated, sigmoid": CalibratedClassifierCV(SCALED_LOGISTIC, cv=2),
    "calibrated, isotonic": CalibratedClassifierCV(RandomForestClassifier(20, random_state=0), method="isotonic", cv=2),
    "searched": GridSearchCV(SCALED_LOGISTIC, {"logisticregression__C": [0.1, 1.0]}, cv=2),
}

REGRESSORS = {
    "least squares": LinearRegression(),
    "ridge": make_pipeline(StandardScaler(), Ridge()),
    "lasso": Lasso(alpha=0.1),
    "elastic net": make_pipeline(StandardScaler(), ElasticNet(alpha=0.1, fit_intercept=False)),
    "poisson": make_pipeline(StandardScaler(), PoissonRegressor()),
    "gamma": make_pipeline(StandardScaler(), GammaRegressor()),
    "tweedie, identity": make_pipeline(StandardScaler(), TweedieRegressor(power=0, link="identity")),
    "one tree": DecisionTreeRegressor(max_depth=8, random_state=0),
    "forest": RandomForestRegressor(40, random_state=0),
    "extra trees": ExtraTreesRegressor(40, random_state=0),
    "boosting": GradientBoostingRegressor(n_estimators=40, random_state=0),
    "boosting, huber": GradientBoostingRegressor(n_estimators=20, loss="huber", random_state=0),
    "histogram boosting": HistGradientBoostingRegressor(max_iter=40),
    "histogram boosting, poisson": HistGradientBoostingRegressor(max_iter=30, loss="poisson"),
    "histogram boosting, gamma": HistGradientBoostingRegressor(max_iter=30, loss="gamma"),
    "histogram boosting, quantile": HistGradientBoostingRegressor(max_iter=30, loss="quantile", quantile=0.8),
    "of the logarithm": TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1),
    "of the standardised target": TransformedTargetRegressor(Ridge(), transformer=StandardScaler()),
    "of the squeezed target": TransformedTargetRegressor(Lasso(alpha=0.01), transformer=MinMaxScaler()),
    "of the target itself": TransformedTargetRegressor(Ridge(), transformer=FunctionTransformer()),
}


def with_holes(frame: pd.DataFrame) -> pd.DataFrame:
    """A twentieth of the values gone, so that missing values meet every split."""
    holes = np.random.default_rng(1).random(frame.shape) < 0.05
    return frame.mask(holes)


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("many", [False, True], ids=["two classes", "more classes"])
def test_classifiers(name: str, many: bool, tmp_path: Path) -> None:  # noqa: FBT001  (parametrised)
    data = (load_wine if many else load_breast_cancer)(as_frame=True)
    frame, target = data.data, data.target
    if name in ("forest", "one tree", "histogram boosting", "extra trees"):
        frame = with_holes(frame)
    model = CLASSIFIERS[name].fit(frame, target)
    task, classes = ("multiclass", (0, 1, 2)) if many else ("binary", (0, 1))
    assert_crosses(model, frame, tmp_path, task=task, classes=classes)


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name: str, tmp_path: Path) -> None:
    data = load_diabetes(as_frame=True, scaled=False)
    frame = data.data
    if name in ("forest", "one tree", "histogram boosting", "extra trees"):
        frame = with_holes(frame)
    model = REGRESSORS[name].fit(frame, data.target)
    assert_crosses(model, frame, tmp_path, task="regression", classes=())


@pytest.mark.parametrize("of_arrays", [False, True])
def test_ten_classes_and_names_of_classes(of_arrays: bool, tmp_path: Path) -> None:  # noqa: FBT001  (parametrised)
    data = load_digits(as_frame=True)
    names = data.target.map(lambda digit: f"digit {digit}")
    model = RandomForestClassifier(30, random_state=0)
    model.fit(data.data, names)
    if of_arrays:
        model = make_pipeline(FunctionTransformer(), FrozenEstimator(model))
    backwards = tuple(f"digit {digit}" for digit in range(9, -1, -1))
    program = assert_crosses(model, data.data, tmp_path, task="multiclass", classes=backwards)
    assert program.outputs == 10


def test_a_tree_of_one_leaf_among_others(tmp_path: Path) -> None:
    data = load_wine(as_frame=True)
    model = RandomForestClassifier(6, random_state=0).fit(data.data, data.target)
    model.estimators_[2] = DecisionTreeClassifier(min_samples_split=10**6).fit(data.data.to_numpy(), data.target)
    model.estimators_[4] = DecisionTreeClassifier(min_samples_split=10**6).fit(data.data.to_numpy(), data.target)
    assert_crosses(model, data.data, tmp_path, task="multiclass", classes=(0, 1, 2))


def test_the_positive_class_may_be_the_first(tmp_path: Path) -> None:
    data = load_breast_cancer(as_frame=True)
    names = np.where(data.target == 1, "benign", "malignant")
    for number, model in enumerate((SCALED_LOGISTIC, RandomForestClassifier(10, random_state=0))):
        model.fit(data.data, names)
        for classes in (("benign", "malignant"), ("malignant", "benign")):
            assert_crosses(model, data.data, tmp_path / f"{number}{classes[0]}", classes=classes)


def test_a_class_that_the_model_never_met_has_no_chance(tmp_path: Path) -> None:
    data = load_wine(as_frame=True)
    known = data.target < 2
    model = SCALED_LOGISTIC.fit(data.data[known], data.target[known])
    program, answers, _ = crossed(model, data.data, tmp_path / "two", task="multiclass", classes=(2, 1, 0))
    assert_equal(program, answers)
    assert program(answers.inputs)[:, 0].max() == 0.0
    digits = load_digits(as_frame=True)
    some = digits.target < 6
    forest = RandomForestClassifier(10, random_state=0).fit(digits.data[some], digits.target[some])
    program, answers, _ = crossed(forest, digits.data, tmp_path, task="multiclass", classes=tuple(range(10)))
    assert program(answers.inputs)[:, 6:].max() == 0.0


def exactly_split(frame: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, Any]:
    """Means that are no float32, of more values than there are bins: thresholds then fall on data values."""
    rng = np.random.default_rng(seed)
    exact = frame.assign(mean_a=rng.integers(0, 900, len(frame)) / 3, mean_b=rng.integers(0, 900, len(frame)) / 7)
    return exact, (exact["mean_a"] + exact["mean_b"] > 200) ^ (rng.random(len(frame)) < 0.1)


def test_thresholds_on_data_values_keep_their_64_bits(tmp_path: Path) -> None:
    frame, late = exactly_split(flights()[0][NUMBERS], 0)
    model = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=63).fit(frame[:FITTED], late[:FITTED])
    program, answers, _ = crossed(model, frame, tmp_path)
    assert_crosses(model, frame, tmp_path / "again")
    inputs = {name: array.astype(np.float32).astype(np.float64) for name, array in answers.inputs.items()}
    assert np.abs(program(inputs) - answers.outputs).max() > 1e-3  # what a float32 form would have served


def test_scikit_learns_own_trees_round_and_so_do_we(tmp_path: Path) -> None:
    frame, late = exactly_split(flights()[0][["distance", "flight"]], 1)
    for number, model in enumerate(
        (RandomForestClassifier(10, random_state=0), GradientBoostingClassifier(n_estimators=10, random_state=0))
    ):
        model.fit(frame[:FITTED], late[:FITTED])
        assert_crosses(model, frame, tmp_path / str(number))
    program, answers, _ = crossed(model, frame, tmp_path / "beyond")
    answers.inputs["mean_a"] = np.where(np.arange(len(frame)) == 3, 1e39, answers.inputs["mean_a"])
    with pytest.raises(ScoringError, match=r"beyond 3\.4e38"):
        program(answers.inputs)


@pytest.mark.parametrize("model", [SCALED_LOGISTIC, GradientBoostingClassifier(n_estimators=5)])
def test_missing_values_that_the_model_refuses_are_refused(model: Any, tmp_path: Path) -> None:
    data = load_breast_cancer(as_frame=True)
    program, answers, _ = crossed(model.fit(data.data, data.target), data.data, tmp_path, classes=(0, 1))
    answers.inputs["mean radius"] = np.where(np.arange(569) == 7, np.nan, answers.inputs["mean radius"])
    with pytest.raises(ScoringError, match="row 7"):
        program(answers.inputs)


def test_thousands_of_trees_are_summed_in_double(tmp_path: Path) -> None:
    """Large leaves that nearly cancel: a sum in float32 would be off by 1, not by 1e-12."""
    frame = flights()[0][["distance", "sched_dep_time"]][:2000].astype(float)
    noise = np.random.default_rng(0).normal(size=2000) * 1e6
    model = GradientBoostingRegressor(n_estimators=1500, max_depth=2, learning_rate=0.9, random_state=0)
    assert_crosses(model.fit(frame, noise), frame, tmp_path, task="regression", classes=())
