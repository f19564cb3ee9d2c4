"""Score: a file's rows through the same path as the endpoint's, into the same ledger; and a file's outcomes."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from passerelle.bundle.events import event_rows
from passerelle.bundle.manifest import Manifest
from passerelle.bundle.opening import open_scorer
from passerelle.bundle.verify import verify
from passerelle.data.columns import columns_of, row_ids
from passerelle.data.contract import Contract, TableContract, load_contract
from passerelle.data.reading import read_file
from passerelle.data.rows import read_rows
from passerelle.data.table import read_conformed
from passerelle.deployment.spec import Deployment, Variant
from passerelle.errors import DataError, DeploymentError
from passerelle.ledger.segments import Writer
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.ledger.views import ask
from passerelle.loop.rollout import revisions
from passerelle.project.settings import Project
from passerelle.schema import Column, Columns, Schema, count
from passerelle.serving.events import Answer, Event
from passerelle.serving.service import Service

#: The ledger slot of what is not the endpoint; one such command at a time.
SLOT = "batch"
ROWS_AT_A_TIME = 1000


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What scoring a file did."""

    rows: int
    failed: int
    #: Rows whose id was recorded before: the ledger counts the first record.
    repeated: int
    revision: int
    out: Path


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
    neither, if an id stands in it twice, or if ``out`` is of no known format: nothing was scored then.
    """
    if out.suffix not in _WRITERS:
        raise DataError(f"{out.name} is of no format that is written here: name it {', '.join(_WRITERS)}.")
    if out.resolve() == file.resolve():
        raise DataError(f"{out} is the file to score: write the answers to another.")
    if not out.resolve().parent.is_dir():
        raise DataError(f"there is no folder {out.parent}: make it first.")
    deployment = current(project, environment)
    sent = events_of(project, file, deployment)
    before = _recorded(project, environment)
    answers = asyncio.run(_answers(project, deployment, sent))
    table = pa.Table.from_pylist([msgspec.to_builtins(answer) for answer in answers])
    draft = out.with_name(f".{out.name}.draft")
    _WRITERS[out.suffix](table, draft)
    draft.replace(out)
    failed = sum(answer.error is not msgspec.UNSET for answer in answers)
    repeated = sum(answer.id in before for answer in answers)
    return Scored(rows=len(answers), failed=failed, repeated=repeated, revision=deployment.revision, out=out)


def as_columns(rows: pa.Table, schema: Schema) -> tuple[Schema, Columns]:
    """A table's fields and its rows, as event_rows takes them."""
    return schema, columns_of(rows, schema)


def events_of(project: Project, file: Path, deployment: Deployment) -> list[Event]:
    """A file's rows as a caller of the endpoint would send them: with their ids, units and times where it has them."""
    task = project.task
    names = set(read_file(file).columns)
    contract = load_contract(project)
    main = contract.tables.get(project.data.main)
    schemas = [_manifest(project, variant, deployment).schema for variant in deployment.live]
    if main is not None and set(main.schema.names) <= names:
        table = columns_of(read_rows(file, main), main.schema)
        rows = _joined_rows(project, contract, deployment, (main.schema, table))
        key = task.key
    else:
        fields = {column.name: column for schema in schemas for column in schema.columns}
        if missing := [name for name in fields if name not in names]:
            raise DataError(
                f"{file.name} lacks {', '.join(missing)}: give the model's fields ({', '.join(fields)}), "
                f"or whole rows of the table {project.data.main}."
            )
        known = {column.name: column for column in (main.schema.columns if main else ())}
        key = task.key if set(task.key) <= names else ("id",) if "id" in names else ()
        besides = [name for name in (*key, task.time, task.unit) if name in names and name not in fields]
        columns = {name: known.get(name, Column(name=name, kind="string")) for name in besides if name is not None}
        wanted = TableContract(columns=(*fields.values(), *columns.values()))
        table = columns_of(read_rows(file, wanted, only_its_columns=True), wanted.schema)
        rows = Schema(columns=tuple(fields.values())).rows(table)
    ids: list[str | None] = list(row_ids(table, key)) if key else [None] * len(rows)
    twice = [one for one, times in Counter(ids).items() if one is not None and times > 1]
    if twice:
        raise DataError(f"{file.name} holds the id {twice[0]!r} more than once: give each row an id of its own.")
    moments = _moments(table, task.time, len(rows))
    units = [None] * len(rows) if task.unit is None or task.unit not in table else table[task.unit].tolist()
    return [
        Event(id=id_, unit=None if unit is None else str(unit), at=at, inputs=row)
        for id_, unit, at, row in zip(ids, units, moments, rows, strict=True)
    ]


