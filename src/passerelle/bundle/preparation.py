"""Preparation: scikit-learn's fitted transformers, described as steps. Runs in the model's own environment.

Nothing is imported from scikit-learn: a transformer is known by its class's name, and read by its fitted attributes.
A subclass is not known, since it may compute anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from passerelle.bundle.form import (
    Affine,
    AnyStep,
    Apply,
    Array,
    Gather,
    Impute,
    Indicate,
    Linear,
    Lookup,
    OneHot,
    Recode,
    Slot,
    Unsupported,
)

#: Integers up to here are exact in float64.
_EXACT = 2.0**53

#: numpy functions that FunctionTransformer and TransformedTargetRegressor may name; all are in program.FUNCTIONS.
UFUNCS = (
    "absolute", "cbrt", "cos", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "negative", "sign", "sin",
    "sqrt", "square", "tan", "tanh", "trunc",
)  # fmt: skip


@dataclass(frozen=True)
class Lane:
    """A column on its way through the model: where it is, and what is known of it."""

    slot: Slot
    kind: Literal["number", "text", "time"]
    name: str = ""
    #: What an imputer put for the missing strings; None if they are still missing.
    fill: str | None = None


Lanes = list[Lane]


@dataclass
class Draft:
    """The steps so far, and how many columns each one's matrix has."""

    steps: list[AnyStep] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)

    def add(self, step: AnyStep, width: int) -> int:
        """Add a step; its number."""
        self.steps.append(step)
        self.widths.append(width)
        return len(self.steps) - 1

    def lanes(self, step: AnyStep, width: int) -> Lanes:
        """Add a step; its columns as lanes."""
        number = self.add(step, width)
        return [Lane(slot=Slot(step=number, column=column), kind="number") for column in range(width)]

    def matrix(self, lanes: Lanes, reader: str) -> int:
        """The step whose matrix is these lanes. Raises Unsupported if one is not a number; ``reader`` needs it."""
        for lane in lanes:
            if lane.kind != "number":
                raise Unsupported(f"{reader} reads {lane.slot.field or lane.name!r} ({lane.kind}) as a number.")
        slots = tuple(lane.slot for lane in lanes)
        last = slots[0].step if slots else -1
        if last >= 0 and slots == tuple(Slot(step=last, column=column) for column in range(self.widths[last])):
            return last
        return self.add(Gather(slots=slots), len(slots))


def kind_of(thing: object) -> str:
    """The library and class of an object: sklearn.StandardScaler.

    >>> kind_of(np.float64(1))
    'numpy.float64'
    """
    return f"{type(thing).__module__.partition('.')[0]}.{type(thing).__name__}"


def numbers(values: Any) -> Array:
    """As float64; a fresh array, so that nothing of the model's library stays in the form."""
    return np.array(values, dtype=np.float64)


def transform(draft: Draft, transformer: Any, lanes: Lanes) -> Lanes:
    """What a fitted transformer makes of these lanes. Raises Unsupported, naming it, if it has no form."""
    if transformer is None or (isinstance(transformer, str) and transformer == "passthrough"):
        return lanes
    kind = kind_of(transformer)
    describe = _TRANSFORMERS.get(kind)
    if describe is None:
        raise Unsupported(f"{kind} has no code-free form.")
    made = describe(draft, transformer, lanes if kind in _CONTAINERS else by_name(transformer, lanes))
    return _named(transformer, made)


def by_name(model: Any, lanes: Lanes) -> Lanes:
    """The lanes that a model was fitted on, in its own order, where both have names."""
    wanted = getattr(model, "feature_names_in_", None)
    if wanted is None or not all(lane.name for lane in lanes) or kind_of(model).startswith("lightgbm."):
        expected = getattr(model, "n_features_in_", len(lanes))
        if expected != len(lanes):
            raise Unsupported(f"{kind_of(model)} was fitted on {expected} columns, and here there are {len(lanes)}.")
        return lanes
    there = {lane.name: lane for lane in lanes}
    try:
        return [there[str(name)] for name in wanted]
    except KeyError as error:
        raise Unsupported(f"{kind_of(model)} was fitted on a column {error.args[0]!r} that is no field.") from error


