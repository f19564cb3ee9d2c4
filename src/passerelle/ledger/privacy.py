"""Privacy: what of an event's fields is kept in the ledger. keep: as it came; hash: a keyed digest; drop: nothing.

A hash is blake2b of the column's name and the value, keyed with the deployment's salt: equal values stay equal within a
column, columns cannot be linked by it, and who has not the salt cannot try values one by one. Who has the salt can.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from passerelle.errors import LedgerError
from passerelle.project.settings import Privacy

#: In place of a column: the unit is the caller's word, in a project that names no unit column.
GIVEN = ""

_HASH_BYTES = 16
_KEY_BYTES = 64


def protect(inputs: Mapping[str, Any], privacy: Mapping[str, Privacy], *, salt: str) -> dict[str, Any]:
    """An event's fields as the ledger may keep them. A missing value stays missing. A column not named is kept.

    >>> protect({"origin": "EWR", "name": "Ada", "card": "4970"}, {"name": "hash", "card": "drop"}, salt="s")
    {'origin': 'EWR', 'name': '29e25c89fa80e56a1f66cbaeecd48458'}
    """
    if not privacy:
        return dict(inputs)
    kept = {}
    for column, value in inputs.items():
        rule = privacy.get(column, "keep")
        if rule == "keep" or (rule == "hash" and value is None):
            kept[column] = value
        elif rule == "hash":
            kept[column] = hash_value(value, column, salt)
    return kept


def hides(privacy: Mapping[str, Privacy]) -> bool:
    """Is any column private: hashed or dropped?"""
    return any(rule != "keep" for rule in privacy.values())


def protect_unit(unit: str, column: str | None, privacy: Mapping[str, Privacy], salt: str) -> str:
    """The unit as the ledger may keep it; ``column`` is the field it came from, None if it is the event's id.

    A unit whose column is dropped becomes "": units cannot be told apart in the ledger then, nor erased by name. A
    unit that the caller named in a project without a unit column (GIVEN) is hashed if any column is private: nothing
    says that it is not the very value that is to be hidden.

    >>> protect_unit("EWR", "origin", {}, "s")
    'EWR'
    >>> protect_unit("Ada", "name", {"name": "hash"}, "s")
    '29e25c89fa80e56a1f66cbaeecd48458'
    """
    if column == GIVEN:
        return hash_value(unit, GIVEN, salt) if hides(privacy) else unit
    rule = "keep" if column is None else privacy.get(column, "keep")
    if rule == "keep" or column is None:
        return unit
    return hash_value(unit, column, salt) if rule == "hash" else ""


def hash_value(value: object, column: str, salt: str) -> str:
    """32 hex digits. Values that are written alike, such as 7 and "7", have one hash: a unit is a string.

    Raises LedgerError without a salt: a hash that anybody can compute hides nothing.
    """
    if not salt:
        raise LedgerError(f"column {column or 'unit'!r} is to be hashed, and the deployment has no salt: deploy again.")
    key = salt.encode()
    if len(key) > _KEY_BYTES:
        key = hashlib.blake2b(key).digest()
    return hashlib.blake2b(f"{column}\0{value}".encode(), key=key, digest_size=_HASH_BYTES).hexdigest()
