from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_cases import FITTED, NUMBERS, WORDS, assert_crosses, crossed, flights
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from passerelle.bundle.compile import onnx_trees
from passerelle.bundle.export import describe
from passerelle.bundle.form import Unsupported
from passerelle.bundle.trees import Tree, grow
from passerelle.notebook.frame import infer_schema

FEATURES = 3


def walk(tree: Tree, row: list[float]) -> float:
    """What a tree says of a row, by its definition."""
    node = 0
    while not tree.is_leaf[node]:
        value = row[tree.feature[node]]
        if np.isnan(value):
            left = tree.missing_left[node]
        elif node in tree.members:
            left = value in tree.members[node]
        else:
            left = value <= tree.threshold[node]
        node = tree.left[node] if left else tree.right[node]
    return float(tree.value[node])


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A random binary tree over three features; the last one is of categories."""
    splits = draw(st.integers(0, 12))
    shape: list[list[int]] = [[-1, -1]]
    for _ in range(splits):
        leaf = draw(st.sampled_from([at for at, (left, _) in enumerate(shape) if left < 0]))
        shape[leaf] = [len(shape), len(shape) + 1]
        shape += [[-1, -1], [-1, -1]]
    size = len(shape)
    number = st.one_of(st.integers(-3, 3).map(lambda n: n / 3), st.just(np.inf))
    feature = [draw(st.integers(0, FEATURES - 1)) for _ in range(size)]
    members = {
        node: np.array(sorted(draw(st.sets(st.integers(1, 90), min_size=1, max_size=70))), dtype=float)
        for node in range(size)
        if shape[node][0] >= 0 and feature[node] == FEATURES - 1
    }
    return Tree(
        feature=np.array(feature),
        threshold=np.array([draw(number) for _ in range(size)]),
        left=np.array([left for left, _ in shape]),
        right=np.array([right for _, right in shape]),
        missing_left=np.array([draw(st.booleans()) for _ in range(size)]),
        is_leaf=np.array([left < 0 for left, _ in shape]),
        value=np.array([draw(st.floats(-1e6, 1e6)) for _ in range(size)]),
        members=members,
    )


rows = st.lists(
    st.tuples(
        *[st.one_of(st.integers(-4, 4).map(lambda n: n / 3), st.just(np.nan)) for _ in range(FEATURES - 1)],
        st.one_of(st.integers(0, 100).map(float), st.just(np.nan)),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(grown=st.lists(st.tuples(st.integers(0, 2), trees()), min_size=1, max_size=5), matrix=rows)
def test_onnx_walks_trees_as_they_are_defined(grown: list[tuple[int, Tree]], matrix: list[tuple[float, ...]]) -> None:
    forest, base = grow(grown, 3)
    said = np.zeros((len(matrix), 3))
    if len(forest.roots):
        session = onnxruntime.InferenceSession(onnx_trees(forest, 3), providers=["CPUExecutionProvider"])
        said = session.run(None, {"x": np.array(matrix)})[0]
    expected = np.zeros((len(matrix), 3))
    for target, tree in grown:
        expected[:, target] += [walk(tree, list(row)) for row in matrix]
    np.testing.assert_allclose(said + base, expected, rtol=1e-12, atol=1e-9)


def coded(**options: Any) -> ColumnTransformer:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    return ColumnTransformer(
        [("words", encoder, ["carrier", "origin", "dest"]), ("n", "passthrough", NUMBERS)], **options
    )


def fitted(model: Any, *, number: bool = False, **options: Any) -> Any:
    fields, late, delay = flights()
    target = delay if number else late
    return model.fit(fields[:FITTED], target[:FITTED], **options)


@pytest.mark.parametrize("categories", [None, [0, 1, 2]])
def test_histogram_boosting_on_flights(categories: list[int] | None, tmp_path: Path) -> None:
    model = HistGradientBoostingClassifier(max_iter=40, categorical_features=categories)
    program = assert_crosses(fitted(make_pipeline(coded(), model)), flights()[0], tmp_path)
    assert program.outputs == 1


def test_histogram_boosting_reads_strings_with_holes_and_news_as_categories(tmp_path: Path) -> None:
    """The hidden preprocessor: categories come first, as codes; new and missing ones take the missing way."""
    fields, late, delay = flights()
    tails = fields["tailnum"].str[-2:]  # 200 and more of them: more than one word of bits
    frame = fields[["distance", "carrier", "sched_dep_time", "dest"]].assign(tail=tails, air_time=fields["air_time"])
    chosen = ["dest", "carrier", "tail"]
    assert 64 < tails.nunique() < 255
    frame.loc[FITTED : FITTED + 50, "carrier"] = "ZZ"
    classifier = HistGradientBoostingClassifier(max_iter=40, categorical_features=chosen, max_leaf_nodes=63)
    assert_crosses(classifier.fit(frame[:FITTED], late[:FITTED]), frame, tmp_path / "classifier")
    regressor = HistGradientBoostingRegressor(max_iter=20, categorical_features=chosen)
    regressor.fit(frame[:FITTED], delay[:FITTED])
    assert_crosses(regressor, frame, tmp_path / "regressor", task="regression", classes=())


def test_histogram_boosting_of_several_classes(tmp_path: Path) -> None:
    fields, *_ = flights()
    frame = fields.drop(columns=["origin"])
    parts = ColumnTransformer([("n", "passthrough", NUMBERS), ("c", "passthrough", ["carrier"])]).set_output(
        transform="pandas"
    )
    model = make_pipeline(parts, HistGradientBoostingClassifier(max_iter=12, categorical_features=["c__carrier"]))
    model.fit(frame[:FITTED], fields["origin"][:FITTED])
    assert_crosses(model, frame, tmp_path, task="multiclass", classes=("EWR", "JFK", "LGA"))


LIGHTGBM = {
    "plain": {},
    "dart": {"boosting_type": "dart"},
    "forest": {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.6},
    "missing as zero by use": {"use_missing": False},
    "sigmoid": {"sigmoid": 2.5},
    "cross entropy": {"objective": "cross_entropy"},
}


@pytest.mark.parametrize("name", LIGHTGBM)
def test_lightgbm_on_flights(name: str, tmp_path: Path) -> None:
    model = lightgbm.LGBMClassifier(n_estimators=40, num_leaves=63, verbose=-1, n_jobs=1, **LIGHTGBM[name])
    assert_crosses(fitted(make_pipeline(coded(), model)), flights()[0], tmp_path)


def test_lightgbm_with_categories_holes_and_news(tmp_path: Path) -> None:
    parts = make_pipeline(coded(), lightgbm.LGBMClassifier(n_estimators=60, verbose=-1, n_jobs=1, min_data_per_group=5))
    model = fitted(parts, lgbmclassifier__categorical_feature=[0, 1, 2])
    frame = flights()[0].copy()
    frame.loc[FITTED:, "carrier"] = frame.loc[FITTED:, "carrier"].where(lambda names: names != "UA", "ZZ")
    program = assert_crosses(model, frame, tmp_path)
    assert "num_cat=0" not in model[-1].booster_.model_to_string().split("Tree=1\n")[1].split("\n")[2]
    assert program.outputs == 1


REGRESSIONS = {
    "squares": {},
    "absolute": {"objective": "regression_l1"},
    "huber": {"objective": "huber"},
    "poisson": {"objective": "poisson"},
    "gamma": {"objective": "gamma"},
    "tweedie": {"objective": "tweedie"},
    "square root": {"reg_sqrt": True},
}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_lightgbm_regression(name: str, tmp_path: Path) -> None:
    fields, _, delay = flights()
    frame = fields[NUMBERS]
    model = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, n_jobs=1, **REGRESSIONS[name])
    model.fit(frame[:FITTED], delay[:FITTED].clip(lower=0) + 1)
    assert_crosses(model, frame, tmp_path, task="regression", classes=())


@pytest.mark.parametrize("objective", ["multiclass", "multiclassova"])
def test_lightgbm_of_several_classes_and_its_own_booster(objective: str, tmp_path: Path) -> None:
    data = load_wine(as_frame=True)
    model = lightgbm.LGBMClassifier(n_estimators=15, verbose=-1, n_jobs=1, objective=objective)
    model.fit(data.data, data.target)
    assert_crosses(model, data.data, tmp_path / "wrapper", task="multiclass", classes=(0, 1, 2))
    assert_crosses(model.booster_, data.data, tmp_path / "booster", task="multiclass", classes=(0, 1, 2))


def test_lightgbm_stops_at_its_best_iteration(tmp_path: Path) -> None:
    data = load_breast_cancer(as_frame=True)
    train, held = data.data[:300], data.data[300:]
    model = lightgbm.LGBMClassifier(n_estimators=300, verbose=-1, n_jobs=1)
    stop = lightgbm.early_stopping(5, verbose=False)
    model.fit(train, data.target[:300], eval_X=held, eval_y=data.target[300:], callbacks=[stop])
    assert model.best_iteration_ < 300
    assert_crosses(model, data.data, tmp_path / "wrapper", classes=(0, 1))
    assert_crosses(model.booster_, data.data, tmp_path / "booster", classes=(0, 1))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"zero_as_missing": True}, "zero_as_missing"),
        ({"linear_tree": True}, "linear_tree"),
        ({"objective": lambda truth, raw: (raw - truth, np.ones_like(raw))}, "objective of its own"),
    ],
)
def test_what_lightgbm_does_otherwise_names_itself(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    fields, _, delay = flights()
    frame = fields[NUMBERS].fillna(0)
    model = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, n_jobs=1, **options).fit(frame[:FITTED], delay[:FITTED])
    with pytest.raises(Unsupported, match=says):
        crossed(model, frame, tmp_path, task="regression", classes=())


def test_lightgbm_on_pandas_categories_names_itself() -> None:
    fields, late, _ = flights()
    words = fields[WORDS].astype("category")
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(words[:FITTED], late[:FITTED])
    with pytest.raises(Unsupported, match="pandas' category columns"):
        describe(model, infer_schema(fields[WORDS], {}), task="binary", classes=(False, True))