def _named(transformer: Any, lanes: Lanes) -> Lanes:
    """The lanes with the names that the transformer gives them; none where it cannot say."""
    try:
        names = [str(name) for name in transformer.get_feature_names_out()]
    except Exception:  # noqa: BLE001  (a name is a help, and its absence is met where a name is needed)
        names = []
    if len(names) != len(lanes):
        names = [""] * len(lanes)
    return [replace(lane, name=name) for lane, name in zip(lanes, names, strict=True)]


def _column_transformer(draft: Draft, transformer: Any, lanes: Lanes) -> Lanes:
    places = transformer._transformer_to_input_indices  # noqa: SLF001  (the resolved columns, whatever form they had)
    fitted = getattr(transformer, "feature_names_in_", None)
    there: dict[Any, Lane] = dict(enumerate(lanes))
    if fitted is not None and all(lane.name for lane in lanes):
        by = {lane.name: lane for lane in lanes}  # a column that it drops need not be a field
        there = {place: by[str(name)] for place, name in enumerate(fitted) if str(name) in by}
    out: Lanes = []
    for name, part, _ in transformer.transformers_:
        if isinstance(part, str) and part == "drop":
            continue
        absent = [place for place in places[name] if place not in there]
        if absent:
            column = absent[0] if fitted is None else fitted[absent[0]]
            raise Unsupported(f"sklearn.ColumnTransformer was fitted on a column {column!r} that is no field.")
        if len(places[name]):
            out += transform(draft, part, [there[place] for place in places[name]])
    return out


def _pipeline(draft: Draft, pipeline: Any, lanes: Lanes) -> Lanes:
    for _, part in pipeline.steps:
        lanes = transform(draft, part, lanes)
    return lanes


def _union(draft: Draft, union: Any, lanes: Lanes) -> Lanes:
    if union.transformer_weights:
        raise Unsupported("sklearn.FeatureUnion with transformer_weights has no code-free form.")
    return [
        lane
        for _, part in union.transformer_list
        if not (isinstance(part, str) and part == "drop")
        for lane in transform(draft, part, lanes)
    ]


def is_missing(value: Any) -> bool:
    """Is it None, NaN or pandas' NA?

    >>> is_missing(None), is_missing(float("nan")), is_missing("nan")
    (True, True, False)
    """
    return value is None or type(value).__name__ == "NAType" or bool(value != value)  # noqa: PLR0124  (NaN)


def _imputer(draft: Draft, imputer: Any, lanes: Lanes) -> Lanes:
    statistics = list(imputer.statistics_)
    kept = [at for at, value in enumerate(statistics) if imputer.keep_empty_features or not is_missing(value)]
    in_numbers = [at for at, lane in enumerate(lanes) if lane.kind == "number"]
    marker = imputer.missing_values
    out = dict(enumerate(lanes))
    marked = [] if imputer.indicator_ is None else [int(at) for at in imputer.indicator_.features_]
    flags: Lanes = []
    missing = numbers([np.nan if is_missing(marker) else marker]) if in_numbers or marked else numbers([])
    if in_numbers:
        try:
            fill = numbers([statistics[at] if at in kept else np.nan for at in in_numbers])
        except (TypeError, ValueError) as error:
            raise Unsupported(f"sklearn.SimpleImputer puts a string among numbers: {error}.") from error
        source = draft.matrix([lanes[at] for at in in_numbers], "sklearn.SimpleImputer")
        if marked:
            try:
                columns = np.array([in_numbers.index(at) for at in marked], dtype=np.int64)
            except ValueError as error:
                raise Unsupported(
                    "sklearn.SimpleImputer(add_indicator=True) on strings has no code-free form."
                ) from error
            flags = draft.lanes(Indicate(source=source, missing=missing, columns=columns), len(marked))
        filled = draft.lanes(Impute(source=source, missing=missing, fill=fill), len(in_numbers))
        out |= dict(zip(in_numbers, filled, strict=True))
    elif marked:
        raise Unsupported("sklearn.SimpleImputer(add_indicator=True) on strings has no code-free form.")
    for at in (at for at in kept if lanes[at].kind == "text"):
        if not is_missing(marker) or not isinstance(statistics[at], str):
            raise Unsupported(f"sklearn.SimpleImputer fills {statistics[at]!r} for {marker!r} among strings.")
        lane = lanes[at]
        out[at] = replace(lane, fill=lane.fill if lane.fill is not None else str(statistics[at]))
    return [out[at] for at in kept] + flags


