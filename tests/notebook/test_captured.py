from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from passerelle.errors import SubmissionError
from passerelle.notebook.captured import Cells, another, captured_by, check_lineage, columns_changed_by, functions_of
from passerelle.notebook.proofs import prepared

FRAME = pd.DataFrame({"temp": [1.0, 2.0, 4.0], "origin": ["EWR", "JFK", "EWR"]})

SETUP = """
import pandas as pd, numpy as np
from functools import partial
raw = training_data()
"""


def run(*cells: str) -> Cells:
    namespace: dict[str, Any] = {"training_data": FRAME.copy, "submit": lambda *_, **__: None}
    sources = (SETUP, *cells)
    for source in sources:
        exec(source, namespace)  # noqa: S102  (the cells of a notebook)
    return Cells(sources=sources, namespace=namespace)


def refusal(*cells: str, constants: tuple[str, ...] = ()) -> str:
    ran = run(*cells)
    with pytest.raises(SubmissionError) as refused:
        check_lineage(
            [ran.namespace["features"]], ran.namespace["features"], FRAME, ran, main="trips", constants=constants
        )
    return str(refused.value)


def accepted(*cells: str, constants: tuple[str, ...] = ()) -> str:
    ran = run(*cells)
    return check_lineage(
        [ran.namespace["features"]], ran.namespace["features"], FRAME, ran, main="trips", constants=constants
    )


COLD = "def features(raw): return pd.DataFrame({'t': raw['temp'], 'cold': raw['temp'] < mean})"


def test_a_mean_of_the_training_rows_is_refused_with_its_column() -> None:
    said = refusal("mean = raw['temp'].mean()", "def features(raw): return raw.assign(warm=raw['temp'] - mean)")
    assert "warm comes from 'mean'" in said
    assert "constants=['mean']" in said


def test_it_is_found_through_functions_closures_partials_and_defaults() -> None:
    mean = "mean = raw['temp'].mean()"
    warm = "return raw.assign(warm=raw['temp'] - m)"
    submit = "submit(model, X, features)"
    for cells in (
        ["def inner(raw): m = mean; " + warm, "features = lambda raw: inner(raw)"],
        [f"def make(m):\n    def made(raw): {warm}\n    return made", "features = make(mean)", "model = X = 0", submit],
        [f"def f(m, raw): {warm}", "features = partial(f, m=mean)", "model = X = 0"],
        [f"def features(raw, m=mean): {warm}", "model = X = 0", submit],
    ):
        if "partial" in cells[1]:
            cells = [f"def f(raw, m): {warm}", cells[1], cells[2], submit]  # noqa: PLW2901  (m by its name)
        assert "warm comes from '" in refusal(mean, *cells)


def test_names_of_attributes_are_not_globals() -> None:
    said = accepted("mean = raw['temp'].mean()", "def features(raw): return raw[['temp']] - raw[['temp']].mean()")
    assert said == "no name computed on the training rows was found in what features reads"


def test_literals_further_tables_and_fitted_estimators_are_accepted() -> None:
    accepted("mean = 12.5", COLD)
    accepted("mean = training_data()['temp'].mean()", "mean = 12.5", COLD)
    cells = run(
        "from sklearn.preprocessing import StandardScaler",
        "scaler = StandardScaler().fit(raw[['temp']])",
        "def features(raw): return pd.DataFrame({'t': scaler.transform(raw[['temp']])[:, 0]})",
    )
    check_lineage([cells.namespace["features"]], cells.namespace["features"], FRAME, cells, main="trips", constants=())
    assert captured_by(StandardScaler().fit(FRAME[["temp"]]).transform, cells.namespace) == []


@pytest.mark.parametrize(
    ("cell", "name", "read"),
    [
        ("S = {}\ndef learn(df): S['m'] = df['temp'].mean()\nlearn(raw)", "S", "S['m']"),
        ("S = {}\ndef learn(df, into): into['m'] = df['temp'].mean()\nlearn(raw, S)", "S", "S['m']"),
        ("class S: m = raw['temp'].mean()", "S", "S.m"),
        ("class E:\n    def learn(self, df): self.m = df['temp'].mean()\ne = E()\ne.learn(raw)", "e", "e.m"),
        ("S = {}\ns = S\ns['m'] = raw['temp'].mean()", "S", "S['m']"),
        ("S = []\nraw['temp'].map(S.append)", "S", "S[0]"),
        ("class E:\n    def of(self, t): return t - mean\nmean = raw['temp'].mean()", "E", "E().of(0)"),
    ],
)
def test_values_are_found_however_they_were_stored(cell: str, name: str, read: str) -> None:
    assert repr(name) in refusal(cell, f"def features(raw): return raw[['temp']] - {read}")


