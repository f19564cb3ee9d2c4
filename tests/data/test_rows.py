"""A file read by a contract, outside of any delivery."""

from __future__ import annotations

from pathlib import Path

import pytest

from passerelle.data.contract import TableContract
from passerelle.data.rows import read_rows
from passerelle.errors import DataError
from passerelle.schema import Column

CONTRACT = TableContract(columns=(Column(name="a", kind="integer"), Column(name="b", kind="string")), key=("a",))


def test_rows_are_typed_and_in_the_contracts_order(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("b,a,extra\nx,1,9\ny,2,9\n")
    rows = read_rows(tmp_path / "t.csv", CONTRACT, only_its_columns=True)
    assert rows.to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert rows.column_names == ["a", "b"]


def test_a_file_that_does_not_fit_is_refused_with_its_first_problem(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("b,a,extra\nx,one,9\n")
    with pytest.raises(DataError, match=r"t\.csv, column 'extra': is not in the contract.*\(and 1 more problems\)"):
        read_rows(tmp_path / "t.csv", CONTRACT)
    (tmp_path / "t.csv").write_text("b,a\nx,1\ny,1\n")
    with pytest.raises(DataError, match=r"the key a repeats a row of this batch \(1 row: row 2 1\)"):
        read_rows(tmp_path / "t.csv", CONTRACT)