def _scaler(subtract: str, divide: str) -> Callable[[Draft, Any, Lanes], Lanes]:
    def describe(draft: Draft, scaler: Any, lanes: Lanes) -> Lanes:
        shift, scale = (getattr(scaler, name, None) if name else None for name in (subtract, divide))
        if kind_of(scaler) == "sklearn.StandardScaler" and not scaler.with_mean:
            shift = None
        step = Affine(
            source=draft.matrix(lanes, kind_of(scaler)),
            subtract=None if shift is None else numbers(shift),
            divide=None if scale is None else numbers(scale),
        )
        return draft.lanes(step, len(lanes))

    return describe


def _min_max(draft: Draft, scaler: Any, lanes: Lanes) -> Lanes:
    low, high = scaler.feature_range if scaler.clip else (None, None)
    step = Affine(
        source=draft.matrix(lanes, kind_of(scaler)),
        multiply=numbers(scaler.scale_),
        add=numbers(scaler.min_),
        low=None if low is None else numbers([low]),
        high=None if high is None else numbers([high]),
    )
    return draft.lanes(step, len(lanes))


def _function(draft: Draft, transformer: Any, lanes: Lanes) -> Lanes:
    name = function_name(transformer.func, transformer.kw_args)
    if name is None:
        raise Unsupported(
            f"sklearn.FunctionTransformer({getattr(transformer.func, '__name__', transformer.func)}) has no code-free "
            f"form; numpy's own functions have one: {', '.join(UFUNCS)}."
        )
    if not name:
        return lanes
    source = draft.matrix(lanes, "sklearn.FunctionTransformer")
    return draft.lanes(Apply(source=source, function=name), len(lanes))


def function_name(function: Any, keywords: Any = None) -> str | None:
    """The name of one of numpy's functions; empty for none at all; None if it is another.

    >>> function_name(np.log1p), function_name(None), function_name(len)
    ('log1p', '', None)
    """
    if function is None:
        return ""
    if keywords:
        return None
    return next((name for name in UFUNCS if getattr(np, name) is function), None)


def _selector(_: Draft, selector: Any, lanes: Lanes) -> Lanes:
    return [lane for lane, keeps in zip(lanes, selector.get_support(), strict=True) if keeps]


def _components(draft: Draft, pca: Any, lanes: Lanes) -> Lanes:
    weights = numbers(pca.components_).T.copy()
    shift = np.zeros(weights.shape[1]) if pca.mean_ is None else -(numbers(pca.mean_) @ weights)
    if pca.whiten:
        raise Unsupported("sklearn.PCA(whiten=True) has no code-free form.")
    step = Linear(source=draft.matrix(lanes, "sklearn.PCA"), weights=weights, intercept=shift)
    return draft.lanes(step, weights.shape[1])


def lookup(lane: Lane, categories: Sequence[Any], values: Sequence[float], unknown: float, reader: str) -> Lookup:
    """What each category of a lane becomes; what is missing is a category of its own, or else is unknown."""
    known = {category: value for category, value in zip(categories, values, strict=True) if not is_missing(category)}
    holes = [value for category, value in zip(categories, values, strict=True) if is_missing(category)]
    missing = holes[0] if holes else unknown
    if lane.kind == "text":
        texts = tuple(category for category in known if isinstance(category, str))
        if lane.fill is not None:
            missing = known.get(lane.fill, unknown)
        return Lookup(slot=lane.slot, texts=texts, values=numbers([*(known[text] for text in texts), missing, unknown]))
    if lane.kind == "time":
        raise Unsupported(f"{reader} reads {lane.name!r} (time), which has no code-free form.")
    keys = [category for category in known if isinstance(category, int | float | np.number | np.bool_)]
    if any(abs(float(key)) > _EXACT for key in keys):
        raise Unsupported(f"{reader} has categories beyond 2**53, which float64 cannot tell apart.")
    return Lookup(
        slot=lane.slot, numbers=numbers(keys), values=numbers([*(known[key] for key in keys), missing, unknown])
    )


