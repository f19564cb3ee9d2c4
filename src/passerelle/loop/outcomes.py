"""Outcomes: a file of what turned out to be true, into the ledger."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from passerelle.bundle.manifest import read_manifest
from passerelle.data.columns import columns_of, row_ids
from passerelle.data.contract import TableContract, load_contract
from passerelle.data.reading import read_file
from passerelle.data.rows import read_rows
from passerelle.errors import DataError
from passerelle.ledger.records import Outcome
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.ledger.views import ask
from passerelle.loop.score import SLOT, bundle_of, current
from passerelle.project.settings import Project
from passerelle.schema import Column
from passerelle.serving.recording import read_truth, unknown_classes


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What recording a file of outcomes did; ``unknown`` are kept, too."""

    recorded: int
    unknown: int
    #: Outcomes of a class that the live version does not know; they are kept, too.
    unknown_classes: int = 0


def record_outcomes(project: Project, file: Path, *, environment: str, now: datetime) -> Recorded:
    """Record a file of outcomes in the ledger: its key (or ``id``), the target, and known_at.

    Raises DeploymentError if nothing was ever deployed in the environment, DataError if the file does not fit.
    """
    deployment = current(project, environment)
    names = set(read_file(file).columns)
    task = project.task
    known = load_contract(project).tables.get(project.data.outcomes)
    if known is None:
        raise DataError(
            f"contract.toml has no table {project.data.outcomes!r} yet, which says what {task.target!r} holds: "
            "passerelle ingest a first delivery of outcomes."
        )
    kinds = known.schema
    wanted = ("id",) if "id" in names and not set(task.key) <= names else task.key
    columns = tuple(kinds.column(name) if name in kinds.names else Column(name=name, kind="string") for name in wanted)
    known_at = Column(name="known_at", kind="timestamp")
    contract = TableContract(columns=(*columns, kinds.column(task.target), known_at), key=tuple(wanted))
    rows = columns_of(read_rows(file, contract), contract.schema)
    values = []
    for row, value in enumerate(rows[task.target].tolist(), start=1):
        try:
            values.append(read_truth(task.kind, value))
        except ValueError as error:
            raise DataError(f"{file.name}, row {row}, column {task.target!r}: {error}.") from error
    outcomes = [
        Outcome(id=id_, value=value, known_at=at.replace(tzinfo=UTC), received_at=now)
        for id_, value, at in zip(
            row_ids(rows, wanted),
            values,
            rows["known_at"].astype("datetime64[us]").astype(datetime),
            strict=True,
        )
    ]
    folder = ledger_folder(project.state, environment)
    asyncio.run(record(LocalStorage(folder), outcomes, slot=SLOT))
    unknown = ask(folder, "SELECT DISTINCT id FROM orphans")
    orphans = {id_ for (id_,) in unknown.rows}
    manifest, _ = read_manifest(bundle_of(project, deployment.live[0]))
    return Recorded(
        recorded=len(outcomes),
        unknown=sum(one.id in orphans for one in outcomes),
        unknown_classes=unknown_classes(manifest, values),
    )
