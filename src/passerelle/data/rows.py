"""Rows: a file read by a contract, outside of any delivery: what is scored, and outcomes for the ledger."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa

from passerelle.data.checking import check
from passerelle.data.contract import TableContract
from passerelle.data.reading import read_file
from passerelle.errors import DataError


def read_rows(path: Path, contract: TableContract, *, only_its_columns: bool = False) -> pa.Table:
    """The typed rows of a file, in the contract's order of columns.

    ``only_its_columns``: columns that the contract does not know are left aside instead of refused. Raises DataError
    with the first problem, and how many more there are.
    """
    raw = read_file(path)
    if only_its_columns:
        kept = {name: values for name, values in raw.columns.items() if name in contract.schema.names}
        raw = msgspec.structs.replace(raw, columns=kept)
    checked = check([raw], contract, accepted=None)
    if checked.problems:
        more = f" (and {len(checked.problems) - 1} more problems)" if len(checked.problems) > 1 else ""
        raise DataError(f"{checked.problems[0].sentence}{more}. Correct the file and try again.")
    return checked.rows
