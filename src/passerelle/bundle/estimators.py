"""Estimators: fitted models, described as steps. Runs in the model's own environment; imports none of its library.

Each describer answers with the step that holds the model's own answers: (rows, 1) for numbers and for two classes
(the probability of the second), (rows, classes) for more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from passerelle.bundle.form import (
    Affine,
    Apply,
    Array,
    Average,
    Gather,
    Interpolate,
    Linear,
    Recode,
    Slot,
    Trees,
    Unsupported,
)
from passerelle.bundle.preparation import (
    Draft,
    Lane,
    Lanes,
    by_name,
    function_name,
    is_missing,
    kind_of,
    lookup,
    numbers,
    transform,
)
from passerelle.bundle.trees import Tree, grow, histogram_tree, read_lightgbm, sklearn_tree

Response = Literal["answer", "decision"]
"""What is asked: the model's answer (probabilities, or a number), or its decision_function where it has one."""

Describe = Callable[[Draft, Any, Lanes, Response], int]

_BINARY = 2


def estimate(draft: Draft, model: Any, lanes: Lanes, response: Response = "answer") -> int:
    """The step that holds a fitted model's answers on these lanes. Raises Unsupported, naming it, if it has no form."""
    kind = kind_of(model)
    describe = _ESTIMATORS.get(kind)
    if describe is None:
        raise Unsupported(f"{kind} has no code-free form.")
    return describe(draft, model, lanes if kind in _CONTAINERS else by_name(model, lanes), response)


def _pipeline(draft: Draft, pipeline: Any, lanes: Lanes, response: Response) -> int:
    *parts, (_, last) = pipeline.steps
    for _, part in parts:
        lanes = transform(draft, part, lanes)
    return estimate(draft, last, lanes, response)


def _within(name: str) -> Describe:
    """A model that only holds another."""
    return lambda draft, model, lanes, response: estimate(draft, getattr(model, name), lanes, response)


def _function(draft: Draft, source: int, function: str) -> int:
    return draft.add(Apply(source=source, function=function), draft.widths[source])


#: scikit-learn's links (sklearn._loss.link) → the function that undoes each.
_LINKS = {
    "HalfLogitLink": "sigmoid", "IdentityLink": "", "LogLink": "exp", "LogitLink": "sigmoid",
    "MultinomialLogit": "softmax",
}  # fmt: skip


def _link(draft: Draft, source: int, loss: Any) -> int:
    name = type(loss.link).__name__
    if name not in _LINKS:
        raise Unsupported(f"the link {name} has no code-free form.")
    if name == "HalfLogitLink":
        source = draft.add(Affine(source=source, multiply=numbers([2.0])), draft.widths[source])
    return _function(draft, source, _LINKS[name]) if _LINKS[name] else source


def _linear(draft: Draft, model: Any, lanes: Lanes) -> int:
    weights = numbers(model.coef_)
    weights = weights.reshape(1, -1) if weights.ndim == 1 else weights
    intercept = np.broadcast_to(numbers(model.intercept_), (len(weights),)).copy()
    source = draft.matrix(lanes, kind_of(model))
    return draft.add(Linear(source=source, weights=weights.T.copy(), intercept=intercept), len(weights))


def _regression(draft: Draft, model: Any, lanes: Lanes, _: Response) -> int:
    return _linear(draft, model, lanes)


def _generalised(draft: Draft, model: Any, lanes: Lanes, _: Response) -> int:
    return _link(draft, _linear(draft, model, lanes), model._base_loss)  # noqa: SLF001  (the fitted link)


def _logistic(draft: Draft, model: Any, lanes: Lanes, response: Response) -> int:
    raw = _linear(draft, model, lanes)
    if response == "decision":
        return raw
    if draft.widths[raw] == 1:
        return _function(draft, raw, "sigmoid")
    one_by_one = model.solver == "liblinear" or getattr(model, "multi_class", None) == "ovr"  # before 1.8
    return (
        _function(draft, _function(draft, raw, "sigmoid"), "normalise")
        if one_by_one
        else _function(draft, raw, "softmax")
    )


def _forest(
    draft: Draft, source: int, trees: list[tuple[int, Tree]], outputs: int, *, base: Array, divide: float = 1.0,
    rounded: bool = False, finite: bool = False,
) -> int:  # fmt: skip
    forest, stumps = grow(trees, outputs)
    step = Trees(
        source=source, outputs=outputs, base=base + stumps / divide, divide=numbers([divide]), forest=forest,
        rounded=rounded, finite=finite,
    )  # fmt: skip
    return draft.add(step, outputs)