def bundle_of(project: Project, variant: Variant) -> Path:
    """The folder of a variant's bundle, wherever the project stands now."""
    return project.root / variant.bundle


def _manifest(project: Project, variant: Variant, deployment: Deployment) -> Manifest:
    return verify(bundle_of(project, variant), digest=variant.digest, trusted_keys=deployment.trusted_keys).manifest


def _joined_rows(
    project: Project, contract: Contract, deployment: Deployment, main: tuple[Schema, Columns]
) -> list[dict[str, Any]]:
    """The fields that the live versions read, of each row of the main table, joined as their notebooks do."""
    tables = {
        name: as_columns(*read_conformed(project, contract, name))
        for name in contract.tables
        if name not in (project.data.main, project.data.outcomes)
    }
    tables[project.data.main] = main
    rows: list[dict[str, Any]] = [{} for _ in range(count(main[1]))]
    for variant in deployment.live:
        inputs = event_rows(
            bundle_of(project, variant),
            digest=variant.digest,
            trusted_keys=deployment.trusted_keys,
            tables=tables,
            main=project.data.main,
        )
        for row, more in zip(rows, _manifest(project, variant, deployment).schema.rows(inputs), strict=True):
            row.update(more)
    return rows


def _moments(table: Columns, time: str | None, rows: int) -> list[datetime | None]:
    """When each event happened, by its time column."""
    if time is None or time not in table or table[time].dtype.kind != "M":
        return [None] * rows
    return [None if at is None else at.replace(tzinfo=UTC) for at in table[time].astype("datetime64[us]").tolist()]


def _recorded(project: Project, environment: str) -> set[str]:
    """The ids that were answered before."""
    folder = ledger_folder(project.state, environment)
    if not folder.exists():
        return set()
    return {id_ for (id_,) in ask(folder, "SELECT DISTINCT id FROM all_predictions WHERE role = 'live'").rows}


async def _answers(project: Project, deployment: Deployment, sent: list[Event]) -> list[Answer]:
    storage = LocalStorage(ledger_folder(project.state, deployment.environment))

    def open_recorder(deployment: Deployment) -> Writer:
        return Writer(storage, slot=SLOT, mode=deployment.ledger)

    service = Service(
        open_scorer=open_scorer,
        open_recorder=open_recorder,
        deadline_s=project.serving.deadline_ms / 1000,
        timed=False,  # a file's rows are scored many at a time, and nobody waits for one of them
    )
    try:
        variants = tuple(
            msgspec.structs.replace(one, bundle=str(bundle_of(project, one))) for one in deployment.variants
        )
        await service.apply(msgspec.structs.replace(deployment, variants=variants))
        answers: list[Answer] = []
        for first in range(0, len(sent), ROWS_AT_A_TIME):
            answers += await service.predict(sent[first : first + ROWS_AT_A_TIME])
        return answers
    finally:
        await service.close()


def _write_json_lines(table: pa.Table, path: Path) -> None:
    path.write_bytes(msgspec.json.Encoder(enc_hook=str).encode_lines(table.to_pylist()))


def _write_csv(table: pa.Table, path: Path) -> None:
    """CSV has no nesting: a probability per class becomes a column per class."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    pyarrow.csv.write_csv(table, path)


_WRITERS: dict[str, Any] = {".csv": _write_csv, ".jsonl": _write_json_lines, ".parquet": pyarrow.parquet.write_table}
