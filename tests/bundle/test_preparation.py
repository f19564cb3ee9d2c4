from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from inline_cases import FITTED, NUMBERS, WORDS, assert_crosses, crossed, flights
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from passerelle.bundle.form import Unsupported
from passerelle.errors import ScoringError

FEW = ["carrier", "origin", "dest"]


def logistic() -> LogisticRegression:
    return LogisticRegression(max_iter=300, tol=1e-2)


def fitted(transformer: Any) -> Any:
    fields, late, _ = flights()
    model = make_pipeline(transformer, StandardScaler(with_mean=False), logistic())
    return model.fit(fields[:FITTED], late[:FITTED])


def prepared(*parts: tuple[str, Any, Any], **options: Any) -> ColumnTransformer:
    return ColumnTransformer(list(parts), **options)


filled = make_pipeline(SimpleImputer(), StandardScaler())

NUMERIC = {
    "mean": make_pipeline(SimpleImputer(), StandardScaler()),
    "median and indicator": make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
    "most frequent": make_pipeline(SimpleImputer(strategy="most_frequent"), MinMaxScaler()),
    "constant": make_pipeline(SimpleImputer(strategy="constant", fill_value=-1), MinMaxScaler(clip=True)),
    "a number that means missing": make_pipeline(
        SimpleImputer(strategy="constant", fill_value=0.0), SimpleImputer(missing_values=0.0, add_indicator=True)
    ),
    "robust": make_pipeline(RobustScaler(), SimpleImputer()),
    "robust, unscaled": make_pipeline(RobustScaler(with_scaling=False), SimpleImputer(), MaxAbsScaler()),
    "not centred": make_pipeline(StandardScaler(with_mean=False), SimpleImputer()),
    "logarithm": make_pipeline(SimpleImputer(), FunctionTransformer(np.log1p), FunctionTransformer()),
    "selected": make_pipeline(SimpleImputer(), VarianceThreshold(1.0), SelectKBest(k=3), StandardScaler()),
    "components": make_pipeline(SimpleImputer(), StandardScaler(), PCA(3)),
    "union": make_pipeline(SimpleImputer(), FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())])),
    "frames within": make_pipeline(
        ColumnTransformer([("i", SimpleImputer(), NUMBERS)]).set_output(transform="pandas"),
        ColumnTransformer([("d", StandardScaler(), ["i__distance"])], remainder="passthrough"),
    ),
}


@pytest.mark.parametrize("name", NUMERIC)
def test_numbers_are_prepared_as_scikit_learn_does(name: str, tmp_path: Path) -> None:
    model = fitted(prepared(("numbers", NUMERIC[name], NUMBERS), ("words", OneHotEncoder(), ["origin"])))
    assert_crosses(model, flights()[0], tmp_path)


CATEGORIES = {
    "unknown ignored": OneHotEncoder(handle_unknown="ignore"),
    "dense": OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    "first dropped": OneHotEncoder(drop="first", handle_unknown="ignore"),
    "dropped if binary": OneHotEncoder(drop="if_binary", handle_unknown="ignore"),
    "rare together": OneHotEncoder(min_frequency=60, handle_unknown="infrequent_if_exist"),
    "rare together, first dropped": OneHotEncoder(min_frequency=60, drop="first", handle_unknown="infrequent_if_exist"),
    "at most five": OneHotEncoder(max_categories=5, handle_unknown="infrequent_if_exist"),
    "rare, unknown ignored": OneHotEncoder(max_categories=5, handle_unknown="ignore"),
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "ordinal, missing named": OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    ),
    "ordinal, rare together": OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2, min_frequency=60
    ),
    "target": TargetEncoder(),
    "filled first": make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(handle_unknown="ignore")
    ),
    "filled with the commonest": make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", min_frequency=20)
    ),
}


