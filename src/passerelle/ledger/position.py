"""Position: how far a ledger was read, so that the same records can be read again, and no later ones."""

from __future__ import annotations

import msgspec


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a ledger was read: of each writer the last record, as (segment's sequence, place in it)."""

    writers: dict[str, tuple[int, int]] = {}
