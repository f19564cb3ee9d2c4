"""Slicing: the values of the fields that [monitoring] slices names, of a day's live events, from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from passerelle.bundle.profile import Categorical, Field, Numeric
from passerelle.ledger.views import ask
from passerelle.monitoring.parts import named
from passerelle.schema import Schema

#: Only the named fields are read; of a repeated id the first record counts, as everywhere.
_VALUES = """
SELECT id, arg_min(json_extract_string(inputs, $1), (received_at, writer, sequence, position)) FROM all_predictions
WHERE role = 'live' AND event_at >= $2 AND event_at < $3 GROUP BY id
"""


def read_slices(
    folder: Path, start: datetime, fields: Sequence[str], *, reference: Mapping[str, Field], schema: Schema
) -> dict[str, dict[str, str]]:
    """Field → id → its slice, of the day that begins at ``start``. Nothing is read where no field is named.

    A field that the champion does not take, one whose values are hidden, and a moment have no slices. Raises
    LedgerError if the ledger cannot be read.
    """
    kinds = {column.name: column.kind for column in schema.columns}
    found: dict[str, dict[str, str]] = {}
    for field in fields:
        counted = reference.get(field)
        if not isinstance(counted, Numeric | Categorical) or kinds.get(field) in ("timestamp", "date", None):
            continue
        path = "$." + msgspec.json.encode(field).decode()
        rows = ask(folder, _VALUES, [path, start, start + timedelta(days=1)]).rows
        names = named([value for _, value in rows], counted)
        found[field] = dict(zip([one for one, _ in rows], names, strict=True))
    return found