def _bagged(draft: Draft, model: Any, lanes: Lanes, _: Response) -> int:
    """A decision tree, or the mean of many: scikit-learn's own, which round their inputs to float32."""
    if model.n_outputs_ != 1:
        raise Unsupported(f"{kind_of(model)} of more than one output has no code-free form.")
    source = draft.matrix(lanes, kind_of(model))
    members = [one.tree_ for one in getattr(model, "estimators_", [model])]
    tables = [_shares(tree.value[:, 0, :]) if hasattr(model, "classes_") else tree.value[:, 0, :] for tree in members]
    count = float(len(members))
    width = tables[0].shape[1]
    if width <= _BINARY:
        grown = [(0, sklearn_tree(tree, table[:, -1])) for tree, table in zip(members, tables, strict=True)]
        return _forest(draft, source, grown, 1, base=np.zeros(1), divide=count, rounded=True)
    # A leaf has a number per class: the trees give its row in a table, a column each.
    starts = np.cumsum([0, *(len(table) for table in tables)])
    grown = [(at, sklearn_tree(tree, np.arange(starts[at], starts[at + 1]))) for at, tree in enumerate(members)]
    forest, stumps = grow(grown, len(members))
    step = Trees(
        source=source, outputs=len(members), base=stumps, divide=numbers([count]), forest=forest,
        leaves=np.concatenate(tables), rounded=True,
    )  # fmt: skip
    return draft.add(step, width)


def _shares(table: Array) -> Array:
    """Shares of one in each row; scikit-learn before 1.3 kept counts."""
    total = table.sum(axis=1, keepdims=True)
    return table if np.allclose(total, 1.0) else table / total


def _boosted(draft: Draft, model: Any, lanes: Lanes, response: Response) -> int:
    """GradientBoosting: float32 inputs, no missing values."""
    if not isinstance(model.init_, str) and kind_of(model.init_) not in (
        "sklearn.DummyClassifier",
        "sklearn.DummyRegressor",
    ):
        raise Unsupported(f"{kind_of(model)}(init={kind_of(model.init_)}) has no code-free form.")
    source = draft.matrix(lanes, kind_of(model))
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_)))[0]  # noqa: SLF001  (a constant, link applied)
    trees = [
        (target, sklearn_tree(one.tree_, one.tree_.value[:, 0, 0] * model.learning_rate))
        for stage in model.estimators_
        for target, one in enumerate(stage)
    ]
    raw = _forest(draft, source, trees, len(start), base=numbers(start), rounded=True, finite=True)
    if response == "decision" or not hasattr(model, "classes_"):
        return raw
    return _link(draft, raw, model._loss)  # noqa: SLF001  (the fitted link)


def _histogram(draft: Draft, model: Any, lanes: Lanes, response: Response) -> int:
    """HistGradientBoosting: float64, missing values; its hidden preprocessor puts the categories first, as codes."""
    if not hasattr(model, "_preprocessor"):
        raise Unsupported(f"{kind_of(model)} of scikit-learn before 1.4 has no code-free form.")
    if model._preprocessor is not None:  # noqa: SLF001  (nothing public holds the categories' codes)
        encoder = model._preprocessor.named_transformers_["encoder"]  # noqa: SLF001  (the same)
        coded = [lane for lane, is_category in zip(lanes, model.is_categorical_, strict=True) if is_category]
        plain = [lane for lane, is_category in zip(lanes, model.is_categorical_, strict=True) if not is_category]
        lookups = tuple(
            lookup(lane, categories, _codes(categories), np.nan, kind_of(model))
            for lane, categories in zip(coded, map(list, encoder.categories_), strict=True)
        )
        lanes = draft.lanes(Recode(lookups=lookups), len(coded)) + plain
    source = draft.matrix(lanes, kind_of(model))
    start = numbers(model._baseline_prediction).reshape(-1)  # noqa: SLF001  (kept nowhere else)
    trees = [
        (target, histogram_tree(predictor))
        for stage in model._predictors  # noqa: SLF001  (kept nowhere else)
        for target, predictor in enumerate(stage)
    ]
    raw = _forest(draft, source, trees, len(start), base=start)
    return raw if response == "decision" else _link(draft, raw, model._loss)  # noqa: SLF001  (the fitted link)