ESTIMATOR = """
class E:
    def fit(self, df): self.m = df["temp"].mean()
    def transform(self, df): return df - self.m
"""


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        ("S = ['temp']\ndef plot(df, names): names.sort(); return df[names]\nplot(raw, S)", "raw[S]"),
        ("S = {}\nfor name in ['a', 'b']: S[name] = 3", "raw['temp'] - S['a']"),
        ("S = {}\ndef fill(into): into['a'] = 3\nfill(S)", "raw['temp'] - S['a']"),
        ("S = {}\nclass E:\n    def fill(self): S['a'] = 3\n_ = E().fill()", "raw['temp'] - S['a']"),
        ("S = [3, 4]\nlast = S.pop()", "raw['temp'] - S[0]"),
        ("class S: limit = 3", "raw['temp'] - S.limit"),
        ("class Box:\n    def of(self, raw): return raw['temp']\nbox = Box()\nbox.of(raw)", "box.of(raw)"),
        (
            ESTIMATOR + "e = E()\ne.fit(raw)",
            "e.transform(raw['temp'])",
        ),
    ],
)
def test_what_was_not_computed_on_the_training_rows_is_accepted_however_it_was_stored(cell: str, read: str) -> None:
    accepted(cell, f"def features(raw): return {read}")


def test_a_constant_that_is_declared_is_accepted_and_an_unknown_one_refused() -> None:
    mean = "mean = raw['temp'].mean()"
    assert accepted(mean, COLD, constants=("mean",)) == "constants of the training rows that were declared: mean"
    assert "constants names 'meen', which features does not read: it reads mean." in refusal(
        mean, COLD, constants=("meen",)
    )


def test_a_value_of_an_unknown_kind_is_refused_by_its_name() -> None:
    said = refusal(
        "class Box:\n    def __init__(self, m): self.m = m",
        "box = Box(raw['temp'].mean())",
        "def features(raw): return raw[['temp']] - box.m",
    )
    assert "computed on the training rows: 'box'." in said


def test_the_value_is_put_back_whatever_happens() -> None:
    cells = run("mean = raw['temp'].mean()", "def features(raw): return raw.assign(x=1 / (mean == 7 / 3))")
    (one,) = captured_by(cells.namespace["features"], cells.namespace)[-1:]
    assert one.name == "mean"
    assert columns_changed_by(one, cells.namespace["features"], FRAME) in (["x"], None)
    assert cells.namespace["mean"] == pytest.approx(7 / 3)


@pytest.mark.parametrize(
    "value",
    [
        True,
        3,
        2.5,
        "EWR",
        [1, "a"],
        {"a": 1.0},
        np.arange(4),
        np.array(["a", "b"], dtype=object),
        pd.Series([1.0, 2.0], index=["a", "b"]),
        pd.Series(["a", "b"]),
        pd.Timestamp("2013-01-01"),
        frozenset({1, 2}),
    ],
)
def test_another_value_has_the_same_form_and_other_content(value: Any) -> None:
    other = another(value)
    assert type(other) is type(value)
    assert np.shape(other) == np.shape(value)
    assert not np.array_equal(np.asarray(other, dtype=object), np.asarray(value, dtype=object))


def test_a_partials_arguments_are_captured() -> None:
    found = captured_by(partial(max, 3, key=abs), {})
    assert [(one.name, one.value) for one in found] == [("key", abs), ("an argument of partial", 3)]


def test_functions_inside_a_pipeline_are_looked_into() -> None:
    cells = run(
        "from sklearn.pipeline import make_pipeline",
        "from sklearn.preprocessing import FunctionTransformer",
        "from sklearn.linear_model import LinearRegression",
        "mean = raw['temp'].mean()",
        "def warm(frame): return frame - mean",
        "model = make_pipeline(FunctionTransformer(warm), LinearRegression()).fit(raw[['temp']], [1, 2, 3])",
    )
    model = cells.namespace["model"]
    assert functions_of(model) == [cells.namespace["warm"]]
    with pytest.raises(SubmissionError, match="temp comes from 'mean'"):
        check_lineage(
            functions_of(model), lambda raw: prepared(model, raw), FRAME[["temp"]], cells, main="trips", constants=()
        )
