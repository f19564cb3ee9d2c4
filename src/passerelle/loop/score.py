"""Score: a file's rows through the same path as the endpoint's, into the same ledger; and a file's outcomes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from passerelle.bundle.events import event_rows
from passerelle.bundle.opening import open_scorer
from passerelle.bundle.verify import verify
from passerelle.data.columns import columns_of, row_ids
from passerelle.data.contract import TableContract, load_contract
from passerelle.data.reading import read_file
from passerelle.data.rows import read_rows
from passerelle.data.table import read_conformed
from passerelle.deployment.spec import Deployment, Variant
from passerelle.errors import DataError, DeploymentError
from passerelle.ledger.records import Outcome
from passerelle.ledger.segments import Writer
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.ledger.views import ask
from passerelle.loop.rollout import revisions
from passerelle.project.settings import LedgerMode, Project
from passerelle.schema import Column, Columns, Schema
from passerelle.serving.events import Answer, Event
from passerelle.serving.service import Service

#: The ledger slot of what is not the endpoint; one such command at a time.
SLOT = "batch"
ROWS_AT_A_TIME = 1000


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What scoring a file did."""

    rows: int
    failed: int
    revision: int
    out: Path


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What recording a file of outcomes did; ``unknown`` are kept, too."""

    recorded: int
    unknown: int


def current(project: Project, environment: str) -> Deployment:
    """The revision that answers in an environment. Raises DeploymentError if there is none yet."""
    found = revisions(project, environment).current()
    if found is None:
        raise DeploymentError(f"nothing is deployed in {environment}: passerelle deploy VERSION --to {environment}.")
    return found


def score_file(project: Project, file: Path, out: Path, *, environment: str) -> Scored:
    """Score a file and write id, prediction, probability, version and revision per row, in the file's order.

    The file holds either what a caller of the endpoint sends (the model's fields), or rows of the main table: these
    are joined with the accepted further tables by the notebook's own ``events`` function. Raises DataError if it is
    neither, or if ``out`` is of no known format: nothing was scored then.
    """
    if out.suffix not in _WRITERS:
        raise DataError(f"{out.name} is of no format that is written here: name it {', '.join(_WRITERS)}.")
    deployment = current(project, environment)
    live = deployment.live[0]
    manifest = verify(Path(live.bundle), digest=live.digest, trusted_keys=deployment.trusted_keys).manifest
    ids, inputs = _events_of(project, file, live, deployment.trusted_keys, manifest.schema)
    rows = manifest.schema.rows(inputs)
    sent = [Event(id=id_, inputs=row) for id_, row in zip(ids, rows, strict=True)]
    answers = asyncio.run(_answers(project, deployment, sent))
    table = pa.Table.from_pylist([msgspec.to_builtins(answer) for answer in answers])
    draft = out.with_name(f".{out.name}.draft")
    _WRITERS[out.suffix](table, draft)
    draft.replace(out)
    failed = sum(answer.error is not msgspec.UNSET for answer in answers)
    return Scored(rows=len(answers), failed=failed, revision=deployment.revision, out=out)


def record_outcomes(project: Project, file: Path, *, environment: str, now: datetime) -> Recorded:
    """Record a file of outcomes in the ledger: its key (or ``id``), the target, and known_at."""
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
    outcomes = [
        Outcome(id=id_, value=value, known_at=at.replace(tzinfo=UTC), received_at=now)
        for id_, value, at in zip(
            row_ids(rows, wanted),
            rows[task.target].tolist(),
            rows["known_at"].astype("datetime64[us]").astype(datetime),
            strict=True,
        )
    ]
    asyncio.run(_record(project, environment, outcomes))
    unknown = ask(ledger_folder(project.state, environment), "SELECT DISTINCT id FROM orphans")
    orphans = {id_ for (id_,) in unknown.rows}
    return Recorded(recorded=len(outcomes), unknown=sum(one.id in orphans for one in outcomes))


def as_columns(rows: pa.Table, schema: Schema) -> tuple[Schema, Columns]:
    """A table's fields and its rows, as event_rows takes them."""
    return schema, columns_of(rows, schema)


def _events_of(
    project: Project, file: Path, live: Variant, trusted_keys: tuple[str, ...], schema: Schema
) -> tuple[list[str | None], Columns]:
    """The ids and inputs of a file's rows."""
    names = set(read_file(file).columns)
    contract = load_contract(project)
    main = contract.tables.get(project.data.main)
    if main is not None and set(main.schema.names) <= names:
        rows = columns_of(read_rows(file, main), main.schema)
        tables = {
            name: as_columns(*read_conformed(project, contract, name))
            for name in contract.tables
            if name not in (project.data.main, project.data.outcomes)
        }
        tables[project.data.main] = (main.schema, rows)
        bundle = Path(live.bundle)
        inputs = event_rows(
            bundle, digest=live.digest, trusted_keys=trusted_keys, tables=tables, main=project.data.main
        )
        return list(row_ids(rows, project.task.key)), inputs
    missing = [name for name in schema.names if name not in names]
    if missing:
        raise DataError(
            f"{file.name} lacks {', '.join(missing)}: give the model's fields ({', '.join(schema.names)}), "
            f"or whole rows of the table {project.data.main}."
        )
    known = {column.name: column for column in (main.schema.columns if main else ())}
    key = tuple(project.task.key) if set(project.task.key) <= names else ("id",) if "id" in names else ()
    extra = tuple(known.get(name, Column(name=name, kind="string")) for name in key if name not in schema.names)
    wanted = TableContract(columns=(*schema.columns, *extra), key=())
    rows = columns_of(read_rows(file, wanted, only_its_columns=True), wanted.schema)
    ids: list[str | None] = list(row_ids(rows, key)) if key else [None] * len(next(iter(rows.values())))
    return ids, {name: rows[name] for name in schema.names}


async def _answers(project: Project, deployment: Deployment, sent: list[Event]) -> list[Answer]:
    storage = LocalStorage(ledger_folder(project.state, deployment.environment))

    def open_recorder(mode: LedgerMode) -> Writer:
        return Writer(storage, slot=SLOT, mode=mode)

    service = Service(
        open_scorer=open_scorer, open_recorder=open_recorder, deadline_s=project.serving.deadline_ms / 1000
    )
    try:
        await service.apply(deployment)
        answers: list[Answer] = []
        for first in range(0, len(sent), ROWS_AT_A_TIME):
            answers += await service.predict(sent[first : first + ROWS_AT_A_TIME])
        return answers
    finally:
        await service.close()


async def _record(project: Project, environment: str, outcomes: list[Outcome]) -> None:
    writer = Writer(LocalStorage(ledger_folder(project.state, environment)), slot=SLOT, mode="durable")
    try:
        for first in range(0, len(outcomes), ROWS_AT_A_TIME):
            await writer.append(outcomes[first : first + ROWS_AT_A_TIME])
    finally:
        await writer.close()


def _write_json_lines(table: pa.Table, path: Path) -> None:
    path.write_bytes(msgspec.json.Encoder(enc_hook=str).encode_lines(table.to_pylist()))


def _write_csv(table: pa.Table, path: Path) -> None:
    """CSV has no nesting: a probability per class becomes a column per class."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    pyarrow.csv.write_csv(table, path)


_WRITERS: dict[str, Any] = {".csv": _write_csv, ".jsonl": _write_json_lines, ".parquet": pyarrow.parquet.write_table}
