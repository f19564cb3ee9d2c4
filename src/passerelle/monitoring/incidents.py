"""Incidents: deliveries that were put aside, and segments of the ledger that were damaged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import sqlalchemy as sa

from passerelle.decoding import prepared
from passerelle.ledger.tables import DAMAGED
from passerelle.monitoring.alerts import Finding
from passerelle.state import tables

#: An alert on damage closes after so long without more.
QUIET = timedelta(days=1)
#: A step of the loop that has failed for so long keeps failing.
FAILING = timedelta(hours=1)


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


def failing(connection: sa.Connection, *, now: datetime) -> Finding:
    """Has a step of the loop failed for an hour, without having worked in between? By what stands on the timeline."""
    table = tables.timeline
    query = sa.select(table.c.at, table.c.subject, table.c.sentence, table.c.details).where(table.c.kind == "loop")
    since: dict[str, datetime] = {}
    told: dict[str, str] = {}
    for row in connection.execute(query.order_by(table.c.id)):
        if row.details.get("problem"):
            since.setdefault(row.subject, row.at)
            told[row.subject] = row.sentence
        else:
            since.pop(row.subject, None)
    found = sorted((at, step) for step, at in since.items() if now - at >= FAILING)
    if not found:
        return Finding(state="quiet", sentence="every step of the loop works again.")
    at, step = found[0]
    others = len(found) - 1
    more = f" So does {others} other step." if others == 1 else f" So do {others} other steps." if others else ""
    return Finding(
        state="firing",
        sentence=f"{told[step].rstrip('.')}. It has failed since {at:%Y-%m-%d %H:%M}.{more}",
        details={"steps": [one for _, one in found]},
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
            note = msgspec.json.decode(path.read_bytes(), type=prepared(_Note))
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
