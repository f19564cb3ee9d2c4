from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import sparse

from passerelle.errors import SubmissionError
from passerelle.notebook.compare import as_table, compare, named

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=20, unique=True)


def different(left: Any, right: Any) -> list[int]:
    """Positions that differ, one column at a time."""
    one, two = pd.DataFrame({"x": left}), pd.DataFrame({"x": right})
    return [row for row in range(len(one)) if compare(one.iloc[[row]], two.iloc[[row]])]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1.0, 2.0, np.nan], [1.0, 2.5, np.nan], [1]),
        ([1.0, np.nan], [1.0, 0.0], [1]),
        ([1.0, 1e9], [1.0 + 1e-14, 1e9 + 1e-4], []),
        ([1.0, 1e9], [1.0 + 1e-11, 1e9 + 1e-2], [0, 1]),
        ([2**53, 2**53 + 1], [2**53, 2**53], [1]),
        ([1, 0], [True, False], []),
        ([1, 0], [1.0, 0.5], [1]),
        (["a", None, "c"], ["a", None, "d"], [2]),
        (["a", "b"], pd.Categorical(["a", "c"]), [1]),
        (pd.Series([1, None], dtype="Int64"), [1.0, np.nan], []),
        (["1", "2"], [1, 2], [0, 1]),
        ([np.inf, -np.inf], [np.inf, np.inf], [1]),
        (
            pd.to_datetime(["2013-01-01T05:00Z", None]),
            pd.to_datetime(["2013-01-01T00:00-05:00", None]),
            [],
        ),
        (pd.to_datetime(["2013-01-01"]), pd.to_datetime(["2013-01-02"]), [0]),
        (np.array([0.1], dtype=np.float32), [0.1], [0]),
    ],
)
def test_what_differs_is_found_by_value(left: Any, right: Any, expected: list[int]) -> None:
    assert different(left, right) == expected


@given(NUMBERS, st.floats(0.01, 100), st.floats(-100, 100))
def test_a_scale_is_found(values: list[float], slope: float, intercept: float) -> None:
    assume(max(values) - min(values) > 1)
    left = np.array(values)
    right = slope * left + intercept
    found = compare(pd.DataFrame({"x": left}), pd.DataFrame({"x": right}))
    assume(found and found[0].rows == len(values))
    assert found[0].unit is not None
    np.testing.assert_allclose(
        found[0].unit[0] * left + found[0].unit[1], right, rtol=1e-6, atol=1e-6 * np.abs(right).max()
    )


@given(st.lists(st.floats(-100, 100), min_size=8, max_size=8, unique=True), st.integers(0, 10**6))
def test_what_is_no_scale_is_not_called_one(values: list[float], seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=8)
    for found in compare(pd.DataFrame({"x": values}), pd.DataFrame({"x": noise})):
        assert found.unit is None


def test_tables_of_every_kind_are_read() -> None:
    assert as_table([1, 2], "X").to_dict("list") == {"0": [1, 2]}
    assert as_table(np.eye(2), "X").columns.tolist() == ["0", "1"]
    assert as_table(sparse.csr_matrix(np.eye(2)), "X").to_dict("list") == {"0": [1.0, 0.0], "1": [0.0, 1.0]}
    assert as_table(pd.Series([1], name="a"), "X").columns.tolist() == ["a"]
    with pytest.raises(SubmissionError, match="X has the column 'a' twice"):
        as_table(pd.DataFrame([[1, 2]], columns=["a", "a"]), "X")
    with pytest.raises(SubmissionError, match="X is ndarray: give a DataFrame"):
        as_table(np.zeros((2, 2, 2)), "X")


def test_many_names_are_cut_short() -> None:
    assert named(["a"]) == "a"
    assert named(list("abcdefg")) == "a, b, c, d, e and 2 more"
