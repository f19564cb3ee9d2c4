"""Exporting: a page's main table as CSV, for a spreadsheet. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

#: What a spreadsheet would take for a formula, if it stood first in a text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    r"""Rows as CSV with a line of names first; moments in UTC, what is not known is empty.

    A text that a spreadsheet would take for a formula begins with an apostrophe.

    >>> as_csv([{"day": datetime(2013, 2, 9, tzinfo=UTC), "loss": 0.25, "note": "=1+1", "alert": None}])
    "day,loss,note,alert\r\n2013-02-09T00:00:00Z,0.25,'=1+1,\r\n"
    """
    found = list(rows)
    names = list(dict.fromkeys(name for row in found for name in row))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in found)
    return text.getvalue()


def rows_of_structs(some: Sequence[msgspec.Struct], *names: str) -> list[dict[str, Any]]:
    """The named fields of each Struct, as rows."""
    return [{name: getattr(one, name) for name in names} for one in some]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return value
    if isinstance(value, list | tuple | set):
        value = ", ".join(str(one) for one in value)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