def _one_hot(draft: Draft, encoder: Any, lanes: Lanes) -> Lanes:
    lookups, start = [], 0
    for at, lane in enumerate(lanes):
        categories = list(encoder.categories_[at])
        rare = _rare(encoder, at)
        dropped = None if encoder.drop_idx_ is None else encoder.drop_idx_[at]
        drops_rare = dropped is not None and dropped in rare
        columns: dict[int, float] = {}  # category → its position; -1 for none
        common = [place for place in range(len(categories)) if place not in rare and place != dropped]
        for position, place in enumerate(common):
            columns[place] = start + position
        width = len(common)
        rare_position = -1.0
        if rare and not drops_rare:
            rare_position, width = float(start + width), width + 1
        columns |= dict.fromkeys(rare, rare_position)
        unknown = {"error": np.inf, "ignore": -1.0}.get(encoder.handle_unknown, rare_position)
        positions = [columns.get(place, -1.0) for place in range(len(categories))]
        lookups.append(lookup(lane, categories, positions, unknown, "sklearn.OneHotEncoder"))
        start += width
    return draft.lanes(OneHot(lookups=tuple(lookups), width=start), start)


def _rare(encoder: Any, at: int) -> set[int]:
    """The places of the categories that the encoder takes together as infrequent."""
    rare = getattr(encoder, "_infrequent_indices", None)  # the public infrequent_categories_ names them, without places
    return set() if rare is None or rare[at] is None else {int(place) for place in rare[at]}


def _ordinal(draft: Draft, encoder: Any, lanes: Lanes) -> Lanes:
    unknown = np.inf if encoder.handle_unknown == "error" else float(encoder.unknown_value)
    lookups = []
    for at, lane in enumerate(lanes):
        categories = list(encoder.categories_[at])
        rare = _rare(encoder, at)
        common = [place for place in range(len(categories)) if place not in rare and not is_missing(categories[place])]
        codes: dict[int, float] = {place: float(code) for code, place in enumerate(common)}
        codes |= dict.fromkeys(rare, float(len(common)))
        values = [codes.get(place, float(encoder.encoded_missing_value)) for place in range(len(categories))]
        lookups.append(lookup(lane, categories, values, unknown, "sklearn.OrdinalEncoder"))
    return draft.lanes(Recode(lookups=tuple(lookups)), len(lanes))


def _target(draft: Draft, encoder: Any, lanes: Lanes) -> Lanes:
    if encoder.target_type_ == "multiclass":
        raise Unsupported("sklearn.TargetEncoder of more than two classes has no code-free form.")
    mean = float(encoder.target_mean_)
    lookups = tuple(
        lookup(lane, list(encoder.categories_[at]), list(encoder.encodings_[at]), mean, "sklearn.TargetEncoder")
        for at, lane in enumerate(lanes)
    )
    return draft.lanes(Recode(lookups=lookups), len(lanes))


#: They hand their columns on, and do not read them: their parts look for theirs.
_CONTAINERS = ("sklearn.ColumnTransformer", "sklearn.FeatureUnion", "sklearn.Pipeline")

_TRANSFORMERS: dict[str, Callable[[Draft, Any, Lanes], Lanes]] = {
    "sklearn.ColumnTransformer": _column_transformer,
    "sklearn.FeatureUnion": _union,
    "sklearn.FunctionTransformer": _function,
    "sklearn.MaxAbsScaler": _scaler("", "scale_"),
    "sklearn.MinMaxScaler": _min_max,
    "sklearn.OneHotEncoder": _one_hot,
    "sklearn.OrdinalEncoder": _ordinal,
    "sklearn.PCA": _components,
    "sklearn.Pipeline": _pipeline,
    "sklearn.RobustScaler": _scaler("center_", "scale_"),
    "sklearn.SelectFromModel": _selector,
    "sklearn.SelectKBest": _selector,
    "sklearn.SelectPercentile": _selector,
    "sklearn.SimpleImputer": _imputer,
    "sklearn.StandardScaler": _scaler("mean_", "scale_"),
    "sklearn.TargetEncoder": _target,
    "sklearn.VarianceThreshold": _selector,
}
