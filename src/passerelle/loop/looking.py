"""Looking into the ledger, and erasing from it, for people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from passerelle.data.contract import load_contract
from passerelle.data.table import forget as forget_rows
from passerelle.data.table import snapshot
from passerelle.errors import LedgerError, SettingsError
from passerelle.ledger.compaction import compact as move
from passerelle.ledger.forgetting import forget
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import Totals, ask, totals
from passerelle.loop.rollout import revisions
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.state.timeline import Event, record

LAST = """
SELECT p.id, p.version, p.role, p.status, p.output, p.event_at, t.value AS truth
FROM predictions p LEFT JOIN truths t USING (id) ORDER BY p.received_at DESC LIMIT ?
"""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger holds: counts, and the rows that were asked for."""

    totals: Totals
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def lines(self) -> list[str]:
        """The ledger, for a person."""
        counted = "  ".join(f"{name} {value:,}" for name, value in msgspec.structs.asdict(self.totals).items())
        table = [self.columns, *([_shown(value) for value in row] for row in self.rows)]
        widths = [max(len(row[place]) for row in table) for place in range(len(self.columns))]
        body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
        return [counted, *body]


def look(project: Project, environment: str, *, last: int, sql: str | None, compact: bool, now: datetime) -> Look:
    """Counts of an environment's ledger and its last predictions, or the answer to a question in SQL.

    Raises LedgerError if there is no ledger yet or the question cannot be answered.
    """
    folder = ledger_folder(project.state, environment)
    if not folder.exists():
        raise LedgerError(f"nothing has been recorded in {environment} yet: passerelle serve, then send an event.")
    if compact:
        move(folder, now=now)
    answer = ask(folder, sql) if sql else ask(folder, LAST, [last])
    return Look(totals=totals(folder), columns=answer.columns, rows=answer.rows)


def forget_unit(project: Project, unit: str, *, now: datetime) -> dict[str, str]:
    """Erase a unit from every ledger and accepted table; place → what was erased, in words."""
    column = project.task.unit
    erased: dict[str, str] = {}
    for folder in sorted((project.state / "ledger").glob("*")):
        deployment = revisions(project, folder.name).current()
        if deployment is None:
            raise SettingsError(f"{folder} has no deployment, so its salt is not known: restore its revisions first.")
        done = forget(folder, unit, privacy=project.privacy, unit_column=column, salt=deployment.salt)
        erased[f"ledger of {folder.name}"] = str(done)
    holders = [
        name
        for name, table in load_contract(project).tables.items()
        if column in table.schema.names and name in snapshot(project).tables
    ]
    if column is not None and holders:
        erased[f"accepted data ({', '.join(holders)})"] = f"{forget_rows(project, column, unit):,} rows"
    record(open_state(project.state), Event(at=now, kind="forget", subject="unit", sentence="a unit was erased"))
    return erased


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{one:.4g}" for one in value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "" if value is None else str(value)