def _codes(categories: list[Any]) -> list[float]:
    """1, 2, 3 ... ; NaN for a missing value, which HistGradientBoosting treats like an unknown one."""
    return [np.nan if is_missing(category) else at + 1.0 for at, category in enumerate(categories)]


def _lightgbm(draft: Draft, model: Any, lanes: Lanes, _: Response) -> int:
    booster = getattr(model, "booster_", model)
    if callable(getattr(model, "objective_", None)):
        raise Unsupported("lightgbm with an objective of its own has no code-free form.")
    if getattr(booster, "pandas_categorical", None):
        raise Unsupported(
            "lightgbm on pandas' category columns has no code-free form: give it numbers (OrdinalEncoder)."
        )
    read = read_lightgbm(booster.model_to_string())
    if read.features != len(lanes):
        raise Unsupported(f"lightgbm was fitted on {read.features} columns, and here there are {len(lanes)}.")
    if read.categories:
        lanes = _lightgbm_codes(draft, lanes, read.categories)
    source = draft.matrix(lanes, "lightgbm")
    trees = [(at % read.outputs, tree) for at, tree in enumerate(read.trees)]
    divide = len(trees) / read.outputs if read.averaged else 1.0
    raw = _forest(draft, source, trees, read.outputs, base=np.zeros(read.outputs), divide=divide)
    return _lightgbm_link(draft, raw, read.objective)


def _lightgbm_codes(draft: Draft, lanes: Lanes, categories: dict[int, Array]) -> Lanes:
    """Its categories are whole numbers (a fraction is cut off); those that no split names, and NaN, become 0."""
    chosen = sorted(categories)
    whole = draft.lanes(
        Apply(source=draft.matrix([lanes[at] for at in chosen], "lightgbm"), function="trunc"), len(chosen)
    )
    lookups = tuple(
        lookup(lane, list(categories[at]), list(np.arange(1.0, len(categories[at]) + 1)), 0.0, "lightgbm")
        for at, lane in zip(chosen, whole, strict=True)
    )
    coded = dict(zip(chosen, draft.lanes(Recode(lookups=lookups), len(chosen)), strict=True))
    return [coded.get(at, lane) for at, lane in enumerate(lanes)]


#: LightGBM's objectives (src/objective) → what their ConvertOutput does.
_OBJECTIVES = {
    "binary": "sigmoid", "cross_entropy": "sigmoid", "cross_entropy_lambda": "log1p_exp", "fair": "", "gamma": "exp",
    "huber": "", "mape": "", "multiclass": "softmax", "multiclassova": "sigmoid", "poisson": "exp", "quantile": "",
    "regression": "", "regression_l1": "", "tweedie": "exp",
}  # fmt: skip


def _lightgbm_link(draft: Draft, raw: int, objective: list[str]) -> int:
    name, *parameters = objective
    if name not in _OBJECTIVES:
        raise Unsupported(f"lightgbm's objective {name!r} has no code-free form.")
    slope = next((float(one.partition(":")[2]) for one in parameters if one.startswith("sigmoid:")), 1.0)
    if slope != 1.0:
        raw = draft.add(Affine(source=raw, multiply=numbers([slope])), draft.widths[raw])
    function = "signed_square" if "sqrt" in parameters else _OBJECTIVES[name]
    return _function(draft, raw, function) if function else raw


def _calibrated(draft: Draft, model: Any, lanes: Lanes, _: Response) -> int:
    parts = []
    for one in model.calibrated_classifiers_:
        if one.method not in ("sigmoid", "isotonic"):
            raise Unsupported(f"sklearn.CalibratedClassifierCV(method={one.method!r}) has no code-free form.")
        if list(one.estimator.classes_) != list(model.classes_):
            raise Unsupported("sklearn.CalibratedClassifierCV with a fold that lacks a class has no code-free form.")
        raw = estimate(draft, one.estimator, lanes, "decision")
        columns = [
            _calibrator(draft, draft.add(Gather(slots=(Slot(step=raw, column=at),)), 1), calibrator)
            for at, calibrator in enumerate(one.calibrators)
        ]
        if len(columns) > 1:
            together = draft.matrix([Lane(slot=Slot(step=column), kind="number") for column in columns], kind_of(model))
            columns = [_function(draft, together, "normalise")]
        parts.append(columns[0])
    return draft.add(Average(sources=tuple(parts)), draft.widths[parts[0]])


