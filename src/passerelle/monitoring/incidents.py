"""Incidents: deliveries that were put aside, and segments of the ledger that were damaged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import sqlalchemy as sa

from passerelle.ledger.tables import DAMAGED
from passerelle.monitoring.alerts import Finding
from passerelle.state import tables

#: An alert on damage closes after so long without more.
QUIET = timedelta(days=1)


def put_aside(connection: sa.Connection) -> Finding:
    """Are there quarantined deliveries that no accepted one of the same tables has followed?"""
    table = tables.deliveries
    query = sa.select(table.c.id, table.c.at, table.c.status, table.c.problems).order_by(table.c.at, table.c.id)
    rows = connection.execute(query.where(table.c.status != "landing")).all()
    files: dict[str, list[tuple[str, str]]] = {}
    for delivery, name, file in connection.execute(
        sa.select(tables.files.c.delivery, tables.files.c.table, tables.files.c.name)
    ):
        files.setdefault(delivery, []).append((name, file))
    waiting: list[tuple[str, set[str], str, str]] = []
    for row in rows:
        held = files.get(row.id, [])
        brought = {one for one, _ in held}
        if row.status == "accepted":
            waiting = [one for one in waiting if not one[1] <= brought]
        else:
            names = ", ".join(sorted(name for _, name in held))
            waiting.append((row.id, brought, names, row.problems[0] if row.problems else "no reason was kept"))
    if not waiting:
        return Finding(state="quiet", sentence="what was put aside has been delivered again and accepted.")
    first, _, names, problem = waiting[-1]
    others = len(waiting) - 1
    more = f" {others} more {'delivery waits' if others == 1 else 'deliveries wait'}." if others else ""
    return Finding(
        state="firing",
        sentence=f"the delivery {names} was put aside: {problem.rstrip('.')}.{more}",
        details={"deliveries": [one[0] for one in waiting], "newest": first},
    )


class _Note(msgspec.Struct, frozen=True):
    """What compaction writes beside a damaged segment."""

    segment: str = ""
    damage: str = ""
    compacted_at: datetime | None = None


def damaged(ledger: Path, *, now: datetime) -> Finding:
    """Did compaction put a damaged segment aside since a day ago?"""
    found = []
    for path in sorted((ledger / DAMAGED).glob("*.seg.json")):
        try:
            note = msgspec.json.decode(path.read_bytes(), type=_Note)
        except (OSError, msgspec.DecodeError):
            note = _Note(segment=path.name.removesuffix(".json"), damage="its note cannot be read")
        at = note.compacted_at or datetime.fromtimestamp(path.stat().st_mtime, UTC)
        if now - at < QUIET:
            found.append((at, path.name.removesuffix(".json"), note.damage))
    if not found:
        return Finding(state="quiet", sentence="no more damage was found for a day.")
    _, name, damage = max(found)
    others = len(found) - 1
    more = f" {others} more of that day {'is' if others == 1 else 'are'} there too." if others else ""
    return Finding(
        state="firing",
        sentence=f"the ledger's segment {name} is damaged: {damage.rstrip('.')}. All before it was kept.{more}",
        details={"segments": [one[1] for one in found]},
    )