@pytest.mark.filterwarnings("ignore:Found unknown categories:UserWarning")
@pytest.mark.parametrize("name", CATEGORIES)
def test_categories_are_encoded_as_scikit_learn_does(name: str, tmp_path: Path) -> None:
    columns = [*WORDS, "hour"] if "fill" not in name else WORDS
    fields, late, _ = flights()
    frame = fields.assign(hour=fields["sched_dep_time"] // 100)
    filler = SimpleImputer(strategy="constant", fill_value=-9)  # what an ordinal encoder leaves missing
    model = make_pipeline(
        prepared(("words", CATEGORIES[name], columns), ("numbers", StandardScaler(), ["distance"])),
        filler if name == "ordinal" else "passthrough",
        MaxAbsScaler(),
        logistic(),
    ).fit(frame[:FITTED], late[:FITTED])
    assert_crosses(model, frame, tmp_path)


def test_numbers_with_holes_are_categories_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "grade": rng.choice([1.0, 2.5, 7.0, np.nan], 900),
            "yes": rng.choice([True, False], 900),
            "maybe": rng.choice(np.array([True, False, None], dtype=object), 900),
            "size": rng.normal(size=900),
        }
    )
    late = frame["size"] + frame["grade"].fillna(9) + 2 * frame["yes"] > 5
    model = make_pipeline(
        prepared(("c", OneHotEncoder(handle_unknown="ignore"), ["grade", "yes", "maybe"]), remainder="passthrough"),
        logistic(),
    ).fit(frame[:300], late[:300])
    frame.loc[700:, "grade"] = rng.choice([3.0, -1.0, 2.5, np.nan], 200)
    assert_crosses(model, frame, tmp_path)


def test_columns_are_found_by_name_place_mask_slice_and_kind(tmp_path: Path) -> None:
    fields, late, _ = flights()
    frame = fields[["distance", "flight", "carrier", "sched_dep_time", "origin"]]
    for number, (numbers, words) in enumerate(
        (
            ([0, 1, 3], [2, 4]),
            ([True, True, False, True, False], slice(4, 5)),
            (make_column_selector(dtype_include="number"), slice("origin", "origin")),
            (["sched_dep_time", "distance"], ["origin", "carrier"]),
        )
    ):
        parts = prepared(("n", StandardScaler(), numbers), ("w", OneHotEncoder(handle_unknown="ignore"), words))
        model = make_pipeline(parts, logistic()).fit(frame[:FITTED], late[:FITTED])
        assert_crosses(model, frame, tmp_path / str(number))


def test_a_dropped_column_need_not_be_a_field_and_the_order_is_free(tmp_path: Path) -> None:
    fields, late, _ = flights()
    parts = prepared(("n", StandardScaler(), ["distance", "flight"]), ("no", "drop", ["tailnum"]))
    model = make_pipeline(parts, logistic()).fit(fields[:FITTED], late[:FITTED])
    assert_crosses(model, fields[["flight", "carrier", "distance"]], tmp_path)
    with pytest.raises(Unsupported, match="fitted on a column 'flight' that is no field"):
        crossed(model, fields[["distance"]], tmp_path)


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values:UserWarning")
def test_a_column_without_values_is_left_out_as_scikit_learn_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=200), "b": np.full(200, np.nan), "c": rng.normal(size=200)})
    for number, keep in enumerate((True, False)):
        imputer = SimpleImputer(strategy="constant", fill_value=1.5, keep_empty_features=keep)
        model = make_pipeline(imputer, logistic()).fit(frame, frame["a"] > frame["c"])
        assert_crosses(model, frame, tmp_path / str(number))


def test_an_unknown_category_that_the_model_refuses_is_refused(tmp_path: Path) -> None:
    fields, late, _ = flights()
    model = make_pipeline(prepared(("w", OneHotEncoder(), ["origin"])), logistic())
    model.fit(fields[["origin"]][:FITTED], late[:FITTED])
    program, answers, _ = crossed(model, fields[["origin"]], tmp_path)
    assert program(answers.inputs).shape == (27004, 1)
    with pytest.raises(ScoringError, match=r"refuses 'HPN' in field 'origin' \(row 1\)"):
        program({"origin": np.array(["EWR", "HPN"], dtype=object)})
    with pytest.raises(ScoringError, match="refuses None in field 'origin'"):
        program({"origin": np.array([None], dtype=object)})


flagged = SimpleImputer(strategy="most_frequent", add_indicator=True)


@pytest.mark.parametrize(
    ("part", "columns", "says"),
    [
        (FunctionTransformer(lambda frame: frame), ["distance"], r"FunctionTransformer\(<lambda>\)"),
        (PCA(1, whiten=True), ["distance"], r"PCA\(whiten=True\)"),
        (make_pipeline(flagged, OneHotEncoder(handle_unknown="ignore")), ["tailnum"], "add_indicator"),
    ],
)
def test_a_step_without_a_form_names_itself(part: Any, columns: list[str], says: str, tmp_path: Path) -> None:
    fields, late, _ = flights()
    frame = fields[["distance", "tailnum"]]
    model = make_pipeline(prepared(("p", part, columns), ("n", "passthrough", ["distance"])), logistic())
    model.fit(frame[:FITTED], late[:FITTED])
    with pytest.raises(Unsupported, match=says):
        crossed(model, frame, tmp_path)
    assert not (tmp_path / "described").exists()