def _calibrator(draft: Draft, source: int, calibrator: Any) -> int:
    if hasattr(calibrator, "a_"):  # Platt's: 1 / (1 + exp(a f + b))
        step = Affine(source=source, multiply=numbers([calibrator.a_]), add=numbers([calibrator.b_]))
        negative = Affine(source=draft.add(step, 1), multiply=numbers([-1.0]))
        return _function(draft, draft.add(negative, 1), "sigmoid")
    if calibrator.out_of_bounds != "clip":
        raise Unsupported("sklearn.IsotonicRegression(out_of_bounds=...) has no code-free form.")
    return draft.add(
        Interpolate(source=source, x=numbers(calibrator.X_thresholds_), y=numbers(calibrator.y_thresholds_)), 1
    )


def _transformed(draft: Draft, model: Any, lanes: Lanes, _: Response) -> int:
    raw = estimate(draft, model.regressor_, lanes)
    transformer = model.transformer_
    match kind_of(transformer):
        case "sklearn.FunctionTransformer":
            name = function_name(transformer.inverse_func, transformer.inv_kw_args)
            if name is None:
                raise Unsupported(
                    "sklearn.TransformedTargetRegressor with an inverse_func not of numpy has no code-free form."
                )
            return _function(draft, raw, name) if name else raw
        case "sklearn.StandardScaler":
            scale = numbers([1.0]) if transformer.scale_ is None else numbers(transformer.scale_)
            shift = numbers([0.0]) if not transformer.with_mean else numbers(transformer.mean_)
            return draft.add(Affine(source=raw, multiply=scale, add=shift), 1)
        case "sklearn.MinMaxScaler":
            step = Affine(source=raw, subtract=numbers(transformer.min_), divide=numbers(transformer.scale_))
            return draft.add(step, 1)
        case kind:
            raise Unsupported(f"sklearn.TransformedTargetRegressor(transformer={kind}) has no code-free form.")


#: They hand their columns on, and do not read them.
_CONTAINERS = (
    "sklearn.CalibratedClassifierCV", "sklearn.FrozenEstimator", "sklearn.GridSearchCV", "sklearn.Pipeline",
    "sklearn.RandomizedSearchCV", "sklearn.TransformedTargetRegressor",
)  # fmt: skip

_ESTIMATORS: dict[str, Describe] = {
    "lightgbm.Booster": _lightgbm,
    "lightgbm.LGBMClassifier": _lightgbm,
    "lightgbm.LGBMRegressor": _lightgbm,
    "sklearn.CalibratedClassifierCV": _calibrated,
    "sklearn.FrozenEstimator": _within("estimator"),
    "sklearn.GridSearchCV": _within("best_estimator_"),
    "sklearn.Pipeline": _pipeline,
    "sklearn.RandomizedSearchCV": _within("best_estimator_"),
    "sklearn.TransformedTargetRegressor": _transformed,
    **dict.fromkeys(("sklearn.LogisticRegression", "sklearn.LogisticRegressionCV"), _logistic),
    **dict.fromkeys(
        (
            "sklearn.BayesianRidge", "sklearn.ElasticNet", "sklearn.ElasticNetCV", "sklearn.HuberRegressor",
            "sklearn.Lasso", "sklearn.LassoCV", "sklearn.LinearRegression", "sklearn.Ridge", "sklearn.RidgeCV",
            "sklearn.SGDRegressor",
        ),
        _regression,
    ),
    **dict.fromkeys(("sklearn.GammaRegressor", "sklearn.PoissonRegressor", "sklearn.TweedieRegressor"), _generalised),
    **dict.fromkeys(
        (
            "sklearn.DecisionTreeClassifier", "sklearn.DecisionTreeRegressor", "sklearn.ExtraTreesClassifier",
            "sklearn.ExtraTreesRegressor", "sklearn.RandomForestClassifier", "sklearn.RandomForestRegressor",
        ),
        _bagged,
    ),
    **dict.fromkeys(("sklearn.GradientBoostingClassifier", "sklearn.GradientBoostingRegressor"), _boosted),
    **dict.fromkeys(
        ("sklearn.HistGradientBoostingClassifier", "sklearn.HistGradientBoostingRegressor"), _histogram
    ),
}  # fmt: skip
