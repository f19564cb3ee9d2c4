"""Looking into the ledger, and erasing from it, for people."""

from __future__ import annotations

import shutil
from datetime import datetime
from typing import Any

import msgspec

from passerelle.data.contract import load_contract
from passerelle.data.table import forget as forget_rows
from passerelle.data.table import snapshot
from passerelle.errors import LedgerError
from passerelle.ledger.compaction import Compaction
from passerelle.ledger.forgetting import forget
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.stored import expect
from passerelle.ledger.views import Totals, ask, damage, totals
from passerelle.loop.gathering import gather
from passerelle.loop.rollout import revisions
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.state.timeline import Event, record

LAST = """
SELECT p.id, p.version, p.role, p.status, p.output, p.event_at, t.value AS truth
FROM predictions p LEFT JOIN truths t USING (id) ORDER BY p.received_at DESC LIMIT ?
"""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger holds: counts, what is damaged, and the rows that were asked for."""

    #: What was moved into the tables; None if nothing was looked for.
    compaction: Compaction | None
    #: Which places elsewhere could not be read, and why: what lies there is not counted.
    unread: str | None
    totals: Totals
    #: Segments that wait for compaction and are torn or damaged: where.
    damage: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def lines(self) -> list[str]:
        """The ledger, for a person."""
        counted = "  ".join(f"{name} {value:,}" for name, value in msgspec.structs.asdict(self.totals).items())
        table = [self.columns, *([_shown(value) for value in row] for row in self.rows)]
        widths = [max(len(row[place]) for row in table) for place in range(len(self.columns))]
        body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
        moved = self.compaction
        done = [] if moved is None else [f"{moved.segments:,} segments were moved into the tables."]
        missing = [] if self.unread is None else [f"Not counted is what could not be read: {self.unread}"]
        kept = () if moved is None else moved.damaged
        told = [f"Damaged: {one}; what could be read was moved, the file is in damaged/." for one in kept]
        waits = [f"Damaged: {one}; what can be read is counted, compaction keeps the file." for one in self.damage]
        return [*done, *missing, *told, *waits, counted, *body]


def look(project: Project, environment: str, *, last: int, sql: str | None, compact: bool, now: datetime) -> Look:
    """Counts of an environment's ledger and its last predictions, or the answer to a question in SQL.

    What endpoints elsewhere recorded is moved here first; ``compact``: what was recorded here, too.
    Raises LedgerError if there is no ledger yet or the question cannot be answered.
    """
    folder = ledger_folder(project.state, environment)
    found = gather(project, environment, here=compact, now=now)
    if not folder.exists():
        raise LedgerError(f"nothing has been recorded in {environment} yet: passerelle serve, then send an event.")
    answer = ask(folder, sql) if sql else ask(folder, LAST, [last])
    return Look(
        compaction=found.compaction,
        unread=found.problem,
        totals=totals(folder),
        damage=damage(folder),
        columns=answer.columns,
        rows=answer.rows,
    )


def forget_unit(project: Project, unit: str, *, now: datetime) -> dict[str, str]:
    """Erase a unit from every ledger and accepted table; place → what was erased, in words.

    The ledger of an environment without revisions has no salt, so nothing in it was hashed, or it cannot be found.
    """
    column = project.task.unit
    erased: dict[str, str] = {}
    for folder in sorted(path for path in (project.state / "ledger").glob("*") if path.is_dir()):
        deployment = revisions(project, folder.name).current()
        expect(folder, None if deployment is None else deployment.ledger_at, now=now)
        done = forget(folder, unit, unit_column=column, salt=deployment.salt if deployment else "")
        unknown = "" if deployment else "; it has no revisions, so by the name alone: what was hashed is not found"
        erased[f"ledger of {folder.name}"] = f"{done}{unknown}"
    holders = [
        name
        for name, table in load_contract(project).tables.items()
        if column in table.schema.names and name in snapshot(project).tables
    ]
    if column is not None and holders:
        erased[f"accepted data ({', '.join(holders)})"] = f"{forget_rows(project, column, unit):,} rows"
    for raw in (*(project.state / "runs").glob("*/handout"), project.state / "holdouts", project.state / "by-hand"):
        shutil.rmtree(raw, ignore_errors=True)  # copies that a run was given: it can be given them anew
    erased["copies that runs were given"] = "erased, all of them"
    erased["not looked into"] = (
        "the inbox, quarantined deliveries, executed notebooks, what was moved to unshared/ on any machine, "
        "and in bundles golden rows and what the model itself remembers: train again, and remove these by hand"
    )
    record(open_state(project.state), Event(at=now, kind="forget", subject="unit", sentence="a unit was erased"))
    return erased


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{one:.4g}" for one in value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    text = "" if value is None else str(value)
    return "".join(one if one.isprintable() else "\ufffd" for one in text)  # an id must not steer the terminal
